"""A computation that never returns, and processes that wait for it."""

import contextlib
import os
import pathlib
import subprocess
import sys

import jax


@jax.jit
def endless(x=0):
  """A number that its device never delivers."""
  return jax.lax.while_loop(lambda x: x >= 0, lambda x: (x + 1) % 7, x)


def ready_endless():
  """The same computation compiled already: signals wait for nothing else then."""
  return endless.lower().compile()


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
