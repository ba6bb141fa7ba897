"""Backbones beside torch: forward, LoRA step and bare products, batch 8 and 32.

  python -m experiments.backbone_speed.run [--models=MiniLM] [--rows=8,32]
  python -m experiments.backbone_speed.run --models=DeBERTa-v3-base --dtype=bfloat16

On a CUDA device where JAX and torch both see one, else on the CPU.
"""

import os
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from absl import app, flags

from adapad_jax.adapters import Targets, choose
from adapad_jax.methods import lora
from experiments import timing, torch_steps
from experiments import training_steps as steps
from experiments.model_flops import forward_flops, step_flops, utilisation
from experiments.record import record

HERE = pathlib.Path(__file__).parent
PARTS = ('products', 'forward', 'step')
RANK = 2
CARD_GROUP = 10  # A card works on a call while the host prepares the next.

_MODELS = flags.DEFINE_list(
  'models', ['MiniLM', 'DeBERTa-v3-xsmall', 'SmolLM2-135M'], 'Names of CONFIGS.'
)
_ROWS = flags.DEFINE_list('rows', ['8', '32'], 'Rows of a batch.')
_PARTS = flags.DEFINE_multi_enum(
  'part', list(PARTS), list(PARTS), 'What to time; may be given several times.'
)
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row.')
_REPEATS = flags.DEFINE_integer('repeats', 11, 'Timed turns of either side.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of the frozen weights and products.'
)
_SCAN = flags.DEFINE_bool('scan', False, 'One scanned layer in JAX: compiles sooner.')
_FUSED = flags.DEFINE_bool('fused', False, "JAX's own attention, where it can be.")
_OUT = flags.DEFINE_string('out', str(HERE), 'Folder of results.jsonl.')


def measure(name: str, rows: int) -> None:
  """Times one size; the models are made anew, because PEFT changes its own."""
  batch = steps.draw_batch(name, rows, _LENGTH.value)
  options = dict(dtype=_DTYPE.value, scan=_SCAN.value, fused=_FUSED.value)
  with tempfile.TemporaryDirectory() as folder:
    ours = steps.our_model(name, pathlib.Path(folder), **options)
  theirs = torch_steps.torch_model(name, _DTYPE.value)
  shapes = choose(ours.model, Targets(), ours.targets, ours.head_modules)
  size = (name, rows, _LENGTH.value, shapes)
  if 'products' in _PARTS.value:
    calls, flops = _products(rows * _LENGTH.value, list(shapes.values()))
    _compare('matrix products', name, rows, calls, flops, options)
  if 'forward' in _PARTS.value:
    calls = steps.our_forward(ours, batch), torch_steps.torch_forward(theirs, batch)
    _compare('forward', name, rows, calls, forward_flops(*size), options)
  if 'step' in _PARTS.value:
    bind = lambda problem: lora.build(lora.LoRASettings(rank=RANK), problem)
    calls = (
      steps.our_step(ours, bind, batch),
      torch_steps.peft_step(theirs, ours, RANK, batch),
    )
    _compare('LoRA step', name, rows, calls, step_flops(*size), options)


def _products(
  tokens: int, shapes: list[tuple[int, int]]
) -> tuple[tuple[timing.Call, timing.Call], float]:
  """Either side's products of random tokens with matrices of these shapes, bare.

  What this ratio is above 1, no model of that side can be spared.

  Returns:
    the calls, and their floating-point operations.
  """
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  inputs = {size: draw(tokens, size) for size in {inner for inner, _ in shapes}}
  kernels = [draw(*shape) for shape in shapes]
  calls = (
    steps.our_products(inputs, kernels, _DTYPE.value),
    torch_steps.torch_products(inputs, kernels, _DTYPE.value),
  )
  return calls, 2.0 * tokens * sum(inner * outer for inner, outer in shapes)


def _compare(
  what: str,
  name: str,
  rows: int,
  calls: tuple[timing.Call, timing.Call],
  flops: float,
  options: dict[str, Any],
) -> None:
  """Times a call of either side and records the ratio."""
  device = jax.devices()[0]
  group = 1 if device.platform == 'cpu' else CARD_GROUP
  seconds = timing.side_by_side(*calls, _REPEATS.value, group)
  share = lambda side: utilisation(
    flops / seconds[side], device.device_kind, _DTYPE.value
  )
  record(
    _OUT.value,
    f'{what} of {name}, {rows} x {_LENGTH.value} tokens: time beside torch',
    seconds['ratio'],
    '',
    ours_ms=1e3 * seconds['ours'],
    torch_ms=1e3 * seconds['theirs'],
    repeats=_REPEATS.value,
    group=group,
    device=device.device_kind,
    **options,
    ours_model_flop_utilisation=share('ours'),
    torch_model_flop_utilisation=share('theirs'),
  )


def check_devices() -> None:
  """Refuses to compare a card with a CPU.

  Raises:
    SystemExit: if only one of JAX and torch sees a card.
  """
  ours, theirs = jax.default_backend(), torch_steps.torch_device().type
  if (ours == 'cpu') != (theirs == 'cpu'):
    raise SystemExit(
      f'JAX computes on {ours!r} but torch on {theirs!r}; hide the card from both with'
      ' CUDA_VISIBLE_DEVICES= or install the CUDA builds of both'
    )


def main(argv: list[str]) -> None:
  """Every model at every batch size."""
  # Half of a card each: JAX takes its share when it starts.
  os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.45')
  check_devices()
  for name in _MODELS.value:
    for rows in map(int, _ROWS.value):
      measure(name, rows)


if __name__ == '__main__':
  app.run(main)
