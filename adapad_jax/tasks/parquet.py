"""Tables from .parquet files."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from adapad_jax.tasks.delimited import require_different
from adapad_jax.tasks.table import Table

_GROUP = 1024


def read_parquet(path: pathlib.Path) -> Table:
  """Reads every column.

  Raises:
    ValueError: if the file is damaged or something else, a name occurs twice, or text
      is not UTF-8.
  """
  with _opened(path) as file:
    table = file.read()
  columns = {name: _cells(table[name], name, path) for name in table.column_names}
  return Table(columns, str(path))


def each_row(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Rows by their columns, of which about a thousand are held at a time.

  Raises:
    ValueError: as `read_parquet`, when the row that is wrong is reached.
  """
  number = 0
  with _opened(path) as file:
    for group in file.iter_batches(batch_size=_GROUP):
      yield from _rows(group, number, path)
      number += len(group)


def _rows(group: Any, first: int, path: pathlib.Path) -> list[dict[str, Any]]:
  """Rows as Python values, of which `first` is the number of the first."""
  try:
    return group.to_pylist()
  except (ValueError, OverflowError) as error:
    if len(group) == 1:
      raise ValueError(
        f'{path}: row {first} (counted from 0) cannot be read ({error})'
      ) from error
    half = len(group) // 2
    start = _rows(group.slice(0, half), first, path)
    return start + _rows(group.slice(half), first + half, path)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
  """A parquet file, with complaints of the library under its name."""
  import pyarrow  # Slow to import, and few runs need it.
  import pyarrow.parquet

  try:
    with pyarrow.parquet.ParquetFile(path) as file:
      require_different(file.schema_arrow.names, str(path))
      yield file
  except (pyarrow.ArrowException, OSError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f'{path}: no parquet file that can be read ({reason})') from error


def _cells(column: Any, name: str, path: pathlib.Path) -> list[Any]:
  """The cells of a column as Python values."""
  import pyarrow

  kind = column.type
  is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
  try:
    # For text the way by numpy is three times as fast.
    return column.to_numpy().tolist() if is_text else column.to_pylist()
  except (ValueError, OverflowError, pyarrow.ArrowException) as error:
    for row, cell in enumerate(column if is_text else ()):
      if not _decodes(cell):
        raise ValueError(
          f'{path}: the text in row {row} (counted from 0) of column {name!r} is not'
          ' UTF-8; write the file again from text that is'
        ) from None
    try:
      # Such as a time in nanoseconds, which no Python type holds.
      return column.cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
      raise ValueError(
        f'{path}: column {name!r} of type {kind} cannot be read ({error})'
      ) from error


def _decodes(cell: Any) -> bool:
  try:
    cell.as_py()
  except UnicodeDecodeError:
    return False
  return True
