"""Prefix cuts against exhaustive search and matrices that are formed."""

import itertools

import numpy as np
import pytest

from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.lowrank.prefixes import (
  cut_to_budget,
  cut_to_rank,
  share,
  share_by_size,
)
from adapad_jax.lowrank.spectrum import importances
from adapad_jax.lowrank.update import padded, unpadded


def draw(seed, ranks, shape=(5, 4)):
  rng = np.random.default_rng(seed)
  normal = lambda *size: rng.standard_normal(size).astype(np.float32)
  modules = {
    f'layer.{i}.dense': LowRank(normal(r, shape[0]), normal(r, shape[1]))
    for i, r in enumerate(ranks)
  }
  return Adapter(modules, {'classifier': {'kernel': normal(5, 2)}})


def test_importance_is_the_norm_of_the_term():
  update = draw(0, [3]).modules['layer.0.dense']
  pairs = zip(update.a_RI, update.b_RO, strict=True)
  formed = [np.linalg.norm(np.outer(a, b)) for a, b in pairs]
  np.testing.assert_allclose(importances(update), formed, rtol=1e-6)
  assert importances(update.cut(0)).shape == (0,)


def best_by_search(gains, budget):
  """The highest sum over every choice of prefixes of that many components."""
  sizes = [range(len(gain) + 1) for gain in gains.values()]
  return max(
    sum(np.sum(gain[:k]) for gain, k in zip(gains.values(), ranks, strict=True))
    for ranks in itertools.product(*sizes)
    if sum(ranks) == budget
  )


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('budget', [1, 4, 7])
def test_share_equals_exhaustive_search(seed, budget):
  rng = np.random.default_rng(seed)
  gains = {f'm{i}': rng.exponential(size=n) for i, n in enumerate((3, 0, 4, 2))}
  ranks = share(gains, budget)
  assert list(ranks) == list(gains) and sum(ranks.values()) == budget
  kept = sum(np.sum(gain[: ranks[name]]) for name, gain in gains.items())
  assert kept == pytest.approx(best_by_search(gains, budget), rel=1e-12)


def test_a_weak_component_is_taken_for_the_strong_one_behind_it():
  gains = {'one': np.array([2.0, 1.0]), 'two': np.array([0.1, 9.0])}
  assert share(gains, 2) == {'one': 0, 'two': 2}
  assert share(gains, 1) == {'one': 1, 'two': 0}


def test_ties_go_to_earlier_modules_and_a_large_budget_takes_all():
  gains = {'one': np.ones(2), 'two': np.ones(2)}
  assert share(gains, 2) == {'one': 2, 'two': 0}
  assert share(gains, 99) == {'one': 2, 'two': 2}


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('most', [2, 9, 30])
def test_share_by_size_falls_short_of_the_best_by_less_than_a_run(seed, most):
  rng = np.random.default_rng(seed)
  gains = {f'm{i}': rng.exponential(size=n) for i, n in enumerate((3, 0, 4, 2))}
  sizes = {'m0': 5, 'm1': 1, 'm2': 2, 'm3': 3}
  ranks = share_by_size(gains, sizes, most)
  size = lambda ranks: sum(sizes[name] * rank for name, rank in ranks.items())
  kept = lambda ranks: sum(np.sum(gains[name][:rank]) for name, rank in ranks.items())
  every = itertools.product(*(range(len(gain) + 1) for gain in gains.values()))
  allowed = [dict(zip(gains, one, strict=True)) for one in every]
  allowed = [one for one in allowed if size(one) <= most]
  largest = max(np.sum(gain) for gain in gains.values())
  assert list(ranks) == list(gains) and size(ranks) <= most
  assert kept(ranks) > max(map(kept, allowed)) - largest
  assert most < size({n: len(g) for n, g in gains.items()}) or ranks['m2'] == 4


def test_small_components_go_before_wide_ones_of_the_same_gain():
  gains = {'wide': np.array([2.0, 1.0]), 'narrow': np.array([1.0, 0.9, 0.1])}
  sizes = {'wide': 10, 'narrow': 4}
  assert share_by_size(gains, sizes, 8) == {'wide': 0, 'narrow': 2}
  assert share_by_size(gains, sizes, 18) == {'wide': 1, 'narrow': 2}
  assert share_by_size(gains, sizes, 99) == {'wide': 2, 'narrow': 3}
  # A weak component is taken for the strong one behind it.
  gains = {'wide': np.array([2.0, 1.0]), 'narrow': np.array([0.1, 9.0, 0.1])}
  assert share_by_size(gains, sizes, 10) == {'wide': 0, 'narrow': 2}
  with pytest.raises(ValueError, match='smallest component has 4 parameters, got 3'):
    share_by_size(gains, sizes, 3)
  # Not of a module that has none.
  with pytest.raises(ValueError, match='smallest component has 4 parameters, got 3'):
    share_by_size(gains | {'none': np.zeros(0)}, sizes | {'none': 1}, 3)
  assert share_by_size({'none': np.zeros(0)}, {'none': 4}, 3) == {'none': 0}


def test_a_run_that_does_not_fit_gives_its_first_components():
  assert share_by_size({'a': np.array([1.0, 9.0])}, {'a': 10}, 15) == {'a': 1}
  assert share_by_size({'a': np.array([1.0, 2.0, 9.0])}, {'a': 5}, 14) == {'a': 2}
  # Not in place of another run that fits.
  gains = {'a': np.array([0.01, 9.0]), 'b': np.array([5.0])}
  assert share_by_size(gains, {'a': 10, 'b': 12}, 15) == {'a': 0, 'b': 1}
  assert share_by_size(gains, {'a': 10, 'b': 4}, 15) == {'a': 1, 'b': 1}


def test_cuts_are_prefixes_and_keep_the_head():
  adapter = draw(1, [3, 0, 2])
  for small, ranks in (
    (cut_to_rank(adapter, 2), [2, 0, 2]),
    (cut_to_budget(adapter, 5), [3, 0, 2]),
  ):
    assert list(small.ranks.values()) == ranks
    assert small.head is adapter.head
    for name, update in small.modules.items():
      whole = adapter.modules[name]
      np.testing.assert_array_equal(update.a_RI, whole.a_RI[: update.rank])
      np.testing.assert_array_equal(update.b_RO, whole.b_RO[: update.rank])


def test_senseless_sizes_are_refused():
  adapter = draw(2, [2, 2])
  with pytest.raises(ValueError, match='max_rank must be at least 1, got 0'):
    cut_to_rank(adapter, 0)
  for wrong in (1.5, True):
    with pytest.raises(ValueError, match=f'max_rank must be a whole .* {wrong}'):
      cut_to_rank(adapter, wrong)
  with pytest.raises(ValueError, match='at least 1 component, got 0'):
    cut_to_budget(adapter, 0)
  with pytest.raises(ValueError, match=r"those of \['two'\] are not"):
    share({'one': np.ones(1), 'two': np.array([np.nan])}, 1)


def test_padding_is_undone_and_nothing_else_is():
  update = draw(3, [3]).modules['layer.0.dense']
  wide = padded(update, 5)
  assert wide.rank == 5
  np.testing.assert_array_equal(wide.weight(), update.weight())
  assert unpadded(wide).rank == 3 and unpadded(padded(update.cut(0), 2)).rank == 0
  # A component that has not learned yet is no padding: its input direction is there.
  fresh = LowRank(update.a_RI, 0 * update.b_RO)
  assert unpadded(fresh).rank == 3
