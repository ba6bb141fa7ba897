"""Measured figures, printed and kept beside the experiment that made them."""

import datetime
import json
import os
import pathlib
from typing import Any

from adapad_jax.files import finite

FILE = 'results.jsonl'
_ONE_THREAD = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'


def record(
  folder: pathlib.Path | str, figure: str, value: Any, unit: str, **details: Any
) -> dict[str, Any]:
  """Prints one figure as one JSON object and appends it to the folder's results.

  Args:
    folder: where `results.jsonl` lies; made if missing.
    figure: what was measured.
    value: a number, or what `json` can write; numpy scalars and arrays too. NaN and
      infinity are written as null.
    unit: of the value; '' for a pure number.
    **details: settings under which it was measured.

  Returns:
    The object, with the time (UTC) at which it was recorded under 'when'.

  Raises:
    TypeError: for a value that JSON cannot hold.
  """
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  entry = {'figure': figure, 'value': value, 'unit': unit, **details, 'when': now}
  line = json.dumps(finite(json.loads(json.dumps(entry, default=_plain))))
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / FILE).open('a', encoding='utf-8') as file:
    file.write(line + '\n')
  print(line, flush=True)
  return json.loads(line)


def side_by_side() -> dict[str, str]:
  """Environment of processes that share a machine: a thread each, memory by need."""
  return {
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {_ONE_THREAD}',
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  }


def recorded(folder: pathlib.Path | str) -> list[dict[str, Any]]:
  """All figures that a folder's results hold, none if there are no results yet."""
  path = pathlib.Path(folder) / FILE
  lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
  return [json.loads(line) for line in lines]


def _plain(value: Any) -> Any:
  """Arrays and array scalars as lists and numbers."""
  if hasattr(value, 'tolist'):
    return value.tolist()
  raise TypeError(f'{value!r} of type {type(value).__name__} cannot be written as JSON')
