"""Tables from .parquet files."""

import pathlib
from typing import Any

from adapad_jax.tasks.delimited import require_different
from adapad_jax.tasks.table import Table


def read_parquet(path: pathlib.Path) -> Table:
  """Reads every column.

  Raises:
    ValueError: if the file is damaged or something else, a name occurs twice, or text
      is not UTF-8.
  """
  import pyarrow  # Slow to import, and few runs need it.
  import pyarrow.parquet

  try:
    with pyarrow.parquet.ParquetFile(path) as file:
      require_different(file.schema_arrow.names, str(path))
      table = file.read()
  except (pyarrow.ArrowException, OSError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f'{path}: no parquet file that can be read ({reason})') from error
  columns = {name: _cells(table[name], name, path) for name in table.column_names}
  return Table(columns, str(path))


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
