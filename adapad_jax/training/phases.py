"""Where the seconds of a run go."""

import contextlib
import time
from collections.abc import Iterator, Mapping

ROUNDS = 'rounds'


@contextlib.contextmanager
def timed(phases: dict[str, float], name: str) -> Iterator[None]:
  """Adds the seconds of its block to a phase."""
  start = time.monotonic()
  try:
    yield
  finally:
    phases[name] = phases.get(name, 0.0) + time.monotonic() - start


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
  """The sum, phase by phase, in the order of `one` and then `other`."""
  names = dict.fromkeys((*one, *other))
  return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in names}


def completed(phases: Mapping[str, float], total: float) -> dict[str, float]:
  """The phases with what they leave of the total as the seconds of the rounds.

  A round is only dispatched when it is called and runs beside the host, so its own
  seconds cannot be taken with a clock around the call.
  """
  others = {name: value for name, value in phases.items() if name != ROUNDS}
  return others | {ROUNDS: max(total - sum(others.values()), 0.0)}
