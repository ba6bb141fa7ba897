"""Rows without their padding, against the padded array that they stand for."""

import numpy as np
import pytest

from adapad_jax.tasks.ragged import Ragged, take
from adapad_jax.training import batches

LENGTHS = np.array([3, 1, 4, 2])
VALUES = np.arange(1, 11, dtype=np.int32)
PADDED = np.array([[1, 2, 3, 9, 9], [4, 9, 9, 9, 9], [5, 6, 7, 8, 9], [9, 10, 9, 9, 9]])
# The last row holds 9 and 10, the others are filled with nine.
ROWS = Ragged(VALUES, np.cumsum(LENGTHS) - LENGTHS, LENGTHS, 5, fill=9)
MASK = Ragged(None, np.cumsum(LENGTHS) - LENGTHS, LENGTHS, 5)


@pytest.mark.parametrize(
  'key', [slice(None), slice(1, 3), 2, np.array([3, 0]), np.array([[0, 1], [2, 2]])]
)
def test_rows_are_padded_when_they_are_taken(key):
  np.testing.assert_array_equal(ROWS[key], PADDED[key])
  mask = np.arange(5) < LENGTHS[:, None]
  np.testing.assert_array_equal(MASK[key], mask[key])
  assert ROWS[key].dtype == np.int32


def test_it_has_the_shape_of_an_array():
  assert (len(ROWS), ROWS.shape, ROWS.ndim, ROWS.nbytes) == (4, (4, 5), 2, 80)
  np.testing.assert_array_equal(np.asarray(ROWS), PADDED)


def test_narrower_rows_are_cut():
  narrow = ROWS[..., slice(2)]
  np.testing.assert_array_equal(narrow[:], PADDED[:, :2])
  np.testing.assert_array_equal(narrow.lengths_N, [2, 1, 2, 2])
  with pytest.raises(IndexError, match='only'):
    ROWS[:, 1:2]


def test_batches_of_them_equal_those_of_arrays():
  ragged = {'ids_BL': ROWS, 'mask_BL': MASK}
  dense = {name: column[:] for name, column in ragged.items()}
  np.testing.assert_array_equal(batches.lengths(ragged), batches.lengths(dense))
  for multiple in (1, 2, 8):
    ours = batches.trimmed(ragged, multiple)
    theirs = batches.trimmed(dense, multiple)
    for name in dense:
      np.testing.assert_array_equal(ours[name][:], theirs[name])
  order = batches.Order(4, 2, seed=1)
  rounds = [batches.round_batch(x, order, 0, 3, np.arange(2)) for x in (ragged, dense)]
  for name in dense:
    np.testing.assert_array_equal(rounds[0][name], rounds[1][name])
    np.testing.assert_array_equal(
      batches.padded(ragged, 3, 2)[name], batches.padded(dense, 3, 2)[name]
    )


@pytest.mark.parametrize(
  'rows', [np.array([3, 0, 0]), np.array([True, False, True, False])]
)
def test_some_rows_stay_without_padding(rows):
  rows = np.array(rows)
  for column in (ROWS, MASK, ROWS[..., slice(2)]):
    found = take(column, rows)
    assert isinstance(found, Ragged)
    np.testing.assert_array_equal(found[:], column[rows])
  np.testing.assert_array_equal(take(PADDED, rows), PADDED[rows])


def test_rows_that_are_lists():
  found = Ragged.of([[1, 2], [], [3]], 3, fill=9)
  np.testing.assert_array_equal(found[:], [[1, 2, 9], [9, 9, 9], [3, 9, 9]])
  np.testing.assert_array_equal(found.mask()[:], [[1, 1, 0], [0, 0, 0], [1, 0, 0]])
  assert Ragged.of([], 3)[:].shape == (0, 3)
