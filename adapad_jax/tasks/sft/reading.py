"""Rows of nested values from files, folders and the hub, one after the other.

Nothing here keeps rows: a file of a million is read in the memory of a few, but for
.json, of which the text is held, and parquet, of which one group is.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adapad_jax.hub import Repository
from adapad_jax.origins import HubCommit
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import existing
from adapad_jax.tasks.hub import (
  hub_datasets,
  is_on_hub,
  is_saved,
  named,
  place_of,
  saved_datasets,
  saved_files,
)
from adapad_jax.tasks.own_data import VALIDATION

_SPLITS = ('train', 'validation', 'test')
_SKIPPED = re.compile(r'[\s,]*')
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of one file or dataset.

  Attributes:
    source: a file or dataset, for messages.
    unit: what its rows are counted in: 'line' from one, or 'row' from zero.
    read: starts from the first row: (number, row), ...
    digest: names the content; the same content has the same one.
    files: what is read; none for what comes from a hub.
    hub: the commit that it is from; None for files.
  """

  source: str
  unit: str
  read: Callable[[], Iterator[tuple[int, Any]]]
  digest: Callable[[], str]
  files: tuple[pathlib.Path, ...] = ()
  hub: HubCommit | None = None

  def place(self, number: int) -> str:
    """Where a row is, for messages."""
    counted = '' if self.unit == 'line' else ' (counted from 0)'
    return f'{self.source}, {self.unit} {number}{counted}'


def _lines(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  with _open(path) as file:
    for number, line in enumerate(file, start=1):
      if line.strip():
        yield number, _parsed(line, f'{path}, line {number}')


def _parsed(text: str, where: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f'{where}: not JSON ({error})') from None


def _array(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  """Items of a JSON array, decoded one at a time; one object a line does too."""
  with _open(path) as file:
    text = file.read()
  at = _SKIPPED.match(text).end()
  if not text.startswith('[', at):
    yield from _lines(path)
    return
  decode, at = json.JSONDecoder().raw_decode, at + 1
  number = 0
  while not text.startswith(']', at := _SKIPPED.match(text, at).end()):
    try:
      row, at = decode(text, at)
    except json.JSONDecodeError as error:
      raise ValueError(
        f'{path}, row {number} (counted from 0): not JSON ({error})'
      ) from None
    yield number, row
    number += 1


def _csv(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  with _open(path, newline='') as file:
    csv.field_size_limit(sys.maxsize)  # The default refuses long documents.
    delimiter = '\t' if '.tsv' in path.suffixes else ','
    yield from enumerate(csv.DictReader(file, delimiter=delimiter))


def _parquet(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  import pyarrow.parquet  # Slow to import, and few runs need it.

  number = 0
  with pyarrow.parquet.ParquetFile(path) as file:
    for group in file.iter_batches(batch_size=1024):
      for row in group.to_pylist():
        yield number, _without_nothing(row)
        number += 1


def _without_nothing(value: Any) -> Any:
  """Nested values without the nulls that columns of structs fill absent fields with."""
  if isinstance(value, dict):
    return {k: _without_nothing(v) for k, v in value.items() if v is not None}
  if isinstance(value, list):
    return [_without_nothing(item) for item in value]
  return value


def _open(path: pathlib.Path, newline: str | None = None) -> io.TextIOBase:
  if path.suffix == '.gz':
    return gzip.open(path, 'rt', encoding='utf-8-sig', newline=newline)
  return path.open(encoding='utf-8-sig', newline=newline)


_READERS: dict[str, tuple[str, Callable[[pathlib.Path], Iterator[tuple[int, Any]]]]] = {
  '.jsonl': ('line', _lines),
  '.json': ('row', _array),
  '.csv': ('row', _csv),
  '.tsv': ('row', _csv),
  '.parquet': ('row', _parquet),
}


def _suffix(path: pathlib.Path) -> str:
  return pathlib.Path(path.stem).suffix if path.suffix == '.gz' else path.suffix


def read_file(path: str | pathlib.Path) -> Rows:
  """Rows of .jsonl, .json, .csv, .tsv (each also .gz) or .parquet.

  Raises:
    ValueError: if there is no such file, or its suffix is unknown.
  """
  path = existing(path)
  if _suffix(path) not in _READERS:
    raise ValueError(
      f'{path}: unknown kind of file {_suffix(path)!r}; choose from'
      f' {sorted(_READERS)}, or one of the texts with .gz'
    )
  unit, reader = _READERS[_suffix(path)]
  read, digest = lambda: reader(path), lambda: digest_of(path)
  return Rows(str(path), unit, read, digest, (path,))


def digest_of(path: pathlib.Path) -> str:
  """SHA-256 of a file."""
  found = hashlib.sha256()
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      found.update(block)
  return found.hexdigest()


def read_all(names: str) -> list[Rows]:
  """Rows of a file, a folder of files, or several of them with commas between.

  Raises:
    ValueError: if one is missing or a folder has no file of rows.
  """
  whole = pathlib.Path(names).expanduser()
  parts = [names] if whole.exists() else names.split(',')
  found = []
  for part in filter(None, map(str.strip, parts)):
    path = pathlib.Path(part).expanduser()
    found += _in_folder(path) if path.is_dir() else [read_file(path)]
  return found


def _in_folder(folder: pathlib.Path) -> list[Rows]:
  paths = sorted(p for p in folder.iterdir() if p.is_file() and _suffix(p) in _READERS)
  if not paths:
    beside = sorted(p.name for p in folder.iterdir())
    raise ValueError(f'{folder} has no file of rows {sorted(_READERS)}: {beside[:20]}')
  return [read_file(path) for path in paths]


def splits_of(config: DataConfig) -> dict[str, Sequence[Rows]]:
  """Rows by split, of everything that a configuration names.

  Raises:
    ValueError: if there is nothing to train on, or something is missing.
  """
  found = _of_path(config)
  for name in _SPLITS:
    if value := getattr(config, name):
      found[name] = read_all(value)
  if 'train' not in found:
    raise ValueError(
      "task 'sft' needs data.train=FILE (.jsonl, .json, .csv, .tsv, .parquet), or"
      f' data.path=FOLDER with a file such as train.jsonl; there is {sorted(found)}'
    )
  return found


def _of_path(config: DataConfig) -> dict[str, Sequence[Rows]]:
  """Of a folder with train.jsonl, ..., a saved dataset, or the hub."""
  name, colon, subset = config.path.partition(':')
  if colon and is_on_hub(name):
    raise ValueError(
      f'data.path={config.path}: name a subset of a data set on the hub by'
      f' data.path={name} and data.subset={subset}'
    )
  place = place_of(config)
  if place is None:
    return {}
  if isinstance(place, Repository):
    instead = 'give files: data.train=train.jsonl'
    loaded, commit = hub_datasets(place, config.subset, instead)
    return _of_datasets(loaded, named(place, config.subset), commit=commit)
  if is_saved(place):
    return _of_datasets(saved_datasets(place), str(place), folder=place)
  found: dict[str, Sequence[Rows]] = {}
  files = sorted(p for p in place.iterdir() if p.is_file() and _suffix(p) in _READERS)
  for split in _SPLITS:
    if mine := [path for path in files if path.name.split('.')[0] == split]:
      found[split] = [read_file(path) for path in mine]
  return found


def _of_datasets(
  loaded: Any,
  source: str,
  *,
  commit: HubCommit | None = None,
  folder: pathlib.Path | None = None,
) -> dict[str, Sequence[Rows]]:
  """Splits of a `DatasetDict`, the one to validate on under that name."""

  def rows(split: str) -> Rows:
    dataset = loaded[split]
    read = lambda: (
      (number, _without_nothing(row)) for number, row in enumerate(dataset)
    )
    key = (
      f'{commit.repo} {commit.commit} {source} {split}'
      if commit
      else dataset._fingerprint
    )
    digest = lambda: hashlib.sha256(key.encode()).hexdigest()
    files = saved_files(folder, split) if folder else ()
    return Rows(f'{source} [{split}]', 'row', read, digest, files, commit)

  held = next((name for name in VALIDATION if name in loaded), None)
  names = {name: 'validation' if name == held else name for name in loaded}
  return {names[split]: [rows(split)] for split in loaded}
