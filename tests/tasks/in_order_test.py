"""Parts of something, done by threads."""

import threading
import time

import pytest

from adapad_jax.tasks.in_order import in_order


def test_results_come_in_order_whoever_is_first():
  work = lambda i: (time.sleep(0.02 * (i % 3 == 0)), i * i)[1]
  assert list(in_order(work, iter(range(40)))) == [i * i for i in range(40)]


def test_few_parts_are_taken_ahead():
  taken = []
  parts = (taken.append(i) or i for i in range(1000))
  results = in_order(lambda i: i, parts)
  assert next(results) == 0
  assert len(taken) < 50
  results.close()
  assert len(taken) < 50


def test_what_goes_wrong_comes_out_and_ends_the_threads():
  def work(i):
    if i == 3:
      raise ValueError('three')
    return i

  found = []
  with pytest.raises(ValueError, match='three'):
    found.extend(in_order(work, iter(range(40))))
  assert found == [0, 1, 2]
  assert threading.active_count() < 20
