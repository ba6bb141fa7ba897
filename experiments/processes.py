"""Functions of the experiments in fresh processes, which may be stopped."""

import contextlib
import math
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from adapad_jax import freed_memory

_FRESH = multiprocessing.get_context('spawn')
_STARTING = threading.Lock()
_LONGEST = 1e6  # Seconds that a pipe can be waited for.
_ONE_THREAD = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'


def stream(
  function: Callable[..., Iterator[Any]],
  *args: Any,
  env: dict[str, str] | None = None,
  timeout: float = math.inf,
) -> Iterator[Any]:
  """What a generator function yields in a fresh process, as it comes.

  Args:
    function: of a module, so that the process can import it.
    *args: given to it.
    env: variables beside those of this process.
    timeout: seconds.

  Raises:
    RuntimeError: with the end of its traceback, if it failed, or if it took too long.
  """
  receiving, sending = _FRESH.Pipe(duplex=False)
  process = _FRESH.Process(target=_send, args=(sending, function, args))
  end = time.monotonic() + timeout
  with _STARTING, _environment(env or {}):
    process.start()
  sending.close()
  try:
    while receiving.poll(min(max(end - time.monotonic(), 0), _LONGEST)):
      is_value, sent = receiving.recv()
      if not is_value:
        raise RuntimeError(f'{function.__name__} failed: {sent}')
      yield sent
    raise RuntimeError(f'{function.__name__} was not done after {timeout:.0f} s')
  except EOFError:
    process.join()
    if process.exitcode:
      code = process.exitcode
      raise RuntimeError(f'{function.__name__} ended with exit code {code}') from None
  finally:
    process.kill()
    process.join()
    receiving.close()


def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
  """What a function returns in a fresh process; see `stream`."""
  [value] = stream(_once, function, args, **options)
  return value


def side_by_side() -> dict[str, str]:
  """Environment of processes that share a machine: a thread each, memory by need."""
  return {
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {_ONE_THREAD}',
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  }


def _once(function: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[Any]:
  yield function(*args)


def _send(sending: Any, function: Callable[..., Iterator[Any]], args: Any) -> None:
  """The child: sends (True, value) for each value, or (False, traceback)."""
  os.dup2(2, 1)  # Standard output is for figures.
  freed_memory.prepare_jax()
  try:
    for value in function(*args):
      sending.send((True, value))
  except Exception:
    sending.send((False, traceback.format_exc().strip()[-2000:]))
  sending.close()


@contextlib.contextmanager
def _environment(env: dict[str, str]) -> Iterator[None]:
  """Variables that processes started inside inherit."""
  before = {name: os.environ.get(name) for name in env}
  os.environ.update(env)
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value
