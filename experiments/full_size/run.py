"""AdaPaD steps of the paper's full-size models, and their peak memory.

  python -m experiments.full_size.run --model=DeBERTa-v3-base
  python -m experiments.full_size.run --model=Qwen3-0.6B

Random weights: memory does not depend on them. One process measures one model,
because the peak is that of the process, or of the card where JAX sees one.
"""

import math
import pathlib
import tempfile

import jax
from absl import app, flags

from adapad_jax.adapters import Targets, choose
from adapad_jax.methods import adapad
from adapad_jax.models import Head
from experiments import timing
from experiments import training_steps as steps
from experiments.model_flops import step_flops, utilisation
from experiments.record import record

HERE = pathlib.Path(__file__).parent

_MODEL = flags.DEFINE_enum(
  'model', 'DeBERTa-v3-base', ['DeBERTa-v3-base', 'Qwen3-0.6B'], 'A name of CONFIGS.'
)
_ROWS = flags.DEFINE_integer('rows', 8, 'Rows of a batch.')
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of the frozen weights and products.'
)
_FUSED = flags.DEFINE_bool('fused', False, "JAX's own attention, where it can be.")
_STEPS = flags.DEFINE_integer('steps', 1, 'Steps to time, after a first one.')
_OUT = flags.DEFINE_string('out', str(HERE), 'Folder of results.jsonl.')


def main(argv: list[str]) -> None:
  """Makes the model, takes the steps, and records what they needed."""
  name, options = _MODEL.value, dict(dtype=_DTYPE.value, fused=_FUSED.value)
  head = Head('lm') if name.startswith('Qwen3') else steps.CLASSIFIER
  batch = steps.draw_batch(name, _ROWS.value, _LENGTH.value)
  with tempfile.TemporaryDirectory() as folder:
    model = steps.our_model(name, pathlib.Path(folder), head, scan=True, **options)
  settings = adapad.AdaPaDSettings(r_max=4)
  step = steps.our_step(model, lambda problem: adapad.build(settings, problem), batch)
  first = step()
  seconds = timing.seconds_of(step, _STEPS.value)
  losses = [first, step()]
  if not all(map(math.isfinite, losses)):
    raise SystemExit(f'the loss was not finite: {losses}')
  device = jax.devices()[0]
  shapes = choose(model.model, Targets(), model.targets, model.head_modules)
  speed = step_flops(name, _ROWS.value, _LENGTH.value, shapes) / seconds
  details = dict(
    device=device.device_kind,
    **options,
    parameters=sum(x.size for x in jax.tree.leaves(model.model)),
    losses=losses,
    rows=_ROWS.value,
    length=_LENGTH.value,
  )
  peak = timing.peak_bytes() / 2**30
  share = utilisation(speed, device.device_kind, _DTYPE.value)
  figure = f'AdaPaD step of {name}: '
  record(_OUT.value, figure + 'peak memory', peak, 'GiB', **details)
  record(
    _OUT.value, figure + 'time', seconds, 's', model_flop_utilisation=share, **details
  )


if __name__ == '__main__':
  app.run(main)
