"""Which settings work: one or two changed at a time, everything else as in `BASE`.

  python -m experiments.defaults.run --data=FOLDER --seeds=0,1
  python -m experiments.defaults.run --table

FOLDER is a GLUE task as published. Scores are on a fifth of the training set: the
development set decides nothing. Skips what `results.jsonl` already holds, so it can be
stopped and started at will.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
from typing import Any

import numpy as np
from absl import app, flags

from adapad_jax.training import finetune_config
from configs.glue import get_config
from experiments.record import ONE_THREAD, record, recorded
from experiments.several_runs import runs_of, train_runs

HERE = pathlib.Path(__file__).parent

# Where all start: the method as published, every row deflating.
BASE = {'optimizer.rate': 1e-3, 'adapad.joint': 0.0, 'adapad.head_rows': 'last'}
# What is tried instead, as dotted fields of the config.
VARIANTS: dict[str, dict[str, Any]] = {
  'base': {},
  'LoRA of rank 2': {'method': 'lora'},
  'head trained by all workers': {'adapad.head_rows': 'all'},
  'half joint': {'adapad.joint': 0.5},
  'half joint and head by all workers': {
    'adapad.joint': 0.5,
    'adapad.head_rows': 'all',
  },
  'three quarters joint': {'adapad.joint': 0.75},
  'three quarters joint and head by all workers': {
    'adapad.joint': 0.75,
    'adapad.head_rows': 'all',
  },
  'half joint and head by all workers at rate 2e-3': {
    'adapad.joint': 0.5,
    'adapad.head_rows': 'all',
    'optimizer.rate': 2e-3,
  },
  'three quarters joint and head by all workers at rate 2e-3': {
    'adapad.joint': 0.75,
    'adapad.head_rows': 'all',
    'optimizer.rate': 2e-3,
  },
  'replicate (4 x the compute)': {'adapad.feeding': 'replicate'},
  'rate 2e-3': {'optimizer.rate': 2e-3},
  'LoRA of rank 2 at rate 2e-3': {'method': 'lora', 'optimizer.rate': 2e-3},
  'scale 1': {'adapter.scale': 1.0},
  'scale 16': {'adapter.scale': 16.0},
  'four local steps': {'adapad.local_steps': 4},
  'score sum': {'adapad.score': 'sum'},
  'init orthonormal': {'adapter.init': 'orthonormal'},
  'init gaussian': {'adapter.init': 'gaussian'},
  'no advance learning': {'adapad.advance': False},
  'shares first': {'adapad.shares': 'first'},
  'head rate 3e-3': {'head_optimizer.rate': 3e-3},
  'rate 4e-3': {'optimizer.rate': 4e-3},
}
# Shared by all runs: seeds of the data that no published table uses.
HOLDOUT, FIRST_SEED = 0.2, 1000

_TASK = flags.DEFINE_string('task', 'stsb', 'A task of configs/glue.py.')
_DATA = flags.DEFINE_string('data', '', 'Folder with the official files.')
_SEEDS = flags.DEFINE_list('seeds', ['0'], 'Seeds to run, together.')
_STEPS = flags.DEFINE_integer('steps', 180, 'Batches of 32 rows.')
_LENGTH = flags.DEFINE_integer('length', 32, 'Tokens of a row.')
_ROWS = flags.DEFINE_integer('eval_rows', 600, 'Rows to validate on; 0: all.')
_VARIANTS = flags.DEFINE_list('variants', list(VARIANTS), 'Which to run, in order.')
_JOBS = flags.DEFINE_integer('jobs', 2, 'Processes side by side, one thread each.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print what is there.')


def settings(variant: str) -> dict[str, Any]:
  """The config of one variant."""
  config = get_config(f'{_TASK.value},minilm').to_dict()
  changes = {
    'data.path': _DATA.value,
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
    group[field] = value
  return config


def details(variant: str, seed: int) -> dict[str, Any]:
  """What identifies a run among the results."""
  return {
    'task': _TASK.value,
    'variant': variant,
    'seed': seed,
    'steps': _STEPS.value,
    'length': _LENGTH.value,
    'eval_rows': _ROWS.value,
    'holdout': HOLDOUT,
  }


def results() -> list[dict[str, Any]]:
  """All rows so far."""
  return recorded(HERE)


def is_done(variant: str, seed: int) -> bool:
  """Whether a run with these settings is among the results."""
  wanted = details(variant, seed)
  return any(wanted.items() <= row.items() for row in results())


def run_variant(config: dict[str, Any], seeds: list[int]) -> dict[int, Any]:
  """By seed: (name of the metric, its value, its values for every prefix)."""
  config = finetune_config(config)
  trained = train_runs(config, runs_of(config, [FIRST_SEED + s for s in seeds]))
  name = trained.metric
  return {
    seed: (name, one.metrics[name], one.prefixes)
    for seed, one in zip(seeds, trained.outcomes, strict=True)
  }


def main(argv: list[str]) -> None:
  """Runs every variant that is missing, then prints the table."""
  if not _TABLE.value:
    run_missing()
  print(table())


def run_missing() -> None:
  """Every variant with the seeds that it lacks."""
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {ONE_THREAD}'
  fresh = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(_JOBS.value, fresh) as pool:
    running = {}
    for variant in _VARIANTS.value:
      seeds = [s for s in map(int, _SEEDS.value) if not is_done(variant, s)]
      if seeds:
        running[pool.submit(run_variant, settings(variant), seeds)] = variant
    for future in concurrent.futures.as_completed(running):
      for seed, (name, value, prefixes) in future.result().items():
        about = details(running[future], seed)
        about['prefixes'] = [round(x, 4) for x in prefixes]
        record(HERE, name, round(value, 4), '', **about)


def table() -> str:
  """Mean of the metric over seeds, best first, and of every prefix."""
  like = details('', 0)
  del like['variant'], like['seed']
  rows = [row for row in results() if like.items() <= row.items()]
  lines = []
  for variant in dict.fromkeys(row['variant'] for row in rows):
    own = [row for row in rows if row['variant'] == variant]
    values = [row['value'] for row in own]
    prefixes = ' '.join(
      f'{x:.3f}' for x in np.mean([row['prefixes'] for row in own], axis=0)
    )
    spread = f'{min(values):.4f} to {max(values):.4f}'
    lines.append(
      (
        np.mean(values),
        f'| {variant} | {np.mean(values):.4f} | {spread} | {len(own)} | {prefixes} |',
      )
    )
  head = '| variant | mean | seeds from, to | seeds | prefixes |\n|---|---|---|---|---|'
  return '\n'.join([head, *(line for _, line in sorted(lines, reverse=True))])


if __name__ == '__main__':
  app.run(main)
