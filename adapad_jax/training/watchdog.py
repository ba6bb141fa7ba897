"""Names what a run waits for when nothing has moved for a while."""

import contextlib
import pathlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

import jax

from adapad_jax.processes import are_several

# A thread may not sleep for ever, nor for as long as a user may write.
_LONGEST = 3600.0
_PACKAGE, _OWN_LINES = str(pathlib.Path(__file__).parents[1]), 4
# Where jax traces, lowers and compiles; what was compiled before passes none of these.
_COMPILERS = ('compiler.py', 'interpreters/mlir.py', 'interpreters/partial_eval.py')


def tell(text: str) -> None:
  """Prints to stderr, at once; of several processes each says which it is."""
  head = f'process {jax.process_index()}: ' if are_several() else ''
  print(f'{head}{text}', file=sys.stderr, flush=True)


class Watchdog:
  """Watches a thread in a block of code and speaks up if it does not move.

  It says what was under way and since when, and where in the code, and goes on waiting:
  after the given time, and again each time that the wait has doubled.

  Args:
    seconds: without a move after which it speaks; 0 keeps it silent.
    tell: prints a message.
  """

  def __init__(self, seconds: float, tell: Callable[[str], None] = tell) -> None:
    self._seconds, self._tell = seconds, tell
    self._changed = threading.Condition()
    self._blocks: list[str] = []
    self._thread: threading.Thread | None = None
    self._watched = 0
    self._restart()

  @contextlib.contextmanager
  def over(self, what: str) -> Iterator[None]:
    """Watches a block; one inside another stands for it as long as it lasts."""
    if not self._seconds:
      yield
      return
    self._enter(what)
    try:
      yield
    finally:
      self._leave()

  def moved(self, what: str) -> None:
    """There is progress: from now on the innermost block is doing this."""
    if not self._blocks:
      return
    with self._changed:
      self._settle()
      self._blocks[-1] = what

  def _enter(self, what: str) -> None:
    with self._changed:
      self._settle()
      self._blocks.append(what)
      if len(self._blocks) == 1:
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

  def _leave(self) -> None:
    with self._changed:
      self._settle()
      self._blocks.pop()
      self._changed.notify()
      thread = None if self._blocks else self._thread
    if thread is not None:
      thread.join()

  def _restart(self) -> None:
    self._since, self._began, self._told = time.monotonic(), time.time(), 0

  def _settle(self) -> None:
    """Takes note of a move, aloud if there was talk of it."""
    if self._told:
      waited = time.monotonic() - self._since
      self._tell(f'{self._blocks[-1]}: went on after {waited:.0f} s')
    self._restart()

  def _watch(self) -> None:
    with self._changed:
      while self._blocks:
        left = self._since + self._seconds * 2**self._told - time.monotonic()
        if left > 0:
          self._changed.wait(min(left, _LONGEST))
        else:
          self._told += 1
          self._tell(self._message())

  def _message(self) -> str:
    waited = f'{time.monotonic() - self._since:.0f} s'
    since = time.strftime('%H:%M:%S', time.localtime(self._began))
    frame, what = sys._current_frames().get(self._watched), self._blocks[-1]
    if compiling(frame):
      return f'{what}: its program has been compiling for {waited}, since {since}'
    return (
      f'{what}: no progress for {waited}, since {since}; it is waited for, two signals'
      f' (Ctrl-C) end the process\n{place(frame)}'
    )


def place(frame: FrameType | None) -> str:
  """Where a thread is: the innermost lines of this package, and the last of all."""
  stack = traceback.extract_stack(frame)
  own = [x for x in stack if x.filename.startswith(_PACKAGE)][-_OWN_LINES:]
  lines = [*own, *(stack[-1:] if stack[-1] not in own else [])]
  return ''.join(traceback.format_list(lines)).rstrip()


def compiling(frame: FrameType | None) -> bool:
  """Whether a stack is inside jax's tracing or compilation."""
  while frame is not None:
    path = frame.f_code.co_filename.replace('\\', '/')
    if '/jax/_src/' in path and path.endswith(_COMPILERS):
      return True
    frame = frame.f_back
  return False
