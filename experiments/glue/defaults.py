"""Which settings work: one or two changed at a time, everything else as in `BASE`.

  python -m experiments.glue.defaults --data=FOLDER --tasks=stsb,cola --steps=400 \\
      --seeds=0,1 --rates=2e-3,4e-3
  python -m experiments.glue.defaults --tasks=stsb,cola --steps=400 --table

FOLDER has the official GLUE files, FOLDER/STS-B and so on. Scores are on a fifth of the
training set: the development set decides nothing. Seeds and rates of a variant are one
case, which trains them at once (`experiments.several_runs`).
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax.training import finetune_config
from configs.glue import get_config
from experiments import several_runs, tables
from experiments.glue.settings import FOLDERS
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, matching, row

# Where all start: every row deflates, on its worker's share of the batch. The paper's
# setting shows every row to every worker (`replicate`).
BASE = {'adapad.joint': 0.0, 'adapad.polish': 0.0, 'adapad.head_rows': 'last'}
RECIPE = {'adapad.joint': 0.75, 'adapad.head_rows': 'all'}
POLISHED = RECIPE | {'adapad.polish': 0.5}
# Growth done after a quarter of the run, as shares of it.
EARLY = {'adapad.start': 0.05, 'adapad.interval': 0.02, 'adapad.grants_per_event': 4}
# What is tried instead, as dotted fields of the config.
VARIANTS: dict[str, dict[str, Any]] = {
  'LoRA of rank 2': {'method': 'lora'},
  'every row deflates': {},
  'replicate (4 x the compute)': {'adapad.feeding': 'replicate'},
  'four local steps': {'adapad.local_steps': 4},
  'head by all': {'adapad.head_rows': 'all'},
  'half joint': {'adapad.joint': 0.5},
  'three quarters joint': {'adapad.joint': 0.75},
  'polish half': {'adapad.polish': 0.5},
  'polish half and head by all': {'adapad.polish': 0.5, 'adapad.head_rows': 'all'},
  'recipe': RECIPE,
  'recipe with polish a quarter': RECIPE | {'adapad.polish': 0.25},
  'recipe with polish half': POLISHED,
  'recipe with polish three quarters': RECIPE | {'adapad.polish': 0.75},
  'recipe with polish half and full by a quarter': POLISHED | EARLY,
  'recipe with polish half and seven eighths joint': POLISHED | {'adapad.joint': 0.875},
  'recipe with polish half and gaussian start': POLISHED | {'adapter.init': 'gaussian'},
  'recipe with polish half and r_max 2': POLISHED | {'adapad.r_max': 2},
  'recipe with polish half and slow averages': POLISHED
  | {'adapad.beta1': 0.98, 'adapad.beta2': 0.98},
  'recipe with polish half and clip a quarter': POLISHED | {'optimizer.clip': 0.25},
  'recipe with polish throughout': RECIPE | {'adapad.polish': 0.999},
  # What LoRA of rank 2 is, but by workers: nothing deflates after the first round.
  'all joint and full at once': RECIPE
  | {
    'adapad.polish': 0.999,
    'adapad.r_max': 2,
    'adapad.start': 0.001,
    'adapad.interval': 0.001,
    'adapad.grants_per_event': 36,
  },
  'recipe with seven eighths joint': RECIPE | {'adapad.joint': 0.875},
  'recipe with full by a quarter': RECIPE | EARLY,
  'recipe with r_max 2': RECIPE | {'adapad.r_max': 2},
  'recipe with r_max 8': RECIPE | {'adapad.r_max': 8},
  'recipe with no advance learning': RECIPE | {'adapad.advance': False},
  'recipe with more rows to the first': RECIPE | {'adapad.shares': 'first'},
  'recipe with score sum': RECIPE | {'adapad.score': 'sum'},
  'recipe with scale 1': RECIPE | {'adapter.scale': 1.0},
  'recipe with scale 16': RECIPE | {'adapter.scale': 16.0},
  'recipe with orthonormal start': RECIPE | {'adapter.init': 'orthonormal'},
  'recipe with gaussian start': RECIPE | {'adapter.init': 'gaussian'},
  'recipe with head rate 3e-3': RECIPE | {'head_optimizer.learning_rate': 3e-3},
}
# Shared by all runs: seeds of the data that no published table uses.
HOLDOUT, FIRST_SEED = 0.2, 1000


@dataclasses.dataclass(frozen=True)
class Options:
  """What is run.

  Attributes:
    data: folder with the official GLUE files.
    tasks: of configs/glue.py.
    seeds, rates: to run together.
    steps: batches of 32 rows.
    length: tokens of a row.
    eval_rows: rows to validate on; 0: all.
    variants: names of `VARIANTS`.
  """

  data: str = ''
  tasks: tuple[str, ...] = ('stsb',)
  seeds: tuple[int, ...] = (0,)
  rates: tuple[float, ...] = (2e-3,)
  steps: int = 180
  length: int = 32
  eval_rows: int = 600
  variants: tuple[Literal[*VARIANTS], ...] = tuple(VARIANTS)


@dataclasses.dataclass(frozen=True)
class Case:
  """The (seed, rate) of a variant that are missing."""

  task: str
  variant: str
  runs: tuple[tuple[int, float], ...]


def shared(options: Options, task: str) -> dict[str, Any]:
  """What all rows of a table have in common."""
  return {
    'task': task,
    'steps': options.steps,
    'length': options.length,
    'eval_rows': options.eval_rows,
    'holdout': HOLDOUT,
  }


def cases(run: Run) -> Iterator[Case]:
  """The variants of every task that lack a seed at a rate."""
  options, done = run.options, run.done()
  for variant, task in itertools.product(options.variants, options.tasks):
    like = shared(options, task) | {'variant': variant}
    there = {(one['seed'], one['rate']) for one in matching(done, like)}
    wanted = [(seed, rate) for rate in options.rates for seed in options.seeds]
    if lacking := tuple(one for one in wanted if one not in there):
      yield Case(task, variant, lacking)


def settings(options: Options, task: str, variant: str) -> dict[str, Any]:
  """The config of one variant."""
  config = get_config(f'{task},minilm')
  changes = {
    'data.path': str(pathlib.Path(options.data) / FOLDERS[task]),
    'data.max_length': options.length,
    'data.max_eval_rows': options.eval_rows,
    'data.holdout': HOLDOUT,
    'train.steps': options.steps,
    **BASE,
    **VARIANTS[variant],
  }
  for name, value in changes.items():
    if name.endswith(('.start', '.interval')):
      changes[name] = max(round(value * options.steps), 1)
  config.update_from_flattened_dict(changes)
  return config.to_dict()


def measure(run: Run, case: Case) -> Iterator[Row]:
  """What every (seed, rate) came to; None for one that was not finite."""
  config = finetune_config(settings(run.options, case.task, case.variant))
  head_rate = config.head_optimizer.learning_rate
  runs = [
    several_runs.Run(FIRST_SEED + seed, rate, head_rate) for seed, rate in case.runs
  ]
  trained = several_runs.train_runs(config, runs)
  name = trained.metric
  for (seed, rate), one in zip(case.runs, trained.outcomes, strict=True):
    yield row(
      name,
      round(one.metrics[name], 4) if one else None,
      '',
      variant=case.variant,
      seed=seed,
      rate=rate,
      **shared(run.options, case.task),
      prefixes=[round(x, 4) for x in one.prefixes] if one else None,
      device=jax.devices()[0].device_kind,
      seconds_of_all=round(trained.seconds, 1),
    )


def table(run: Run) -> str:
  """A table for each task."""
  rows = run.results.rows()
  parts = [
    f'{task}\n{task_table(matching(rows, shared(run.options, task)))}'
    for task in run.options.tasks
  ]
  return '\n\n'.join(parts)


def task_table(rows: list[Row]) -> str:
  """Every variant at its best rate: mean over seeds, best first, and of prefixes."""
  lines = []
  for variant in dict.fromkeys(one['variant'] for one in rows):
    own = matching(rows, {'variant': variant})
    by_rate = {one['rate']: matching(own, {'rate': one['rate']}) for one in own}
    worth = {rate: mean_of(found) for rate, found in by_rate.items()}
    rate = max(worth, key=worth.get)
    lines.append((worth[rate], line_of(variant, rate, by_rate[rate])))
  head = ['variant', 'rate', 'mean', 'seeds from, to', 'prefixes']
  return tables.markdown(head, [line for _, line in sorted(lines, reverse=True)])


def mean_of(rows: list[Row]) -> float:
  """Mean over seeds, minus infinity if one of them was not finite."""
  values = [one['value'] for one in rows]
  return -np.inf if None in values else float(np.mean(values))


def line_of(variant: str, rate: float, rows: list[Row]) -> list[str]:
  finite = [one for one in rows if one['value'] is not None]
  if not finite:
    return [variant, str(rate), 'not finite', '', '']
  values = [one['value'] for one in finite]
  prefixes = np.mean([one['prefixes'] for one in finite], axis=0)
  spread = f'{min(values):.4f} to {max(values):.4f}'
  curve = ' '.join(f'{x:.3f}' for x in prefixes)
  return [variant, str(rate), f'{np.mean(values):.4f}', spread, curve]


EXPERIMENT = Experiment(
  'glue.defaults',
  Options(),
  measure,
  cases,
  no_key,
  table,
  needs=('data',),
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
