"""Two devices on two cores against one device on one core."""

import json
import os
import sys

import jax
import numpy as np

from experiments.subprocesses import call


def measure(
  devices: int, size: int, rank: int, local_steps: int, repeats: int
) -> float:
  """Seconds a round, the best of some; this process must be pinned already."""
  from experiments.regression_speed.rate import Round, timed

  rounds = 4
  ours = Round(size, rank, local_steps, rounds, devices)
  timed(ours)
  return min(timed(ours) for _ in range(repeats)) / rounds


def in_subprocess(
  devices: int, size: int, rank: int, local_steps: int, repeats: int
) -> float:
  """`measure` in a process pinned to as many cores as it has devices."""
  sizes = map(str, (devices, size, rank, local_steps, repeats))
  return call('experiments.regression_speed.scaling', *sizes)


def compare(
  size: int, rank: int, local_steps: int, repeats: int = 15, turns: int = 3
) -> dict[str, float]:
  """Best seconds a round of one and of two devices, taking turns.

  Beside them `half`: one device with half the workers, which has nobody to wait for.
  """
  sides = {'one': (1, rank), 'two': (2, rank), 'half': (1, rank // 2)}
  seconds = {name: np.inf for name in sides}
  for _ in range(turns):
    for name, (devices, workers) in sides.items():
      took = in_subprocess(devices, size, workers, local_steps, repeats)
      seconds[name] = min(seconds[name], took)
  return seconds


if __name__ == '__main__':
  arguments = [int(text) for text in sys.argv[1:]]
  cores = sorted(os.sched_getaffinity(0))[: arguments[0]]
  os.sched_setaffinity(0, cores)
  jax.config.update('jax_num_cpu_devices', arguments[0])
  print(json.dumps(measure(*arguments)))
