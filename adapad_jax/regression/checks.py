"""What data and arguments of a regression are refused."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from adapad_jax.regression.moments import Moments


def check_count(name: str, value: Any, least: int = 1) -> None:
  """Refuses what is no whole number from `least` on.

  Raises:
    ValueError: naming the argument and its value.
  """
  # True would pass for 1.
  is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not is_whole or value < least:
    raise ValueError(f'{name}={value!r} must be a whole number, at least {least}')


def checked(
  x_NI: np.ndarray, y_NO: np.ndarray | None, rank: int
) -> tuple[np.ndarray, np.ndarray | None]:
  """The data as arrays, in a dtype that may still be another.

  Raises:
    ValueError: for a rank that is no number from one on, sparse matrices, values that
      are no real numbers, or shapes that do not belong together.
  """
  for name, z_NX in (('inputs', x_NI), ('outputs', y_NO)):
    if scipy.sparse.issparse(z_NX):
      raise ValueError(
        f'the {name} are a sparse {type(z_NX).__name__}; pass a dense array, by'
        ' .toarray()'
      )
  x_NI = np.asarray(x_NI)
  same, y_NO = y_NO is None, x_NI if y_NO is None else np.asarray(y_NO)
  check_count('rank', rank)
  for name, z_NX in (('inputs', x_NI), ('outputs', y_NO)):
    if z_NX.dtype.kind not in 'fiubO':
      raise ValueError(f'the {name} hold {z_NX.dtype}, not real numbers')
  if x_NI.ndim != 2 or y_NO.ndim != 2 or x_NI.shape[0] != y_NO.shape[0]:
    raise ValueError(
      'expected inputs (n, d) and outputs (n, m) with one example a row, got'
      f' {x_NI.shape} and {y_NO.shape}'
    )
  if 0 in x_NI.shape + y_NO.shape:
    raise ValueError(f'no data: inputs {x_NI.shape}, outputs {y_NO.shape}')
  return x_NI, None if same else y_NO


def check_finite(moments: Moments, dtype: str) -> None:
  """Refuses sums that are not finite, which takes no second pass over the data.

  Raises:
    ValueError: if an input or an output was NaN or infinite, or too large to square.
  """
  largest = float(np.finfo(dtype).max)
  sizes = jax.device_get((jnp.diag(moments.s_II), moments.yy))
  is_good = lambda size: bool(np.all(size <= largest))  # False for NaN
  found = zip(('inputs', 'outputs'), map(is_good, sizes), strict=True)
  if bad := [name for name, good in found if not good]:
    raise ValueError(
      f'the {" and the ".join(bad)} contain NaN, infinity or values whose squares'
      f' overflow {dtype}; clean or rescale the data'
    )


def check_not_tiny(
  moments: Moments, x_NI: np.ndarray, y_NO: np.ndarray | None, dtype: str
) -> None:
  """Refuses values whose squares are so small that rounding would take over.

  A sum of zero needs a look at the values, whose squares may all have vanished.

  Raises:
    ValueError: if there are such, and not all are zero.
  """
  info = np.finfo(dtype)
  totals = jax.device_get((jnp.trace(moments.s_II), moments.yy))
  given = x_NI, x_NI if y_NO is None else y_NO
  for name, total, z_NX in zip(('inputs', 'outputs'), totals, given, strict=True):
    if total < float(info.tiny) / float(info.eps) ** 2 and np.any(z_NX):
      raise ValueError(
        f'the {name} are too small for {dtype}: their squares sum up to'
        f' {total:.1e}; rescale them'
      )
