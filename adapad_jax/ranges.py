"""What values a setting may have, stated beside its type and checked in `settings`.

    rate: Annotated[float, Range(above=0)] = 1e-3
    rule: Annotated[str, OneOf(RULES)] = 'adam'

Devices compute in 32 bits, so every number has to fit them as well.
"""

import dataclasses
from collections.abc import Collection
from typing import Annotated

LARGEST_INT = 2**31 - 1
# The largest and the smallest normal number of float32; XLA takes less for zero.
LARGEST_FLOAT, SMALLEST_FLOAT = (2 - 2**-23) * 2.0**127, 2.0**-126


@dataclasses.dataclass(frozen=True)
class Range:
  """An interval of numbers; without any end, all of them.

  Attributes:
    least, most: ends that belong to it.
    above, below: ends that do not.
  """

  least: float | None = None
  most: float | None = None
  above: float | None = None
  below: float | None = None

  def holds(self, value: float) -> bool:
    """Whether a number is inside and fits 32 bits; NaN is in no interval."""
    return (
      (self.least is None or value >= self.least)
      and (self.most is None or value <= self.most)
      and (self.above is None or value > self.above)
      and (self.below is None or value < self.below)
      and not self.limit(value)
    )

  def limit(self, value: float) -> str:
    """What a number breaks by not fitting 32 bits: 'at most 2147483647', or ''."""
    if self.above == 0 and 0 < value < SMALLEST_FLOAT:
      return f'at least {SMALLEST_FLOAT:.2g}'
    if self.most is not None:  # It says itself how far numbers go.
      return ''
    if isinstance(value, int):
      return f'at most {LARGEST_INT}' if abs(value) > LARGEST_INT else ''
    if not abs(value) <= LARGEST_FLOAT:
      return f'finite, at most {LARGEST_FLOAT:.2g}'
    return ''

  def describe(self, kind: type) -> str:
    """'>= 1', 'in [0, 1)', 'in 0..9', for messages and tables; '' for all."""
    low = self.least if self.above is None else self.above
    high = self.most if self.below is None else self.below
    if low is not None and high is not None:
      if kind is int:
        return f'in {low}..{high}'
      ends = '[' if self.above is None else '(', ']' if self.below is None else ')'
      return f'in {ends[0]}{low:g}, {high:g}{ends[1]}'
    if low is not None:
      return f'{">=" if self.above is None else ">"} {low:g}'
    if high is not None:
      return f'{"<=" if self.below is None else "<"} {high:g}'
    return ''


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf:
  """One of a few names.

  Attributes:
    choices: names, or the table itself whose keys they are: what a program adds to
      it later can be chosen as well.
  """

  choices: Collection[str]


@dataclasses.dataclass(frozen=True)
class Free:
  """Any text: a path, a name that is looked up later.

  Attributes:
    blank: whether it may be empty.
  """

  blank: bool = True


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
# Of files, and of what is counted on the host.
Size = Annotated[int, Range(least=0, most=2**63 - 1)]
Whole = Annotated[int, Range()]
# More bits would be dropped where a random key is made.
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
Real = Annotated[float, Range()]
NonNegative = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Fraction = Annotated[float, Range(least=0, below=1)]
Share = Annotated[float, Range(least=0, most=1)]
Text = Annotated[str, Free()]
