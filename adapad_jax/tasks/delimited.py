"""Tables from .csv and .tsv files."""

import csv
import itertools
import pathlib
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

from adapad_jax.tasks.table import Table, names_of
from adapad_jax.tasks.text_files import kind_of, lines_of, read_text, split_lines

Rows = Iterator[tuple[int, list[str]]]  # With the line on which each row starts.
_BATCH = 1024
_BLANK_HEADER = 'the first line of the file is blank, but must name the columns'
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
  rows = _csv_rows(split_lines(read_text(path)), path)
  _, names = next(rows, (1, []))
  return _table(names, rows, path, ',')


def _csv_rows(text: Iterable[str], path: pathlib.Path) -> Rows:
  csv.field_size_limit(sys.maxsize)  # The default refuses long documents.
  lines = csv.reader(text, strict=True)
  start = 1
  try:
    for cells in lines:
      yield start, cells
      start = lines.line_num + 1
  except csv.Error as error:
    fault = next((text for key, text in _FAULTS.items() if key in str(error)), error)
    raise ValueError(f'{path}: the row that starts on line {start}: {fault}') from None


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
  rows = _tsv_rows(split_lines(read_text(path)))
  names = list(header) if header else next(rows, (1, []))[1]
  if ragged:
    rows = ((start, row[: len(names)]) for start, row in rows)
  return _table(names, rows, path, '\t', only)


def _tsv_rows(text: Iterable[str]) -> Rows:
  lines = (line.removesuffix('\n') for line in text)
  cells = (line.removesuffix('\r').split('\t') for line in lines)
  return enumerate(([] if row == [''] else row for row in cells), start=1)


def read_rows(path: pathlib.Path) -> Iterator[dict[str, str | None]]:
  """The rows that `read_csv` and `read_tsv` find, one at a time, by their columns.

  Raises:
    ValueError: as they do, when the row that is wrong is reached.
  """
  by = _TAB if kind_of(path)[0] == '.tsv' else ','
  text = lines_of(path)
  rows = _tsv_rows(text) if by == _TAB else _csv_rows(text, path)
  _, names = next(rows, (1, []))
  if not names:
    if any(cells for _, cells in rows):
      raise ValueError(f'{path}: {_BLANK_HEADER}')
    return
  require_different(names, f'{path}: the first line')
  blank = 0
  for _, cells in _fitting(names, rows, path, by):
    # With one column a blank line is a row; with more it may only end the file.
    if not cells and len(names) > 1:
      blank += 1
      continue
    for row in (*[()] * blank, cells):
      yield dict(itertools.zip_longest(names, row))
    blank = 0


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
  for start, cells in _fitting(names, rows, path, by):
    starts.append(start)
    # With one column a blank line is a row; with more it may only end the file.
    end = len(starts) if cells or len(names) == 1 else end
    if len(cells) < len(names):
      cells = [*cells, *[None] * (len(names) - len(cells))]
    batch.append(cells if len(place) == len(names) else [cells[i] for i in place])
    if len(batch) == _BATCH:
      _move(batch, columns)
  _move(batch, columns)
  found = {name: column[:end] for name, column in columns.items()}
  return Table(found, str(path), line_N=starts[:end], hint=_hint(names, by))


def _fitting(names: Sequence[str], rows: Rows, path: pathlib.Path, by: str) -> Rows:
  """The rows, as far as none has more cells than there are names."""
  for number, (start, cells) in enumerate(rows):
    if len(cells) > len(names):
      raise ValueError(
        f'{path}: row {number} (counted from 0, line {start}) has {len(cells)} cells,'
        f' but there are {len(names)} columns: {names_of(names)};'
        f' {_too_many(names, by)}'
      )
    yield start, cells


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
    return _BLANK_HEADER
  return 'the file is empty'
