"""Token ids of many rows in a few flat arrays, kept in files between starts."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

_ARRAYS = {
  'ids': np.int32,
  'learned': np.uint8,
  'length': np.int32,
  'file': np.int32,
  'row': np.int64,
}
_ABOUT = 'about.json'


@dataclasses.dataclass(frozen=True)
class Store:
  """Rows of a split, in the order of their files.

  Attributes:
    ids: of all tokens, one row behind the other.
    learned: 1 for tokens that are to be predicted.
    length_N: tokens of each row.
    file_N: number of its file.
    row_N: its number there.
    about: what else is known: layouts, rows that were bad.
  """

  ids: np.ndarray
  learned: np.ndarray
  length_N: np.ndarray
  file_N: np.ndarray
  row_N: np.ndarray
  about: dict[str, Any]

  def __len__(self) -> int:
    return len(self.length_N)

  @property
  def rows_read(self) -> int:
    """Rows of the files, those that were left out included."""
    return len(self) + sum(self.about['bad'])

  @property
  def start_N(self) -> np.ndarray:
    """Where each row begins."""
    return np.cumsum(self.length_N, dtype=np.int64) - self.length_N


def in_memory(ids: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> Store:
  """Rows of one file, by their ids and which of these are learned."""
  return Store(
    ids=np.concatenate(ids),
    learned=np.concatenate(learned),
    length_N=np.array([len(row) for row in ids]),
    file_N=np.zeros(len(ids), np.int32),
    row_N=np.arange(len(ids)),
    about={'layouts': [''], 'bad': [0], 'first': []},
  )


class Writer:
  """Appends rows to the files of a store."""

  def __init__(self, folder: pathlib.Path) -> None:
    self._folder = folder
    self._files = {
      name: (folder / f'{name}.bin').open('wb', buffering=1 << 20) for name in _ARRAYS
    }
    self.rows = self.tokens = 0

  def append(self, **columns: np.ndarray) -> None:
    """Adds rows: 'ids', 'learned', 'length', 'file' and 'row' of them."""
    for name, kind in _ARRAYS.items():
      self._files[name].write(np.ascontiguousarray(columns[name], kind).tobytes())
    self.rows += len(columns['length'])
    self.tokens += len(columns['ids'])

  def close(self, about: dict[str, Any]) -> None:
    """Ends the files; a store without this is not whole."""
    for file in self._files.values():
      file.flush()
      os.fsync(file.fileno())
      file.close()
    about = about | {'rows': self.rows, 'tokens': self.tokens}
    path = self._folder / _ABOUT
    path.write_text(json.dumps(about, ensure_ascii=False), encoding='utf-8')

  def abandon(self) -> None:
    """Closes the files without finishing them."""
    for file in self._files.values():
      file.close()


def open_store(folder: pathlib.Path) -> Store | None:
  """The store in a folder; None if there is none, or it is not whole."""
  try:
    about = json.loads((folder / _ABOUT).read_text(encoding='utf-8'))
    arrays = {name: _mapped(folder / f'{name}.bin', k) for name, k in _ARRAYS.items()}
  except (OSError, ValueError):
    return None
  sizes = {name: len(array) for name, array in arrays.items()}
  tokens = {sizes['ids'], sizes['learned'], about.get('tokens')}
  rows = {sizes['length'], sizes['file'], sizes['row'], about.get('rows')}
  if len(tokens) > 1 or len(rows) > 1:
    return None
  return Store(
    ids=arrays['ids'],
    learned=arrays['learned'],
    length_N=np.array(arrays['length']),
    file_N=np.array(arrays['file']),
    row_N=np.array(arrays['row']),
    about=about,
  )


def _mapped(path: pathlib.Path, kind: Any) -> np.ndarray:
  if not path.stat().st_size:  # An empty file cannot be mapped.
    return np.zeros(0, kind)
  return np.memmap(path, kind, mode='r')


def kept(
  root: pathlib.Path, key: dict[str, Any], make: Callable[[Writer], dict[str, Any]]
) -> Store:
  """The store of a key, made if there is none.

  A new one becomes visible as a whole, by renaming its folder. Of two programs that
  make the same at once, the later one takes what the earlier one has made.

  Args:
    root: the folder of all stores.
    key: everything that the content depends on.
    make: writes the rows, and returns what to keep beside them.
  """
  text = json.dumps(key, sort_keys=True, default=str)
  folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
  if (found := open_store(folder)) is not None:
    return found
  with _partial(root, folder.name) as partial:
    writer = Writer(partial)
    try:
      about = make(writer)
    except BaseException:
      writer.abandon()
      raise
    writer.close(about)
    _publish(partial, folder)
  return open_store(folder)


@contextlib.contextmanager
def _partial(root: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """A new folder beside the one that it is to become."""
  try:
    root.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}.partial-', dir=root))
  except OSError as error:
    raise ValueError(
      f'tokenised rows cannot be kept in {root} ({error}); name another folder with'
      ' data.chat.cache'
    ) from error
  try:
    yield partial
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: pathlib.Path, folder: pathlib.Path) -> None:
  for _ in range(2):
    try:
      os.rename(partial, folder)
      return
    except OSError:
      if open_store(folder) is not None:
        return  # Somebody else was faster.
      shutil.rmtree(folder, ignore_errors=True)  # What lies there is broken.
  raise ValueError(f'cannot rename {partial} to {folder}')


def cache_root(setting: str) -> pathlib.Path:
  """Where tokenised rows are kept: as set, or in the user's cache."""
  if setting:
    return pathlib.Path(setting).expanduser()
  root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(root) / 'adapad_jax' / 'tokens'
