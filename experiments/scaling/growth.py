"""Throughput and memory against size, and the time until a run takes its first step."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from experiments.record import record, recorded
from experiments.scaling.case import Case
from experiments.scaling.gpu import in_process, name_of


def sizes(base: Case) -> list[Case]:
  """Length, rows and rank, one at a time."""
  change = lambda **fields: dataclasses.replace(base, **fields)
  found = [base]
  found += [change(length=n) for n in (32, 64, 128, 256)]
  found += [change(rows=n) for n in (8, 16, 32, 64)]
  found += [change(rank=n) for n in (2, 4, 8)]
  found += [change(method='replicate', rank=n) for n in (2, 4, 8)]
  return list(dict.fromkeys(found))


def grow(folder: pathlib.Path, cases: list[Case], limit: float) -> None:
  """Records the rate and the peak of memory of every case that is not known.

  Args:
    folder: of `results.jsonl`.
    cases: what to time, each in a process of its own.
    limit: seconds for all of them.
  """
  start = time.monotonic()
  for case in cases:
    figure = f'{name_of(case)}: rate in a process of its own'
    if any(row['figure'] == figure for row in recorded(folder)):
      continue
    left = limit - (time.monotonic() - start)
    if left < 20:
      print('# --limit reached; the same command goes on', flush=True)
      return
    try:
      found = in_process(case, left)
    except RuntimeError as error:
      print(f'# {name_of(case)}: {error}', flush=True)
      continue
    record(
      folder,
      figure,
      found['tokens_per_second'],
      'tokens/s',
      **dataclasses.asdict(case),
      step_ms=found['step_ms'],
      peak_gib=found['peak_gib'],
      peak_of=found['peak_of'],
      device=found['device'],
    )


def start_up(folder: pathlib.Path, config: str, options: list[str]) -> None:
  """Seconds to the first step with an empty and a warm cache, and compilations.

  Args:
    folder: of `results.jsonl`.
    config: a config file, with its options.
    options: further flags of the run.
  """
  with tempfile.TemporaryDirectory() as scratch:
    env = os.environ | {'JAX_COMPILATION_CACHE_DIR': f'{scratch}/cache'}
    for kind in ('empty', 'warm'):
      workdir = pathlib.Path(scratch) / kind
      command = [sys.executable, '-m', 'adapad_jax.main', f'--config={config}']
      command += [f'--workdir={workdir}', *options]
      subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
      result = json.loads((workdir / 'result.json').read_text())
      record(
        folder,
        f'time to the first step of {config}, {kind} compilation cache',
        result['seconds_to_first_step'],
        's',
        options=options,
        compilations_of_the_round=result['traces'],
        seconds_by_phase=result['phases'],
        rounds=result['rounds'],
        largest_rank=max(result['ranks'].values()),
        device=result['devices'][0],
      )
