"""Tests ../../adapad_jax/deflation/schedule.py against every course growth can take."""

import itertools

import pytest

from adapad_jax.deflation.schedule import most_allocations


def longest(rooms, wanted, grants):
  """The most allocations, by trying all choices of modules."""
  open_to = [place for place, room in enumerate(rooms) if room]
  if wanted <= 0 or not open_to:
    return 0
  served = min(grants, len(open_to))
  return 1 + max(
    longest([r - (i in chosen) for i, r in enumerate(rooms)], wanted - served, grants)
    for chosen in itertools.combinations(open_to, served)
  )


@pytest.mark.parametrize('grants', [1, 2, 3])
@pytest.mark.parametrize('rooms', [(1, 3), (2, 2, 2), (3, 0, 1), (1, 2, 3), (2, 3, 3)])
def test_it_is_what_the_longest_course_takes(rooms, grants):
  for wanted in range(sum(rooms) + 1):
    assert most_allocations(rooms, wanted, grants) == longest(rooms, wanted, grants)
