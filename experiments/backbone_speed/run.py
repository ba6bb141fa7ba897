"""Backbones beside torch: forward and LoRA step, batch 8 and 32, in one run.

python -m experiments.backbone_speed.run [--models=MiniLM] [--rows=8,32]
"""

import pathlib
import tempfile

from absl import app, flags

from adapad_jax.methods import lora
from experiments import training_steps as steps
from experiments.record import record

HERE = pathlib.Path(__file__).parent
RANK = 2

_MODELS = flags.DEFINE_list(
  'models', ['MiniLM', 'DeBERTa-v3-xsmall', 'SmolLM2-135M'], 'Names of CONFIGS.'
)
_ROWS = flags.DEFINE_list('rows', ['8', '32'], 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row.')
_REPEATS = flags.DEFINE_integer('repeats', 11, 'Timed calls of either side.')


def measure(name: str, rows: int) -> None:
  """Times one size; the models are made anew, because PEFT changes its own."""
  batch = steps.draw_batch(name, rows, _LENGTH.value)
  with tempfile.TemporaryDirectory() as folder:
    ours = steps.our_model(name, pathlib.Path(folder))
  theirs = steps.torch_model(name)
  bind = lambda problem: lora.build(lora.LoRASettings(rank=RANK), problem)
  pairs = {
    'forward': lambda: (
      steps.our_forward(ours, batch),
      steps.torch_forward(theirs, batch),
    ),
    'LoRA step': lambda: (
      steps.our_step(ours, bind, batch),
      steps.peft_step(theirs, ours, RANK, batch),
    ),
  }
  for what, make in pairs.items():
    seconds = steps.side_by_side(*make(), _REPEATS.value)
    record(
      HERE,
      f'{what} of {name}, {rows} x {_LENGTH.value} tokens: time beside torch',
      seconds['ratio'],
      '',
      ours_ms=1e3 * seconds['ours'],
      torch_ms=1e3 * seconds['theirs'],
      repeats=_REPEATS.value,
    )


def main(argv: list[str]) -> None:
  """Every model at every batch size."""
  for name in _MODELS.value:
    for rows in map(int, _ROWS.value):
      measure(name, rows)


if __name__ == '__main__':
  app.run(main)
