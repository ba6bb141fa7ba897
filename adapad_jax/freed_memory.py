"""Keeps the memory that a step frees for the next one, on Linux with glibc.

XLA's CPU client allocates a step's temporaries and frees them again. glibc unmaps large
blocks at once, and the next step waits for the kernel to clear their pages. glibc's
tunables (its manual, "Memory Allocation Tunables") keep them in one heap of huge pages
instead. They are read when a process starts, so commands start themselves again with
them.

A process must not hold more for that. What is sent off while something else computes
has temporaries of its own, whose pages would all be kept: computations are sent off one
by one then. And small blocks that outlive a step or a compilation come to lie between
large free ones, where the next step's do not fit: what is free is given back after long
compilations and when a loop settles, see `give_back`.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import re
import sys
from collections.abc import Mapping

SWITCH = 'ADAPAD_JAX_KEEP_FREED'
# Nothing is mapped apart, the heap is not trimmed below 16 GiB, and all threads share
# it.
TUNABLES = ':'.join(
  [
    'glibc.malloc.hugetlb=1',
    'glibc.malloc.mmap_max=0',
    f'glibc.malloc.trim_threshold={2**34}',
    'glibc.malloc.arena_max=1',
  ]
)
_HUGE_PAGES_SINCE = 2, 35
_COMPILED = '/jax/core/compile/backend_compile_duration'
_LONG = 1.0  # Seconds; shorter compilations leave little.


def start_again(module: str) -> None:
  """Replaces this process by itself with glibc's tunables, where that is of use.

  Does nothing unless `python -m MODULE` began the process: a notebook, a test or a
  debugger that runs the module goes on as it is.

  Args:
    module: that was started.
  """
  argv = sys.orig_argv
  first = next((b for a, b in itertools.pairwise(argv) if a == '-m'), '')
  began = first == module and sys.executable
  changed = environment(os.environ, _libc()) if began else None
  if changed is not None:
    os.execve(sys.executable, argv, changed)


def environment(given: Mapping[str, str], libc: str) -> dict[str, str] | None:
  """The environment that keeps freed memory; None if it is to stay as it is.

  That is the case if the user says so (ADAPAD_JAX_KEEP_FREED=0), chose another
  allocator or settings of this one, or the C library cannot.

  Args:
    given: variables of the process.
    libc: its C library as `os.confstr` names it, 'glibc 2.36'.
  """
  version = re.fullmatch(r'glibc (\d+)\.(\d+).*', libc)
  chosen = {'GLIBC_TUNABLES', 'LD_PRELOAD'} & given.keys()
  chosen |= {name for name in given if name.startswith('MALLOC_')}
  off = given.get(SWITCH, '1') == '0' or chosen or version is None
  if off or tuple(map(int, version.groups())) < _HUGE_PAGES_SINCE:
    return None
  return {**given, 'GLIBC_TUNABLES': TUNABLES}


def _libc() -> str:
  try:
    return os.confstr('CS_GNU_LIBC_VERSION') or ''
  except (AttributeError, ValueError, OSError):  # Not glibc, or not Unix.
    return ''


@functools.cache
def prepare_jax() -> None:
  """Has JAX hold no more memory than before, if this process keeps it.

  To be called before JAX's CPU client is made.
  """
  if os.environ.get('GLIBC_TUNABLES') != TUNABLES:
    return
  import jax.monitoring

  jax.config.update('jax_cpu_enable_async_dispatch', False)
  jax.monitoring.register_event_duration_secs_listener(_on_duration)


def give_back() -> None:
  """Returns free pages to the kernel if this process keeps them.

  To be called when other work begins, while its first steps compute: what is free then
  is what they do not need. Their own memory stays where it is.
  """
  if os.environ.get('GLIBC_TUNABLES') == TUNABLES:
    trim()


def _on_duration(event: str, seconds: float, **kwargs: object) -> None:
  if event == _COMPILED and seconds > _LONG:
    give_back()


def trim() -> None:
  """Lets the C library return what is free, such as a compiler's scratch memory."""
  with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
    ctypes.CDLL(None).malloc_trim(0)
