"""Tables from csv, tsv, jsonl, json and parquet files and from folders of them."""

import pathlib
from collections.abc import Callable, Collection, Iterable

from adapad_jax.tasks.delimited import read_csv, read_tsv
from adapad_jax.tasks.json_rows import read_json, read_jsonl
from adapad_jax.tasks.parquet import read_parquet
from adapad_jax.tasks.reader import Reader
from adapad_jax.tasks.table import Table
from adapad_jax.tasks.text_files import kind_of

READERS: dict[str, Callable[[pathlib.Path], Table]] = {
  '.csv': read_csv,
  '.jsonl': read_jsonl,
  '.json': read_json,
  '.tsv': read_tsv,
  '.parquet': read_parquet,
}
# What authors of data sets call the rows to validate on.
VALIDATION = ('validation', 'dev', 'valid', 'val', 'eval')


def ours(splits: Collection[str]) -> dict[str, str]:
  """By split of a data set what it is called here: 'validation', or as it is."""
  held = next((name for name in VALIDATION if name in splits), None)
  return {name: 'validation' if name == held else name for name in splits}


def read_table(path: str | pathlib.Path) -> Table:
  """Reads a table by the suffix of its file, in any case; text may be packed as .gz.

  Raises:
    ValueError: if the file is missing, its suffix unknown or a row malformed.
  """
  path = existing_table(path)
  return READERS[kind_of(path)[0]](path)


def existing_table(path: str | pathlib.Path) -> pathlib.Path:
  """The path, if there is a file and its suffix says that it is a table.

  Raises:
    ValueError: if not; lists the files beside it, or the suffixes.
  """
  path = existing(path)
  suffix, packed = kind_of(path)
  if suffix not in READERS or (packed and suffix == '.parquet'):
    raise ValueError(
      f'{path}: unknown kind of file {"".join(path.suffixes[-2:])!r}; choose from'
      f' {list(READERS)}, of which all but .parquet may end in .gz'
    )
  return path


def existing(path: str | pathlib.Path) -> pathlib.Path:
  """The path, if there is a file.

  Raises:
    ValueError: if not; lists the files that lie beside it.
  """
  path = pathlib.Path(path).expanduser()
  try:
    if path.is_file():
      return path
    if path.is_dir():
      raise ValueError(f'{path} is a folder, where a file is needed')
    folder = path.parent
    if not folder.is_dir():
      raise ValueError(f'no file {path}: there is no folder {folder}')
    beside = sorted(p.name for p in folder.iterdir())
  except OSError as error:
    raise ValueError(f'no file {path} to be read: {error.strerror}') from error
  raise ValueError(f'no file {path}; {folder} has {beside[:20]}')


def files_of_split(
  folder: pathlib.Path, stems: Iterable[str], suffixes: Iterable[str] = READERS
) -> list[pathlib.Path]:
  """The files in a folder with one of these stems and suffixes, in any spelling."""
  wanted = {f'{stem}{suffix}' for stem in stems for suffix in suffixes}
  found = []
  for path in sorted(folder.iterdir()):
    suffix, packed = kind_of(path)
    stem = path.name[: len(path.name) - len(suffix) - 3 * packed]
    if f'{stem}{suffix}' in wanted and path.is_file():
      found.append(path)
  return found


def only_one(paths: list[pathlib.Path], split: str) -> pathlib.Path:
  """The one file of a split.

  Raises:
    ValueError: if there are several, of which any may be meant.
  """
  if len(paths) > 1:
    raise ValueError(
      f'{paths[0].parent} has {len(paths)} files for the split {split!r}:'
      f' {[path.name for path in paths]}; keep one of them'
    )
  return paths[0]


def file_of_split(
  folder: pathlib.Path, split: str, suffixes: Iterable[str] = READERS
) -> pathlib.Path | None:
  """The file of a folder that is named after a split, None if there is none.

  Rows to validate on have any name of `VALIDATION`.

  Raises:
    ValueError: if there are several.
  """
  stems = VALIDATION if split == 'validation' else (split,)
  paths = files_of_split(folder, stems, suffixes)
  return only_one(paths, split) if paths else None


def folder_tables(folder: pathlib.Path, names: Iterable[str]) -> dict[str, Reader]:
  """Readers of the files of a folder that are named after splits.

  Raises:
    ValueError: if two files have the name of one split.
  """
  paths = {name: file_of_split(folder, name) for name in names}
  return {
    name: Reader.of(path, read_table)
    for name, path in paths.items()
    if path is not None
  }
