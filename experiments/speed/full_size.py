"""AdaPaD steps of the paper's full-size models, and their peak memory.

  python -m experiments.speed.full_size --models=DeBERTa-v3-base,Qwen3-0.6B

Random weights: memory does not depend on them. The peak is that of the model's process,
or of the card where JAX sees one.
"""

import dataclasses
import math
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import jax

from adapad_jax.adapters import Targets, choose
from adapad_jax.methods import adapad
from adapad_jax.models import Head
from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed import training_steps as steps
from experiments.speed.model_flops import step_flops, utilisation


@dataclasses.dataclass(frozen=True)
class Options:
  """What is measured.

  Attributes:
    models: names of `training_steps.CONFIGS`.
    rows, length: of a batch.
    dtype: of the frozen weights and products.
    fused: whether JAX's own attention is used where it can be.
    steps: to time, after a first one.
  """

  models: tuple[str, ...] = ('DeBERTa-v3-base', 'Qwen3-0.6B')
  rows: int = 8
  length: int = 64
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  fused: bool = False
  steps: int = 1


@dataclasses.dataclass(frozen=True)
class Case:
  """One model."""

  name: str


def cases(run: Run) -> list[Case]:
  """A case a model."""
  return [Case(name) for name in run.options.models]


def details(options: Options) -> dict[str, Any]:
  """What is recorded of the options."""
  names = ('dtype', 'fused', 'rows', 'length')
  return {name: getattr(options, name) for name in names}


def key(run: Run, case: Case) -> dict[str, Any]:
  """A model is measured once in a size on a kind of device."""
  about = details(run.options) | {'device': timing.device()}
  return about | {'figure': f'AdaPaD step of {case.name}: time'}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Makes the model, takes the steps, and tells what they needed."""
  options, name = run.options, case.name
  head = Head('lm') if name.startswith('Qwen3') else steps.CLASSIFIER
  batch = steps.draw_batch(name, options.rows, options.length)
  made = dict(dtype=options.dtype, fused=options.fused, scan=True)
  with tempfile.TemporaryDirectory() as folder:
    model = steps.our_model(name, pathlib.Path(folder), head, **made)
  settings = adapad.AdaPaDSettings(**steps.DEFLATING, r_max=4)
  step = steps.our_step(model, lambda problem: adapad.build(settings, problem), batch)
  first = step()
  seconds = timing.seconds_of(step, options.steps)
  losses = [first, step()]
  if not all(map(math.isfinite, losses)):
    raise RuntimeError(f'the loss was not finite: {losses}')
  device = timing.device_kind()
  shapes = choose(model.model, Targets(), model.targets, model.head_modules)
  speed = step_flops(name, options.rows, options.length, shapes) / seconds
  about = {'device': device, **details(options), 'losses': losses}
  about['parameters'] = sum(x.size for x in jax.tree.leaves(model.model))
  about['model_flop_utilisation'] = utilisation(speed, device, options.dtype)
  peak = timing.peak_bytes() / 2**30
  yield row(f'AdaPaD step of {name}: peak memory', peak, 'GiB', **about)
  yield row(f'AdaPaD step of {name}: time', seconds, 's', **about)


EXPERIMENT = Experiment(
  'speed.full_size', Options(), measure, cases, key, own_process=True
)

if __name__ == '__main__':
  main(EXPERIMENT)
