"""What a start takes: until a run's first step, and until a model is in memory.

  python -m experiments.speed.start --flags=--config.train.steps=60
  python -m experiments.speed.start --source=microsoft/deberta-v3-base

Without a source a config is run twice, with an empty and with a warm compilation cache.
With one, import, tokenizer, outline and weights are timed one after the other.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from experiments.harness import Experiment, Run, main
from experiments.results import Row, row


@dataclasses.dataclass(frozen=True)
class Options:
  """What is started.

  Attributes:
    config: a config file, with its options.
    flags: more flags of that run.
    source: as model.source.
  """

  config: str = 'configs/glue.py:quickstart'
  flags: str = ''
  source: str = ''


def key(run: Run, options: Options) -> dict[str, Any]:
  """A config is started once with its flags, a model once."""
  if options.source:
    return {'figure': 'fill', 'source': pathlib.Path(options.source).name}
  figure = f'time to the first step of {options.config}, warm compilation cache'
  return {'figure': figure, 'options': shlex.split(options.flags)}


def measure(run: Run, options: Options) -> Iterator[Row]:
  """A model or a config."""
  yield from load(options.source) if options.source else first_step(options)


def first_step(options: Options) -> Iterator[Row]:
  """Seconds to the first step with either cache, and compilations."""
  more = shlex.split(options.flags)
  with tempfile.TemporaryDirectory() as scratch:
    env = os.environ | {'JAX_COMPILATION_CACHE_DIR': f'{scratch}/cache'}
    for kind in ('empty', 'warm'):
      workdir = pathlib.Path(scratch) / kind
      command = [sys.executable, '-m', 'adapad_jax.main', f'--config={options.config}']
      command += [f'--workdir={workdir}', *more]
      subprocess.run(command, check=True, env=env, stdout=sys.stderr)
      result = json.loads((workdir / 'result.json').read_text())
      yield row(
        f'time to the first step of {options.config}, {kind} compilation cache',
        result['seconds_to_first_step'],
        's',
        options=more,
        compilations_of_the_round=result['traces'],
        seconds_by_phase=result['phases'],
        rounds=result['rounds'],
        largest_rank=max(result['ranks'].values()),
        device=result['devices'][0],
      )


def load(source: str) -> Iterator[Row]:
  """Seconds of processor time of every part, and the peak of the process after it."""
  laps = Laps(pathlib.Path(source).name, time.process_time())
  importlib.import_module('adapad_jax.training.train')
  yield laps.lap('import')
  from adapad_jax import models

  found = models.find(source)
  found.fetch_weights()
  yield laps.lap('download')
  models.load_tokenizer(found)
  yield laps.lap('tokenizer')
  outlined = models.outline(found, models.Head('classification'))
  yield laps.lap('outline')
  models.fill(outlined)
  yield laps.lap('fill')


@dataclasses.dataclass
class Laps:
  """Processor time between calls of `lap`."""

  source: str
  spent: float

  def lap(self, name: str) -> Row:
    """What has been spent since the last call."""
    before, self.spent = self.spent, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = self.spent - before
    return row(name, seconds, 's', source=self.source, peak_gib=peak)


EXPERIMENT = Experiment('speed.start', Options(), measure, key=key, own_process=True)

if __name__ == '__main__':
  main(EXPERIMENT)
