"""What a start takes: of the program, to a run's first step, and of a model.

  python -m experiments.speed.start
  python -m experiments.speed.start --source=microsoft/deberta-v3-base

Without a source the program is started again and again, by turns: for its help, for the
plan of a config (`--dry_run`), and to train until it shows what came of the first step,
with an empty compilation cache and with one that has what an earlier start compiled.
What else is kept between starts, such as tokens, is not there beside the empty one.
Seconds count from the command on, imports included. With a source, import, tokenizer,
outline and weights of a model are timed one after the other.
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

import numpy as np
from huggingface_hub import constants

from adapad_jax import freed_memory
from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.tables import markdown

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = (sys.executable, '-m', 'adapad_jax.main')
# A script, not a module: the process that measures is to import nothing else.
_TAKEN = str(pathlib.Path(__file__).with_name('taken.py'))
# How the line begins in which a run tells of its first step.
FIRST = 'round 1/'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is started.

  Attributes:
    config: a config file, with its options.
    flags: more flags of that run.
    repeats: starts of each kind.
    source: as model.source.
  """

  config: str = 'configs/glue.py:quickstart'
  flags: str = ''
  repeats: int = 5
  source: str = ''


def figures(options: Options) -> dict[str, str]:
  """What is measured, by the kind of start."""
  first = f'start to the first step of {options.config}'
  return {
    'help': 'start with --help',
    'plan': f'start with --dry_run of {options.config}',
    'empty': f'{first}, empty compilation cache',
    'warm': f'{first}, warm compilation cache',
  }


def key(run: Run, options: Options) -> dict[str, Any]:
  """A config is started once with its flags on a kind of processor, a model once."""
  if options.source:
    return {'figure': 'fill', 'source': pathlib.Path(options.source).name}
  about = {'options': shlex.split(options.flags), 'processor': timing.processor()}
  return {'figure': figures(options)['warm'], **about}


def measure(run: Run, options: Options) -> Iterator[Row]:
  """A model or a config."""
  yield from load(options.source) if options.source else starts(options)


@dataclasses.dataclass(frozen=True)
class Taken:
  """What a process took: seconds by the clock and of processor time, GiB at most."""

  seconds: float
  cpu: float
  peak: float = 0.0


def starts(options: Options) -> Iterator[Row]:
  """Every kind of start, by turns."""
  taken: dict[str, list[Taken]] = {kind: [] for kind in figures(options)}
  flags = shlex.split(options.flags)
  config = [f'--config={options.config}', *flags]
  with tempfile.TemporaryDirectory() as scratch:
    for turn in range(options.repeats):
      own = kept_in(f'{scratch}/cache-{turn}')
      training = [*config, f'--workdir={scratch}/{turn}']
      # absl ends with 1 when it has told what flags there are.
      taken['help'].append(started(['--help'], code=1))
      taken['empty'].append(started(training, own, FIRST))
      taken['plan'].append(started([*config, '--dry_run'], own))
      again = [*config, f'--workdir={scratch}/{turn}-warm']
      taken['warm'].append(started(again, own, FIRST))
  for kind, figure in figures(options).items():
    seconds = [one.seconds for one in taken[kind]]
    yield row(
      figure,
      np.median(seconds),
      's',
      options=flags,
      least=min(seconds),
      most=max(seconds),
      cpu_seconds=np.median([one.cpu for one in taken[kind]]),
      repeats=options.repeats,
      processor=timing.processor(),
    )


def kept_in(folder: str) -> dict[str, str]:
  """Has all but models of the hub kept in a folder between starts."""
  return {
    'XDG_CACHE_HOME': folder,
    'JAX_COMPILATION_CACHE_DIR': f'{folder}/xla',
    'HF_HOME': constants.HF_HOME,
  }


def started(
  arguments: list[str],
  env: dict[str, str] | None = None,
  line: str = '',
  code: int = 0,
  root: pathlib.Path = ROOT,
) -> Taken:
  """Runs the program, to its end or until it prints a line that begins so.

  Args:
    arguments: of the program.
    env: variables beside those of this process.
    line: which ends the measurement, and the process.
    code: with which it ends if it is left to.
    root: the checkout that is started.

  Raises:
    RuntimeError: if it ends with another code, or without that line.
  """
  env = _as_users_have_it() | (env or {})
  measured = [sys.executable, '-I', _TAKEN, line, *PROGRAM, *arguments]
  told = subprocess.run(
    measured, check=True, env=env, cwd=root, stdout=subprocess.PIPE, text=True
  ).stdout
  found = json.loads(told)
  if not found['seen'] and (line or found['code'] != code):
    raise RuntimeError(f'{shlex.join(arguments)} ended with exit code {found["code"]}')
  return Taken(found['seconds'], found['cpu'], found['peak'])


def _as_users_have_it() -> dict[str, str]:
  """This process's environment, in which the program sets up its memory itself.

  And in which Python keeps what it has compiled of the program's files.
  """
  kept = dict(os.environ)
  kept.pop('PYTHONDONTWRITEBYTECODE', None)
  if kept.get('GLIBC_TUNABLES') == freed_memory.TUNABLES:
    del kept['GLIBC_TUNABLES']
  return kept


def table(run: Run) -> str:
  """A line for the newest start of every kind; rows of a model as they are."""
  newest: dict[tuple[Any, ...], Row] = {}
  for one in run.results.rows():
    if 'source' not in one:
      newest[one['figure'], str(one.get('options')), one.get('processor')] = one
  known = lambda one, name: f'{one[name]:.1f}' if name in one else ''
  lines = [
    [
      one['figure'],
      f'{one["value"]:.1f}',
      ' to '.join(filter(None, (known(one, 'least'), known(one, 'most')))),
      known(one, 'cpu_seconds'),
      str(one.get('repeats', 1)),
      one.get('processor', ''),
    ]
    for one in newest.values()
  ]
  head = ['', 'seconds', 'least to most', 'processor time, s', 'starts', 'processor']
  return markdown(head, lines)


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


EXPERIMENT = Experiment(
  'speed.start', Options(), measure, key=key, table=table, own_process=True
)

if __name__ == '__main__':
  main(EXPERIMENT)
