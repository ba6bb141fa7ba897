"""Calls that start work on a device, timed alone and side by side."""

import dataclasses
import functools
import math
import pathlib
import platform
import resource
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from adapad_jax import freed_memory
from experiments import processes

CPUINFO = pathlib.Path('/proc/cpuinfo')
# What it tells of a processor's kind, and how a name has it.
_KINDS = {'cpu family': 'family', 'model': 'model'}


class Call(Protocol):
  """What can be timed: `dispatch` starts it, `wait` waits for what that gave."""

  def dispatch(self) -> Any:
    """Starts the work."""

  def wait(self, result: Any) -> None:
    """Returns when the work behind a result is done."""


@dataclasses.dataclass(frozen=True)
class Waited:
  """A call of two functions."""

  dispatch: Callable[[], Any]
  wait: Callable[[Any], Any]


def side_by_side(
  ours: Call, theirs: Call, repeats: int, group: int = 1
) -> dict[str, float]:
  """Seconds of either by turns, after two turns of each that do not count.

  Args:
    ours, theirs: what to time.
    repeats: timed turns of either side.
    group: calls of a turn, of which the last is waited for; more than one lets a
      device work on a call while the host prepares the next.

  Returns:
    medians 'ours' and 'theirs' of one call, and of the ratios of neighbouring turns
    the median 'ratio', the 'least' and the 'most': what else the machine does weighs
    on both.
  """
  for call in (ours, theirs) * 2:
    seconds_of(call, group)
    freed_memory.give_back()
  turns = [(seconds_of(ours, group), seconds_of(theirs, group)) for _ in range(repeats)]
  pairs = np.array(turns)
  medians = dict(zip(('ours', 'theirs'), np.median(pairs, 0), strict=True))
  return medians | spread(pairs[:, 0] / pairs[:, 1])


def spread(ratios: np.ndarray) -> dict[str, float]:
  """The median of ratios, and the least and the most of them."""
  found = {'ratio': np.median(ratios), 'least': ratios.min(), 'most': ratios.max()}
  return {name: float(value) for name, value in found.items()}


def alone(call: Call, seconds: float) -> np.ndarray:
  """Seconds of one call in five groups that last `seconds` together, or longer."""
  for _ in range(3):
    seconds_of(call)
    freed_memory.give_back()
  group = max(math.ceil(seconds / 5 / seconds_of(call)), 1)
  return np.array([seconds_of(call, group) for _ in range(5)])


def seconds_of(call: Call, group: int = 1) -> float:
  """Seconds of one call, from several of which the last is waited for."""
  start = time.perf_counter()
  for _ in range(group):
    last = call.dispatch()
  call.wait(last)
  return (time.perf_counter() - start) / group


@functools.cache
def device() -> str:
  """The name of JAX's device, asked in a process of its own, which frees it again."""
  return processes.call(device_kind)


def device_kind() -> str:
  """The name of JAX's device."""
  return jax.devices()[0].device_kind


def processor() -> str:
  """The processor as the system tells it: name, family and model, '' if it does not.

  Of a virtual machine's processor the name may be its maker's alone.
  """
  lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
  told: dict[str, str] = {}
  for line in lines:
    name, _, value = line.partition(':')
    told.setdefault(name.strip(), value.strip())
  if 'model name' not in told:
    return platform.processor()
  kinds = ', '.join(
    f'{word} {told[name]}' for name, word in _KINDS.items() if name in told
  )
  return f'{told["model name"]} ({kinds})' if kinds else told['model name']


def peak_bytes() -> int:
  """Most bytes that JAX's device held, or the process where it does not count."""
  if stats := jax.devices()[0].memory_stats():
    return stats['peak_bytes_in_use']
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
