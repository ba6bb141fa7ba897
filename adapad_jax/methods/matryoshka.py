"""MatryoshkaLoRA (arXiv:2605.07850): nested updates of several ranks, trained as a sum.

With S the powers of two below r, and r itself, every step trains

    Delta W = s sum_{n in S} w_n sum_{k <= n} a_k^T b_k = s sum_k P_k a_k^T b_k
    P_k = sum_{n in S, n >= k} w_n,   w_n one of 1, 1 / n, 1 / sqrt(n)

so that early components, which more of the nested updates share, weigh more.

The authors' code drops P where it evaluates: it scores w_n sum_{k <= n} a_k^T b_k. That
is another update than the one that was trained, also at the full rank. Here P is part
of what is deployed: the whole update is the trained one, and a prefix is its first
terms, weights and all.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.nesting import doubling
from adapad_jax.lowrank import Delta, Deployed, LowRank
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned, drawn_start, step_all
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count, OneOf
from adapad_jax.settings import check

# What an update of rank n weighs in the sum.
WEIGHTS: dict[str, Callable[[int], float]] = {
  'constant': lambda n: 1.0,
  'inverse': lambda n: 1 / n,
  'root': lambda n: n**-0.5,
}


@dataclasses.dataclass(frozen=True)
class MatryoshkaSettings:
  """Settings of MatryoshkaLoRA.

  Attributes:
    rank: components of every module.
    weight: of a nested update of rank n: 'constant' is 1, 'inverse' 1 / n, 'root'
      1 / sqrt(n).
  """

  rank: Count = 2
  weight: Annotated[str, OneOf(WEIGHTS)] = 'root'

  def __post_init__(self) -> None:
    check(self, 'matryoshka')

  def nested(self) -> list[int]:
    """The ranks of the nested updates, 1, 2, 4, ... and the rank itself."""
    return list(doubling(self.rank))

  def weights(self) -> np.ndarray:
    """P, what every component weighs in the sum, (R,)."""
    place_R = np.arange(1, self.rank + 1)
    weigh = WEIGHTS[self.weight]
    return np.sum([weigh(n) * (place_R <= n) for n in self.nested()], axis=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Matryoshka(Rule):
  """Delta W = s sum_k P_k a_k^T b_k, all components trained together."""

  problem: Problem
  settings: MatryoshkaSettings

  @property
  def capacity(self) -> int:
    """The rank."""
    return self.settings.rank

  def start(self, key: jax.Array) -> Tuned:
    """Kaiming or other input directions, zero output directions."""
    return drawn_start(self.problem, self.capacity, key)

  def weighted(self, components: dict[str, LowRank]) -> dict[str, LowRank]:
    """Components with s P as part of b."""
    weight_R1 = jnp.float32(self.problem.scale * self.settings.weights())[:, None]
    return {name: c.scaled(weight_R1) for name, c in components.items()}

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
    deltas = {
      name: Delta(c.a_RI, c.b_RO, all_BR, all_BR)
      for name, c in self.weighted(variables).items()
    }
    return model, deltas

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Clips, then steps everything at the run's rate."""
    return step_all(self.problem, tuned, grads, step)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """The rank, everywhere."""
    return jnp.full(len(self.problem.shapes), self.capacity)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """As trained, weights and order."""
    weighted = self.weighted(tuned.params)
    return Deployed(weighted, jnp.ones((len(weighted), self.capacity)), head)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, self.capacity * len(self.problem.shapes))]


def build(settings: MatryoshkaSettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than the rank.
  """
  check_rank(problem.shapes, settings.rank, 'matryoshka.rank')
  return Joint(problem, Matryoshka(problem, settings))
