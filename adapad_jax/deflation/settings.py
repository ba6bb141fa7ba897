"""What AdaPaD is told: one class, resolved for a run, which its parts read."""

import dataclasses
from typing import Annotated

from adapad_jax.deflation.schedule import most_allocations
from adapad_jax.ranges import Count, Fraction, Natural, NonNegative, OneOf, Share
from adapad_jax.settings import check

SCORES = ('product', 'sum')
FEEDINGS = ('split', 'replicate', 'federated')
SHARES = ('equal', 'first')
HEAD_ROWS = ('all', 'last')


@dataclasses.dataclass(frozen=True)
class AdaPaDSettings:
  """Settings of AdaPaD. A zero stands for what is derived from the run's length.

  Attributes:
    budget: components over all modules when growth ends; 0 means twice the number of
      modules.
    r_max: the most components of one module, and the number of workers; a module with
      fewer dimensions does not grow beyond these.
    start: rounds before the first allocation; 0 means a tenth of the run.
    interval: rounds between allocations; 0 spreads them up to half of the run.
    grants_per_event: components given out in one allocation; 0 makes about ten
      allocations, or as many as half of the run has room for.
    beta1, beta2: decay of the moving averages of importance and of its variability;
      AdaLoRA's published constants.
    score: what modules are sorted by: 'product' of the two averages, as published by
      AdaLoRA, or their 'sum'.
    advance: whether the next component of a module trains privately before it is
      granted.
    feeding: 'split' shares the rows of a batch among the live workers, 'replicate'
      shows every worker all of them, 'federated' gives each worker rows of its own.
    skew: of `federated`: 0 gives every worker as many rows, by index; else labels are
      spread by a Dirichlet distribution with this parameter, small being uneven.
    gradient_batches: components start along the leading singular directions of the
      gradient summed over so many batches, those that training begins with, component k
      along the k-th; 0 draws them. Not with `federated`, whose data stay apart.
    shares: of `split`: 'equal', or 'first' (weights 1, 1/2, 1/3, ... so that early
      components, which all others build on, see more).
    joint: of `split`: fraction of a batch whose rows belong to no single worker: they
      see the whole update and train all of it. 0 is pure deflation; 1 leaves nobody a
      row, so that nothing learns in advance, and needs `nested`. None: 1 where `nested`
      is 1, else three quarters, or as much as leaves one row; 0 where rows cannot be
      joint.
    polish: of `split`: fraction of the run, at its end, in which every row is joint.
      None: a quarter, or 0 where rows cannot be joint.
    nested: of joint rows: fraction that see and train the first 1, 2, 4, ... components
      alone, in turn, so that the update loses less when it is cut to a rank.
    local_steps: optimiser steps between broadcasts, H; rounds are whole: a run leaves
      out batches at its end that fill none, and has one round at least.
    head_rows: whose rows train the head: those of 'all' workers, or of the 'last' live
      one, whose model is closest to what is deployed.
    live_buckets: numbers of live workers up to which a round of its own is compiled,
      beside r_max; empty means 1, 2, 4, ...
  """

  budget: Natural = 0
  r_max: Count = 4
  start: Natural = 0
  interval: Natural = 0
  grants_per_event: Natural = 0
  beta1: Fraction = 0.85
  beta2: Fraction = 0.85
  score: Annotated[str, OneOf(SCORES)] = 'product'
  advance: bool = True
  feeding: Annotated[str, OneOf(FEEDINGS)] = 'split'
  skew: NonNegative = 0.0
  gradient_batches: Natural = 0
  shares: Annotated[str, OneOf(SHARES)] = 'equal'
  joint: Share | None = None
  polish: Fraction | None = None
  nested: Share = 0.0
  local_steps: Count = 1
  head_rows: Annotated[str, OneOf(HEAD_ROWS)] = 'all'
  live_buckets: tuple[Count, ...] = ()

  def __post_init__(self) -> None:
    check(self, 'adapad')
    for field in ('joint', 'polish', 'nested'):
      value = getattr(self, field)
      if value and self.feeding != 'split':
        raise ValueError(
          f"adapad.{field}={value} needs adapad.feeding='split': in {self.feeding!r}"
          ' the rows of a worker are set'
        )
    if self.shares != 'equal' and self.feeding != 'split':
      raise ValueError(
        f"adapad.shares={self.shares!r} shares out the rows of adapad.feeding='split';"
        f" must be 'equal' where that is {self.feeding!r}"
      )
    if self.gradient_batches and self.feeding == 'federated':
      raise ValueError(
        f'adapad.gradient_batches={self.gradient_batches} sums gradients over the data'
        " of all workers, which adapad.feeding='federated' keeps apart; must be 0"
      )
    if self.skew and self.feeding != 'federated':
      raise ValueError(
        f"adapad.skew is {self.skew}; must be 0 unless adapad.feeding is 'federated'"
      )
    if self.nested and self.local_steps > 1:
      raise ValueError(
        f'adapad.nested={self.nested} is a part of the joint rows, which need'
        f' adapad.local_steps=1, got {self.local_steps}'
      )
    if self.nested and self.joint == 0 and self.polish == 0:
      raise ValueError(
        f'adapad.nested={self.nested} is a part of the joint rows, but adapad.joint and'
        ' adapad.polish are 0: raise one of them, or set adapad.nested to 0'
      )
    if self.joint == 1 and not self.nested:
      raise ValueError(
        'adapad.joint=1.0 leaves no worker a row of its own, which is LoRA: --config.'
        'method=lora, or set adapad.nested, so that joint rows train prefixes'
      )
    if (self.joint or self.polish) and self.local_steps > 1:
      raise ValueError(
        f'joint rows (adapad.joint={self.joint or 0.0} of a batch, all of it in the'
        f' last adapad.polish={self.polish or 0.0} of the run) need'
        f' adapad.local_steps=1, got {self.local_steps}: between broadcasts a worker'
        ' knows only its own part'
      )

  def resolve(
    self,
    modules: int,
    rounds: int,
    batch: int,
    begins: int = 0,
    most: int | None = None,
  ) -> 'AdaPaDSettings':
    """What is left open filled in for so many modules, rounds and rows of a batch.

    Growth begins with so many components over all modules; 0: one of each. The modules
    have room for at most so many; None: `r_max` of each.
    """
    most = modules * self.r_max if most is None else most
    budget = self.budget or min(2 * modules, most)
    left = max(budget - (begins or modules), 0)
    start = self.start or max(rounds // 10, 1)
    # Few rounds, as with many local steps, have room for fewer allocations.
    room = max(min(10, rounds // 2 - start), 1)
    grants = self.grants_per_event or min(max(-(-left // room), 1), modules)
    events = -(-left // min(grants, modules))
    interval = self.interval or max((rounds // 2 - start) // max(events, 1), 1)
    joint, polish = self._joint_parts(batch)
    found = dataclasses.replace(
      self,
      budget=budget,
      start=start,
      interval=interval,
      grants_per_event=grants,
      joint=joint,
      polish=polish,
    )
    # Without a row of its own no worker learns in advance.
    return dataclasses.replace(
      found, advance=self.advance and found.own_rows(batch) > 0
    )

  def own_rows(self, batch: int) -> int:
    """Rows of a batch that belong to single workers, once the settings are resolved."""
    return batch - round((self.joint or 0.0) * batch)

  def require_shares(self, batch: int) -> None:
    """Refuses shares of the rows that nobody has, once the settings are resolved.

    Raises:
      ValueError: if workers have the rows of a batch in turn, and shares are not equal.
    """
    rows = self.own_rows(batch)
    if self.shares != 'equal' and rows < self.r_max:
      raise ValueError(
        f'adapad.shares={self.shares!r} gives the first workers more rows, but only'
        f' {rows} of {batch} rows are shared out, which {self.r_max} workers have in'
        " turn: must be 'equal', or use a larger batch, a smaller adapad.joint or"
        ' a smaller adapad.r_max'
      )

  def _joint_parts(self, batch: int) -> tuple[float, float]:
    """The joint fractions of a batch and of the run; measured: experiments/defaults."""
    joint, polish = self.joint, self.polish
    if self.feeding != 'split' or self.local_steps > 1:
      return joint or 0.0, polish or 0.0
    if joint is None:
      joint = 1.0 if self.nested == 1 else min(0.75, (batch - 1) / batch)
    return joint, 0.25 if polish is None else polish

  def check(
    self, modules: int, rounds: int, begins: int = 0, limits: tuple[int, ...] = ()
  ) -> None:
    """Refuses a resolved budget that this many modules or rounds cannot spend.

    Of a run that begins with so many components the rest alone is to be spent. What
    begins with one of each grows to at most these limits; empty: `r_max` of each.

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
    limits = limits or (self.r_max,) * modules
    most = sum(limits)
    if not begins and self.budget > most:
      raise ValueError(
        f'adapad.budget {self.budget} exceeds the {most} components that the {modules}'
        f' modules have room for: adapad.r_max = {self.r_max} of each, or as many as a'
        f' smaller module has dimensions; choose {modules}..{most}'
      )
    if any(not 1 <= limit <= self.r_max for limit in self.live_buckets):
      raise ValueError(
        f'adapad.live_buckets {tuple(self.live_buckets)} must lie in 1..r_max ='
        f' {self.r_max}'
      )
    spent = self.timeline(modules, begins)[-1][0]
    if spent > rounds:
      raise ValueError(
        f'the budget of {self.budget} is spent in round {spent} at the earliest, but'
        f' training ends after {rounds}:'
        f' {self._remedies(rounds, modules, max(begins, modules))}'
      )

  def require_spent(self, rounds: int, limits: tuple[int, ...]) -> None:
    """Refuses a resolved schedule that may leave a part of the budget.

    Args:
      rounds: of the run.
      limits: the most components that each module grows to, from one.

    Raises:
      ValueError: if modules may be full so early that later allocations fall short.
    """
    modules, rooms = len(limits), [limit - 1 for limit in limits]
    needed = most_allocations(rooms, self.budget - modules, self.grants_per_event)
    latest = self.start + (needed - 1) * self.interval + 1
    if needed and latest > rounds:
      raise ValueError(
        f'the budget of {self.budget} may be spent as late as in round {latest}, since'
        f' modules that are full get no more, but training ends after {rounds}:'
        f' {self._remedies(rounds, modules, modules)}'
      )

  def _remedies(self, rounds: int, modules: int, least: int) -> str:
    """What makes room for the budget in a run of so many rounds."""
    ways = [f'lower adapad.budget (to {least} at least)']
    if rounds > 1:  # The first grants come after one.
      if self.grants_per_event < modules:  # Each gets one at once.
        ways.append(f'raise adapad.grants_per_event (now {self.grants_per_event})')
      ways.append(
        f'lower adapad.interval ({self.interval}) or adapad.start ({self.start})'
      )
    if self.local_steps > 1:
      ways.append(f'lower adapad.local_steps ({self.local_steps})')
    return f'{", ".join(ways)}, or train longer (more epochs or steps)'

  def timeline(self, modules: int, begins: int = 0) -> list[tuple[int, int]]:
    """(round from one, total rank after it) of every allocation, at full speed.

    The total before all of them is `begins`; 0: one component in each module.
    """
    total, when = begins or modules, self.start
    events = [(0, total)]
    while total < self.budget:
      total = min(total + min(self.grants_per_event, modules), self.budget)
      events.append((when + 1, total))
      when += self.interval
    return events
