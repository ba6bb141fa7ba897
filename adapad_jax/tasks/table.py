"""Named columns of text and labels on their way from a source to arrays."""

import dataclasses
import difflib
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Table:
  """Columns of equal length and where they came from.

  Attributes:
    columns: values by column name.
    source: a file or dataset, for messages.
  """

  columns: dict[str, Sequence[Any]]
  source: str

  def __len__(self) -> int:
    return len(next(iter(self.columns.values()), ()))

  def __getitem__(self, name: str) -> Sequence[Any]:
    if name in self.columns:
      return self.columns[name]
    near = difflib.get_close_matches(name, self.columns, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(
      f'{self.source} has no column {name!r}; it has {list(self.columns)}{hint}'
    )

  def take(self, rows: Sequence[int] | np.ndarray) -> 'Table':
    """The given rows, in the given order."""
    columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}
    return Table(columns, self.source)


def is_null(value: Any) -> bool:
  """Whether a cell holds nothing: None, NaN or blank text."""
  if isinstance(value, str):
    return not value.strip()
  return value is None or (isinstance(value, float) and math.isnan(value))


def filled(table: Table) -> Table:
  """The table itself, if it has rows.

  Raises:
    ValueError: if it has none.
  """
  if not len(table):
    raise ValueError(f'{table.source} has no rows')
  return table


def texts(table: Table, name: str, *, blank_ok: bool = False) -> list[str]:
  """A text column as strings.

  Args:
    table: the rows.
    name: the column.
    blank_ok: lets empty text pass, which official data has in places.

  Raises:
    ValueError: if the column is missing or has null values; gives their rows.
  """
  values = table[name]
  null = (lambda v: v is None) if blank_ok else is_null
  bad = [i for i, value in enumerate(values) if null(value)]
  if bad:
    shown = ', '.join(str(i) for i in bad[:5]) + (', ...' if len(bad) > 5 else '')
    raise ValueError(
      f'{table.source}: text column {name!r} is empty in {len(bad)} of {len(table)}'
      f' rows (row {shown}, counted from 0); fill or drop them'
    )
  return [str(value) for value in values]


def subset(table: Table, rows: int) -> Table:
  """At most `rows` rows, drawn with a fixed seed, in their order; 0 means all."""
  if not rows or rows >= len(table):
    return table
  drawn = np.random.default_rng(0).permutation(len(table))[:rows]
  return table.take(np.sort(drawn))


def split_by_group(
  table: Table, groups: Sequence[Hashable], fraction: float
) -> tuple[Table, Table]:
  """Cuts a table in two such that no group has rows on both sides.

  Whole groups go to the second table, in an order drawn with a fixed seed, until
  it has at least `fraction` of the rows.

  Raises:
    ValueError: if that leaves no row on one of the sides.
  """
  sizes: dict[Hashable, int] = {}
  for group in groups:
    sizes[group] = sizes.get(group, 0) + 1
  names = list(sizes)
  held: set[Hashable] = set()
  count = 0
  for i in np.random.default_rng(0).permutation(len(names)):
    if count >= fraction * len(table):
      break
    held.add(names[i])
    count += sizes[names[i]]
  if not 0 < count < len(table):
    raise ValueError(
      f'data.holdout={fraction} of {len(table)} rows in {len(names)} group(s) of'
      f' {table.source} leaves {len(table) - count} rows to train on and {count} to'
      ' validate on'
    )
  inside = np.array([group in held for group in groups])
  return table.take(np.flatnonzero(~inside)), table.take(np.flatnonzero(inside))
