"""The span search against all pairs in a plain loop."""

import numpy as np
import pytest

from adapad_jax.tasks.squad import search
from adapad_jax.tasks.squad.search import best_spans


def all_pairs(start_L, end_L, first, size, longest, k):
  found = []
  for s in range(first, first + size):
    for e in range(s, min(s + longest, first + size)):
      score = np.float32(start_L[s] + end_L[e])
      if np.isfinite(score):
        found.append((-score, s, e))
  return [(-score, s, e) for score, s, e in sorted(found)[:k]]


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize(('longest', 'k'), [(1, 3), (4, 1), (4, 20), (30, 5)])
def test_equals_all_pairs(monkeypatch, ties, longest, k):
  monkeypatch.setattr(search, '_CHUNK', 4)  # Rows are cut into several pieces.
  rng = np.random.default_rng(longest + k)
  rows, length = 9, 17
  draw = lambda: (
    rng.integers(-1, 2, (rows, length)) if ties else rng.normal(size=(rows, length))
  ).astype(np.float32)
  start_NL, end_NL = draw(), draw()
  start_NL[2, 5], end_NL[2, 6:9], end_NL[3] = np.nan, np.inf, np.nan
  first_N = rng.integers(0, 6, rows)
  size_N = np.minimum(rng.integers(1, 13, rows), length - first_N)
  score_NK, start_NK, end_NK = best_spans(start_NL, end_NL, first_N, size_N, longest, k)
  for row in range(rows):
    expected = all_pairs(
      start_NL[row], end_NL[row], first_N[row], size_N[row], longest, k
    )
    real = np.isfinite(score_NK[row])
    got = zip(score_NK[row][real], start_NK[row][real], end_NK[row][real], strict=True)
    assert list(got) == expected, row
  assert not np.isfinite(score_NK[3]).any()


def test_no_rows():
  none = np.zeros((0, 8), np.float32)
  score_NK, _, _ = best_spans(none, none, np.zeros(0, int), np.zeros(0, int), 3, 2)
  assert len(score_NK) == 0
