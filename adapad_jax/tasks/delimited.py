"""Tables from .csv and .tsv files."""

import csv
import pathlib
import sys
from collections.abc import Collection, Iterator, Sequence

from adapad_jax.tasks.table import Table, names_of
from adapad_jax.tasks.text_files import read_text

Rows = Iterator[tuple[int, list[str]]]  # With the line on which each row starts.
_BATCH = 1024
_TAB = '\t'
_SEPARATORS = {',': 'commas', _TAB: 'tabs', ';': 'semicolons', '|': 'bars'}
# What the csv module finds, in the words of someone who looks at the file.
_FAULTS = {
  'unexpected end of data': 'a quote (") opens a cell in it and is never closed',
  'expected after': 'text follows the quote that closes a cell; a quote inside a quoted'
  ' cell is written twice ("")',
  'new-line character': 'a carriage return stands outside of quotes',
}


def read_csv(path: pathlib.Path) -> Table:
  """Reads comma-separated cells; quoted ones may hold commas, quotes and newlines.

  Raises:
    ValueError: for names that occur twice, a quote that is not closed, or a row with
      more cells than there are names.
  """
  csv.field_size_limit(sys.maxsize)  # The default refuses long documents.
  rows = _csv_rows(path)
  _, names = next(rows, (1, []))
  return _table(names, rows, path, ',')


def _csv_rows(path: pathlib.Path) -> Rows:
  lines = csv.reader(_lines(read_text(path)), strict=True)
  start = 1
  try:
    for cells in lines:
      yield start, cells
      start = lines.line_num + 1
  except csv.Error as error:
    fault = next((text for key, text in _FAULTS.items() if key in str(error)), error)
    raise ValueError(f'{path}: the row that starts on line {start}: {fault}') from None


def _lines(text: str) -> Iterator[str]:
  """Lines with their ends; a StringIO holds four bytes a character."""
  start = 0
  while end := text.find('\n', start) + 1:
    yield text[start:end]
    start = end
  if start < len(text):
    yield text[start:]


def read_tsv(
  path: pathlib.Path,
  header: tuple[str, ...] | None = None,
  *,
  ragged: bool = False,
  only: Collection[str] = (),
) -> Table:
  """Reads lines split on tabs and nothing else: a quote is a character of the text.

  Args:
    path: the file, UTF-8 with or without a byte-order mark.
    header: column names of a file that has none; None takes the first line.
    ragged: drops the cells that a line has too many of, instead of refusing it.
    only: columns to keep, if the file has all of them; none: all.

  Raises:
    ValueError: as `read_csv`.
  """
  lines = (line.removesuffix('\n') for line in _lines(read_text(path)))
  cells = (line.removesuffix('\r').split('\t') for line in lines)
  rows = enumerate(([] if row == [''] else row for row in cells), start=1)
  names = list(header) if header else next(rows, (1, []))[1]
  if ragged:
    rows = ((start, row[: len(names)]) for start, row in rows)
  return _table(names, rows, path, '\t', only)


def _table(
  names: list[str],
  rows: Rows,
  path: pathlib.Path,
  by: str,
  only: Collection[str] = (),
) -> Table:
  """Columns from rows; what a short row lacks is None, a blank line lacks all."""
  if not names:
    return Table({}, str(path), hint=_nothing(rows))
  require_different(names, f'{path}: the first line')
  kept = only if only and set(only) <= set(names) else names
  columns: dict[str, list[str | None]] = {name: [] for name in names if name in kept}
  place = [names.index(name) for name in columns]
  starts: list[int] = []
  batch: list[Sequence[str | None]] = []
  end = 0
  for start, cells in rows:
    starts.append(start)
    # With one column a blank line is a row; with more it may only end the file.
    end = len(starts) if cells or len(names) == 1 else end
    if len(cells) > len(names):
      raise ValueError(
        f'{path}: row {len(starts) - 1} (counted from 0, line {start}) has'
        f' {len(cells)} cells, but there are {len(names)} columns:'
        f' {names_of(names)}; {_too_many(names, by)}'
      )
    if len(cells) < len(names):
      cells = [*cells, *[None] * (len(names) - len(cells))]
    batch.append(cells if len(place) == len(names) else [cells[i] for i in place])
    if len(batch) == _BATCH:
      _move(batch, columns)
  _move(batch, columns)
  found = {name: column[:end] for name, column in columns.items()}
  return Table(found, str(path), line_N=starts[:end], hint=_hint(names, by))


def _move(
  batch: list[Sequence[str | None]], columns: dict[str, list[str | None]]
) -> None:
  """Moves rows into columns: kept by the million, rows slow Python down."""
  for column, cells in zip(columns.values(), zip(*batch, strict=True), strict=False):
    column.extend(cells)
  batch.clear()


def require_different(names: Sequence[str], where: str) -> None:
  """Checks that no column name occurs twice.

  Raises:
    ValueError: naming those that do.
  """
  if len(set(names)) < len(names):
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    raise ValueError(
      f'{where} has more than one column named {", ".join(map(repr, twice[:5]))};'
      f' rename or remove one of each; the columns are {names_of(names)}'
    )


def _hint(names: Sequence[str], by: str) -> str:
  """What is likely where a column is missing."""
  others = [mark for mark in _SEPARATORS if mark != by and mark in names[0]]
  if len(names) > 1 or not others:
    return 'the first line of the file must name the columns'
  advice = f'save it with {_SEPARATORS[by]}'
  if others[0] in ',\t':
    advice += f', or name it {".tsv" if others[0] == _TAB else ".csv"}'
  return (
    f'the first line has no {_SEPARATORS[by]}, but {_SEPARATORS[others[0]]}: {advice}'
  )


def _too_many(names: Sequence[str], by: str) -> str:
  """What is likely where a row has more cells than there are names."""
  if by == ',' and ';' not in names[0]:
    return 'a cell that holds a comma is written in quotes'
  return _hint(names, by)


def _nothing(rows: Rows) -> str:
  if any(cells for _, cells in rows):
    return 'the first line of the file is blank, but must name the columns'
  return 'the file is empty'
