"""Which defaults work: one setting changed at a time, everything else as it is.

  python -m experiments.defaults.run --task=stsb --data=FOLDER --seeds=0,1

Skips what `results.jsonl` already holds, so it can be stopped and started at will.
"""

import json
import pathlib
import tempfile
from typing import Any

from absl import app, flags

from adapad_jax.training import finetune_config, train
from configs.glue import get_config
from experiments.record import FILE, record

HERE = pathlib.Path(__file__).parent

# What is tried instead of the default, as dotted fields of the config.
VARIANTS: dict[str, dict[str, Any]] = {
  'default': {},
  'head trained by all workers': {'adapad.head_rows': 'all'},
  'rate 2e-3': {'optimizer.rate': 2e-3},
  'rate 2e-3, head trained by all workers': {
    'optimizer.rate': 2e-3,
    'adapad.head_rows': 'all',
  },
  'rate 4e-3': {'optimizer.rate': 4e-3},
  'scale 1': {'adapter.scale': 1.0},
  'scale 16': {'adapter.scale': 16.0},
  'head rate 3e-3': {'head_optimizer.rate': 3e-3},
  'shares first': {'adapad.shares': 'first'},
  'four local steps': {'adapad.local_steps': 4},
  'no advance learning': {'adapad.advance': False},
  'score sum': {'adapad.score': 'sum'},
  'init orthonormal': {'adapter.init': 'orthonormal'},
  'init gaussian': {'adapter.init': 'gaussian'},
  'replicate': {'adapad.feeding': 'replicate'},
}

_TASK = flags.DEFINE_string('task', 'stsb', 'A task of configs/glue.py.')
_DATA = flags.DEFINE_string('data', '', 'Folder with the official files.')
_SEEDS = flags.DEFINE_list('seeds', ['0'], 'Seeds to run.')
_STEPS = flags.DEFINE_integer('steps', 180, 'Batches of 32 rows.')
_LENGTH = flags.DEFINE_integer('length', 40, 'Tokens of a row.')
_ROWS = flags.DEFINE_integer('eval_rows', 600, 'Rows to validate on; 0: all.')
_VARIANTS = flags.DEFINE_list('variants', list(VARIANTS), 'Which to run, in order.')


def settings(variant: str, seed: int) -> dict[str, Any]:
  """The config of one run."""
  config = get_config(f'{_TASK.value},minilm').to_dict()
  changes = {
    'seed': seed,
    'data.path': _DATA.value,
    'data.max_length': _LENGTH.value,
    'data.max_eval_rows': _ROWS.value,
    'train.steps': _STEPS.value,
    'train.evaluations': 1,
    'train.buckets': (),
    **VARIANTS[variant],
  }
  for name, value in changes.items():
    *groups, field = name.split('.')
    group = config
    for part in groups:
      group = group[part]
    group[field] = value
  return config


def is_done(details: dict[str, Any]) -> bool:
  """Whether a run with these settings is among the results."""
  path = HERE / FILE
  lines = path.read_text().splitlines() if path.is_file() else []
  return any(details.items() <= json.loads(line).items() for line in lines)


def main(argv: list[str]) -> None:
  """Runs every variant of every seed that is missing."""
  for seed in map(int, _SEEDS.value):
    for variant in _VARIANTS.value:
      details = {
        'task': _TASK.value,
        'variant': variant,
        'seed': seed,
        'steps': _STEPS.value,
        'length': _LENGTH.value,
        'eval_rows': _ROWS.value,
      }
      if is_done(details):
        continue
      with tempfile.TemporaryDirectory() as workdir:
        result = train(finetune_config(settings(variant, seed)), pathlib.Path(workdir))
      name = result['metric']
      value = result['last']['metrics'][name]
      prefixes = [round(x, 4) for x in result['prefixes']]
      record(HERE, name, round(value, 4), '', **details, prefixes=prefixes)


if __name__ == '__main__':
  app.run(main)
