"""Files that are written whole or not at all."""

import json
import math
import os
import pathlib
import uuid
from collections.abc import Callable
from typing import Any, TextIO


def write_atomically(path: str | pathlib.Path, write: Callable[[TextIO], None]) -> None:
  """Writes a text file whole or not at all, making its folder if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # A name that no file of a user has.
  partial = path.with_name(f'.{uuid.uuid4().hex}.partial')
  try:
    with partial.open('x', encoding='utf-8', newline='') as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_json(path: str | pathlib.Path, value: Any) -> None:
  """Writes indented JSON; numbers that are not finite become null."""
  text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
  write_atomically(path, lambda file: file.write(text + '\n'))


def read_json(path: str | pathlib.Path) -> Any:
  """Reads a JSON file, UTF-8 with or without a byte-order mark.

  Raises:
    ValueError: if it is not JSON in UTF-8.
  """
  path = pathlib.Path(path)
  try:
    return json.loads(path.read_text(encoding='utf-8-sig'))
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f'{path} is not JSON: {error}') from error


def finite(value: Any) -> Any:
  """The same nested value with NaN and infinity replaced by None."""
  if isinstance(value, dict):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
