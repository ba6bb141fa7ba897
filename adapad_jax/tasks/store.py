"""Flat arrays of many rows, kept in files between starts."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from adapad_jax.files import user_cache

_ABOUT = 'about.json'

# Types of numbers by the name of an array.
Kinds = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Kept:
  """What was written.

  Attributes:
    arrays: by name; they may lie in files.
    about: what else is known, as JSON holds it.
  """

  arrays: dict[str, np.ndarray]
  about: dict[str, Any]


class Writer:
  """Appends to several arrays.

  Args:
    kinds: of the arrays.
    files: what each is written to, open for bytes.

  Attributes:
    sizes: numbers in each array so far.
  """

  def __init__(self, kinds: Kinds, files: Mapping[str, IO[bytes]]) -> None:
    self._kinds, self._files = kinds, files
    self.sizes = dict.fromkeys(kinds, 0)

  def append(self, **parts: Any) -> None:
    """Adds numbers to arrays, by their names."""
    for name, part in parts.items():
      array = np.ascontiguousarray(part, self._kinds[name])
      self._files[name].write(array.tobytes())
      self.sizes[name] += len(array)


# Writes all there is, and returns what to keep beside it.
Make = Callable[[Writer], dict[str, Any]]


def in_memory(kinds: Kinds, make: Make) -> Kept:
  """What is made, without files."""
  files = {name: io.BytesIO() for name in kinds}
  about = make(Writer(kinds, files))
  arrays = {
    name: np.frombuffer(file.getbuffer(), kinds[name]) for name, file in files.items()
  }
  return Kept(arrays, about)


def kept(cache: str, key: dict[str, Any], kinds: Kinds, make: Make) -> Kept:
  """What is kept under a key, made if there is nothing.

  It becomes visible as a whole, by renaming its folder. Of two programs that make the
  same at once, the later one takes what the earlier one has made. Where the user's
  cache cannot be written to, nothing is kept, with a warning.

  Args:
    cache: the folder of everything that is kept; '' is in the user's cache.
    key: everything that the content depends on.
    kinds: of the arrays.
    make: makes it.

  Raises:
    ValueError: if a folder that is named cannot be written to.
  """
  root = cache_root(cache)
  text = json.dumps(key, sort_keys=True, default=str)
  folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
  if (found := open_kept(folder, kinds)) is not None:
    return found
  try:
    root.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f'{folder.name}.partial-', dir=root))
  except OSError as error:
    wrong = f'rows cannot be kept in {root} ({error})'
    if cache:
      raise ValueError(f'{wrong}; name another folder with data.cache') from error
    logging.getLogger(__name__).warning('%s; data.cache names another folder', wrong)
    return in_memory(kinds, make)
  try:
    _write(partial, kinds, make)
    _publish(partial, folder, kinds)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return open_kept(folder, kinds)


def open_kept(folder: pathlib.Path, kinds: Kinds) -> Kept | None:
  """What a folder keeps; None if that is nothing, or not whole."""
  try:
    about = json.loads((folder / _ABOUT).read_text(encoding='utf-8'))
    arrays = {name: _mapped(folder / f'{name}.bin', k) for name, k in kinds.items()}
  except (OSError, ValueError):
    return None
  sizes = {name: len(array) for name, array in arrays.items()}
  if not isinstance(about, dict) or about.pop('sizes', None) != sizes:
    return None
  return Kept(arrays, about)


def _write(folder: pathlib.Path, kinds: Kinds, make: Make) -> None:
  """Fills a folder; one without the list of sizes, which is last, is not whole."""
  with contextlib.ExitStack() as stack:
    files = {
      name: stack.enter_context((folder / f'{name}.bin').open('wb', buffering=1 << 20))
      for name in kinds
    }
    writer = Writer(kinds, files)
    about = make(writer) | {'sizes': writer.sizes}
    for file in files.values():
      file.flush()
      os.fsync(file.fileno())
  text = json.dumps(about, ensure_ascii=False)
  (folder / _ABOUT).write_text(text, encoding='utf-8')


def _mapped(path: pathlib.Path, kind: Any) -> np.ndarray:
  if not path.stat().st_size:  # An empty file cannot be mapped.
    return np.zeros(0, kind)
  return np.memmap(path, kind, mode='r')


def _publish(partial: pathlib.Path, folder: pathlib.Path, kinds: Kinds) -> None:
  for _ in range(2):
    try:
      os.rename(partial, folder)
      return
    except OSError:
      if open_kept(folder, kinds) is not None:
        return  # Somebody else was faster.
      shutil.rmtree(folder, ignore_errors=True)  # What lies there is broken.
  raise ValueError(f'cannot rename {partial} to {folder}')


def cache_root(setting: str) -> pathlib.Path:
  """Where rows are kept: as set, or in the user's cache."""
  return pathlib.Path(setting).expanduser() if setting else user_cache() / 'tokens'
