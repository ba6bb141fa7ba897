"""Speed and size of the training step, part by part.

  python -m experiments.scaling.run --part=gpu

`gpu` needs jax, flax, optax, torch, transformers and peft alone, draws all weights,
runs on whatever device they find, prints each figure as it comes and ends in time.
The other parts: README.md. They skip what `results.jsonl` already holds.
"""

import os
import pathlib

import jax
from absl import app, flags

from adapad_jax.compilation import keep_compiled
from experiments.scaling import allocator, collectives, gpu, growth, pinned, turns
from experiments.scaling.case import Case

HERE = pathlib.Path(__file__).parent
PARTS = ('gpu', 'turns', 'growth', 'startup', 'pinned', 'allocator', 'collectives')

_PART = flags.DEFINE_enum('part', 'gpu', PARTS, 'What to measure.')
_OUT = flags.DEFINE_string('out', str(HERE), 'Folder of results.jsonl.')
_MODELS = flags.DEFINE_list('models', ['DeBERTa-v3-base', 'MiniLM'], 'Of CONFIGS.')
_ROWS = flags.DEFINE_integer('rows', 32, 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 128, 'Tokens of a row.')
_RANK = flags.DEFINE_integer('rank', 4, 'Of LoRA, and r_max.')
_DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['float32', 'bfloat16'], 'Products.')
_SCAN = flags.DEFINE_bool('scan', False, 'One scanned layer: compiles sooner.')
_FUSED = flags.DEFINE_bool('fused', False, "JAX's own attention where it can be.")
_SECONDS = flags.DEFINE_float('seconds', 3.0, 'To time a case for, at least.')
_LIMIT = flags.DEFINE_float('limit', 280.0, 'Seconds for everything.')
_RANKS = flags.DEFINE_list('ranks', ['2', '4', '8'], 'Workers of `turns`.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Turns of either side.')
_GROUP = flags.DEFINE_integer('group', 1, 'Steps of a turn; on a GPU, 10.')
_DEVICES = flags.DEFINE_list('devices', ['1', '2', '4', '8', '64'], '`collectives`.')
_CONFIG = flags.DEFINE_string('config', 'configs/glue.py:quickstart', 'Of `startup`.')
_OPTIONS = flags.DEFINE_list('options', [], 'More flags for the run of `startup`.')


def main(argv: list[str]) -> None:
  """Measures a part."""
  folder, models, limit = pathlib.Path(_OUT.value), _MODELS.value, _LIMIT.value
  base = Case(
    model=models[0],
    rank=_RANK.value,
    rows=_ROWS.value,
    length=_LENGTH.value,
    dtype=_DTYPE.value,
    scan=_SCAN.value,
    fused=_FUSED.value,
    seconds=_SECONDS.value,
  )
  if _PART.value == 'gpu':
    gpu.run(folder, base, models, limit)
  elif _PART.value == 'turns':
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # Half is torch's.
    keep_compiled()
    wanted = turns.pairs(base, [int(rank) for rank in _RANKS.value])
    turns.compare(folder, wanted, _REPEATS.value, _GROUP.value, limit)
  elif _PART.value == 'growth':
    from experiments.scaling.draw import draw  # Not where a card is measured.

    growth.grow(folder, growth.sizes(base), limit)
    draw(folder)
  elif _PART.value == 'startup':
    growth.start_up(folder, _CONFIG.value, _OPTIONS.value)
  elif _PART.value == 'pinned':
    pinned.compare(folder, base, _REPEATS.value)
  elif _PART.value == 'allocator':
    allocator.compare(folder, allocator.sizes(base), _REPEATS.value)
  else:
    _collectives(folder, models, base)


def _collectives(folder: pathlib.Path, models: list[str], base: Case) -> None:
  counts = [int(count) for count in _DEVICES.value]
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', max(counts))
  shapes = [
    collectives.Shape(model, feeding, base.rank, base.rows, base.length, devices)
    for model in models
    for feeding in ('split', 'replicate')
    for devices in counts
  ]
  collectives.run(folder, shapes)


if __name__ == '__main__':
  app.run(main)
