"""Peak memory of `fit`, for a process of its own (Linux)."""

import ctypes
import gc
import pathlib

import numpy as np


def _status(name: str) -> int:
  """A field of /proc/self/status in bytes."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(name + ':'):
      return 1024 * int(line.split()[1])
  raise KeyError(name)


def _rest() -> int:
  """Resident bytes once freed memory has been handed back."""
  gc.collect()
  ctypes.CDLL('libc.so.6').malloc_trim(0)
  return _status('VmRSS')


def measure(examples: int, size: int, rank: int) -> dict[str, float]:
  """Bytes above rest of a first fit, which compiles, and of a second one.

  Runs in this process, which should be fresh.
  """
  from adapad_jax.regression import Schedule, fit

  draw = np.random.default_rng(0)
  small = draw.normal(size=(8, 4)).astype(np.float32)
  fit(small, small, 2, schedule=Schedule(rounds=5))  # what imports take
  need = 4 * (2 * examples * size + 2 * size * size + 3 * rank * 2 * size)
  peaks = []
  for _ in range(2):
    before = _rest()
    x_NI, y_NO = (draw.standard_normal((examples, size), np.float32) for _ in range(2))
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # forgets the old peak
    fitted = fit(x_NI, y_NO, rank, schedule=Schedule(rounds=5))
    peaks.append(_status('VmHWM') - before)
    if not np.isfinite(fitted.a_RI).all():
      raise ArithmeticError('the fit is not finite')
    del x_NI, y_NO, fitted
  return {'first': peaks[0], 'second': peaks[1], 'need': need}
