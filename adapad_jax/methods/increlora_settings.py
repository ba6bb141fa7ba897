"""What IncreLoRA is told, resolved for a run."""

import dataclasses
from typing import Annotated, NoReturn

from adapad_jax.deflation.schedule import most_allocations
from adapad_jax.ranges import Count, Fraction, Natural, NonNegative, OneOf
from adapad_jax.settings import check

SCORES = ('full', 'proxy')


@dataclasses.dataclass(frozen=True)
class IncreLoRASettings:
  """Settings of IncreLoRA. A zero stands for what is derived.

  Attributes:
    budget: components over all modules in the end; 0 means twice their number.
    r_max: the most components of one module; the original knows no such bound.
    start: steps before growth; 0 means a tenth of the run.
    interval: growth happens in steps that it divides; 0 spreads it up to half of the
      run.
    grants_per_event: modules selected at once; 0 makes about ten allocations.
    gain: components that a selected module gets, and size of its reserve.
    beta1, beta2: decay of the moving averages; published constants.
    score: 'full' forms G, at the cost of one more matrix product for every module while
      ranks grow; 'proxy' takes the absolute value of sum_ij dW_ij G_ij, which the
      values' gradients tell.
    advance: whether the reserve trains.
    orthogonal: weight of the regulariser; the published scripts have 0.1, RTE and STS-B
      0.3.
  """

  budget: Natural = 0
  r_max: Count = 8
  start: Natural = 0
  interval: Natural = 0
  grants_per_event: Natural = 0
  gain: Count = 1
  beta1: Fraction = 0.85
  beta2: Fraction = 0.85
  score: Annotated[str, OneOf(SCORES)] = 'full'
  advance: bool = True
  orthogonal: NonNegative = 0.1

  def __post_init__(self) -> None:
    check(self, 'increlora')

  def resolve(self, modules: int, steps: int) -> 'IncreLoRASettings':
    """Every zero filled in for so many modules and steps."""
    budget = self.budget or min(2, self.r_max) * modules
    start, each, left = self.start or max(steps // 10, 1), self._each, budget - modules
    grants = self.grants_per_event or min(max(-(-left // (10 * each)), 1), modules)
    events = max(-(-left // (min(grants, modules) * each)), 1)
    interval = self.interval or max((steps // 2 - start) // events, 1)
    return dataclasses.replace(
      self, budget=budget, start=start, interval=interval, grants_per_event=grants
    )

  def check(self, modules: int, steps: int) -> None:
    """Refuses a resolved schedule that cannot be kept.

    Raises:
      ValueError: naming the bound that is violated.
    """
    if not modules <= self.budget <= modules * self.r_max:
      raise ValueError(
        f'increlora.budget is {self.budget}; must be in {modules}..'
        f'{modules * self.r_max} for {modules} modules and r_max {self.r_max}'
      )
    spent = self.timeline(modules)[-1][0]
    if spent > steps:
      self._refuse(f'is spent in step {spent} at the earliest', steps)

  def require_spent(self, modules: int, steps: int) -> None:
    """Refuses a resolved schedule that may leave a part of the budget.

    Raises:
      ValueError: if modules may be full so early that later allocations fall short.
    """
    # What is left at the end would take so many turns at least.
    turns = -(-(self.r_max - 1) // self._each)
    spare = modules * self.r_max - self.budget
    wanted = modules * turns - -(-spare // self._each)
    needed = most_allocations([turns] * modules, wanted, self.grants_per_event)
    latest = self._first + (needed - 1) * self.interval + 1
    if needed and latest > steps:
      why = 'since modules that are full get no more'
      self._refuse(f'may be spent as late as in step {latest}, {why}', steps)

  def _refuse(self, when: str, steps: int) -> NoReturn:
    raise ValueError(
      f'the budget of {self.budget} {when}, but training ends after {steps}: raise'
      f' increlora.grants_per_event (now {self.grants_per_event}) or lower'
      f' increlora.interval ({self.interval}) or increlora.start'
    )

  @property
  def _each(self) -> int:
    """The most components that a module gets at once."""
    return max(min(self.gain, self.r_max - 1), 1)

  @property
  def _first(self) -> int:
    """The step, from zero, of the first allocation."""
    return (self.start // self.interval + 1) * self.interval

  def timeline(self, modules: int) -> list[tuple[int, int]]:
    """(step from one, total rank after it) of every allocation, at full speed."""
    events, total, when = [(0, modules)], modules, self._first
    while total < self.budget:
      chosen = min(self.grants_per_event, self.budget - total, modules)
      total = min(total + chosen * self._each, self.budget)
      events.append((when + 1, total))
      when += self.interval
    return events
