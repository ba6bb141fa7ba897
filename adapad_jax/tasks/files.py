"""Tables from csv, tsv, jsonl and parquet files and from folders of them."""

import csv
import json
import pathlib
import sys
from collections.abc import Callable, Iterable

from adapad_jax.tasks.reader import Reader
from adapad_jax.tasks.table import Table


def read_tsv(
  path: pathlib.Path, header: tuple[str, ...] | None = None, *, ragged: bool = False
) -> Table:
  """Reads lines split on tabs and nothing else: a quote is a character of the text.

  Args:
    path: the file, UTF-8 with or without a byte-order mark.
    header: column names of a file that has none; None takes the first line.
    ragged: drops the cells that a line has too many of, instead of refusing it.
  """
  with path.open(encoding='utf-8-sig', newline='\n') as file:
    lines = (line.rstrip('\r\n').split('\t') for line in file)
    names = list(header) if header else next(lines, [])
    if ragged:
      lines = (cells[: len(names)] for cells in lines)
    return _from_lines(names, lines, path)


def _read_csv(path: pathlib.Path) -> Table:
  with path.open(encoding='utf-8-sig', newline='') as file:
    csv.field_size_limit(sys.maxsize)  # The default refuses long documents.
    lines = csv.reader(file)
    return _from_lines(next(lines, []), lines, path)


def _from_lines(
  names: list[str], lines: Iterable[list[str]], path: pathlib.Path
) -> Table:
  """Pads short lines with None; a line with too many cells is an error."""
  columns: dict[str, list[str | None]] = {name: [] for name in names}
  for number, cells in enumerate(lines):
    if cells in ([], ['']):  # A blank line.
      continue
    if len(cells) > len(names):
      raise ValueError(
        f'{path}: row {number} (counted from 0) has {len(cells)} cells, but there are'
        f' {len(names)} columns: {names}'
      )
    for i, name in enumerate(names):
      columns[name].append(cells[i] if i < len(cells) else None)
  return Table(columns, str(path))


def _read_jsonl(path: pathlib.Path) -> Table:
  rows = []
  with path.open(encoding='utf-8-sig') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(f'{path}, line {number}: not JSON ({error})') from None
      if not isinstance(row, dict):
        raise ValueError(f'{path}, line {number}: expected one JSON object per line')
      rows.append(row)
  names = list(dict.fromkeys(name for row in rows for name in row))
  return Table({name: [row.get(name) for row in rows] for name in names}, str(path))


def _read_parquet(path: pathlib.Path) -> Table:
  import pyarrow.parquet  # Slow to import, and few runs need it.

  return Table(pyarrow.parquet.read_table(path).to_pydict(), str(path))


READERS: dict[str, Callable[[pathlib.Path], Table]] = {
  '.csv': _read_csv,
  '.tsv': read_tsv,
  '.jsonl': _read_jsonl,
  '.parquet': _read_parquet,
}


def read_table(path: str | pathlib.Path) -> Table:
  """Reads a table by the suffix of its file.

  Raises:
    ValueError: if the file is missing, its suffix unknown or a row malformed.
  """
  path = existing(path)
  if path.suffix not in READERS:
    raise ValueError(
      f'{path}: unknown kind of file {path.suffix!r}; choose from {sorted(READERS)}'
    )
  return READERS[path.suffix](path)


def existing(path: str | pathlib.Path) -> pathlib.Path:
  """The path, if there is a file.

  Raises:
    ValueError: if not; lists the files that lie beside it.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_file():
    return path
  folder = path.parent
  if not folder.is_dir():
    raise ValueError(f'no file {path}: there is no folder {folder}')
  beside = sorted(p.name for p in folder.iterdir())
  raise ValueError(f'no file {path}; {folder} has {beside[:20]}')


def folder_tables(folder: pathlib.Path, names: Iterable[str]) -> dict[str, Reader]:
  """Readers of the files of a folder that are named after splits."""
  found = {}
  for name in names:
    paths = [folder / f'{name}{suffix}' for suffix in READERS]
    for path in filter(pathlib.Path.is_file, paths):
      found[name] = Reader.of(path, read_table)
  return found
