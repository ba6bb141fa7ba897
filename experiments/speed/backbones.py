"""Backbones and training steps beside torch, by turns in one process.

  python -m experiments.speed.backbones [--models=MiniLM] [--rows=8,32]
  python -m experiments.speed.backbones --models=DeBERTa-v3-base --dtype=bfloat16
  python -m experiments.speed.backbones --parts=adapad --models=MiniLM --rows=32

Parts are the bare products of a batch with every matrix of the layers, a forward pass,
a step of LoRA, and a step of AdaPaD beside PEFT's LoRA. On a CUDA device where JAX and
torch both see one, else on the CPU.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax.adapters import Targets, choose
from adapad_jax.methods import adapad, lora
from adapad_jax.models import Pretrained
from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed import training_steps as steps
from experiments.speed.model_flops import forward_flops, step_flops, utilisation

RANK = 2
CARD_GROUP = 10  # A card works on a call while the host prepares the next.
Part = Literal['products', 'forward', 'step', 'adapad']


@dataclasses.dataclass(frozen=True)
class Options:
  """What is timed.

  Attributes:
    models: names of `training_steps.CONFIGS`.
    rows: of a batch.
    parts: see above.
    length: tokens of a row.
    repeats: timed turns of either side.
    dtype: of the frozen weights and products.
    scan: whether JAX has one scanned layer, which compiles sooner.
    fused: whether JAX's own attention is used where it can be.
  """

  models: tuple[str, ...] = ('MiniLM', 'DeBERTa-v3-xsmall', 'SmolLM2-135M')
  rows: tuple[int, ...] = (8, 32)
  parts: tuple[Part, ...] = ('products', 'forward', 'step')
  length: int = 64
  repeats: int = 11
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  scan: bool = False
  fused: bool = False

  def model_options(self) -> dict[str, Any]:
    """What is recorded of how the models are made."""
    return {name: getattr(self, name) for name in ('dtype', 'scan', 'fused')}


@dataclasses.dataclass(frozen=True)
class Case:
  """A part of a model, with so many rows of so many tokens."""

  part: Part
  model: str
  rows: int
  length: int

  @property
  def name(self) -> str:
    """What is recorded as the figure."""
    size = f'of {self.model}, {self.rows} x {self.length} tokens'
    if self.part == 'adapad':
      return f'AdaPaD split step {size}: time beside a LoRA step of PEFT'
    words = {'products': 'matrix products', 'step': 'LoRA step'}
    return f'{words.get(self.part, self.part)} {size}: time beside torch'


def cases(run: Run) -> list[Case]:
  """Every part of every model at every size."""
  options = run.options
  return [
    Case(part, model, rows, options.length)
    for model in options.models
    for rows in options.rows
    for part in options.parts
  ]


def key(run: Run, case: Case) -> dict[str, Any]:
  """A part is timed once on a kind of device and of processor."""
  about = {'figure': case.name, 'device': timing.device()}
  about |= {'processor': timing.processor()}
  return about | run.options.model_options()


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The median ratio of neighbouring turns, and what either side makes of a card."""
  check_devices()
  options = run.options
  with tempfile.TemporaryDirectory() as folder:
    made = options.model_options()
    ours = steps.our_model(case.model, pathlib.Path(folder), **made)
  make = {'products': products, 'forward': forward}.get(case.part, step)
  calls, flops = make(options, case, ours)
  device = jax.devices()[0]
  group = 1 if device.platform == 'cpu' else CARD_GROUP
  seconds = timing.side_by_side(*calls, options.repeats, group)
  share = lambda side: utilisation(
    flops / seconds[side], device.device_kind, options.dtype
  )
  yield row(
    case.name,
    seconds['ratio'],
    '',
    ours_ms=1e3 * seconds['ours'],
    torch_ms=1e3 * seconds['theirs'],
    least=seconds['least'],
    most=seconds['most'],
    repeats=options.repeats,
    group=group,
    device=device.device_kind,
    processor=timing.processor(),
    **made,
    ours_model_flop_utilisation=share('ours'),
    torch_model_flop_utilisation=share('theirs'),
  )


Calls = tuple[tuple[timing.Call, timing.Call], float]


def products(options: Options, case: Case, ours: Pretrained) -> Calls:
  """Either side's products of random tokens with matrices of these shapes, bare.

  What this ratio is above 1, no model of that side can be spared.

  Returns:
    the calls, and their floating-point operations.
  """
  from experiments.speed import torch_steps

  shapes, tokens = list(shapes_of(ours).values()), case.rows * case.length
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  inputs = {size: draw(tokens, size) for size in {inner for inner, _ in shapes}}
  kernels = [draw(*shape) for shape in shapes]
  calls = (
    steps.our_products(inputs, kernels, options.dtype),
    torch_steps.torch_products(inputs, kernels, options.dtype),
  )
  return calls, 2.0 * tokens * sum(inner * outer for inner, outer in shapes)


def forward(options: Options, case: Case, ours: Pretrained) -> Calls:
  """Either side's forward pass."""
  from experiments.speed import torch_steps

  batch = steps.draw_batch(case.model, case.rows, case.length)
  theirs = torch_steps.torch_model(case.model, options.dtype)
  calls = steps.our_forward(ours, batch), torch_steps.torch_forward(theirs, batch)
  return calls, forward_flops(case.model, case.rows, case.length, shapes_of(ours))


def step(options: Options, case: Case, ours: Pretrained) -> Calls:
  """A step of PEFT's LoRA beside ours, or AdaPaD's of the same budget."""
  from experiments.speed import torch_steps

  batch = steps.draw_batch(case.model, case.rows, case.length)
  theirs = torch_steps.torch_model(case.model, options.dtype)
  if case.part == 'adapad':
    settings = adapad.AdaPaDSettings(**steps.DEFLATING, r_max=2 * RANK, feeding='split')
    bind = lambda problem: adapad.build(settings, problem)
  else:
    bind = lambda problem: lora.build(lora.LoRASettings(rank=RANK), problem)
  calls = (
    steps.our_step(ours, bind, batch),
    torch_steps.peft_step(theirs, ours, RANK, batch),
  )
  return calls, step_flops(case.model, case.rows, case.length, shapes_of(ours))


def shapes_of(ours: Pretrained) -> dict[str, tuple[int, int]]:
  """Sizes of the adapted matrices."""
  return choose(ours.model, Targets(), ours.targets, ours.head_modules)


def check_devices() -> None:
  """Refuses to compare a card with a CPU.

  Raises:
    RuntimeError: if only one of JAX and torch sees a card.
  """
  from experiments.speed import torch_steps

  ours, theirs = jax.default_backend(), torch_steps.torch_device().type
  if (ours == 'cpu') != (theirs == 'cpu'):
    raise RuntimeError(
      f'JAX computes on {ours!r} but torch on {theirs!r}; hide the card from both with'
      ' CUDA_VISIBLE_DEVICES= or install the CUDA builds of both'
    )


def env(run: Run, case: Case) -> dict[str, str]:
  """Half of a card each: JAX takes its share when it starts."""
  return {'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.45'}


EXPERIMENT = Experiment(
  'speed.backbones', Options(), measure, cases, key, own_process=True, env=env
)

if __name__ == '__main__':
  main(EXPERIMENT)
