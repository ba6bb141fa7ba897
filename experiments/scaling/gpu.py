"""Steps on the card at hand beside torch and PEFT on the same card."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from experiments.record import record
from experiments.scaling.case import Case
from experiments.subprocesses import call

_KEPT = (
  'tokens_per_second',
  'model_tflops_per_second',
  'model_flop_utilisation',
  'peak_gib',
  'peak_of',
  'first_step_s',
)


def cases(base: Case, models: list[str]) -> Iterator[Case]:
  """What to time, the most telling first."""
  change = lambda **fields: dataclasses.replace(base, **fields)
  for model in models:
    for method in ('peft', 'lora', 'split', 'replicate'):
      yield change(model=model, method=method)
  for method in ('peft', 'split'):
    yield change(model=models[0], method=method, dropout=False)
  for rank in (2, 8):
    yield change(model=models[0], method='replicate', rank=rank)
  for method in ('peft', 'split'):
    yield change(model=models[0], method=method, rows=2 * base.rows, length=256)


def in_process(case: Case, timeout: float) -> dict[str, Any]:
  """What `case.measure` finds.

  Raises:
    RuntimeError: see `subprocesses.call`.
  """
  # Leaves all of the card's memory to torch.
  env = {'JAX_PLATFORMS': 'cpu'} if case.method == 'peft' else {}
  given = json.dumps(dataclasses.asdict(case))
  return call('experiments.scaling.case', given, env=env, timeout=timeout)


def name_of(case: Case) -> str:
  """The case in words."""
  words = f'{case.method} r={case.rank} step of {case.model}'
  size = f'{case.rows} x {case.length} tokens, {case.dtype}'
  return f'{words}, {size}{"" if case.dropout else ", no dropout"}'


def run(folder: pathlib.Path, base: Case, models: list[str], limit: float) -> None:
  """Times every case that can be begun within `limit` seconds.

  A figure is printed and kept as soon as it is there; a case that fails is printed
  and does not stop the others.
  """
  start, found = time.monotonic(), {}
  for case in cases(base, models):
    left = limit - (time.monotonic() - start)
    if left < 20:
      print(f'# no time left for {name_of(case)}', flush=True)
      continue
    try:
      result = in_process(case, left)
    except RuntimeError as error:
      print(f'# {name_of(case)}: {error}', flush=True)
      continue
    found[case] = result
    details = {name: result[name] for name in ('device', *_KEPT)} | {'scan': case.scan}
    record(folder, name_of(case), result['step_ms'], 'ms', **details)
    _ratios(folder, case, base.rank, found)


def _ratios(
  folder: pathlib.Path, case: Case, rank: int, found: dict[Case, dict[str, Any]]
) -> None:
  """Records the case's time beside LoRA's of either kind and that rank, if known."""
  for other in ('peft', 'lora'):
    beside = dataclasses.replace(case, method=other, rank=rank)
    if case.method == other or beside not in found:
      continue
    ratio = found[case]['step_ms'] / found[beside]['step_ms']
    record(
      folder,
      f'{name_of(case)}: time beside {other} r={rank}',
      ratio,
      '',
      device=found[case]['device'],
      other_device=found[beside]['device'],
      scan=case.scan,
    )
