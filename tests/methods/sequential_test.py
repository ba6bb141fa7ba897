"""Tests ../../adapad_jax/methods/sequential.py."""

import numpy as np
import pytest

from adapad_jax.methods.sequential import SequentialSettings
from tests.methods import toy


@pytest.mark.parametrize(
  'rank, alpha, steps, want',
  [
    (2, 0.5, 100, [75, 25]),
    (3, 0.0, 90, [30, 30, 30]),
    (3, 1.0, 90, [59, 30, 1]),
    (1, 1.5, 10, [10]),
  ],
)
def test_shares_of_the_steps(rank, alpha, steps, want):
  assert SequentialSettings(rank, alpha).lengths(steps).tolist() == want


def test_components_are_frozen_before_and_after_their_phase():
  method = toy.build('sequential', dict(rank=3, alpha=0.5))
  ends = np.cumsum(method.rule.lengths_R)
  found = toy.run(method, keep=[int(end) for end in ends])
  edges = [0, *ends.tolist()]
  for k, (before, after) in enumerate(zip(edges, edges[1:], strict=False)):
    old, new = found.states[before].tuned.params, found.states[after].tuned.params
    for name in toy.SHAPES:
      moved = [
        not np.array_equal(old[name].b_RO[j], new[name].b_RO[j]) for j in range(3)
      ]
      assert moved == [j == k for j in range(3)], f'{name} in phase {k}'
  assert [total for _, total in method.timeline()] == [3, 6, 9]
