"""Module-parallel regressions against closed forms, on one device and on four."""

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.reranking import alike, solve, spend, truncate, within

SHAPES = {'one': (12, 7), 'two': (12, 7), 'three': (9, 15), 'four': (12, 7)}


@pytest.fixture(scope='module')
def problem():
  """Updates and inputs whose variance differs much by direction."""
  rng = np.random.default_rng(0)
  deltas, moments = {}, {}
  for name, (i, o) in SHAPES.items():
    deltas[name] = rng.standard_normal((i, o)).astype(np.float32)
    x_NI = rng.standard_normal((200, i)) * np.geomspace(1, 0.05, i)
    x_NI = x_NI @ np.linalg.qr(rng.standard_normal((i, i)))[0]
    moments[name] = (x_NI.T @ x_NI / 200).astype(np.float32)
  return deltas, moments


@pytest.fixture(scope='module')
def solved(problem):
  return solve(*problem, 4, sharding.make_mesh(), ridge=0.0)


def root(s_II):
  value_I, vector_II = np.linalg.eigh(s_II.astype(np.float64))
  return vector_II * np.sqrt(np.maximum(value_I, 0)) @ vector_II.T


def loss(delta_IO, update, s_II):
  """E ||(Delta W - a^T b)^T x||^2, formed."""
  return np.sum(np.square(root(s_II) @ (delta_IO - update.weight())))


@pytest.mark.parametrize('name', list(SHAPES))
def test_every_prefix_equals_the_closed_form(problem, solved, name):
  """Reduced-rank regression: the SVD of S^(1/2) Delta W."""
  deltas, moments = problem
  sigma_R = np.linalg.svd(root(moments[name]) @ deltas[name], compute_uv=False)
  found = solved[name]
  assert found.energy == pytest.approx(np.sum(sigma_R**2), rel=1e-5)
  np.testing.assert_allclose(found.gains, sigma_R[:4] ** 2, rtol=2e-3)
  for k in range(1, 5):
    reached = loss(deltas[name], found.update.cut(k), moments[name])
    assert reached == pytest.approx(np.sum(sigma_R[k:] ** 2), rel=2e-3)
    plain = truncate(deltas, k)[name].update
    assert reached < loss(deltas[name], plain, moments[name])


def test_weighed_outputs_have_a_closed_form_too(problem):
  """The SVD of S^(1/2) Delta W F^(1/2), whose right side is taken back by F^(-1/2)."""
  deltas, moments = problem
  rng, weights = np.random.default_rng(1), {}
  for name, (_, o) in SHAPES.items():
    g_NO = rng.standard_normal((50, o)) * np.geomspace(1, 0.2, o)
    weights[name] = (g_NO.T @ g_NO / 50).astype(np.float32)
  spread = sharding.make_mesh(1, 4)
  found = solve(deltas, moments, 3, spread, outputs=weights, ridge=0.0)
  for name, one in found.items():
    left, right = root(moments[name]), root(weights[name])
    sigma_R = np.linalg.svd(left @ deltas[name] @ right, compute_uv=False)
    np.testing.assert_allclose(one.gains, sigma_R[:3] ** 2, rtol=2e-3)
    for k in range(1, 4):
      rest = left @ (deltas[name] - one.update.cut(k).weight()) @ right
      assert np.sum(rest**2) == pytest.approx(np.sum(sigma_R[k:] ** 2), rel=5e-3)


def test_what_nobody_feels_gets_no_component(problem):
  """No gradient reached one module: it explains nothing, and nothing is infinite."""
  deltas, moments = problem
  weights = {name: np.eye(o, dtype=np.float32) for name, (_, o) in SHAPES.items()}
  weights['two'][:] = 0
  weights['four'][:3] = 0
  found = solve(deltas, moments, 3, sharding.make_mesh(), outputs=weights, ridge=0.0)
  assert found['two'].energy == 0 and not found['two'].gains.any()
  assert not found['two'].update.weight().any()
  update = found['four'].update.weight()
  assert np.isfinite(update).all() and not update[:, :3].any() and update[:, 3:].any()


def test_components_are_balanced(solved):
  update = solved['three'].update
  norms = (np.linalg.norm(x, axis=1) for x in (update.a_RI, update.b_RO))
  np.testing.assert_allclose(*norms, rtol=1e-5)


def test_modules_spread_over_four_devices_give_the_same(problem, solved):
  """Three modules of one shape on four devices: one device repeats another's work."""
  spread = solve(*problem, 4, sharding.make_mesh(1, 4), ridge=0.0)
  assert list(spread) == list(solved)
  for name, found in spread.items():
    np.testing.assert_allclose(found.gains, solved[name].gains, rtol=1e-5)
    ours, theirs = found.update.weight(), solved[name].update.weight()
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize('ridge', [0.0, 0.1])
def test_an_update_gets_no_more_components_than_its_rank(problem, ridge):
  """Those that would follow fit rounding, and are larger than the update."""
  deltas, moments = problem
  low = {name: truncate({name: x}, 2)[name].update for name, x in deltas.items()}
  low = {name: update.weight() for name, update in low.items()}
  found = solve(low, moments, 9, sharding.make_mesh(), ridge=ridge)
  for name, one in found.items():
    assert one.update.rank == len(one.gains) == 2
    np.testing.assert_allclose(one.update.weight(), low[name], atol=2e-4)


def test_nothing_gets_no_component(problem):
  deltas, moments = problem
  deltas = deltas | {'three': np.zeros_like(deltas['three'])}
  found = solve(deltas, moments, 2, sharding.make_mesh())
  assert [one.update.rank for one in found.values()].count(0) == 1


def test_sizes_do_not_matter(problem, solved):
  """Neither of the updates nor of the moments; their squares would leave float32."""
  deltas, moments = problem
  small = {name: np.float32(1e-12) * x for name, x in deltas.items()}
  other = {name: np.float32(1e-18) * x for name, x in moments.items()}
  found = solve(small, other, 4, sharding.make_mesh(), ridge=0.0)
  for name, one in solved.items():
    np.testing.assert_allclose(found[name].gains, 1e-42 * one.gains, rtol=1e-4)
    np.testing.assert_allclose(found[name].energy, 1e-42 * one.energy, rtol=1e-4)
    ours, theirs = found[name].update.weight(), one.update.weight()
    np.testing.assert_allclose(1e12 * ours, theirs, atol=1e-4)


def test_much_ridge_is_the_plain_svd(problem):
  deltas, moments = problem
  found = solve(deltas, moments, 3, sharding.make_mesh(), ridge=1e5)
  for name, plain in truncate(deltas, 3).items():
    ours = found[name].update.weight()
    np.testing.assert_allclose(ours, plain.update.weight(), atol=2e-2)


def test_truncation_keeps_the_leading_singular_values(problem):
  for name, found in truncate(problem[0], 2).items():
    left = problem[0][name] - found.update.weight()
    sigma_R = np.linalg.svd(problem[0][name], compute_uv=False)
    assert np.linalg.norm(left) == pytest.approx(np.linalg.norm(sigma_R[2:]), rel=1e-5)
    np.testing.assert_allclose(found.gains, sigma_R[:2] ** 2, rtol=1e-5)


def test_the_budget_goes_where_most_is_explained(solved):
  small = spend(solved, {}, 6)
  ranks = small.adapter.ranks
  assert sum(ranks.values()) == 6
  kept = [g for n, o in solved.items() for g in o.gains[: ranks[n]]]
  left = [g for n, o in solved.items() for g in o.gains[ranks[n] :]]
  assert min(kept) > max(left)
  for name, share in small.explained.items():
    expected = np.sum(solved[name].gains[: ranks[name]]) / solved[name].energy
    assert share == pytest.approx(expected)
  energy = sum(one.energy for one in solved.values())
  assert small.share == pytest.approx(sum(kept) / energy)
  assert all(spend(solved, {}, n).share <= small.share for n in range(1, 6))


def test_components_beyond_the_rank_of_an_update_are_left_out(solved):
  first, *_ = solved
  cut = within(solved, {first: 2})
  assert {name: one.update.rank for name, one in cut.items()} == {
    name: 2 if name == first else 4 for name in solved
  }
  assert len(cut[first].gains) == 2 and cut[first].energy == solved[first].energy


def test_modules_alike_have_so_many_components_or_all_there_are(solved):
  small = alike(solved, {}, 3)
  assert set(small.adapter.ranks.values()) == {3}
  for name, one in solved.items():
    assert small.explained[name] == pytest.approx(one.gains[:3].sum() / one.energy)
  assert alike(solved, {}, 9).adapter.ranks == {n: 4 for n in solved}


def test_senseless_settings_are_refused(problem):
  with pytest.raises(ValueError, match='rank=0 must be >= 1'):
    solve(*problem, 0, sharding.make_mesh())
  with pytest.raises(ValueError, match='modules lie on the data axis'):
    solve(*problem, 1, sharding.make_mesh(2))
