"""One training step of one method, timed in a process of its own.

  python -m experiments.scaling.case '{"model": "MiniLM", "method": "split", ...}'

The last line of its output is a JSON object. A process of its own makes the peak of
memory that of the case, and lets the others go on where one fails.
"""

import dataclasses
import json
import math
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adapad_jax.compilation import keep_compiled
from adapad_jax.methods import adapad, lora
from experiments import training_steps as steps

METHODS = ('peft', 'lora', 'split', 'replicate')
# Dense bfloat16 products a second, from NVIDIA's data sheets (SXM boards).
PEAK_FLOPS = {'H100': 989e12, 'H200': 989e12, 'A100': 312e12}


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
    dropout: whether the model's own dropout is on.
    scan, remat, fused: see `models.outline`; not for peft.
    seconds: to time for, at least.
  """

  model: str = 'MiniLM'
  method: str = 'split'
  rank: int = 4
  rows: int = 32
  length: int = 64
  dtype: str = 'float32'
  dropout: bool = True
  scan: bool = False
  remat: bool = False
  fused: bool = False
  seconds: float = 3.0

  def __post_init__(self) -> None:
    if self.method not in METHODS:
      raise ValueError(f'unknown method {self.method!r}; choose from {METHODS}')


def our_case(case: Case) -> tuple[steps.OurStep, dict[str, tuple[int, int]]]:
  """The step, and the shapes of the adapted modules."""
  found = {}

  def bind(problem: Any) -> Any:
    found.update(problem.shapes)
    if case.method == 'lora':
      return lora.build(lora.LoRASettings(rank=case.rank), problem)
    budget = case.rank * len(problem.shapes)
    settings = adapad.AdaPaDSettings(
      r_max=case.rank, budget=budget, feeding=case.method
    )
    return adapad.build(settings, problem)

  prepare = lambda state: state
  if case.method != 'lora':
    prepare = lambda state: steps.grown(state, case.rank)
  batch = steps.draw_batch(case.model, case.rows, case.length)
  return steps.our_step(our_model(case), bind, batch, prepare), found


def our_model(case: Case) -> Any:
  """The model with random weights."""
  rate = None if case.dropout else 0.0
  with tempfile.TemporaryDirectory() as folder:
    return steps.our_model(
      case.model,
      pathlib.Path(folder),
      dtype=case.dtype,
      hidden_dropout=rate,
      attention_dropout=rate,
      scan=case.scan,
      remat=case.remat,
      fused=case.fused,
    )


def peft_case(case: Case) -> tuple[steps.TorchStep, dict[str, tuple[int, int]]]:
  """The step on torch's best device, and the shapes of the adapted modules."""
  import torch

  from adapad_jax.adapters import Targets, choose

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  ours = steps.our_outline(case.model)
  shapes = choose(ours.model, Targets(), ours.targets, ours.head_modules)
  off = {} if case.dropout else dict.fromkeys(_RATES, 0.0)
  model = steps.torch_model(case.model, **off)
  model = model.to(device, getattr(torch, case.dtype))
  batch = steps.draw_batch(case.model, case.rows, case.length)
  return steps.peft_step(model, ours, case.rank, batch), shapes


_RATES = ('hidden_dropout_prob', 'attention_probs_dropout_prob')


def model_flops(case: Case, shapes: dict[str, tuple[int, int]]) -> float:
  """Floating-point operations that a step of a frozen model needs at least.

  Twice the entries of all adapted matrices for each token forward, as much again
  backward to the activations (frozen weights have no gradient); the two products of
  softmax attention, 4 L d a token and layer, forward and twice that backward. Low-rank
  terms, DeBERTa's relative positions, embeddings and the head are not counted.
  """
  config = steps.CONFIGS[case.model]
  tokens = case.rows * case.length
  linear = sum(i * o for i, o in shapes.values())
  attended = config['num_hidden_layers'] * case.length * config['hidden_size']
  workers = case.rank if case.method == 'replicate' else 1
  return workers * tokens * (4.0 * linear + 12.0 * attended)


def time_steps(
  dispatch: Callable[[], Any], wait: Callable[[Any], Any], seconds: float
) -> np.ndarray:
  """Seconds of a step in groups that are waited for at their end."""
  for _ in range(3):
    wait(dispatch())
  start = time.perf_counter()
  wait(dispatch())
  each = max(math.ceil(seconds / 5 / (time.perf_counter() - start)), 1)
  found = []
  for _ in range(5):
    start = time.perf_counter()
    for _ in range(each):
      last = dispatch()
    wait(last)
    found.append((time.perf_counter() - start) / each)
  return np.array(found)


def measure(case: Case) -> dict[str, Any]:
  """Times the case; what is not known on the device at hand is null."""
  start = time.perf_counter()
  step, shapes = (peft_case if case.method == 'peft' else our_case)(case)
  made = time.perf_counter()
  losses = [step()]
  first = time.perf_counter() - made
  device, wait = _place(case)
  seconds = float(np.median(time_steps(step.dispatch, wait, case.seconds)))
  losses.append(step())
  if not all(map(math.isfinite, losses)):
    raise SystemExit(f'the loss was not finite: {losses}')
  flops = model_flops(case, shapes)
  peak = next((p for name, p in PEAK_FLOPS.items() if name in device), None)
  if case.dtype != 'bfloat16':
    peak = None
  return {
    'device': device,
    'step_ms': 1e3 * seconds,
    'tokens_per_second': case.rows * case.length / seconds,
    'model_tflops_per_second': flops / seconds / 1e12,
    'model_flop_utilisation': flops / seconds / peak if peak else None,
    'peak_gib': _peak(case) / 2**30,
    'peak_of': 'process' if device.lower() == 'cpu' else 'device',
    'make_s': made - start,
    'first_step_s': first,
    'losses': losses,
  }


def _place(case: Case) -> tuple[str, Callable[[Any], Any]]:
  """The device's name, and how to wait for a loss."""
  if case.method != 'peft':
    return jax.devices()[0].device_kind, jax.block_until_ready
  import torch

  if torch.cuda.is_available():
    return torch.cuda.get_device_name(), lambda loss: torch.cuda.synchronize()
  return 'cpu', lambda loss: loss


def _peak(case: Case) -> int:
  """Bytes: of the device's allocator, or of the process where it does not count."""
  if case.method == 'peft':
    import torch

    if torch.cuda.is_available():
      return torch.cuda.max_memory_allocated()
  elif stats := jax.devices()[0].memory_stats():
    return stats['peak_bytes_in_use']
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
  """Times the case of the command line."""
  keep_compiled()
  print(json.dumps(measure(Case(**json.loads(sys.argv[1])))), flush=True)


if __name__ == '__main__':
  main()
