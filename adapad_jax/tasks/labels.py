"""Label columns to arrays: class numbers or real values, with missing ones marked."""

import collections
import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.table import Table, is_null


@dataclasses.dataclass(frozen=True)
class Labels:
  """One label per row.

  Attributes:
    label_N: int32 class numbers or float32 values; zero where there is none.
    weight_N: float32, 1 for a row that has a label and 0 for one that has not.
  """

  label_N: np.ndarray
  weight_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class Classes:
  """A label set.

  Attributes:
    names: class names by class number.
    codes: other spellings of a name, by spelling.
  """

  names: tuple[str, ...]
  codes: dict[str, str] = dataclasses.field(default_factory=dict)

  def encode(
    self,
    table: Table,
    column: str,
    *,
    required: bool = True,
    missing: tuple[str, ...] = (),
  ) -> Labels:
    """The class numbers of a label column.

    Args:
      table: the rows.
      column: the label column.
      required: refuses rows without a label, and a table without the column.
      missing: spellings of 'no label', beside empty cells.

    Raises:
      ValueError: for a label outside the set, or a missing one that is required.
    """
    if column not in table.columns and not required:
      return _unlabelled(len(table), np.int32)
    number = {name: i for i, name in enumerate(self.names)}
    number |= {code: number[name] for code, name in self.codes.items()}
    found = [
      None if is_null(v) or spell(v) in missing else spell(v) for v in table[column]
    ]
    for row, label in enumerate(found):
      if label is None and required:
        _refuse_missing(table, column, row)
      if label is not None and label not in number:
        near = difflib.get_close_matches(label, self.names, n=1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise ValueError(
          f'{table.source}: label {label!r} in row {row} (counted from 0) of column'
          f' {column!r} is not one of {list(self.names)}{hint}'
        )
    return _labels(found, lambda label: number[label], np.int32)


def discover(table: Table, column: str) -> Classes:
  """The classes that a label column holds: numbers by size, other names by alphabet.

  Raises:
    ValueError: if a label is missing or looks like a real value.
  """
  seen: set[str] = set()
  for row, value in enumerate(table[column]):
    if is_null(value):
      _refuse_missing(table, column, row)
    if isinstance(value, float) and not value.is_integer():
      raise ValueError(
        f'{table.source}: label {value!r} in row {row} (counted from 0) is not a class;'
        " data.task='regression' fits real values"
      )
    seen.add(spell(value))
  if all(name.lstrip('-').isdecimal() for name in seen):
    return Classes(tuple(sorted(seen, key=lambda name: (int(name), name))))
  return Classes(tuple(sorted(seen)))


def encode_values(
  table: Table, column: str, *, required: bool = True, missing: tuple[str, ...] = ()
) -> Labels:
  """The float32 values of a label column; arguments as in `Classes.encode`.

  Raises:
    ValueError: for a label that is not a finite number, or a missing one that is
      required.
  """
  if column not in table.columns and not required:
    return _unlabelled(len(table), np.float32)
  found: list[float | None] = []
  for row, value in enumerate(table[column]):
    if is_null(value) or spell(value) in missing:
      if required:
        _refuse_missing(table, column, row)
      found.append(None)
      continue
    try:
      number = float(value)
    except (TypeError, ValueError):
      number = float('nan')
    if not np.isfinite(number):
      raise ValueError(
        f'{table.source}: label {value!r} in row {row} (counted from 0) of column'
        f' {column!r} is not a finite number, as regression needs'
      )
    found.append(number)
  return _labels(found, lambda value: value, np.float32)


def check_train(labels: Labels, names: tuple[str, ...] | None, source: str) -> None:
  """Refuses training data that there is nothing to learn from.

  Raises:
    ValueError: for no rows, or labels that are all the same.
  """
  if not len(labels.label_N):
    raise ValueError(f'{source}: the training data is empty')
  values = np.unique(labels.label_N)
  if len(values) < 2:
    shown = names[int(values[0])] if names else float(values[0])
    what = 'class' if names else 'value'
    raise ValueError(
      f'{source}: all {len(labels.label_N)} training rows have the same {what}'
      f' {shown!r}; at least two are needed'
    )


def majority(labels: Labels) -> int:
  """The most frequent class; the lowest number of several."""
  counts = collections.Counter(labels.label_N.tolist())
  return min(counts, key=lambda label: (-counts[label], label))


def spell(value: Any) -> str:
  """A label as text; 1, 1.0 and '1' are the same."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return str(value).strip()


def _labels(found: Sequence[Any], number: Any, dtype: Any) -> Labels:
  weight_N = np.array([label is not None for label in found], np.float32)
  values = [0 if label is None else number(label) for label in found]
  return Labels(np.array(values, dtype), weight_N)


def _unlabelled(rows: int, dtype: Any) -> Labels:
  return Labels(np.zeros(rows, dtype), np.zeros(rows, np.float32))


def _refuse_missing(table: Table, column: str, row: int) -> None:
  raise ValueError(
    f'{table.source}: row {row} (counted from 0) has no label in column {column!r}'
  )
