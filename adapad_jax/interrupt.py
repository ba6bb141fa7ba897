"""SIGTERM and SIGINT, heard even while the main thread waits for a device.

Python runs a handler in the main thread, between two of its own instructions, so a
wait in compiled code that never ends is deaf. The number of a signal however goes to
the wake-up descriptor at once, whatever that thread is doing, and here another thread
reads it there. That one needs the interpreter's lock, which jax gives away whenever it
waits or compiles.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

_KINDS = (signal.SIGTERM, signal.SIGINT)
# What stands there where the program has set nothing.
_DEFAULTS = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)
# Seconds that a program may take to clean up after a signal that nothing waits for.
_GRACE = 10.0


class StopRequest:
  """Whether a signal has asked the run to end, and which."""

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None

  def __bool__(self) -> bool:
    return self.signal is not None

  def reason(self) -> str:
    """Which signal it was."""
    return self.signal.name if self.signal else 'a signal to another process'


class Ended(SystemExit):
  """A signal ended the program; its code is 128 plus the number, as shells count."""

  def __init__(self, kind: signal.Signals) -> None:
    super().__init__(128 + kind)
    self.kind = kind

  def __str__(self) -> str:
    return f'ended by {self.kind.name}'


def leave_on_interrupt() -> None:
  """Ends the process on SIGINT in one line, where nothing is there to be cleaned up.

  For the imports of a program: the KeyboardInterrupt of Python's own handler comes out
  of the middle of them as a traceback, or is lost in a callback.
  """

  def leave(number: int, frame: FrameType | None) -> None:
    _tell('interrupted')
    _leave(signal.Signals(number))

  signal.signal(signal.SIGINT, leave)


@contextlib.contextmanager
def ending_at_once(what: str) -> Iterator[None]:
  """Ends the process on a signal, with its clean-up if that takes seconds at most.

  A second signal, or ten seconds, end it without: whatever hangs. For a whole program,
  in its main thread; `on_signals` inside goes before.

  Args:
    what: that was interrupted, for the message.
  """
  seen = []

  def stop(number: int, frame: FrameType | None) -> None:
    seen.append(number)
    if len(seen) == 1:  # The clean-up itself is not interrupted.
      raise Ended(signal.Signals(number))

  def first(kind: signal.Signals) -> None:
    _tell(f'{kind.name}: {what} ends before it is done; what it has saved stays')

  try:
    with _handled(stop), _heard(first, _leave, _GRACE):
      yield
  except Ended as end:
    sys.stdout.flush()
    # Not through the interpreter's own end, which waits for computations.
    _leave(end.kind)


@contextlib.contextmanager
def on_signals(saved: Callable[[], str]) -> Iterator[StopRequest]:
  """Notes a signal, for a run to end after its round; a second one ends the process.

  In an interactive session, and where the program has handlers of its own, these get
  the second one. In another thread than the main one nothing changes.

  Args:
    saved: says what of the run is on disk; called in another thread.
  """
  request = StopRequest()
  before = {kind: signal.getsignal(kind) for kind in _KINDS}
  others = hasattr(sys, 'ps1') or any(map(_is_foreign, before.values()))

  def note(number: int, frame: FrameType | None) -> None:
    request.signal = request.signal or signal.Signals(number)
    if others:
      signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

  def first(kind: signal.Signals) -> None:
    request.signal = request.signal or kind
    _tell(f'{kind.name}: the run ends after this round; a second signal ends it now')

  def again(kind: signal.Signals) -> None:
    _tell(f'{kind.name} again: the process ends at once; {saved()}')
    _leave(kind)

  alone = contextlib.nullcontext()
  with _handled(note) as is_main:
    with _heard(first, again) if is_main and not others else alone:
      yield request


class Attention:
  """Whether SIGINT has asked to stop what is being done, where that can be asked often.

  Attributes:
    busy: while something is done; SIGINT then sets `asked`, else it raises
      KeyboardInterrupt.
    asked: whether it came.
  """

  def __init__(self) -> None:
    self.busy = self.asked = False

  @contextlib.contextmanager
  def doing(self) -> Iterator[None]:
    """Something that ends early when `asked` is set."""
    self.busy, self.asked = True, False
    try:
      yield
    finally:
      self.busy = False


@contextlib.contextmanager
def on_interrupt() -> Iterator[Attention]:
  """Leaves SIGINT to its block, for a program that talks; SIGTERM stays as it is.

  Only for work that is never long in compiled code, since nobody listens there.
  """
  attention = Attention()

  def hear(number: int, frame: FrameType | None) -> None:
    if not attention.busy:
      raise KeyboardInterrupt
    attention.asked = True

  before = signal.set_wakeup_fd(-1)
  handler = signal.signal(signal.SIGINT, hear)
  try:
    yield attention
  finally:
    signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    signal.set_wakeup_fd(before)


def _is_foreign(handler: Any) -> bool:
  ours = getattr(handler, '__module__', None) == __name__
  return handler not in _DEFAULTS and not ours


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[bool]:
  """Sets the handler of all kinds, which the main thread alone can; whether it did."""
  if threading.current_thread() is not threading.main_thread():
    yield False
    return
  old = {kind: signal.signal(kind, handler) for kind in _KINDS}
  try:
    yield True
  finally:
    for kind, before in old.items():
      signal.signal(kind, before or signal.SIG_DFL)


@contextlib.contextmanager
def _heard(
  first: Callable[[signal.Signals], None],
  again: Callable[[signal.Signals], None],
  grace: float | None = None,
) -> Iterator[None]:
  """Calls `first` on a signal and `again` on the next, or so many seconds later."""
  outbox, inbox = socket.socketpair()
  outbox.setblocking(False)
  before = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
  listen = threading.Thread(
    target=_listen, args=(inbox, before, first, again, grace), daemon=True
  )
  listen.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    outbox.close()  # Ends the thread.
    listen.join()


def _listen(
  inbox: socket.socket,
  before: int,
  first: Callable[[signal.Signals], None],
  again: Callable[[signal.Signals], None],
  grace: float | None,
) -> None:
  kind = None
  with inbox:
    while True:
      try:
        got = inbox.recv(1)
      except TimeoutError:
        again(kind)
        return
      if not got:
        return
      if got[0] not in _KINDS:  # of whoever listened before
        if before >= 0:
          with contextlib.suppress(OSError):
            os.write(before, got)
      elif kind is None:
        kind = signal.Signals(got[0])
        first(kind)
        inbox.settimeout(grace)
      else:
        again(signal.Signals(got[0]))
        return


def _tell(line: str) -> None:
  """Writes a line past Python's buffers, whose locks the main thread may hold."""
  with contextlib.suppress(OSError):
    os.write(2, f'{line}\n'.encode())


def _leave(kind: signal.Signals) -> NoReturn:
  os._exit(128 + kind)
