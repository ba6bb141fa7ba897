"""One AdaPaD step beside one LoRA step of PEFT: same model, modules and batch.

python -m experiments.step_time.run
"""

import pathlib
import tempfile

from absl import app, flags

from adapad_jax.methods import adapad
from experiments import torch_steps
from experiments import training_steps as steps
from experiments.record import record
from experiments.timing import side_by_side

HERE = pathlib.Path(__file__).parent

_MODEL = flags.DEFINE_string('model', 'MiniLM', 'A name of CONFIGS.')
_ROWS = flags.DEFINE_integer('rows', 32, 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row.')
_REPEATS = flags.DEFINE_integer('repeats', 21, 'Timed steps of either side.')


def main(argv: list[str]) -> None:
  """Times `split`: r_max = 4 and a budget of two a module, against LoRA's rank 2."""
  batch = steps.draw_batch(_MODEL.value, _ROWS.value, _LENGTH.value)
  with tempfile.TemporaryDirectory() as folder:
    ours = steps.our_model(_MODEL.value, pathlib.Path(folder))
  settings = adapad.AdaPaDSettings(r_max=4, feeding='split')
  seconds = side_by_side(
    steps.our_step(ours, lambda problem: adapad.build(settings, problem), batch),
    torch_steps.peft_step(torch_steps.torch_model(_MODEL.value), ours, 2, batch),
    _REPEATS.value,
  )
  record(
    HERE,
    f'AdaPaD split step of {_MODEL.value}, {_ROWS.value} x {_LENGTH.value} tokens:'
    ' time beside a LoRA step of PEFT',
    seconds['ratio'],
    '',
    ours_ms=1e3 * seconds['ours'],
    torch_ms=1e3 * seconds['theirs'],
    repeats=_REPEATS.value,
  )


if __name__ == '__main__':
  app.run(main)
