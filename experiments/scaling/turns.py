"""Steps of adapad by turns with steps of LoRA, ours and PEFT's, in one process."""

import dataclasses
import pathlib
import time
from typing import Any

import jax

from experiments.record import record, recorded
from experiments.scaling.case import Case, our_case, peft_case
from experiments.scaling.gpu import name_of
from experiments.timing import side_by_side


def pairs(base: Case, ranks: list[int]) -> list[tuple[Case, Case]]:
  """(adapad, LoRA of rank `base.rank`): both feedings at every rank, either LoRA."""
  return [
    (
      dataclasses.replace(base, method=feeding, rank=rank),
      dataclasses.replace(base, method=beside),
    )
    for feeding in ('split', 'replicate')
    for rank in ranks
    for beside in ('lora', 'peft')
  ]


def figure_of(one: Case, other: Case) -> str:
  """What is recorded of a pair."""
  return f'{name_of(one)}: time beside {other.method} r={other.rank}, by turns'


def compare(
  folder: pathlib.Path,
  wanted: list[tuple[Case, Case]],
  repeats: int,
  group: int,
  limit: float,
) -> None:
  """Records the median ratio of neighbouring turns of pairs that are not known.

  Args:
    folder: of `results.jsonl`.
    wanted: from `pairs`.
    repeats, group: see `timing.side_by_side`.
    limit: seconds after which no pair is begun.
  """
  start, device = time.monotonic(), jax.devices()[0].device_kind
  made: dict[Case, Any] = {}
  for one, other in wanted:
    known = {'figure': figure_of(one, other), 'device': device}
    if any(known.items() <= row.items() for row in recorded(folder)):
      continue
    if time.monotonic() - start > limit:
      print('# --limit reached; the same command goes on', flush=True)
      return
    # LoRA of either kind stays for the next pairs, adapad for the other LoRA.
    made = {c: s for c, s in made.items() if c == one or c.method in ('lora', 'peft')}
    for case in (one, other):
      if case not in made:
        made[case] = (peft_case if case.method == 'peft' else our_case)(case)[0]
    found = side_by_side(made[one], made[other], repeats, group)
    record(
      folder,
      known['figure'],
      found['ratio'],
      '',
      device=device,
      ms=1e3 * found['ours'],
      other_ms=1e3 * found['theirs'],
      repeats=repeats,
      group=group,
    )
