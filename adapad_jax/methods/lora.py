"""LoRA (arXiv:2106.09685): every module gets the same rank, all of it at once.

Two settings make its best-known variants: `stabilized` is rsLoRA (arXiv:2312.03732),
`b_rate_ratio` is LoRA+ (arXiv:2402.12354).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import Delta, Deployed, LowRank
from adapad_jax.lowrank.svd import by_singular_values
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned, drawn_start, step_all
from adapad_jax.methods.look import gradients, steepest
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count, Natural, Positive
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class LoRASettings:
  """Settings of LoRA.

  Attributes:
    rank: components of every module.
    gradient_batches: input directions are the leading singular directions of the
      gradient summed over so many batches, those that training begins with; 0 draws
      them.
    stabilized: scale updates by `adapter.scale` / sqrt(rank), as rsLoRA does; the scale
      is then its alpha.
    b_rate_ratio: the rate of output directions over that of input directions; LoRA+
      takes 16, `optimizer.learning_rate` being that of the input directions.
  """

  rank: Count = 2
  gradient_batches: Natural = 0
  stabilized: bool = False
  b_rate_ratio: Positive = 1.0

  def __post_init__(self) -> None:
    check(self, 'lora')


@dataclasses.dataclass(frozen=True, eq=False)
class LoRA(Rule):
  """Delta W = s a^T b with all components trained together."""

  problem: Problem
  settings: LoRASettings

  @property
  def capacity(self) -> int:
    """The rank."""
    return self.settings.rank

  @property
  def scale(self) -> float:
    """The s in front of every update."""
    root = math.sqrt(self.capacity) if self.settings.stabilized else 1.0
    return self.problem.scale / root

  @property
  def looks(self) -> int:
    """Batches that the gradient is summed over."""
    return self.settings.gradient_batches

  def observe(
    self, model: Any, head: Any, batch: Any, keys_B: jax.Array
  ) -> dict[str, jax.Array]:
    """G of every module, (I, O)."""
    return gradients(self.problem, model, head, batch, keys_B)

  def inform(self, tuned: Tuned, sums: dict[str, jax.Array]) -> Tuned:
    """Input directions along the gradient."""
    return dataclasses.replace(tuned, params=steepest(tuned.params, sums))

  def start(self, key: jax.Array) -> Tuned:
    """Kaiming or other input directions, zero output directions."""
    return drawn_start(self.problem, self.capacity, key)

  def forward(
    self,
    model: Any,
    variables: dict[str, LowRank],
    tuned: Tuned,
    step: jax.Array,
    rows: int,
  ) -> tuple[Any, dict[str, Delta]]:
    """Every row sees and trains every component."""
    all_BR = jnp.ones((rows, self.capacity))
    scale = self.scale
    deltas = {
      name: Delta(c.a_RI, scale * c.b_RO, all_BR, all_BR)
      for name, c in variables.items()
    }
    return model, deltas

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Clips, then steps everything at the run's rate, b at its multiple of that."""
    ratio = self.settings.b_rate_ratio
    factors = {name: LowRank(1.0, ratio) for name in tuned.params}
    return step_all(self.problem, tuned, grads, step, factors)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """The rank, everywhere."""
    return jnp.full(len(self.problem.shapes), self.capacity)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """By singular values, since the components have no order of their own."""
    scaled = {name: u.scaled(self.scale) for name, u in tuned.params.items()}
    active_MS = jnp.ones((len(scaled), self.capacity))
    return Deployed(by_singular_values(scaled), active_MS, head)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, self.capacity * len(self.problem.shapes))]


def build(settings: LoRASettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than the rank.
  """
  check_rank(problem.shapes, settings.rank, 'lora.rank')
  return Joint(problem, LoRA(problem, settings))
