"""Steps on the CPU while the C library keeps freed memory, beside its own way.

XLA allocates a step's temporaries and frees them again. glibc unmaps blocks of 32 MiB
and more at once, so the next step's pages have to be cleared anew by the kernel.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from experiments.record import record, recorded
from experiments.scaling.case import Case
from experiments.scaling.gpu import name_of
from experiments.subprocesses import call

# glibc's manual, "Memory Allocation Tunables": nothing is mapped apart, the heap is not
# trimmed below 16 GiB, all threads share it, and it may lie in huge pages.
KEPT = {
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_TRIM_THRESHOLD_': str(2**34),
  'MALLOC_ARENA_MAX': '1',
  'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
}


def sizes(base: Case) -> list[Case]:
  """Short rows and long ones of `split`, and `replicate`."""
  change = lambda **fields: dataclasses.replace(base, **fields)
  return [base, change(length=4 * base.length), change(method='replicate')]


def compare(folder: pathlib.Path, cases: list[Case], turns: int) -> None:
  """Records the time with `KEPT` beside the time without, for every case not known.

  A turn times one, then the other, each in a process of its own; the figure is the
  median of the turns' ratios, and what other programs do weighs on both.

  Args:
    folder: of `results.jsonl`.
    cases: what to time.
    turns: how often.
  """
  for case in cases:
    figure = f'{name_of(case)}: time with freed memory kept beside without'
    if any(row['figure'] == figure for row in recorded(folder)):
      continue
    pairs = [(in_process(case, KEPT), in_process(case, {})) for _ in range(turns)]
    steps = np.array([[side['step_ms'] for side in pair] for pair in pairs])
    peaks = np.median([[side['peak_gib'] for side in pair] for pair in pairs], 0)
    record(
      folder,
      figure,
      float(np.median(steps[:, 0] / steps[:, 1])),
      '',
      kept_ms=steps[:, 0].tolist(),
      ms=steps[:, 1].tolist(),
      kept_peak_gib=float(peaks[0]),
      peak_gib=float(peaks[1]),
      environment=KEPT,
      device=pairs[0][0]['device'],
    )


def in_process(case: Case, env: dict[str, str]) -> dict[str, Any]:
  """What `case.measure` finds with these variables in its environment."""
  return call('experiments.scaling.case', json.dumps(dataclasses.asdict(case)), env=env)
