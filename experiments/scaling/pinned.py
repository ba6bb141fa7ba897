"""One device on one core against two devices on two cores.

  python -m experiments.scaling.pinned '{"model": "MiniLM", "devices": 2, ...}'

times a case in this process, pinned to as many cores as it has devices.
"""

import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np

from experiments.record import record, recorded
from experiments.subprocesses import call

# (feeding, mesh axis with two devices)
SPREADS = (('replicate', 'worker'), ('split', 'worker'), ('split', 'data'))


def compare(folder: pathlib.Path, base: Any, turns: int) -> None:
  """Records how many times as fast two devices are, for every way to spread a step.

  A turn times one device, then two, each in a process of its own; the figure is the
  median of the turns' ratios, and what other programs do weighs on both.

  Args:
    folder: of `results.jsonl`; what it holds is not measured again.
    base: a `case.Case`, the size of the step.
    turns: how often.
  """
  from experiments.scaling.gpu import name_of

  for feeding, axis in SPREADS:
    one = dataclasses.replace(base, method=feeding, axis=axis)
    two = dataclasses.replace(one, devices=2)
    figure = f'{name_of(one)}: two devices along {axis} beside one, a core each'
    if any(row['figure'] == figure for row in recorded(folder)):
      continue
    pairs = [(in_process(one), in_process(two)) for _ in range(turns)]
    steps = np.array([[side['step_ms'] for side in pair] for pair in pairs])
    record(
      folder,
      figure,
      float(np.median(steps[:, 0] / steps[:, 1])),
      'times as fast',
      one_ms=steps[:, 0].tolist(),
      two_ms=steps[:, 1].tolist(),
      losses=[side['losses'] for side in pairs[0]],
      device=pairs[0][0]['device'],
    )


def in_process(case: Any) -> dict[str, Any]:
  """What `case.measure` finds in a pinned process of its own."""
  return call('experiments.scaling.pinned', json.dumps(dataclasses.asdict(case)))


def main() -> None:
  """Pins the process before JAX counts the cores, then times the case."""
  given = json.loads(sys.argv[1])
  cores = sorted(os.sched_getaffinity(0))[: given['devices']]
  os.sched_setaffinity(0, cores)
  import jax

  from adapad_jax.compilation import keep_compiled
  from experiments.scaling.case import Case, measure

  jax.config.update('jax_num_cpu_devices', given['devices'])
  keep_compiled()
  print(json.dumps(measure(Case(**given))), flush=True)


if __name__ == '__main__':
  main()
