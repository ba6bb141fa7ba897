"""Speed and size of the training step, part by part.

  python -m experiments.scaling.run --part=gpu

`gpu` needs jax, flax, optax, torch, transformers and peft alone, draws all weights,
runs on whatever device they find, prints each figure as it comes and ends in time.
"""

import pathlib

from absl import app, flags

from experiments.scaling import gpu
from experiments.scaling.case import Case

HERE = pathlib.Path(__file__).parent

_PART = flags.DEFINE_enum('part', 'gpu', ['gpu'], 'What to measure.')
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


def main(argv: list[str]) -> None:
  """Measures a part."""
  base = Case(
    rank=_RANK.value,
    rows=_ROWS.value,
    length=_LENGTH.value,
    dtype=_DTYPE.value,
    scan=_SCAN.value,
    fused=_FUSED.value,
    seconds=_SECONDS.value,
  )
  gpu.run(pathlib.Path(_OUT.value), base, _MODELS.value, _LIMIT.value)


if __name__ == '__main__':
  app.run(main)
