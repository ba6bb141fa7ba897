"""Files that are written whole or not at all, and read as what they should hold."""

import json
import math
import os
import pathlib
import uuid
from collections.abc import Callable
from typing import Any, TextIO

from adapad_jax.errors import doing


def write_atomically(path: str | pathlib.Path, write: Callable[[TextIO], None]) -> None:
  """Writes a text file whole or not at all, making its folder if need be."""
  _write_whole(path, write, mode='x', encoding='utf-8', newline='')


def write_bytes(path: str | pathlib.Path, content: bytes) -> None:
  """The same for bytes."""
  _write_whole(path, lambda file: file.write(content), mode='xb')


def _write_whole(
  path: str | pathlib.Path, write: Callable[[Any], Any], **how: Any
) -> None:
  path = pathlib.Path(path)
  # A name that no file of a user has.
  partial = path.with_name(f'.{uuid.uuid4().hex}.partial')
  with doing(f'writing {path}'):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with partial.open(**how) as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
      os.replace(partial, path)
    except OSError as error:
      if error.filename == os.fspath(partial):  # which no user knows of
        error.filename, error.filename2 = os.fspath(path), None
      raise
    finally:
      if os.path.lexists(partial):
        partial.unlink(missing_ok=True)


def user_cache() -> pathlib.Path:
  """Where everything lies that this package keeps between starts."""
  root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(root) / 'adapad_jax'


def write_json(path: str | pathlib.Path, value: Any) -> None:
  """Writes indented JSON; numbers that are not finite become null."""
  text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
  write_atomically(path, lambda file: file.write(text + '\n'))


def read_json(path: str | pathlib.Path, shape: Any = Any) -> Any:
  """Reads a JSON file, UTF-8 with or without a byte-order mark.

  Args:
    path: the file.
    shape: what it must hold, see `require_shape`.

  Raises:
    ValueError: if it is not JSON in UTF-8, or holds something else.
  """
  path = pathlib.Path(path)
  try:
    value = json.loads(path.read_text(encoding='utf-8-sig'))
  except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  require_shape(value, shape, str(path))
  return value


def require_shape(value: Any, shape: Any, where: str) -> None:
  """Checks that a value read from JSON holds what it is read for.

  Args:
    value: as read.
    shape: a type or a union of types; a list with the shape of all items; or a dict
      with the shapes of fields, of which there may be more, {str: shape} meaning
      any names.
    where: the file, and the way into it, for messages.

  Raises:
    ValueError: naming the file, the field and what belongs there.
  """
  if shape is Any:
    return
  kind = type(shape) if isinstance(shape, dict | list) else shape
  number = kind is float and isinstance(value, int)
  flag = isinstance(value, bool) and kind in (int, float)
  if flag or not (number or isinstance(value, kind)):
    raise ValueError(f'{where} must be {_NAMES.get(kind, kind)}, got {_short(value)}')
  if isinstance(shape, list):
    for i, item in enumerate(value):
      require_shape(item, shape[0], f'{where}[{i}]')
  elif isinstance(shape, dict):
    names = {name: shape[str] for name in value} if str in shape else shape
    for name, inner in names.items():
      if name not in value:
        raise ValueError(f'{where} lacks {name!r}: it is damaged or of another program')
      require_shape(value[name], inner, f'{where}: {name}')


_NAMES = {
  dict: 'a JSON object',
  list: 'a list',
  str: 'a text',
  int: 'a whole number',
  float: 'a number',
  int | float | None: 'a number or null',
  list | None: 'a list or null',
  dict | None: 'a JSON object or null',
}


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'


def finite(value: Any) -> Any:
  """The same nested value with NaN and infinity replaced by None."""
  if isinstance(value, dict):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
