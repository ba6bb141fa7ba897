"""What a cell of a text or label column may hold."""

import decimal
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from adapad_jax.tasks.table import Table

_PLAIN = (str, int, float, decimal.Decimal, np.generic, type(None))


def is_null(value: Any) -> bool:
  """Whether a cell holds nothing: None, NaN or blank text."""
  if isinstance(value, str):
    return not value or value.isspace()
  return value is None or (isinstance(value, float) and math.isnan(value))


def require_plain(table: 'Table', column: str) -> None:
  """Checks that a column holds text, numbers and missing values alone.

  Raises:
    ValueError: naming the first cell that is a list, an object, bytes or the like.
  """
  values = table[column]
  for kind in set(map(type, values)):
    if not issubclass(kind, _PLAIN):
      row = next(i for i, value in enumerate(values) if type(value) is kind)
      raise ValueError(
        f'{table.source}: the cell in {table.place(row)} of column {column!r} is of'
        f' type {kind.__name__}, {values[row]!r:.60}; text or a number is needed'
      )


def strings(table: 'Table', column: str) -> list[str]:
  """The cells of a column without missing values, as text.

  Raises:
    ValueError: for text that is not Unicode or holds a NUL, and for an infinite
      number; gives the row.
  """
  values = table[column]
  if set(map(type, values)) <= {str}:
    texts = list(values)
  else:
    texts = [value if isinstance(value, str) else str(value) for value in values]
    for row, value in enumerate(values):
      if isinstance(value, float) and math.isinf(value):
        raise ValueError(
          f'{table.source}: the number in {table.place(row)} of column {column!r} is'
          ' infinite, or too large for a float'
        )
  require_clean(table, column, texts)
  return texts


def require_clean(table: 'Table', column: str, texts: list[str]) -> None:
  """Checks that every text can be written as UTF-8 and has no NUL.

  Raises:
    ValueError: naming the row, the place in it and the character.
  """
  whole = ''.join(texts)
  if '\0' not in whole and is_unicode(whole):
    return
  row = next(i for i, text in enumerate(texts) if '\0' in text or not is_unicode(text))
  text = texts[row]
  at = next(i for i, c in enumerate(text) if c == '\0' or '\ud800' <= c <= '\udfff')
  what = 'a NUL character' if text[at] == '\0' else 'half of a surrogate pair'
  raise ValueError(
    f'{table.source}: the text in {table.place(row)} of column {column!r} holds'
    f' {what}, U+{ord(text[at]):04X}, at character {at} (counted from 0): the text was'
    ' cut or decoded wrongly; repair or drop the row'
  )


def is_unicode(text: str) -> bool:
  """Whether a text can be written as UTF-8: it has no half of a surrogate pair."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True
