"""Tables from .jsonl files, one object a line, and from .json files, one list."""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from adapad_jax.tasks.table import Table
from adapad_jax.tasks.text_files import lines_of, read_text

_SPACE = re.compile(r'[ \t\r\n]*')


class _Repeated(ValueError):
  """A key that occurs twice in one object, where the second would hide the first."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = [name for name in found if names.count(name) > 1]
    raise _Repeated(
      f'an object has {", ".join(map(repr, twice[:5]))} more than once; its keys are'
      f' {names[:20]}'
    )
  return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def read_jsonl(path: pathlib.Path) -> Table:
  """Reads one object a line; blank lines between them are no rows.

  Raises:
    ValueError: naming the line that is no object, or has a key twice.
  """
  rows, lines = [], []
  for number, row in each_line(path):
    if not isinstance(row, dict):
      raise ValueError(
        f'{path}, line {number}: expected one JSON object per line, got {row!r:.60};'
        ' a file that is one list of objects is named .json'
      )
    rows.append(row)
    lines.append(number)
  return _table(rows, lines, path)


def each_line(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  """The value on each line that is not blank, with the line's number, from 1.

  Raises:
    ValueError: naming the line that is not JSON, or has an object with a key twice.
  """
  # No other character ends a line: U+2028 may stand in a JSON string.
  for number, line in enumerate(lines_of(path), start=1):
    if not line.isspace():
      yield (
        number,
        _parsed(_DECODER.decode, line.removesuffix('\n'), f'{path}, line {number}'),
      )


def each_item(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  """The items of a list, numbered from 0; of a file with a value a line, those.

  Raises:
    ValueError: naming the place that is not JSON, or has an object with a key twice.
  """
  text = read_text(path)
  if text[_SPACE.match(text).end() :].startswith('['):
    yield from enumerate(item for item, _ in _items(text, str(path)))
  else:
    yield from each_line(path)


def read_json(path: pathlib.Path) -> Table:
  """Reads one list of objects.

  Raises:
    ValueError: naming the place where it is something else, or has a key twice.
  """
  rows, lines = [], []
  for row, line in _items(read_text(path), str(path)):
    if not isinstance(row, dict):
      raise ValueError(
        f'{path}: row {len(rows)} (counted from 0, line {line}) must be a JSON object,'
        f' got {row!r:.60}'
      )
    rows.append(row)
    lines.append(line)
  return _table(rows, lines, path)


def load_json(path: pathlib.Path) -> Any:
  """The value that a .json file holds.

  Raises:
    ValueError: if it is not JSON in UTF-8, or an object has a key twice.
  """
  return _parsed(_DECODER.decode, read_text(path), str(path))


def _table(rows: list[dict[str, Any]], lines: list[int], path: pathlib.Path) -> Table:
  names = dict.fromkeys(name for row in rows for name in row)
  columns = {name: [row.get(name) for row in rows] for name in names}
  hint = '' if rows else 'the file is empty'
  return Table(columns, str(path), line_N=lines, hint=hint)


def _parsed(parse: Any, text: str, where: str, *at: int) -> Any:
  """What a parser makes of a text, with its complaints under the name of the file."""
  try:
    return parse(text, *at)
  except json.JSONDecodeError as error:
    is_list = '.jsonl' in where and text.lstrip().startswith('[')
    hint = '; a file with one list of objects is named .json' if is_list else ''
    raise ValueError(f'{where}: not JSON ({error}){hint}') from None
  except _Repeated as error:
    raise ValueError(f'{where}: {error}') from None
  except RecursionError:
    raise ValueError(f'{where}: lists or objects are nested too deeply') from None
  except ValueError:  # int() refuses what takes quadratic time.
    raise ValueError(f'{where}: a number has more than 4300 digits') from None


def _items(text: str, where: str) -> Iterator[tuple[Any, int]]:
  """The items of a list and the lines on which they start."""
  after = lambda at: _SPACE.match(text, at).end()
  at = after(0)
  if at == len(text):
    raise ValueError(f'{where}: the file is empty')
  if text[at : at + 1] != '[':
    raise ValueError(
      f'{where}: expected a list of objects, which starts with [, got'
      f' {text[at : at + 40]!r}; a file with one object a line is named .jsonl'
    )
  line, seen, row = 1, 0, 0
  at = after(at + 1)
  closed = text[at : at + 1] == ']'
  while not closed:
    line, seen = line + text.count('\n', seen, at), at
    place = f'{where}: row {row} (counted from 0, line {line})'
    item, at = _parsed(_DECODER.raw_decode, text, place, at)
    yield item, line
    at, row = after(at), row + 1
    closed = text[at : at + 1] == ']'
    if not closed and text[at : at + 1] != ',':
      raise ValueError(f'{place}: not JSON (no comma or ] after it)')
    at = at if closed else after(at + 1)
  if rest := text[after(at + 1) :]:
    raise ValueError(f'{where}: not JSON ({rest[:40]!r} follows the list)')
