"""EVA (arXiv:2410.07170): LoRA whose input directions and ranks come from activations.

The inputs of every module over a few batches have principal components; these are the
input directions, output directions are zero. Ranks are shared out by what the
components explain: of all components of all modules, those with the largest shares of
their module's variance are kept, as many as the budget has, at most rho times the
average in one module. Delta W = s sum_k a_k^T b_k, s the same for every rank.

The authors' code and huggingface/peft find components by incremental PCA of low rank,
batch after batch, until each has a cosine of 0.99 with its predecessor. Here
they are those of the exact covariance over a set number of batches.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from adapad_jax import linalg
from adapad_jax.lowrank import Delta, Deployed, LowRank
from adapad_jax.lowrank.svd import by_singular_values
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned, drawn_start, step_all
from adapad_jax.methods.look import Moments, input_moments
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count, Range
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class EVASettings:
  """Settings of EVA.

  Attributes:
    rank: components of a module on average.
    rho: a module may have so many times the average; 1 keeps all ranks equal.
    batches: that activations are taken from, those that training begins with.
  """

  rank: Count = 2
  rho: Annotated[float, Range(least=1)] = 2.0
  batches: Count = 16

  def __post_init__(self) -> None:
    check(self, 'eva')

  @property
  def most(self) -> int:
    """Components that a module may have."""
    return round(self.rank * self.rho)


@dataclasses.dataclass(frozen=True, eq=False)
class EVA(Rule):
  """The rule; its auxiliary state is the rank of every module, (M,)."""

  problem: Problem
  settings: EVASettings

  @property
  def capacity(self) -> int:
    """Components that a module may have."""
    return self.settings.most

  @property
  def looks(self) -> int:
    """Batches that activations are taken from."""
    return self.settings.batches

  def start(self, key: jax.Array) -> Tuned:
    """Drawn input directions and equal ranks, which stay if nothing is looked at."""
    rank_M = jnp.full(len(self.problem.shapes), self.settings.rank)
    return drawn_start(self.problem, self.capacity, key, rank_M)

  def observe(
    self, model: Any, head: Any, batch: Any, keys_B: jax.Array
  ) -> dict[str, Moments]:
    """Moments of the inputs of every module."""
    return input_moments(self.problem, model, head, batch, keys_B)

  def inform(self, tuned: Tuned, sums: dict[str, Moments]) -> Tuned:
    """Principal components as input directions, ranks by what they explain."""
    params, share = {}, []
    for name in self.problem.modules:
      found_RI, share_R = principal(sums[name], self.capacity)
      params[name] = dataclasses.replace(tuned.params[name], a_RI=found_RI)
      share.append(share_R)
    rank_M = self.choose(jnp.stack(share))
    return dataclasses.replace(tuned, params=params, auxiliary=rank_M)

  def choose(self, share_MR: jax.Array) -> jax.Array:
    """Ranks, (M,), of the largest shares in the budget; ties go to earlier modules."""
    budget = self.settings.rank * len(share_MR)
    order = jnp.argsort(-share_MR.ravel(), stable=True)
    return jnp.sum((jnp.argsort(order) < budget).reshape(share_MR.shape), axis=1)

  def masks(self, rank_M: jax.Array) -> jax.Array:
    """1 where a module has a component, (M, R)."""
    return (jnp.arange(self.capacity)[None] < rank_M[:, None]).astype(jnp.float32)

  def forward(
    self,
    model: Any,
    variables: dict[str, LowRank],
    tuned: Tuned,
    step: jax.Array,
    rows: int,
  ) -> tuple[Any, dict[str, Delta]]:
    """Every row sees and trains the components that a module has."""
    mask_MR, scale = self.masks(tuned.auxiliary), self.problem.scale
    deltas = {}
    for m, name in enumerate(self.problem.modules):
      one = variables[name].scaled(scale)
      mask_BR = jnp.broadcast_to(mask_MR[m], (rows, self.capacity))
      deltas[name] = Delta(one.a_RI, one.b_RO, mask_BR, mask_BR)
    return model, deltas

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Clips, then steps everything at the run's rate."""
    return step_all(self.problem, tuned, grads, step)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """As they were shared out."""
    return tuned.auxiliary

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """By singular values; components that a module has not are zero and come last."""
    mask_MR = self.masks(tuned.auxiliary)
    updates = {
      name: tuned.params[name].scaled(self.problem.scale * mask_MR[m][:, None])
      for m, name in enumerate(self.problem.modules)
    }
    return Deployed(by_singular_values(updates), mask_MR, head)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, self.settings.rank * len(self.problem.shapes))]


def principal(moments: Moments, count: int) -> tuple[jax.Array, jax.Array]:
  """The first principal components (R, I) and their shares of the variance (R,).

  Args:
    moments: of the vectors.
    count: of the components, R.
  """
  mean_I = moments.sum_I / moments.count
  covariance_II = moments.square_II / moments.count - jnp.outer(mean_I, mean_I)
  value_I, vector_II = linalg.eigh(covariance_II)
  found_RI, value_R = vector_II.T[::-1][:count], value_I[::-1][:count]
  return linalg.row_signs(found_RI) * found_RI, value_R / jnp.sum(value_I)


def build(settings: EVASettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than it may get components.
  """
  check_rank(problem.shapes, settings.most, 'eva.rank x eva.rho')
  return Joint(problem, EVA(problem, settings))
