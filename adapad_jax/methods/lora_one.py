"""LoRA-One (arXiv:2502.01235): LoRA that starts with one step of full fine-tuning.

G = dL / dW of every module is summed over a few batches, and -G = U S V^T gives

    a_k = sqrt(S_k / S_1 / gamma) u_k,   b_k = sqrt(S_k / S_1 / gamma) v_k

so that the start is the best step of rank r down the gradient, of a length that
gamma sets. The pretrained weights are not shifted against it: the run does not start as
the model itself. From there on it is LoRA.
"""

import dataclasses

import jax
import jax.numpy as jnp

from adapad_jax import linalg
from adapad_jax.lowrank import LowRank
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Tuned
from adapad_jax.methods.lora import LoRA, LoRASettings
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count, Positive
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class LoRAOneSettings:
  """Settings of LoRA-One.

  Attributes:
    rank: components of every module.
    batches: that the gradient is summed over, those that training begins with.
    gamma: divides the start's norm; 128 in the paper.
  """

  rank: Count = 2
  batches: Count = 16
  gamma: Positive = 128.0

  def __post_init__(self) -> None:
    check(self, 'lora_one')


@dataclasses.dataclass(frozen=True, eq=False)
class LoRAOne(LoRA):
  """LoRA from the singular directions of the gradient."""

  begin: LoRAOneSettings

  @property
  def looks(self) -> int:
    """Batches that G is summed over."""
    return self.begin.batches

  def inform(self, tuned: Tuned, sums: dict[str, jax.Array]) -> Tuned:
    """The singular directions of -G; where G is zero, the start stays as it was."""
    params = {
      name: self._directions(g_IO, tuned.params[name]) for name, g_IO in sums.items()
    }
    return dataclasses.replace(tuned, params=params)

  def _directions(self, g_IO: jax.Array, drawn: LowRank) -> LowRank:
    u_IK, value_K, v_KO = linalg.svd(-g_IO)
    value_R = value_K[: self.capacity]
    size_R1 = jnp.sqrt(value_R / (value_R[0] * self.begin.gamma))[:, None]
    u_RI, v_RO = u_IK.T[: self.capacity], v_KO[: self.capacity]
    sign_R1 = linalg.row_signs(u_RI)
    found = LowRank(sign_R1 * size_R1 * u_RI, sign_R1 * size_R1 * v_RO)
    keep = lambda new, old: jnp.where(value_R[0] > 0, new, old)
    return jax.tree.map(keep, found, drawn)


def build(settings: LoRAOneSettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than the rank.
  """
  check_rank(problem.shapes, settings.rank, 'lora_one.rank')
  plain = LoRASettings(settings.rank)
  return Joint(problem, LoRAOne(problem, plain, settings))
