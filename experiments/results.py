"""Measured figures: one JSON object a line, printed and kept in a file."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from adapad_jax.files import finite

BAND = (0.1, 0.9)
Row = dict[str, Any]


def row(figure: str, value: Any, unit: str, **details: Any) -> Row:
  """One figure.

  Args:
    figure: what was measured.
    value: a number, or what `json` can write; numpy scalars and arrays too.
    unit: of the value; '' for a pure number.
    **details: settings under which it was measured.
  """
  return {'figure': figure, 'value': value, 'unit': unit, **details}


def over_seeds(figure: str, value_S: np.ndarray, unit: str, **details: Any) -> Row:
  """The median over seeds, with the middle 80 % of them as 'low' and 'high'."""
  low, high = np.nanquantile(value_S, BAND)
  spread = {'low': float(low), 'high': float(high), 'seeds': int(np.size(value_S))}
  return row(figure, np.nanmedian(value_S), unit, **details, **spread)


@dataclasses.dataclass(frozen=True)
class Results:
  """The figures that an experiment has recorded.

  Attributes:
    path: of the file, a JSON object a line; made with the first figure.
  """

  path: pathlib.Path

  def rows(self) -> list[Row]:
    """All of them, none if there is no file yet."""
    lines = self.path.read_text(encoding='utf-8') if self.path.is_file() else ''
    return [json.loads(line) for line in lines.splitlines()]

  def keep(self, rows: Iterable[Row]) -> None:
    """Appends rows that `stamped` has made."""
    self.path.parent.mkdir(parents=True, exist_ok=True)
    with self.path.open('a', encoding='utf-8') as file:
      file.writelines(json.dumps(one) + '\n' for one in rows)


def stamped(one: Row) -> Row:
  """The row as JSON holds it, with the time (UTC) under 'when'.

  NaN and infinity become null.

  Raises:
    TypeError: for a value that JSON cannot hold.
  """
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  return finite(plain(one | {'when': now}))


def plain(value: Any) -> Any:
  """The value after a way through JSON: arrays and tuples as lists."""
  return json.loads(json.dumps(value, default=_listed))


def matching(rows: Iterable[Row], key: Mapping[str, Any]) -> list[Row]:
  """The rows that hold all of a key; a value of None also stands for no such field."""
  wanted = plain(dict(key)).items()
  return [one for one in rows if all(one.get(name) == value for name, value in wanted)]


def _listed(value: Any) -> Any:
  if hasattr(value, 'tolist'):
    return value.tolist()
  raise TypeError(f'{value!r} of type {type(value).__name__} cannot be written as JSON')
