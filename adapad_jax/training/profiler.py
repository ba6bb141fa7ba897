"""Traces of chosen rounds, to be opened in TensorBoard, XProf or Perfetto."""

import pathlib
from typing import Any

import jax

from adapad_jax.processes import is_first

PROFILE = 'profile'


class Profiler:
  """Writes one trace of a window of rounds, evaluations between them included.

  With several processes it is the first one's alone.

  Args:
    folder: where the trace goes.
    window: (first round, number of rounds), rounds counted from one; empty: none.
  """

  def __init__(self, folder: pathlib.Path, window: tuple[int, ...]) -> None:
    first, count = window if window and is_first() else (1, 0)
    self._folder, self._rounds = folder, range(first, first + count)
    self._running = False

  def before(self, number: int, state: Any) -> None:
    """Starts or ends the trace ahead of a round; `state` is what the last one left."""
    if self._running == (number in self._rounds):
      return
    # The device is behind: it has to finish what was dispatched before.
    jax.block_until_ready(state)
    if self._running:
      self.close()
    else:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # Calls of Python would fill the trace.
      jax.profiler.start_trace(self._folder, profiler_options=options)
      self._running = True

  def close(self) -> None:
    """Ends a trace that is running and writes it."""
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
