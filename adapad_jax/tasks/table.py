"""Named columns of text and labels on their way from a source to arrays."""

import dataclasses
import difflib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.cells import is_null, require_plain, strings

_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Table:
  """Columns of equal length and where they came from.

  Attributes:
    columns: values by column name.
    source: a file or dataset, for messages.
    row_N: number of each row in the source, from 0; None where none was left out.
    line_N: line of the file on which each row starts, from 1; None without lines.
    hint: what may be wrong where a column is missing.
  """

  columns: dict[str, Sequence[Any]]
  source: str
  row_N: Sequence[int] | None = None
  line_N: Sequence[int] | None = None
  hint: str = ''

  def __len__(self) -> int:
    return len(next(iter(self.columns.values()), ()))

  def __getitem__(self, name: str) -> Sequence[Any]:
    if name in self.columns:
      return self.columns[name]
    near = difflib.get_close_matches(name, self.columns, n=1)
    # A name with a separator in it is a whole line that was not separated.
    near = [other for other in near if not set(other) & set(',;|\t')]
    mean = f'; did you mean {near[0]!r}?' if near else ''
    hint = f'; {self.hint}' if self.hint and not near else ''
    raise ValueError(
      f'{self.source} has no column {name!r}; it has {names_of(self.columns)}'
      f'{mean}{hint}'
    )

  def number(self, row: int) -> int:
    """The number that a row has in the source, counted from 0."""
    return row if self.row_N is None else int(self.row_N[row])

  def place(self, row: int) -> str:
    """'row 3 (counted from 0)', with the line of the file where there is one."""
    line = '' if self.line_N is None else f', line {self.line_N[row]}'
    return f'row {self.number(row)} (counted from 0{line})'

  def places(self, rows: Sequence[int]) -> str:
    """'row 3, 5, counted from 0; line 5, 7' for the first of some rows."""
    few, more = rows[:5], ', ...' if len(rows) > 5 else ''
    shown = f'row {", ".join(str(self.number(i)) for i in few)}{more}, counted from 0'
    if self.line_N is not None:
      shown += f'; line {", ".join(str(self.line_N[i]) for i in few)}{more}'
    return shown

  def take(self, rows: Sequence[int] | np.ndarray) -> 'Table':
    """The given rows, in the given order."""
    pick = lambda values: [values[i] for i in rows]
    return dataclasses.replace(
      self,
      columns={name: pick(values) for name, values in self.columns.items()},
      row_N=pick(range(len(self)) if self.row_N is None else self.row_N),
      line_N=None if self.line_N is None else pick(self.line_N),
    )


def names_of(columns: Sequence[str]) -> str:
  """A list of column names that stays readable, whatever a file calls its columns."""
  names = [name if len(name) <= 60 else f'{name[:57]}...' for name in columns]
  more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
  return f'{names[:_SHOWN]}{more}'


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
    ValueError: if the column is missing, has null values or cells that are no text;
      gives their rows.
  """
  values = table[name]
  require_plain(table, name)
  if set(map(type, values)) <= {str}:  # As in most files; a call a cell takes long.
    bad = [i for i, v in enumerate(values) if not (blank_ok or (v and not v.isspace()))]
  else:
    null = (lambda v: v is None) if blank_ok else is_null
    bad = [i for i, value in enumerate(values) if null(value)]
  if bad:
    raise ValueError(
      f'{table.source}: text column {name!r} is empty in {len(bad)} of {len(table)}'
      f' rows ({table.places(bad)}); fill or drop them'
    )
  return strings(table, name)


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
