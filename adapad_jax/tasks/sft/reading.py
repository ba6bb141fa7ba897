"""Rows of nested values from files, folders and the hub, one after the other.

Nothing here keeps rows: a file of a million is read in the memory of a few, but for
.json, of which the text is held, and parquet, of which one group is.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adapad_jax.hub import Repository
from adapad_jax.origins import HubCommit
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.delimited import read_rows
from adapad_jax.tasks.files import existing_table, file_of_split, ours
from adapad_jax.tasks.hub import (
  hub_datasets,
  is_on_hub,
  is_saved,
  named,
  place_of,
  saved_datasets,
  saved_files,
)
from adapad_jax.tasks.json_rows import each_item, each_line
from adapad_jax.tasks.parquet import each_row
from adapad_jax.tasks.text_files import kind_of

_SPLITS = ('train', 'validation', 'test')


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


def _delimited(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  yield from enumerate(read_rows(path))


def _parquet(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  yield from enumerate(map(_without_nothing, each_row(path)))


def _without_nothing(value: Any) -> Any:
  """Nested values without the nulls that columns of structs fill absent fields with."""
  if isinstance(value, dict):
    return {k: _without_nothing(v) for k, v in value.items() if v is not None}
  if isinstance(value, list):
    return [_without_nothing(item) for item in value]
  return value


_READERS: dict[str, tuple[str, Callable[[pathlib.Path], Iterator[tuple[int, Any]]]]] = {
  '.jsonl': ('line', each_line),
  '.json': ('row', each_item),
  '.csv': ('row', _delimited),
  '.tsv': ('row', _delimited),
  '.parquet': ('row', _parquet),
}


def read_file(path: str | pathlib.Path) -> Rows:
  """Rows of .jsonl, .json, .csv, .tsv (each also .gz) or .parquet.

  Raises:
    ValueError: if there is no such file, or its suffix is unknown.
  """
  path = existing_table(path)
  unit, reader = _READERS[kind_of(path)[0]]
  read, digest = lambda: reader(path), lambda: digest_of(path)
  return Rows(str(path), unit, read, digest, (path,))


def digest_of(path: pathlib.Path) -> str:
  """SHA-256 of a whole file: one with a few rows changed has other tokens."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


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
  paths = _files_in(folder)
  if not paths:
    beside = sorted(p.name for p in folder.iterdir())
    raise ValueError(f'{folder} has no file of rows {sorted(_READERS)}: {beside[:20]}')
  return [read_file(path) for path in paths]


def _files_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of rows in a folder, by name."""
  known = (p for p in folder.iterdir() if kind_of(p)[0] in _READERS)
  return sorted(path for path in known if path.is_file())


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
  paths = {split: file_of_split(place, split, _READERS) for split in _SPLITS}
  return {split: [read_file(path)] for split, path in paths.items() if path is not None}


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

  return {name: [rows(split)] for split, name in ours(loaded).items()}
