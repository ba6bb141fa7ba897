"""Where the time of a step goes on a device, read from a trace of JAX's profiler."""

import collections
import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from experiments.timing import Call

# Steps of a trace: what the first one of them waits for is a small part then.
STEPS = 5


@dataclasses.dataclass(frozen=True)
class Event:
  """What a device did, in nanoseconds; `lane` tells what runs side by side apart."""

  name: str
  lane: str
  start: float
  end: float


def summary(call: Call, steps: int = STEPS, top: int = 10) -> dict[str, Any]:
  """Traces some steps and adds up what the device did in them.

  Returns:
    of one step: 'busy_ms', in which the device did anything; 'span_ms', from its first
    kernel to its last; 'kernels', how many there were; 'top', the dearest as
    [name, ms, number], an outer one without what runs inside it.
  """
  call.wait(call.dispatch())
  with tempfile.TemporaryDirectory() as folder:
    with traced(pathlib.Path(folder)):
      for _ in range(steps):
        last = call.dispatch()
      call.wait(last)
    return summed(events(pathlib.Path(folder)), steps, top)


@contextlib.contextmanager
def traced(folder: pathlib.Path) -> Iterator[None]:
  """Writes a trace of what runs inside."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  jax.profiler.start_trace(folder, profiler_options=options)
  try:
    yield
  finally:
    jax.profiler.stop_trace()


def events(folder: pathlib.Path) -> list[Event]:
  """Kernels of a trace on a GPU; without one, the operations of XLA's CPU threads.

  Raises:
    ValueError: if the folder has no trace.
  """
  found = sorted(folder.rglob('*.xplane.pb'))
  if not found:
    raise ValueError(f'no trace in {folder}')
  planes = list(jax.profiler.ProfileData.from_file(str(found[-1])).planes)
  cards = [plane for plane in planes if plane.name.startswith('/device:GPU')]
  made = []
  for plane in cards or planes:
    for line in plane.lines:
      # Beside the streams a plane may have lines that sum them up.
      if cards and not line.name.startswith('Stream'):
        continue
      for event in line.events:
        if cards or any(key == 'hlo_op' for key, _ in event.stats):
          start = event.start_ns
          lane = f'{plane.name} {line.name}'
          made.append(Event(event.name, lane, start, start + event.duration_ns))
  return made


def summed(found: Iterable[Event], steps: int, top: int) -> dict[str, Any]:
  """What `summary` gives, of these events."""
  found = list(found)
  own: dict[str, float] = collections.Counter()
  count = collections.Counter(event.name for event in found)
  for event, alone in _alone(found):
    own[event.name] += alone
  ms = lambda ns: round(ns / steps / 1e6, 4)
  dearest = sorted(own, key=own.get, reverse=True)[:top]
  starts, ends = [e.start for e in found], [e.end for e in found]
  return {
    'busy_ms': ms(_covered(found)),
    'span_ms': ms(max(ends) - min(starts)) if found else 0.0,
    'kernels': round(len(found) / steps, 1),
    'top': [[name, ms(own[name]), round(count[name] / steps, 1)] for name in dearest],
  }


def _alone(found: list[Event]) -> Iterator[tuple[Event, float]]:
  """Every event with its time less that of the events inside it."""
  lanes: dict[str, list[Event]] = {}
  for event in found:
    lanes.setdefault(event.lane, []).append(event)
  for lane in lanes.values():
    inside: list[tuple[Event, list[float]]] = []
    open_now: list[tuple[Event, list[float]]] = []
    for event in sorted(lane, key=lambda e: (e.start, -e.end)):
      while open_now and open_now[-1][0].end <= event.start:
        open_now.pop()
      if open_now:
        open_now[-1][1].append(event.end - event.start)
      open_now.append((event, []))
      inside.append(open_now[-1])
    for event, parts in inside:
      yield event, event.end - event.start - sum(parts)


def _covered(found: list[Event]) -> float:
  """Length of the time in which anything ran."""
  total, until = 0.0, float('-inf')
  for event in sorted(found, key=lambda e: e.start):
    total += max(event.end - max(event.start, until), 0.0)
    until = max(until, event.end)
  return total
