"""Which settings work: one or two changed at a time, everything else as in `BASE`.

  python -m experiments.defaults.run --data=FOLDER --seeds=0,1 --rates=1e-3,2e-3,4e-3
  python -m experiments.defaults.run --table

FOLDER has GLUE tasks as published, FOLDER/STS-B and so on. Scores are on a fifth of the
training set: the development set decides nothing. Skips what `results.jsonl` already
holds, so it can be stopped and started at will.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
from typing import Any

import jax
import numpy as np
from absl import app, flags

from adapad_jax.training import finetune_config
from configs.glue import get_config
from experiments.glue_table.settings import FOLDERS
from experiments.record import record, recorded, side_by_side
from experiments.several_runs import Run, train_runs

HERE = pathlib.Path(__file__).parent

# Where all start: the method as published, every row deflating.
BASE = {'adapad.joint': 0.0, 'adapad.polish': 0.0, 'adapad.head_rows': 'last'}
RECIPE = {'adapad.joint': 0.75, 'adapad.head_rows': 'all'}
POLISHED = RECIPE | {'adapad.polish': 0.5}
# Growth done after a quarter of the run, as shares of it.
EARLY = {'adapad.start': 0.05, 'adapad.interval': 0.02, 'adapad.grants_per_event': 4}
# What is tried instead, as dotted fields of the config.
VARIANTS: dict[str, dict[str, Any]] = {
  'LoRA of rank 2': {'method': 'lora'},
  'as published': {},
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

_TASKS = flags.DEFINE_list('tasks', ['stsb'], 'Tasks of configs/glue.py.')
_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_SEEDS = flags.DEFINE_list('seeds', ['0'], 'Seeds to run, together.')
_RATES = flags.DEFINE_list('rates', ['2e-3'], 'Peak rates to run, together.')
_STEPS = flags.DEFINE_integer('steps', 180, 'Batches of 32 rows.')
_LENGTH = flags.DEFINE_integer('length', 32, 'Tokens of a row.')
_ROWS = flags.DEFINE_integer('eval_rows', 600, 'Rows to validate on; 0: all.')
_VARIANTS = flags.DEFINE_list('variants', list(VARIANTS), 'Which to run, in order.')
_JOBS = flags.DEFINE_integer('jobs', 2, 'Processes side by side, one thread each.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print what is there.')


def settings(task: str, variant: str) -> dict[str, Any]:
  """The config of one variant."""
  config = get_config(f'{task},minilm').to_dict()
  changes = {
    'data.path': str(pathlib.Path(_DATA.value) / FOLDERS[task]),
    'data.max_length': _LENGTH.value,
    'data.max_eval_rows': _ROWS.value,
    'data.holdout': HOLDOUT,
    'train.steps': _STEPS.value,
    **BASE,
    **VARIANTS[variant],
  }
  for name, value in changes.items():
    *groups, field = name.split('.')
    group = config
    for part in groups:
      group = group[part]
    is_share = field in ('start', 'interval')
    group[field] = max(round(value * _STEPS.value), 1) if is_share else value
  return config


def details(task: str, variant: str, seed: int, rate: float) -> dict[str, Any]:
  """What identifies a run among the results."""
  return {
    'task': task,
    'variant': variant,
    'seed': seed,
    'rate': rate,
    'steps': _STEPS.value,
    'length': _LENGTH.value,
    'eval_rows': _ROWS.value,
    'holdout': HOLDOUT,
  }


def results() -> list[dict[str, Any]]:
  """All rows so far."""
  return recorded(HERE)


def run_variant(
  config: dict[str, Any], lanes: list[tuple[int, float]]
) -> list[dict[str, Any]]:
  """What (seed, rate) came to; a value of None where a run was not finite."""
  config = finetune_config(config)
  head_rate = config.head_optimizer.learning_rate
  runs = [Run(FIRST_SEED + seed, rate, head_rate) for seed, rate in lanes]
  trained = train_runs(config, runs)
  device, name = jax.devices()[0].device_kind, trained.metric
  return [
    {
      'figure': name,
      'value': round(one.metrics[name], 4) if one else None,
      'prefixes': [round(x, 4) for x in one.prefixes] if one else None,
      'device': device,
      'seconds_of_all': round(trained.seconds, 1),
    }
    for one in trained.outcomes
  ]


def main(argv: list[str]) -> None:
  """Runs every variant that is missing, then prints a table for each task."""
  if not _TABLE.value:
    run_missing()
  for task in _TASKS.value:
    print(f'\n{task}\n{table(task)}')


def run_missing() -> None:
  """Every variant with the seeds and rates that it lacks."""
  os.environ.update(side_by_side())
  done = results()
  wanted = [(int(seed), float(r)) for r in _RATES.value for seed in _SEEDS.value]
  fresh = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    _JOBS.value, fresh, max_tasks_per_child=1
  ) as pool:
    running = {}
    for variant in _VARIANTS.value:
      for task in _TASKS.value:
        is_done = lambda *lane: any(
          details(task, variant, *lane).items() <= row.items()  # noqa: B023
          for row in done
        )
        lanes = [lane for lane in wanted if not is_done(*lane)]
        if lanes:
          job = pool.submit(run_variant, settings(task, variant), lanes)
          running[job] = task, variant, lanes
    for future in concurrent.futures.as_completed(running):
      task, variant, lanes = running[future]
      for lane, row in zip(lanes, future.result(), strict=True):
        figure, value = row.pop('figure'), row.pop('value')
        record(HERE, figure, value, '', **details(task, variant, *lane), **row)


def table(task: str) -> str:
  """Every variant at its best rate: mean over seeds, best first, and of prefixes."""
  like = details(task, '', 0, 0.0)
  del like['variant'], like['seed'], like['rate']
  rows = [row for row in results() if like.items() <= row.items()]
  lines = []
  for variant in dict.fromkeys(row['variant'] for row in rows):
    by_rate: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
      if row['variant'] == variant:
        by_rate.setdefault(row['rate'], []).append(row)
    worth = {
      rate: np.mean(
        [row['value'] if row['value'] is not None else -np.inf for row in own]
      )
      for rate, own in by_rate.items()
    }
    rate = max(worth, key=worth.get)
    lines.append((worth[rate], _line(variant, rate, by_rate[rate])))
  head = '| variant | rate | mean | seeds from, to | prefixes |\n|---|---|---|---|---|'
  return '\n'.join([head, *(line for _, line in sorted(lines, reverse=True))])


def _line(variant: str, rate: float, rows: list[dict[str, Any]]) -> str:
  values = [row['value'] for row in rows if row['value'] is not None]
  if not values:
    return f'| {variant} | {rate} | not finite | | |'
  prefixes = [row['prefixes'] for row in rows if row['value'] is not None]
  curve = ' '.join(f'{x:.3f}' for x in np.mean(prefixes, axis=0))
  spread = f'{min(values):.4f} to {max(values):.4f}'
  return f'| {variant} | {rate} | {np.mean(values):.4f} | {spread} | {curve} |'


if __name__ == '__main__':
  app.run(main)
