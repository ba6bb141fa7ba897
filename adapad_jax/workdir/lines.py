"""Metrics on disk: one JSON object a line."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from adapad_jax.errors import doing
from adapad_jax.files import finite, require_shape, write_atomically

_LINE = {'step': int}


class JsonLines:
  """A file of JSON objects, each with a `step`, that a resumed run continues.

  Args:
    path: the file.
    resume_at: lines of later steps, left by a run that died, are dropped.
  """

  def __init__(self, path: pathlib.Path, resume_at: int) -> None:
    self._path = path
    kept = [line for line in read_lines(path) if line['step'] <= resume_at]
    text = ''.join(json.dumps(line) + '\n' for line in kept if resume_at)
    write_atomically(path, lambda file: file.write(text))

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends one line; numbers that are not finite become null."""
    line = {'step': step, **finite(dict(values))}
    with (
      doing(f'writing {self._path}'),
      self._path.open('a', encoding='utf-8') as file,
    ):
      file.write(json.dumps(line) + '\n')


def read_lines(path: pathlib.Path, shape: Any = _LINE) -> list[dict[str, Any]]:
  """The lines of such a file; a last line that was cut off is left out.

  Raises:
    ValueError: for another line that is damaged, or lacks what `shape` asks for.
  """
  if not path.is_file():
    return []
  lines, texts = [], path.read_bytes().splitlines()
  for number, text in enumerate(texts, start=1):
    where = f'{path}, line {number}'
    try:
      line = json.loads(text)
    except (ValueError, RecursionError) as error:
      if number == len(texts):
        break
      raise ValueError(
        f'{where}: not JSON ({error}); the line is damaged: remove it'
      ) from error
    require_shape(line, shape, where)
    lines.append(line)
  return lines
