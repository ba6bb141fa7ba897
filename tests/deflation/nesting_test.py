"""Tests ../../adapad_jax/deflation/nesting.py."""

import numpy as np
import pytest

from adapad_jax.deflation.nesting import Nesting

WIDTHS = {
  (1, 1): [1],
  (2, 2): [1, 2],
  (4, 3): [1, 2, 3],
  (6, 4): [1, 2, 4],
  (6, 6): [1, 2, 4, 6],
  (8, 7): [1, 2, 4, 7],
  (8, 8): [1, 2, 4, 8],
  (9, 8): [1, 2, 4, 8],
  (9, 9): [1, 2, 4, 8, 9],
}


@pytest.mark.parametrize('workers, live', WIDTHS)
def test_rows_end_at_every_doubling_as_often(workers, live):
  """Half of 24 joint rows, over as many rounds as there are widths."""
  widths, nesting = WIDTHS[workers, live], Nesting(workers, 0.5)
  place_g, rounds = np.arange(-8, 24), range(3, 3 + len(widths))
  last = np.array([nesting.last_trained(place_g, 24, t, live) for t in rounds])
  nested, whole = last[:, 8:20], last[:, 20:]
  assert sorted(nested.ravel() + 1) == sorted(widths * 12)
  assert (whole == live - 1).all()
  for row in nested.T:
    assert sorted(row + 1) == widths, 'a place of the batch has all in turn'


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('workers, live', WIDTHS)
def test_the_part_that_trains_a_worker_is_counted(share, workers, live):
  nesting, place_g = Nesting(workers, share), np.arange(60)
  last = np.array([nesting.last_trained(place_g, 60, t, live) for t in range(60)])
  counted = [np.mean(last >= k) for k in range(live)]
  found = nesting.trained(np.arange(workers), live)[:live]
  np.testing.assert_allclose(found, counted, rtol=1e-6)


@pytest.mark.parametrize('rows, share', [(1, 0.5), (2, 0.25), (3, 0.5), (4, 0.1)])
def test_few_joint_rows_are_nested_in_some_rounds(rows, share):
  """Over rounds their share is what was asked for, and every width comes as often."""
  nesting, place_g, rounds = Nesting(8, share), np.arange(rows), 960
  for first in (0, 3_000_000):  # Of a long run as of a short one.
    steps = range(first, first + rounds)
    last = np.array([nesting.last_trained(place_g, rows, t, 8) for t in steps])
    counted = [np.mean(last >= k) for k in range(8)]
    np.testing.assert_allclose(nesting.trained(np.arange(8), 8), counted, atol=0.01)
