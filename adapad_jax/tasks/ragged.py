"""Rows of different lengths, kept without their padding."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


class Ragged:
  """Stands for the (N, L) array that rows are when padded on the right.

  It takes rows as an array does, by a slice or by an array of numbers, and pads what
  it takes; `x[..., :l]` is the same with rows cut to l. Nothing else needs memory: the
  values may lie in a file.

  Args:
    values: of all rows, one behind the other; None stands for ones.
    start_N: where each row begins.
    length_N: how long it is.
    width: L.
    fill: what padding holds.
  """

  dtype = np.dtype(np.int32)
  ndim = 2

  def __init__(
    self,
    values: np.ndarray | None,
    start_N: np.ndarray,
    length_N: np.ndarray,
    width: int,
    fill: int = 0,
  ) -> None:
    self._values, self._start_N, self._fill = values, start_N, fill
    self.lengths_N = np.minimum(length_N, width)
    self.shape = (len(start_N), width)

  @classmethod
  def of(cls, rows: Sequence[Sequence[int]], width: int, fill: int = 0) -> 'Ragged':
    """Rows that are lists."""
    length_N = np.array([len(row) for row in rows], np.int64)
    values = np.fromiter(
      itertools.chain.from_iterable(rows), np.int32, int(length_N.sum())
    )
    return cls(values, np.cumsum(length_N) - length_N, length_N, width, fill)

  def __len__(self) -> int:
    return self.shape[0]

  @property
  def nbytes(self) -> int:
    """Bytes of the padded array."""
    return self.shape[0] * self.shape[1] * self.dtype.itemsize

  def __getitem__(self, key: Any) -> Any:
    """Padded rows (..., L); of `[..., :l]`, all rows with another width."""
    if isinstance(key, tuple):
      return self._narrowed(*key)
    length = self.lengths_N[key][..., None]
    place = np.arange(self.shape[1])
    inside = place < length
    out = np.full(inside.shape, self._fill, self.dtype)
    if self._values is None:
      out[inside] = 1
    else:
      at = self._start_N[key][..., None] + place
      out[inside] = self._values[at[inside]]
    return out

  def mask(self) -> 'Ragged':
    """Ones where the rows have values."""
    return Ragged(None, self._start_N, self.lengths_N, self.shape[1])

  def take(self, rows: np.ndarray) -> 'Ragged':
    """Some of the rows, without their padding."""
    start_N, length_N = self._start_N[rows], self.lengths_N[rows]
    return Ragged(self._values, start_N, length_N, self.shape[1], self._fill)

  def _narrowed(self, rows: Any, columns: slice) -> 'Ragged':
    if rows is not Ellipsis or columns.start or columns.step:
      raise IndexError(f'only [..., :l] cuts ragged rows, not [{rows}, {columns}]')
    width = len(range(*columns.indices(self.shape[1])))
    return Ragged(self._values, self._start_N, self.lengths_N, width, self._fill)

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if copy is False:
      raise ValueError('ragged rows are padded in a copy')
    return self[:].astype(dtype or self.dtype, copy=False)


def take(column: 'np.ndarray | Ragged', rows: np.ndarray) -> 'np.ndarray | Ragged':
  """Some rows of a column, padded only if all of it is.

  Args:
    column: (N, ...).
    rows: their numbers, or whether each is taken.
  """
  return column.take(rows) if isinstance(column, Ragged) else column[rows]
