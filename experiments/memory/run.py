"""How far the estimate of a run's memory is from what the run takes.

  python -m experiments.memory.run
  python -m experiments.memory.run --model=DeBERTa-v3-base --dtype=bfloat16 --rows=64

On a GPU the peak is that of the device's allocator; on the CPU it is what the process
grows by, after a run of a tiny model has brought the libraries in. Skips what
`results.jsonl` already holds.
"""

import dataclasses
import json
import os
import pathlib
import tempfile
import time
from typing import Any

import jax
from absl import app, flags

from experiments.memory.case import Case
from experiments.record import record, recorded
from experiments.subprocesses import call

HERE = pathlib.Path(__file__).parent

_MODEL = flags.DEFINE_string('model', 'MiniLM', 'Of training_steps.CONFIGS.')
_ROWS = flags.DEFINE_integer('rows', 16, 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 128, 'Tokens of a row.')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Of weights.')
_LIMIT = flags.DEFINE_float('limit', 1e9, 'Seconds after which no case is begun.')
_OUT = flags.DEFINE_string('out', str(HERE), 'Folder of results.jsonl.')


def cases(base: Case) -> list[Case]:
  """Every way of training that changes what is held."""
  changes = [
    {},
    {'rows': 2 * base.rows},
    {'feeding': 'replicate', 'rank': 2},
    {'accumulate': 4},
    {'remat': True},
    {'method': 'lora'},
    {'method': 'full'},
  ]
  return [dataclasses.replace(base, **one) for one in changes]


def in_process(case: Case, what: str, cache: str) -> dict[str, Any]:
  """What `case.expect` or `case.measure` finds."""
  given, env = (
    json.dumps(dataclasses.asdict(case)),
    {'JAX_COMPILATION_CACHE_DIR': cache},
  )
  return call('experiments.memory.case', what, given, env=env)


def measure(folder: pathlib.Path, case: Case) -> None:
  """Records the estimate over the peak that was measured."""
  with tempfile.TemporaryDirectory() as cache:
    expected = in_process(case, 'estimate', cache)
    found = in_process(case, 'run', cache)
  mib = lambda size: round(size / 2**20, 1)
  record(
    folder,
    'estimated peak of memory over the measured one',
    round(expected['peak'] / found['peak'], 4),
    '',
    **dataclasses.asdict(case),
    estimated_mib=mib(expected.pop('peak')),
    measured_mib=mib(found.pop('peak')),
    parts_mib={name: mib(size) for name, size in expected.items()},
    **found,
  )


def main(argv: list[str]) -> None:
  """Measures what has not been measured on this kind of device."""
  folder, start = pathlib.Path(_OUT.value), time.monotonic()
  base = Case(
    model=_MODEL.value, rows=_ROWS.value, length=_LENGTH.value, dtype=_DTYPE.value
  )
  # The card's memory belongs to the processes that are measured.
  os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  peak_of = 'process' if jax.default_backend() == 'cpu' else 'device'
  for case in cases(base):
    about = dataclasses.asdict(case) | {'peak_of': peak_of}
    if any(about.items() <= row.items() for row in recorded(folder)):
      continue
    if time.monotonic() - start > _LIMIT.value:
      print('# --limit reached; the same command goes on', flush=True)
      break
    measure(folder, case)


if __name__ == '__main__':
  app.run(main)
