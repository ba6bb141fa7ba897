"""Prediction files: tab-separated as run_glue writes them, csv or jsonl."""

import csv
import json
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

from adapad_jax.files import write_atomically

Columns = Mapping[str, Sequence[Any]]
_BREAKS = re.compile(r'[\t\r\n]+')
_SEPARATORS = re.compile('[\x85\u2028\u2029]')


def _tsv(file: TextIO, columns: Columns, index: Sequence[int]) -> None:
  file.write('index\tprediction\n')
  for number, prediction in zip(index, columns['prediction'], strict=True):
    shown = f'{prediction:.3f}' if isinstance(prediction, float) else prediction
    # Nothing is quoted here: a tab would begin a cell and a newline a row.
    file.write(f'{number}\t{_BREAKS.sub(" ", str(shown))}\n')


def _csv(file: TextIO, columns: Columns, index: Sequence[int]) -> None:
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(['index', *columns])
  for number, row in zip(index, zip(*columns.values(), strict=True), strict=True):
    writer.writerow([number, *row])


def _jsonl(file: TextIO, columns: Columns, index: Sequence[int]) -> None:
  for number, row in zip(index, zip(*columns.values(), strict=True), strict=True):
    record = {'index': number, **dict(zip(columns, row, strict=True))}
    line = json.dumps(record, ensure_ascii=False)
    # Many programs take these for the end of a line.
    file.write(_SEPARATORS.sub(lambda c: f'\\u{ord(c[0]):04x}', line) + '\n')


WRITERS = {'.tsv': _tsv, '.csv': _csv, '.jsonl': _jsonl}


def writable_kind(
  path: str | pathlib.Path, kinds: Collection[str] = tuple(WRITERS)
) -> str:
  """The format of predictions that the suffix of a path names, in any case.

  Raises:
    ValueError: for another suffix.
  """
  suffix = pathlib.Path(path).suffix
  if suffix.lower() not in kinds:
    raise ValueError(
      f'{path}: cannot write predictions as {suffix!r}; choose from {sorted(kinds)}'
    )
  return suffix.lower()


def write_table(
  path: str | pathlib.Path, columns: Columns, index: Sequence[int] | None = None
) -> None:
  """Writes predictions in the format that the suffix of the path names.

  Args:
    path: '.tsv' gets the two columns 'index' and 'prediction', others all columns.
    columns: at least 'prediction', one value per row.
    index: number of each row in its source; None counts from 0.

  Raises:
    ValueError: for another suffix.
  """
  write = WRITERS[writable_kind(path)]
  if index is None:
    index = range(len(columns['prediction']))
  write_atomically(path, lambda file: write(file, columns, index))
