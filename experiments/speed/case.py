"""One training step of one method, for a process of its own.

That makes the peak of memory that of the case, and lets others go on where one fails.
"""

import dataclasses
import math
import pathlib
import tempfile
import time
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax.adapters import Targets, choose
from adapad_jax.compilation import keep_compiled
from adapad_jax.methods import Method, Problem, adapad, lora
from experiments import timing
from experiments.speed import training_steps as steps
from experiments.speed.model_flops import step_flops, utilisation

METHODS = ('peft', 'lora', 'split', 'replicate')
# What is recorded of a timed step beside its milliseconds, see `timed`.
KEPT = (
  'tokens_per_second',
  'model_tflops_per_second',
  'model_flop_utilisation',
  'peak_gib',
  'peak_of',
  'first_step_s',
)
# Steps that a card is asked for: model, rows of a batch, tokens of a row.
CARD_SIZES = (
  ('DeBERTa-v3-base', 32, 128),
  ('Qwen3-0.6B', 8, 1024),
  ('DeBERTa-v3-base', 64, 256),
)


@dataclasses.dataclass(frozen=True)
class Case:
  """What is timed.

  Attributes:
    model: a name of `training_steps.CONFIGS`.
    method: 'peft' is LoRA in torch, 'lora' ours; 'split' and 'replicate' are adapad's
      feedings, with every module at its largest rank, so that all workers are live.
    rank: of LoRA, and adapad's r_max.
    rows, length: of a batch.
    dtype: of the frozen weights and the products.
    weights: form of the frozen kernels, as `model.weights`; not for peft.
    dropout: whether the model's own dropout is on.
    scan, remat, fused: see `models.outline`; not for peft.
    seconds: to time for, at least.
    devices: of the axis `axis`, 'worker' or 'data'; not for peft.
    compiled: whether `torch.compile` is used; for peft alone.
  """

  model: str = 'MiniLM'
  method: str = 'split'
  rank: int = 4
  rows: int = 32
  length: int = 64
  dtype: str = 'float32'
  weights: str = ''
  dropout: bool = True
  scan: bool = False
  remat: bool = False
  fused: bool = False
  seconds: float = 3.0
  devices: int = 1
  axis: str = 'worker'
  compiled: bool = False

  def __post_init__(self) -> None:
    if self.method not in METHODS:
      raise ValueError(f'unknown method {self.method!r}; choose from {METHODS}')

  @property
  def name(self) -> str:
    """The case in words."""
    words = f'{self.method} r={self.rank} step of {self.model}'
    size = f'{self.rows} x {self.length} tokens, {self.dtype}'
    size += f' with {self.weights} kernels' if self.weights else ''
    size += '' if self.dropout else ', no dropout'
    return f'{words}, {size}{", torch.compile" if self.compiled else ""}'

  @property
  def runtime(self) -> dict[str, Any]:
    """How the model is built, see `models.outline`."""
    rate = None if self.dropout else 0.0
    names = ('dtype', 'weights', 'scan', 'remat', 'fused')
    options = {name: getattr(self, name) for name in names}
    return options | {'hidden_dropout': rate, 'attention_dropout': rate}


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The step that a sweep starts from.

  Attributes:
    models: names of `training_steps.CONFIGS`; the first is swept.
    rows, length: of a batch.
    rank: of LoRA, and adapad's r_max.
    dtype, scan, fused, seconds: see `Case`.
  """

  models: tuple[str, ...] = ('DeBERTa-v3-base', 'MiniLM')
  rows: int = 32
  length: int = 128
  rank: int = 4
  dtype: Literal['float32', 'bfloat16'] = 'bfloat16'
  scan: bool = False
  fused: bool = False
  seconds: float = 3.0

  def base(self) -> Case:
    """AdaPaD's step of the first model."""
    names = ('rows', 'length', 'rank', 'dtype', 'scan', 'fused', 'seconds')
    return Case(self.models[0], **{name: getattr(self, name) for name in names})


def our_case(case: Case) -> tuple[steps.OurStep, dict[str, tuple[int, int]]]:
  """The step, and the shapes of the adapted modules."""
  found = {}

  def bind(problem: Problem) -> Method:
    found.update(problem.shapes)
    return bound(case, problem)

  prepare = lambda state: state
  if case.method != 'lora':
    prepare = lambda state: steps.grown(state, case.rank)
  batch = steps.draw_batch(case.model, case.rows, case.length)
  sizes = (case.devices, 1) if case.axis == 'worker' else (1, case.devices)
  return steps.our_step(our_model(case), bind, batch, prepare, sizes), found


def bound(case: Case, problem: Problem) -> Method:
  """The case's method, one of ours."""
  if case.method == 'lora':
    return lora.build(lora.LoRASettings(rank=case.rank), problem)
  budget = case.rank * len(problem.shapes)
  settings = adapad.AdaPaDSettings(
    **steps.DEFLATING, r_max=case.rank, budget=budget, feeding=case.method
  )
  return adapad.build(settings, problem)


def our_model(case: Case) -> Any:
  """The model with random weights."""
  with tempfile.TemporaryDirectory() as folder:
    return steps.our_model(case.model, pathlib.Path(folder), **case.runtime)


def peft_case(case: Case) -> tuple[Any, dict[str, tuple[int, int]]]:
  """The step on torch's best device, and the shapes of the adapted modules."""
  from experiments.speed import torch_steps

  ours = steps.our_outline(case.model)
  shapes = choose(ours.model, Targets(), ours.targets, ours.head_modules)
  off = {} if case.dropout else dict.fromkeys(_RATES, 0.0)
  model = torch_steps.torch_model(case.model, case.dtype, **off)
  batch = steps.draw_batch(case.model, case.rows, case.length)
  step = torch_steps.peft_step(model, ours, case.rank, batch)
  return (step.compiled() if case.compiled else step), shapes


_RATES = ('hidden_dropout_prob', 'attention_probs_dropout_prob')


def made(case: Case) -> tuple[Any, dict[str, tuple[int, int]]]:
  """The step, and the shapes of the adapted modules."""
  return (peft_case if case.method == 'peft' else our_case)(case)


def timed(case: Case) -> dict[str, Any]:
  """Times the case; what is not known on the device at hand is null."""
  keep_compiled()
  start = time.perf_counter()
  step, shapes = made(case)
  seconds = time.perf_counter() - start
  return timed_step(case, step, shapes) | {'make_s': seconds}


def timed_step(
  case: Case, step: Any, shapes: dict[str, tuple[int, int]]
) -> dict[str, Any]:
  """Times the step of a case, which `made` gives with the shapes."""
  begun = time.perf_counter()
  losses = [step()]
  first = time.perf_counter() - begun
  seconds = float(np.median(timing.alone(step, case.seconds)))
  losses.append(step())
  if not all(map(math.isfinite, losses)):
    raise SystemExit(f'the loss was not finite: {losses}')
  device, peak, peak_of = _device(case)
  # Every worker of `replicate` computes all rows.
  workers = case.rank if case.method == 'replicate' else 1
  speed = workers * step_flops(case.model, case.rows, case.length, shapes) / seconds
  return {
    'device': device,
    'step_ms': 1e3 * seconds,
    'tokens_per_second': case.rows * case.length / seconds,
    'model_tflops_per_second': speed / 1e12,
    'model_flop_utilisation': utilisation(speed, device, case.dtype),
    'peak_gib': peak / 2**30,
    'peak_of': peak_of,
    'first_step_s': first,
    'losses': losses,
  }


def _device(case: Case) -> tuple[str, int, str]:
  """The device's name, the peak of bytes, and whether the device or process has it."""
  if case.method == 'peft':
    from experiments.speed import torch_steps

    device, peak = torch_steps.device_name(), torch_steps.peak_bytes()
    if peak is not None:
      return device, peak, 'device'
    return device, timing.peak_bytes(), 'process'
  device = jax.devices()[0]
  peak_of = 'device' if device.memory_stats() else 'process'
  return device.device_kind, timing.peak_bytes(), peak_of
