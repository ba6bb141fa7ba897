"""What a program says when it fails: one line for what its user can put right.

Such are a value, a file, a disk and the memory. What is left is a bug, and keeps its
traceback.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging

# What `one_line` may have a line for.
KINDS = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)

_WRITABLE = 'choose a path that can be written'
_ROOM = (
  'free some space and give the same command again; training goes on from its last'
  ' checkpoint'
)
_ADVICE = {
  errno.EACCES: 'choose a path that you may read and write',
  errno.EDQUOT: _ROOM,
  errno.EEXIST: 'choose a path where no such file lies',
  errno.EFBIG: 'allow larger files (ulimit -f)',
  errno.EISDIR: 'give a file, not a folder',
  errno.EMFILE: 'allow more open files (ulimit -n)',
  errno.ENOSPC: _ROOM,
  errno.ENOTDIR: 'a file lies where a folder belongs: choose another path',
  errno.EPERM: _WRITABLE,
  errno.EROFS: _WRITABLE,
}
_LESS_MEMORY = (
  'lower train.batch (in an evaluation train.eval_batch), raise train.accumulate, or'
  ' set model.remat=True; --dry_run estimates what a run takes'
)


def quieten_threads() -> None:
  """Keeps threads of orbax from printing tracebacks of what is raised here as well."""
  logging.get_absl_logger().addFilter(lambda record: not record.exc_info)
  shown = sys.unraisablehook

  def hook(found: Any) -> None:
    # Writes of a save that has failed, as they end one by one.
    if str(found.exc_value) != 'Event loop is closed':
      shown(found)

  sys.unraisablehook = hook


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
  """Notes in an error that passes what was being done: 'writing runs/1/config.json'."""
  try:
    yield
  except Exception as error:
    error.add_note(f'while {what}')
    raise


def one_line(error: BaseException) -> str | None:
  """What the user can put right, in one line; None for a bug."""
  # tensorstore raises ValueError for what the system refuses.
  code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
  if isinstance(error, OSError):
    said = _of_system(error)
  elif code:
    said = _of_system(OSError(int(code[1]), os.strerror(int(code[1]))))
  elif isinstance(error, MemoryError):
    said = f'out of memory{_after_colon(error)}; {_LESS_MEMORY}'
  elif isinstance(error, jax.errors.JaxRuntimeError):
    if 'RESOURCE_EXHAUSTED' not in str(error):
      return None
    said = f'out of memory{_after_colon(error, first=True)}; {_LESS_MEMORY}'
  else:
    said = str(error) or type(error).__name__
  notes = getattr(error, '__notes__', [])
  return _folded(' '.join([said, *(f'({note})' for note in notes)]))


def _of_system(error: OSError) -> str:
  paths = [str(name) for name in (error.filename, error.filename2) if name is not None]
  said = error.strerror or str(error) or type(error).__name__
  advice = _ADVICE.get(error.errno or 0)
  return ': '.join([*paths, said]) + (f'; {advice}' if advice else '')


def _after_colon(error: Exception, first: bool = False) -> str:
  lines = str(error).strip().splitlines()
  return f': {lines[0] if first else " ".join(lines)}' if lines else ''


def _folded(text: str) -> str:
  return ' '.join(line.strip() for line in text.splitlines() if line.strip())
