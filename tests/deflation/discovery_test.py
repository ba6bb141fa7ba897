"""Tests ../../adapad_jax/deflation/discovery.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapad_jax.deflation.discovery import Discovery, live_workers
from adapad_jax.deflation.settings import AdaPaDSettings


def discovery(**settings):
  return Discovery(
    AdaPaDSettings(**dict(start=100, interval=10, grants_per_event=4) | settings)
  )


def grow(discovery, importance_TM):
  """All rounds; returns the final Ranks and the total after each round."""
  modules = importance_TM.shape[1]
  update = jax.jit(discovery.update)
  ranks, totals = discovery.init(modules), []
  for step, importance_M in enumerate(importance_TM):
    ranks = update(ranks, jnp.asarray(importance_M, jnp.float32), step)
    totals.append(int(ranks.rank_M.sum()))
  return ranks, totals


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_budget_is_exact_and_growth_follows_the_timeline(data):
  modules = data.draw(st.integers(1, 6))
  r_max = data.draw(st.integers(1, 4))
  budget = data.draw(st.integers(modules, modules * r_max))
  d = discovery(
    budget=budget,
    r_max=r_max,
    start=data.draw(st.integers(1, 5)),
    interval=data.draw(st.integers(1, 3)),
    grants_per_event=data.draw(st.integers(1, 4)),
  )
  rng = np.random.default_rng(data.draw(st.integers(0, 99)))
  ranks, totals = grow(d, rng.random((60, modules)))
  assert max(totals) <= budget
  assert totals[-1] == budget
  assert int(ranks.rank_M.max()) <= r_max and int(ranks.rank_M.min()) >= 1
  assert int((ranks.granted_MR >= 0).sum()) == budget
  planned = d.settings.timeline(modules)
  seen = [(0, modules)] + [
    (t + 1, after)
    for t, (before, after) in enumerate(zip([modules, *totals], totals, strict=False))
    if after > before
  ]
  # A module gets at most one component at once, so growth may lag, never lead.
  for when, total in planned:
    reached = max(after for t, after in seen if t <= when)
    assert reached <= total


def test_the_most_important_modules_grow_first_and_ties_go_by_index():
  d = discovery(budget=6, r_max=2, start=2, interval=1, grants_per_event=1, score='sum')
  importance_TM = np.tile([1.0, 3.0, 2.0, 2.0], (4, 1))
  ranks, totals = grow(d, importance_TM)
  assert totals == [4, 4, 5, 6]
  assert ranks.granted_MR[:, 1].tolist() == [-1, 2, 3, -1]


def test_averages_and_scores_follow_the_formulas():
  d = discovery(budget=2, r_max=2, start=9, beta1=0.8, beta2=0.6)
  values = np.array([[1.0, 5.0], [2.0, 1.0], [0.5, 3.0]])
  ranks, _ = grow(d, values)
  mean, spread = np.zeros(2), np.zeros(2)
  for value in values:
    mean = 0.8 * mean + 0.2 * value
    spread = 0.6 * spread + 0.4 * np.abs(value - mean)
  np.testing.assert_allclose(ranks.importance_M, mean, rtol=1e-6)
  np.testing.assert_allclose(ranks.uncertainty_M, spread, rtol=1e-6)
  np.testing.assert_allclose(d.scores(ranks), mean * spread, rtol=1e-6)


def test_advance_components_are_live_until_the_budget_is_spent():
  d = discovery(budget=4, r_max=3, start=1, interval=1, grants_per_event=1)
  ranks, _ = grow(d, np.array([[1.0, 2.0]] * 2))
  active_MR, live_MR = d.masks(ranks)
  assert active_MR.tolist() == [[1, 0, 0], [1, 1, 0]]
  assert live_MR.tolist() == [[1, 1, 0], [1, 1, 1]]
  assert live_workers(live_MR) == 3
  ranks, _ = grow(d, np.array([[1.0, 2.0]] * 4))
  active_MR, live_MR = d.masks(ranks)
  np.testing.assert_array_equal(active_MR, live_MR)
  assert active_MR.sum() == 4


def test_a_module_does_not_grow_beyond_its_dimensions():
  schedule = AdaPaDSettings(budget=5, r_max=4, start=1, interval=1, grants_per_event=1)
  d = Discovery(schedule, limits=(2, 4))
  ranks, totals = grow(d, np.array([[9.0, 1.0]] * 4))
  assert totals == [2, 3, 4, 5]
  assert ranks.rank_M.tolist() == [2, 3]
  ranks, _ = grow(d, np.array([[9.0, 1.0]] * 3))
  live_MR = d.masks(ranks)[1]
  assert live_MR.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
  with pytest.raises(ValueError, match=r'7 exceeds the 6 components .* choose 2\.\.6'):
    dataclasses.replace(schedule, budget=7).check(2, 20, limits=(2, 4))
  # An imported adapter may have more.
  dataclasses.replace(schedule, budget=7).check(2, 20, begins=7, limits=(2, 4))


def test_a_new_run_is_refused_whose_full_modules_may_leave_a_part_of_the_budget():
  settings = AdaPaDSettings(budget=12, start=2, interval=2, grants_per_event=2)
  d = Discovery(settings)
  # One after the other takes all that it may have.
  _, totals = grow(d, np.tile([[3.0, 2.0, 1.0]], (13, 1)))
  assert settings.timeline(3)[-1] == (11, 12) and totals[10:] == [11, 11, 12]
  settings.require_spent(13, (4, 4, 4))
  message = r'as late as in round 13, .* ends after 12: .*grants_per_event \(now 2\)'
  with pytest.raises(ValueError, match=message):
    settings.require_spent(12, (4, 4, 4))
  # Runs of earlier versions are opened.
  settings.check(3, 12)


@pytest.mark.parametrize(
  'modules, rounds, fields, events, end',
  [
    (2, 200, {'r_max': 64, 'budget': 128}, 63, 83),
    (1, 60, {'r_max': 16, 'budget': 16}, 15, 21),
    (1, 60, {'r_max': 32, 'budget': 32}, 31, 37),
    (3, 60, {'r_max': 1}, 0, 0),
  ],
)
def test_what_is_derived_fits_few_modules_and_small_ones(
  modules, rounds, fields, events, end
):
  settings = AdaPaDSettings(**fields).resolve(modules, rounds, 32)
  settings.check(modules, rounds)
  settings.require_spent(rounds, (settings.r_max,) * modules)
  planned = settings.timeline(modules)
  assert (len(planned) - 1, planned[-1][0]) == (events, end)


def test_more_grants_than_modules_are_no_remedy():
  settings = AdaPaDSettings(budget=8, start=2, interval=9, grants_per_event=2)
  with pytest.raises(ValueError, match='lower adapad.interval') as caught:
    settings.check(2, 20)
  assert 'grants_per_event' not in str(caught.value)


@pytest.mark.parametrize(
  'fields, rounds, message',
  [
    ({'budget': 2}, 99, 'budget 2 is below one component for each of the 3'),
    ({'budget': 13}, 99, r'13 exceeds r_max x modules = 4 x 3 = 12'),
    (
      {'budget': 12, 'start': 5, 'interval': 5, 'grants_per_event': 2},
      25,
      r'in round 26 .* \(now 2\), lower adapad.interval \(5\) .*, or train longer ',
    ),
    (
      {'budget': 12, 'start': 1},
      1,
      r' ends after 1: lower adapad.budget \(to 3 at .*, or train longer .more .*$',
    ),
    (
      {'budget': 12, 'start': 1, 'local_steps': 9},
      1,
      r'after 1: .*, lower adapad.local_steps \(9\), or train longer ',
    ),
  ],
)
def test_infeasible_budgets_are_refused(fields, rounds, message):
  settings = AdaPaDSettings(**dict(start=100, interval=10, grants_per_event=4) | fields)
  with pytest.raises(ValueError, match=message):
    settings.check(3, rounds)


def test_of_components_that_are_there_only_the_rest_is_to_be_spent():
  settings = AdaPaDSettings(budget=12, start=2, interval=3, grants_per_event=1)
  with pytest.raises(ValueError, match='spent in round 27 at the earliest'):
    settings.check(3, 4)
  assert settings.timeline(3, begins=12) == [(0, 12)]
  settings.check(3, 1, begins=12)
  assert settings.timeline(3, begins=10) == [(0, 10), (3, 11), (6, 12)]
  settings.check(3, 6, begins=10)
  with pytest.raises(ValueError, match='12 is spent in round 6 at the earliest'):
    settings.check(3, 5, begins=10)
  with pytest.raises(ValueError, match='budget .to 3 at least'):
    settings.check(3, 4, begins=2)
  # What is derived spreads the rest, too.
  resolved = AdaPaDSettings(budget=12).resolve(3, 100, 8, begins=10)
  assert (resolved.grants_per_event, resolved.interval) == (1, 20)


@pytest.mark.parametrize('field', ['r_max', 'local_steps'])
def test_settings_below_one_are_refused(field):
  with pytest.raises(ValueError, match=f'adapad.{field} must be >= 1, got 0'):
    AdaPaDSettings(budget=3, **{field: 0})


@pytest.mark.parametrize('field', ['budget', 'start', 'interval', 'grants_per_event'])
def test_a_zero_is_derived_and_nothing_below_it(field):
  settings = AdaPaDSettings(**{field: 0})
  assert getattr(settings.resolve(3, 100, 32), field) >= 1
  with pytest.raises(ValueError, match=f'adapad.{field} must be >= 0, got -1'):
    AdaPaDSettings(**{field: -1})
