"""Label columns to arrays: class numbers or real values, with missing ones marked."""

import collections
import dataclasses
import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.cells import is_null, require_clean, require_plain
from adapad_jax.tasks.table import Table

_WHOLE = re.compile(r'[+-]?\d+')
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?')
_LARGEST = float(np.finfo(np.float32).max)
# Above it a float64 does not hold every whole number.
_EXACT = 2**53
# How pandas and R write a missing value; pandas reads all of these as one.
_MISSING = frozenset(
  '#N/A #NA -NaN -nan <NA> N/A NA NULL NaN None n/a nan null'.split()
)


@dataclasses.dataclass(frozen=True)
class Labels:
  """One label per row.

  Attributes:
    label_N: int32 class numbers or float32 values; zero where there is none.
    weight_N: float32, 1 for a row that has a label and 0 for one that has not.
    fault: why labels that are not required are not used; '' if they are.
  """

  label_N: np.ndarray
  weight_N: np.ndarray
  fault: str = ''


@dataclasses.dataclass(frozen=True)
class Classes:
  """A label set.

  Attributes:
    names: class names by class number.
    codes: other spellings of a name, by spelling.

  Raises:
    ValueError: if two names are spelled alike, or one is blank.
  """

  names: tuple[str, ...]
  codes: dict[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    spelled = [spell(name) for name in self.names]
    wrong = [n for n, s in zip(self.names, spelled, strict=True) if not s]
    wrong += [
      n for n, s in zip(self.names, spelled, strict=True) if spelled.count(s) > 1
    ]
    if wrong:
      raise ValueError(
        f'the classes {list(self.names)} are not all different and not blank: {wrong}'
      )

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
        Otherwise anything may stand there: what is wrong makes all rows unlabelled.
      missing: spellings of 'no label', beside empty cells.

    Raises:
      ValueError: for a label outside the set or a missing one, if required.
    """
    if not required:
      read = functools.partial(self._numbers, table, column, missing, required=False)
      return _leniently(read, table, column, np.int32)
    return self._numbers(table, column, missing, required=True)

  def _numbers(
    self, table: Table, column: str, missing: tuple[str, ...], *, required: bool
  ) -> Labels:
    number = {spell(name): i for i, name in enumerate(self.names)}
    number |= {code: number[spell(name)] for code, name in self.codes.items()}
    number = _truths(number) | number
    found = _spelled(table, column, missing)
    if required:
      _require_all(table, column, found)
    for label in dict.fromkeys(found):
      if label is not None and label not in number:
        near = difflib.get_close_matches(label, self.names, n=1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise ValueError(
          f'{table.source}: label {_short(label)} in {table.place(found.index(label))}'
          f' of column {column!r} is not one of {list(self.names)}{hint}'
        )
    return _labels(found, lambda label: number[label], np.int32)


# What files call the two truth values: json true, Python True, spreadsheets TRUE.
_TRUTH_OF = {
  spelling: name
  for name in ('true', 'false')
  for spelling in (name, name.title(), name.upper())
}


def _truths(number: dict[str, int]) -> dict[str, int]:
  """Every spelling of classes that are truth values, and nothing of others."""
  if not number.keys() <= _TRUTH_OF.keys():
    return {}
  of = {_TRUTH_OF[name]: one for name, one in number.items()}
  if len(of) < len(number):
    return {}
  return {spelling: of[name] for spelling, name in _TRUTH_OF.items() if name in of}


def _folded(names: list[str]) -> list[str]:
  """The names, of truth values the spelling that comes first."""
  if not {*names} <= _TRUTH_OF.keys():
    return names
  first: dict[str, str] = {}
  for name in names:
    first.setdefault(_TRUTH_OF[name], name)
  return [*first.values()]


def discover(table: Table, column: str) -> Classes:
  """The classes that a label column holds: numbers by size, other names by alphabet.

  Files without types are judged like those with types: '1.0' is '1', and what stands
  for a missing value or a real number is not a class by itself.

  Raises:
    ValueError: if a label is missing, looks like a real value, or looks like another
      one that has other characters.
  """
  found = _spelled(table, column)
  _require_all(table, column, found)
  seen = _folded(list(dict.fromkeys(found)))
  require_clean(table, column, found)
  _require_apart(table, column, found)
  for name in seen:
    if fault := _no_class(name):
      row = found.index(name)
      raise ValueError(
        f'{table.source}: label {_short(table[column][row])} in {table.place(row)} of'
        f' column {column!r} {fault}'
      )
  if all(_WHOLE.fullmatch(name) for name in seen):
    return Classes(tuple(sorted(seen, key=lambda name: (int(name), name))))
  return Classes(tuple(sorted(seen)))


def _require_apart(table: Table, column: str, found: Sequence[str]) -> None:
  """Refuses names that are the same text in other characters, as an accent may be."""
  known: dict[str, str] = {}
  for name in dict.fromkeys(found):
    other = known.setdefault(unicodedata.normalize('NFC', name), name)
    if other != name:
      places = [table.place(found.index(one)) for one in (other, name)]
      raise ValueError(
        f'{table.source}: labels {ascii(other)} in {places[0]} and {ascii(name)} in'
        f' {places[1]} of column {column!r} look the same; write them alike, or list'
        ' all classes in data.labels'
      )


def _no_class(name: str) -> str:
  """What speaks against a class of that name."""
  if name in _MISSING:
    return (
      'stands for a missing value in many files; drop such rows, or if it is a class,'
      ' list all of them in data.labels'
    )
  if name.lower().lstrip('+-') in ('inf', 'infinity'):
    return "is infinite, which neither is a class nor fits data.task='regression'"
  if not _NUMBER.fullmatch(name):
    return ''
  if abs(float(name)) > _LARGEST:
    return f'is a number above {_LARGEST:.2g}, which is not a class'
  if _WHOLE.fullmatch(name) or float(name).is_integer():
    return ''
  return (
    "is not a class; data.task='regression' fits real values, and data.labels lists"
    ' classes that look like them'
  )


def encode_values(
  table: Table, column: str, *, required: bool = True, missing: tuple[str, ...] = ()
) -> Labels:
  """The float32 values of a label column; arguments as in `Classes.encode`.

  Raises:
    ValueError: for a label that is not a finite number, or a missing one that is
      required.
  """
  if not required:
    read = functools.partial(_values, table, column, missing, required=False)
    return _leniently(read, table, column, np.float32)
  return _values(table, column, missing, required=True)


def _values(
  table: Table, column: str, missing: tuple[str, ...], *, required: bool
) -> Labels:
  found = _spelled(table, column, missing)
  if required:
    _require_all(table, column, found)
  value = {label: _number(label) for label in dict.fromkeys(found) if label is not None}
  for label, number in value.items():
    if number is None:
      row = found.index(label)
      raise ValueError(
        f'{table.source}: label {_short(table[column][row])} in {table.place(row)} of'
        f' column {column!r} is not a finite number of float32 (at most'
        f' {_LARGEST:.2g}), as regression needs'
      )
  return _labels(found, lambda label: value[label], np.float32)


def _number(label: str) -> float | None:
  """The value of a spelled label, if float32 holds it."""
  # Python reads '1_000' as a number, which nobody has written as one.
  try:
    number = math.nan if '_' in label else float(label)
  except ValueError:
    return None
  return number if abs(number) <= _LARGEST else None


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
  """A label as text; 1, 1.0, '1' and '1.0' are the same."""
  text = str(value).strip()
  if _NUMBER.fullmatch(text) and not _WHOLE.fullmatch(text):
    number = float(text)
    if number.is_integer() and abs(number) <= _EXACT:
      return str(int(number))
  return text


def _leniently(
  read: Callable[[], Labels], table: Table, column: str, dtype: Any
) -> Labels:
  """Labels that nobody needs: without the column, or with a fault, there are none."""
  nothing = Labels(np.zeros(len(table), dtype), np.zeros(len(table), np.float32))
  if column not in table.columns:
    return nothing
  try:
    return read()
  except ValueError as error:
    return dataclasses.replace(nothing, fault=str(error))


def _spelled(
  table: Table, column: str, missing: tuple[str, ...] = ()
) -> list[str | None]:
  """Every label as text, and None where there is none; each spelling is read once."""
  values = table[column]
  require_plain(table, column)

  def one(value: Any) -> str | None:
    text = None if is_null(value) else spell(value)
    return None if text in missing else text

  if set(map(type, values)) <= {str}:
    known = {value: one(value) for value in set(values)}
    return [known[value] for value in values]
  # 1 and True are one key of a dict, but two labels.
  known = {(type(value), value): one(value) for value in values}
  return [known[type(value), value] for value in values]


def _labels(
  found: Sequence[str | None], number: Callable[[str], float], dtype: Any
) -> Labels:
  weight_N = np.array([label is not None for label in found], np.float32)
  values = [0 if label is None else number(label) for label in found]
  return Labels(np.array(values, dtype), weight_N)


def _require_all(table: Table, column: str, found: Sequence[str | None]) -> None:
  if None in found:
    place = table.place(found.index(None))
    raise ValueError(f'{table.source}: {place} has no label in column {column!r}')


def _short(label: Any) -> str:
  """A label as Python spells it, cut if it is long."""
  shown = repr(label) if isinstance(label, str) else spell(label)
  return shown if len(shown) <= 60 else f'{shown[:40]}... ({len(shown)} characters)'
