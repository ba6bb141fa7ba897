"""One AdaPaD step of the paper's full-size models on the CPU, and its peak memory.

  python -m experiments.full_size.run --model=DeBERTa-v3-base
  python -m experiments.full_size.run --model=Qwen3-0.6B

Random weights: memory does not depend on them. One process measures one model,
because the peak is that of the process.
"""

import math
import pathlib
import resource
import tempfile
import time

import jax
from absl import app, flags

from adapad_jax.methods import adapad
from adapad_jax.models import Head
from experiments import training_steps as steps
from experiments.record import record

HERE = pathlib.Path(__file__).parent

_MODEL = flags.DEFINE_enum(
  'model', 'DeBERTa-v3-base', ['DeBERTa-v3-base', 'Qwen3-0.6B'], 'A name of CONFIGS.'
)
_ROWS = flags.DEFINE_integer('rows', 8, 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row.')
_DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of the frozen weights.')


def main(argv: list[str]) -> None:
  """Makes the model, takes two steps, and records what they needed."""
  name = _MODEL.value
  head = Head('lm') if name.startswith('Qwen3') else steps.CLASSIFIER
  batch = steps.draw_batch(name, _ROWS.value, _LENGTH.value)
  with tempfile.TemporaryDirectory() as folder:
    model = steps.our_model(
      name, pathlib.Path(folder), head, dtype=_DTYPE.value, scan=True
    )
  settings = adapad.AdaPaDSettings(r_max=4)
  step = steps.our_step(model, lambda problem: adapad.build(settings, problem), batch)
  first = step()
  start = time.perf_counter()
  losses = [first, step()]
  seconds = time.perf_counter() - start
  if not all(map(math.isfinite, losses)):
    raise SystemExit(f'the loss was not finite: {losses}')
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  details = dict(
    dtype=_DTYPE.value,
    parameters=sum(x.size for x in jax.tree.leaves(model.model)),
    losses=losses,
    rows=_ROWS.value,
    length=_LENGTH.value,
  )
  record(HERE, f'AdaPaD step of {name}: peak memory', peak, 'GiB', **details)
  record(HERE, f'AdaPaD step of {name}: time', seconds, 's', **details)


if __name__ == '__main__':
  app.run(main)
