"""Per-module rank discovery under one shared, exact budget.

Every round updates, for each module m, moving averages of the importance
I_m = mean |w dL/dw| over its active components' entries and of its variability:

    Ibar <- beta1 Ibar + (1 - beta1) I
    Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|          (Ibar already updated)

Every `interval` rounds the modules with the largest score get one component more,
one at a time from the sorted list, ties by module index, until the budget is spent.
Importance and variability as in AdaLoRA (arXiv:2303.10512) and IncreLoRA
(arXiv:2308.12043); growth and advance components as in AdaPaD (arXiv:2605.10741).
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from adapad_jax.ranges import Count, Fraction, Natural, OneOf
from adapad_jax.settings import check

SCORES = ('product', 'sum')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ranks:
  """The rank distribution and how it came about. All shapes are fixed.

  Attributes:
    rank_M: active components of each module.
    importance_M, uncertainty_M: the moving averages Ibar and Ubar.
    granted_MR: the round in which a component was activated, -1 if it was not.
    score_MR: the module's score at that round, 0 for the starting components.
    top: the best score of the first allocation, the yardstick of the stop rule.
    weak: allocations in a row whose best score fell below the stop rule.
    stopped: whether growth has ended before the budget.
  """

  rank_M: jax.Array
  importance_M: jax.Array
  uncertainty_M: jax.Array
  granted_MR: jax.Array
  score_MR: jax.Array
  top: jax.Array
  weak: jax.Array
  stopped: jax.Array


@dataclasses.dataclass(frozen=True)
class Discovery:
  """Grows ranks from one where importance shows that capacity pays.

  Attributes:
    budget: components over all modules when growth ends.
    r_max: the most components a module may have.
    start: rounds before the first allocation.
    interval: rounds between allocations.
    grants: most components given out in one allocation.
    beta1, beta2: decay of the moving averages.
    score: 'product' (Ibar Ubar) or 'sum' (Ibar + Ubar).
    advance: whether the next component of a module trains privately beforehand.
    stop_ratio: end growth once the best score stays below this fraction of the first
      allocation's best for `stop_patience` allocations; 0 never stops early.
    stop_patience: see above.
  """

  budget: Count
  r_max: Count = 4
  start: Natural = 100
  interval: Count = 10
  grants: Count = 4
  beta1: Fraction = 0.85
  beta2: Fraction = 0.85
  score: Annotated[str, OneOf(SCORES)] = 'product'
  advance: bool = True
  stop_ratio: Fraction = 0.0
  stop_patience: Count = 3

  def __post_init__(self) -> None:
    check(self, 'adapad')

  def check(self, modules: int, rounds: int) -> None:
    """Refuses a budget that this many modules or rounds cannot spend.

    Raises:
      ValueError: naming the bound that is violated and what would work.
    """
    if self.budget < modules:
      raise ValueError(
        f'adapad.budget {self.budget} is below one component for each of the'
        f' {modules} modules; choose {modules}..{modules * self.r_max}'
      )
    if self.budget > modules * self.r_max:
      raise ValueError(
        f'adapad.budget {self.budget} exceeds r_max x modules = {self.r_max} x'
        f' {modules} = {modules * self.r_max}; lower it or raise adapad.r_max'
      )
    spent = self.timeline(modules)[-1][0]
    if spent >= rounds:
      raise ValueError(
        f'the budget of {self.budget} is spent in round {spent} at the earliest, but'
        f' training ends after {rounds}: raise adapad.grants (now {self.grants}),'
        f' lower adapad.interval ({self.interval}) or adapad.start'
        f' ({self.start}), or train longer'
      )

  def timeline(self, modules: int) -> list[tuple[int, int]]:
    """(round, total rank after it) of every allocation, at full speed."""
    events, total, when = [(0, modules)], modules, self.start
    while total < self.budget:
      total = min(total + min(self.grants, modules), self.budget)
      events.append((when, total))
      when += self.interval
    return events

  def init(self, modules: int) -> Ranks:
    """Every module starts with one active component."""
    granted_MR = jnp.full((modules, self.r_max), -1, jnp.int32).at[:, 0].set(0)
    zeros_M = jnp.zeros(modules)
    return Ranks(
      rank_M=jnp.ones(modules, jnp.int32),
      importance_M=zeros_M,
      uncertainty_M=jnp.zeros(modules),
      granted_MR=granted_MR,
      score_MR=jnp.zeros((modules, self.r_max)),
      top=jnp.zeros(()),
      weak=jnp.zeros((), jnp.int32),
      stopped=jnp.zeros((), bool),
    )

  def masks(self, ranks: Ranks) -> tuple[jax.Array, jax.Array]:
    """(active, live), each (M, R) of 0/1: deployed, and in training."""
    index_R = jnp.arange(self.r_max)[None]
    active_MR = index_R < ranks.rank_M[:, None]
    growing = self.advance & ~self.done(ranks)
    advance_MR = (index_R == ranks.rank_M[:, None]) & growing
    return active_MR.astype(jnp.float32), (active_MR | advance_MR).astype(jnp.float32)

  def done(self, ranks: Ranks) -> jax.Array:
    """Whether growth has ended: advance components are dropped then."""
    return (jnp.sum(ranks.rank_M) >= self.budget) | ranks.stopped

  def scores(self, ranks: Ranks) -> jax.Array:
    """Score of each module, (M,)."""
    if self.score == 'sum':
      return ranks.importance_M + ranks.uncertainty_M
    return ranks.importance_M * ranks.uncertainty_M

  def update(self, ranks: Ranks, importance_M: jax.Array, step: jax.Array) -> Ranks:
    """Takes in round `step`'s importance and allocates if the round is due."""
    mean_M = self.beta1 * ranks.importance_M + (1 - self.beta1) * importance_M
    off_M = jnp.abs(importance_M - mean_M)
    spread_M = self.beta2 * ranks.uncertainty_M + (1 - self.beta2) * off_M
    ranks = dataclasses.replace(ranks, importance_M=mean_M, uncertainty_M=spread_M)
    return self._allocate(ranks, self.due(step) & ~self.done(ranks), step)

  def due(self, step: Any) -> Any:
    """Whether a round, a number or traced, is one for allocations."""
    return (step >= self.start) & ((step - self.start) % self.interval == 0)

  def _allocate(self, ranks: Ranks, due: jax.Array, step: jax.Array) -> Ranks:
    score_M = self.scores(ranks)
    open_M = ranks.rank_M < self.r_max
    best = jnp.max(jnp.where(open_M, score_M, -jnp.inf))
    ranks = self._stop_rule(ranks, due, best)
    left = self.budget - jnp.sum(ranks.rank_M)
    room = jnp.where(due & ~ranks.stopped, jnp.minimum(self.grants, left), 0)
    # A stable sort of the negated score: ties go to the lower module index.
    order_M = jnp.argsort(jnp.where(open_M, -score_M, jnp.inf), stable=True)
    place_M = jnp.argsort(order_M)
    grant_M = (place_M < room) & open_M
    new_MR = grant_M[:, None] & (jnp.arange(self.r_max)[None] == ranks.rank_M[:, None])
    return dataclasses.replace(
      ranks,
      rank_M=ranks.rank_M + grant_M,
      granted_MR=jnp.where(new_MR, step, ranks.granted_MR),
      score_MR=jnp.where(new_MR, score_M[:, None], ranks.score_MR),
    )

  def _stop_rule(self, ranks: Ranks, due: jax.Array, best: jax.Array) -> Ranks:
    if not self.stop_ratio:
      return ranks
    top = jnp.where(due & (ranks.top == 0), best, ranks.top)
    is_weak = best < self.stop_ratio * top
    weak = jnp.where(due, jnp.where(is_weak, ranks.weak + 1, 0), ranks.weak)
    stopped = ranks.stopped | (weak >= self.stop_patience)
    return dataclasses.replace(ranks, top=top, weak=weak, stopped=stopped)


def live_workers(live_MR: jax.Array) -> jax.Array:
  """Number of workers that train something: the first n, since ranks grow by one."""
  return jnp.sum(jnp.any(live_MR > 0, axis=0)).astype(jnp.int32)
