"""A computation and a wait that never return, and processes that do them."""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys
import threading

import jax


@jax.jit
def endless():
  """A number that its device never delivers."""
  return jax.lax.while_loop(lambda x: x >= 0, lambda x: (x + 1) % 7, 0)


def ready_endless():
  """The same computation compiled already: signals wait for nothing else then."""
  return endless.lower().compile()


def deaf(say):
  """Waits in C for ever, without the interpreter's lock; no signal is heard there.

  As jax does while it computes in the thread that asks for it. When that begins after
  a call, and whether another thread computes, is jax's own affair; here it is now.

  Args:
    say: called by another thread once this one is in C, however late that is.
  """
  mutex = ctypes.create_string_buffer(64)  # Zeros are one that is free.
  ctypes.PyDLL(None).pthread_mutex_lock(mutex)
  lock = ctypes.CDLL(None).pthread_mutex_lock  # Goes on waiting after a signal.
  ready = threading.Event()
  threading.Thread(target=lambda: ready.wait() and say(), daemon=True).start()
  sys.setswitchinterval(1e6)  # Nothing but the call below lets the other thread go on.
  ready.set()
  lock(mutex)


@contextlib.contextmanager
def started(code, *args):
  """Python code in a process of its own, stderr along with stdout."""
  process = subprocess.Popen(
    [sys.executable, '-c', code, *map(str, args)],
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[1])},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def read_until(process, text):
  """What the process says up to the line with a text."""
  said = ''
  for line in process.stdout:
    said += line
    if text in line:
      return said
  raise AssertionError(f'no {text!r} in {said!r}')


def is_alive_after(process, seconds):
  """Whether a process is still there so many seconds later."""
  try:
    process.wait(timeout=seconds)
  except subprocess.TimeoutExpired:
    return True
  return False
