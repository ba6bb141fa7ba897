"""Ends a run at the next step when the system asks it to."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Request:
  """Whether a signal has asked the run to end, and which."""

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None

  def __bool__(self) -> bool:
    return self.signal is not None

  def reason(self) -> str:
    """Which signal it was."""
    return self.signal.name if self.signal else 'a signal to another process'


@contextlib.contextmanager
def on_signals() -> Iterator[Request]:
  """Notes SIGTERM and SIGINT instead of dying of them; a second one kills."""
  request = Request()
  old: dict[signal.Signals, object] = {}

  def note(number: int, frame: FrameType | None) -> None:
    request.signal = signal.Signals(number)
    signal.signal(number, old[request.signal])

  try:
    for kind in (signal.SIGTERM, signal.SIGINT):
      old[kind] = signal.signal(kind, note)
  except ValueError:  # Not in the main thread, as in some notebooks.
    pass
  try:
    yield request
  finally:
    for kind, handler in old.items():
      signal.signal(kind, handler)
