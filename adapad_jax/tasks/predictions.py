"""Prediction files: tab-separated as run_glue writes them, csv or jsonl."""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from adapad_jax.files import write_atomically

Columns = Mapping[str, Sequence[Any]]


def _tsv(file: TextIO, columns: Columns) -> None:
  file.write('index\tprediction\n')
  for index, prediction in enumerate(columns['prediction']):
    shown = f'{prediction:.3f}' if isinstance(prediction, float) else prediction
    file.write(f'{index}\t{shown}\n')


def _csv(file: TextIO, columns: Columns) -> None:
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(['index', *columns])
  for index, row in enumerate(zip(*columns.values(), strict=True)):
    writer.writerow([index, *row])


def _jsonl(file: TextIO, columns: Columns) -> None:
  for index, row in enumerate(zip(*columns.values(), strict=True)):
    record = {'index': index, **dict(zip(columns, row, strict=True))}
    file.write(json.dumps(record, ensure_ascii=False) + '\n')


WRITERS = {'.tsv': _tsv, '.csv': _csv, '.jsonl': _jsonl}


def write_table(path: str | pathlib.Path, columns: Columns) -> None:
  """Writes predictions in the format that the suffix of the path names.

  Args:
    path: '.tsv' gets the two columns 'index' and 'prediction', others all columns.
    columns: at least 'prediction', one value per row.

  Raises:
    ValueError: for another suffix.
  """
  suffix = pathlib.Path(path).suffix
  if suffix not in WRITERS:
    raise ValueError(
      f'{path}: cannot write predictions as {suffix!r}; choose from {sorted(WRITERS)}'
    )
  write_atomically(path, lambda file: WRITERS[suffix](file, columns))
