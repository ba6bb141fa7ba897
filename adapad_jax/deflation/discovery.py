"""Per-module rank discovery under one shared, exact budget.

Every round updates, for each module m, moving averages of the importance
I_m = mean |w dL/dw| over its active components' entries and of its variability:

    Ibar <- beta1 Ibar + (1 - beta1) I
    Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|          (Ibar already updated)

Every `interval` rounds the modules with the largest score get one component more,
one at a time from the sorted list, ties by module index, until the budget is spent.
No module grows beyond its dimensions: its update has no larger rank.
Importance and variability as in AdaLoRA (arXiv:2303.10512) and IncreLoRA
(arXiv:2308.12043); growth and advance components as in AdaPaD (arXiv:2605.10741).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.settings import AdaPaDSettings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ranks:
  """The rank distribution and how it came about. All shapes are fixed.

  Attributes:
    rank_M: active components of each module.
    importance_M, uncertainty_M: the moving averages Ibar and Ubar.
    granted_MR: the round in which a component was activated, -1 if it was not.
    score_MR: the module's score at that round, 0 for the starting components.
  """

  rank_M: jax.Array
  importance_M: jax.Array
  uncertainty_M: jax.Array
  granted_MR: jax.Array
  score_MR: jax.Array


@dataclasses.dataclass(frozen=True)
class Discovery:
  """Grows ranks from one where importance shows that capacity pays.

  Attributes:
    settings: the schedule of growth, resolved.
    limits: the most components that each module grows to; empty: `r_max` of all.
  """

  settings: AdaPaDSettings
  limits: tuple[int, ...] = ()

  def _limit_M(self, ranks: Ranks) -> np.ndarray:
    modules = len(ranks.rank_M)
    return np.asarray(self.limits or (self.settings.r_max,) * modules)

  def init(self, modules: int) -> Ranks:
    """Every module starts with one active component."""
    r_max = self.settings.r_max
    granted_MR = jnp.full((modules, r_max), -1, jnp.int32).at[:, 0].set(0)
    zeros_M = jnp.zeros(modules)
    return Ranks(
      rank_M=jnp.ones(modules, jnp.int32),
      importance_M=zeros_M,
      uncertainty_M=jnp.zeros(modules),
      granted_MR=granted_MR,
      score_MR=jnp.zeros((modules, r_max)),
    )

  def masks(self, ranks: Ranks) -> tuple[jax.Array, jax.Array]:
    """(active, live), each (M, R) of 0/1: deployed, and in training."""
    index_R = jnp.arange(self.settings.r_max)[None]
    active_MR = index_R < ranks.rank_M[:, None]
    growing = self.settings.advance & ~self.done(ranks)
    is_next_MR = index_R == ranks.rank_M[:, None]
    advance_MR = is_next_MR & (index_R < self._limit_M(ranks)[:, None]) & growing
    return active_MR.astype(jnp.float32), (active_MR | advance_MR).astype(jnp.float32)

  def done(self, ranks: Ranks) -> jax.Array:
    """Whether growth has ended: advance components are dropped then."""
    return jnp.sum(ranks.rank_M) >= self.settings.budget

  def scores(self, ranks: Ranks) -> jax.Array:
    """Score of each module, (M,)."""
    if self.settings.score == 'sum':
      return ranks.importance_M + ranks.uncertainty_M
    return ranks.importance_M * ranks.uncertainty_M

  def update(self, ranks: Ranks, importance_M: jax.Array, step: jax.Array) -> Ranks:
    """Takes in round `step`'s importance and allocates if the round is due."""
    beta1, beta2 = self.settings.beta1, self.settings.beta2
    mean_M = beta1 * ranks.importance_M + (1 - beta1) * importance_M
    off_M = jnp.abs(importance_M - mean_M)
    spread_M = beta2 * ranks.uncertainty_M + (1 - beta2) * off_M
    ranks = dataclasses.replace(ranks, importance_M=mean_M, uncertainty_M=spread_M)
    return self._allocate(ranks, self.due(step) & ~self.done(ranks), step)

  def due(self, step: Any) -> Any:
    """Whether a round, a number or traced, is one for allocations."""
    start, interval = self.settings.start, self.settings.interval
    return (step >= start) & ((step - start) % interval == 0)

  def _allocate(self, ranks: Ranks, due: jax.Array, step: jax.Array) -> Ranks:
    budget, r_max = self.settings.budget, self.settings.r_max
    score_M = self.scores(ranks)
    open_M = ranks.rank_M < self._limit_M(ranks)
    left = budget - jnp.sum(ranks.rank_M)
    room = jnp.where(due, jnp.minimum(self.settings.grants_per_event, left), 0)
    # A stable sort of the negated score: ties go to the lower module index.
    order_M = jnp.argsort(jnp.where(open_M, -score_M, jnp.inf), stable=True)
    place_M = jnp.argsort(order_M)
    grant_M = (place_M < room) & open_M
    new_MR = grant_M[:, None] & (jnp.arange(r_max)[None] == ranks.rank_M[:, None])
    return dataclasses.replace(
      ranks,
      rank_M=ranks.rank_M + grant_M,
      granted_MR=jnp.where(new_MR, step, ranks.granted_MR),
      score_MR=jnp.where(new_MR, score_M[:, None], ranks.score_MR),
    )


def live_workers(live_MR: jax.Array) -> jax.Array:
  """Number of workers that train something: the first n, since ranks grow by one."""
  return jnp.sum(jnp.any(live_MR > 0, axis=0)).astype(jnp.int32)
