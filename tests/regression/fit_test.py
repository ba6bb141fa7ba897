"""Fits against reduced-rank regression by SVD, degenerate data included."""

import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from adapad_jax import sharding
from adapad_jax.regression import (
  Alternating,
  Gradient,
  Power,
  Schedule,
  exact_fit,
  fit,
)

LONG = Schedule(rounds=400, local_steps=2, tolerance=1e-11)


def reduced_rank(x_NI, y_NO, rank):
  """The fitted outputs of exact reduced-rank regression."""
  u, s, vt = np.linalg.svd(x_NI @ np.linalg.pinv(x_NI) @ y_NO, full_matrices=False)
  return (u[:, :rank] * s[:rank]) @ vt[:rank]


def data(count, inputs, outputs, seed=0, noise=0.1):
  draw = np.random.default_rng(seed)
  x_NI = draw.normal(size=(count, inputs))
  clean_NO = x_NI @ draw.normal(size=(inputs, outputs))
  return x_NI, clean_NO + noise * draw.normal(size=(count, outputs))


@pytest.mark.parametrize('solver', [Power(), Alternating()])
@pytest.mark.parametrize('rank', [1, 9])
def test_fit_is_reduced_rank_regression(solver, rank):
  x_NI, y_NO = data(40, 8, 6)
  got = fit(x_NI, y_NO, rank, solver=solver, schedule=LONG, dtype='float64')
  for k in range(1, rank + 1):  # every prefix is the best fit of its own rank
    want_NO = reduced_rank(x_NI, y_NO, k)
    np.testing.assert_allclose(got.predict(x_NI, k), want_NO, atol=1e-6)
  np.testing.assert_allclose(got.weight() @ x_NI.T, got.predict(x_NI).T, atol=1e-9)


def test_gradient_steps_reach_the_same_fit():
  x_NI, y_NO = data(60, 4, 4)
  x_NI /= np.linalg.norm(x_NI, 2)
  y_NO /= np.linalg.norm(y_NO, 2)
  schedule = Schedule(rounds=1500, local_steps=10)
  got = fit(
    x_NI, y_NO, 2, solver=Gradient(optax.sgd(0.3)), schedule=schedule, dtype='float64'
  )
  np.testing.assert_allclose(got.predict(x_NI), reduced_rank(x_NI, y_NO, 2), atol=1e-6)


def test_float32_reaches_its_rounding_error():
  x_NI, y_NO = data(200, 30, 20)
  got = fit(x_NI, y_NO, 5, schedule=Schedule(rounds=200, local_steps=5))
  assert got.b_RO.dtype == got.predict(x_NI.astype(np.float32)).dtype == np.float32
  assert got.a_RI.dtype == np.float64  # The last rounding is left to the user.
  want_NO = reduced_rank(x_NI, y_NO, 5)
  error = np.linalg.norm(got.predict(x_NI) - want_NO) / np.linalg.norm(want_NO)
  assert error < 1e-5
  assert jnp.ones(1).dtype == jnp.float32


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
def test_float64_leaves_the_global_switch_alone():
  x_NI, y_NO = data(20, 3, 3)
  got = fit(x_NI, y_NO, 1, schedule=Schedule(rounds=3), dtype='float64')
  assert got.a_RI.dtype == np.float64
  assert jnp.ones(1).dtype == jnp.float32


def test_prediction_of_a_ridge_fit():
  x_NI, y_NO = data(30, 5, 4)
  got = fit(x_NI, y_NO, 4, ridge=7.0, schedule=LONG, dtype='float64')
  gram_II = x_NI.T @ x_NI + 7.0 * np.eye(5)
  np.testing.assert_allclose(
    got.weight(), np.linalg.solve(gram_II, x_NI.T @ y_NO).T, atol=1e-7
  )


X_NI, Y_NO = data(30, 5, 4)
DEGENERATE = {  # most of one shape, which compiles once
  'rank above both sides': (data(30, 4, 3), 8),
  'one input, one output': (data(9, 1, 1), 2),
  'one sample': (data(1, 5, 4), 3),
  'fewer samples than inputs': (data(3, 5, 4, noise=0), 3),
  'zero outputs': ((X_NI, np.zeros((30, 4))), 3),
  'zero inputs': ((np.zeros((30, 5)), Y_NO), 3),
  'a column twice': ((X_NI[:, [0, 1, 2, 0, 1]], Y_NO), 3),
}


@pytest.mark.parametrize('solver', [Power(), Alternating()])
@pytest.mark.parametrize('name', DEGENERATE)
def test_degenerate_data(name, solver):
  (x_NI, y_NO), rank = DEGENERATE[name]
  got = fit(x_NI, y_NO, rank, solver=solver, schedule=LONG, dtype='float64')
  assert np.isfinite(got.a_RI).all() and np.isfinite(got.b_RO).all()
  np.testing.assert_allclose(
    got.predict(x_NI), reduced_rank(x_NI, y_NO, rank), atol=1e-5
  )


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_equal_singular_values_give_the_subspace(dtype):
  draw = np.random.default_rng(3)
  x_NI = np.linalg.qr(draw.normal(size=(50, 8)))[0]
  left_IR, right_OR = (np.linalg.qr(draw.normal(size=(8, 4)))[0] for _ in range(2))
  y_NO = x_NI @ (left_IR * [2, 2, 2, 1]) @ right_OR.T
  got = fit(x_NI, y_NO, 3, schedule=Schedule(rounds=300), dtype=dtype)
  want_NO = x_NI @ (left_IR * [2, 2, 2, 0]) @ right_OR.T
  atol = 1e-5 if dtype == 'float32' else 1e-10
  np.testing.assert_allclose(got.predict(x_NI), want_NO, atol=atol)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('where', ['inputs', 'outputs'])
def test_values_that_are_not_finite_are_refused(bad, where):
  x_NI, y_NO = data(10, 3, 2)
  (x_NI if where == 'inputs' else y_NO)[4, 1] = bad
  with pytest.raises(ValueError, match=where):
    fit(x_NI, y_NO, 1)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'rank': 0}, 'rank=0'),
    ({'rank': 2.5}, 'rank=2.5'),
    ({'rank': True}, 'rank=True'),
    ({'rank': 1, 'dtype': 'float16'}, 'float16'),
    ({'rank': 1, 'mesh': (0, 1)}, 'worker=0'),
    ({'rank': 1, 'schedule': {'activation': 'stagered'}}, "did you mean 'staggered'"),
    ({'rank': 1, 'schedule': {'rounds': 0}}, 'rounds must be >= 1, got 0'),
    ({'rank': 1, 'schedule': {'tolerance': -1.0}}, 'tolerance must be >= 0, got -1.0'),
  ],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    if 'schedule' in settings:
      settings = settings | {'schedule': Schedule(**settings['schedule'])}
    if 'mesh' in settings:
      settings = settings | {'mesh': sharding.make_mesh(*settings['mesh'])}
    fit(*data(10, 3, 2), **settings)


def test_a_fit_takes_lists_and_refuses_ranks_that_there_are_not():
  x_NI, y_NO = data(20, 3, 3)
  got = fit(x_NI, y_NO, 2, schedule=LONG, dtype='float64')
  np.testing.assert_array_equal(got.predict(x_NI.tolist()), got.predict(x_NI))
  for wrong in (-1, 1.0, '1', True):
    with pytest.raises(ValueError, match=f'rank={wrong!r} must be a whole number'):
      got.predict(x_NI, wrong)
    with pytest.raises(ValueError, match=f'rank={wrong!r} must be a whole number'):
      got.weight(wrong)


@pytest.mark.parametrize('where', ['inputs', 'outputs'])
def test_sparse_matrices_are_refused(where):
  given = dict(zip(('inputs', 'outputs'), data(10, 3, 2), strict=True))
  given[where] = scipy.sparse.csr_array(given[where])
  with pytest.raises(ValueError, match=f'the {where} are a sparse csr_array'):
    fit(*given.values(), 1)


@pytest.mark.parametrize(
  ('scale', 'message'),
  [(1j, 'complex128'), (1e-18, 'too small for float32'), (1e30, 'overflow float32')],
)
@pytest.mark.parametrize('where', ['inputs', 'outputs'])
def test_values_that_cannot_be_fitted_are_refused(scale, message, where):
  x_NI, y_NO = data(10, 3, 2)
  x_NI, y_NO = (scale * x_NI, y_NO) if where == 'inputs' else (x_NI, scale * y_NO)
  with pytest.raises(ValueError, match=f'{where}.*{message}'):
    fit(x_NI, y_NO, 1)


@pytest.mark.parametrize(
  ('x_shape', 'y_shape'), [((5,), (5, 1)), ((5, 2), (4, 1)), ((0, 2), (0, 1))]
)
def test_bad_shapes_are_named(x_shape, y_shape):
  with pytest.raises(ValueError, match=str(x_shape).replace('(', r'\(')[:-1]):
    fit(np.zeros(x_shape), np.zeros(y_shape), 1)


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
@settings(max_examples=12, deadline=None)
@given(
  sizes=st.sampled_from([(12, 5, 4), (3, 5, 4)]),
  scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e9]),
  seed=st.integers(0, 2**16),
)
def test_the_objective_does_not_rise_with_rank_and_scales(sizes, scale, seed):
  x_NI, y_NO = data(*sizes, seed=seed, noise=1.0)
  schedule = Schedule(rounds=30)
  one = fit(x_NI, y_NO, 4, schedule=schedule, dtype='float64', seed=seed)
  two = fit(x_NI, scale * y_NO, 4, schedule=schedule, dtype='float64', seed=seed)
  slack = 1e-9 * np.sum(y_NO**2)
  assert (np.diff(one.objective_LR[-1]) <= slack).all()
  np.testing.assert_allclose(
    two.objective_LR / scale**2, one.objective_LR, rtol=1e-5, atol=slack
  )


def conditioned(condition, mean=0.0, seed=0):
  """Inputs of this condition number, singular vectors at random, in float32."""
  draw = np.random.default_rng(seed)
  left_NI = np.linalg.qr(draw.normal(size=(200, 8)))[0]
  right_II = np.linalg.qr(draw.normal(size=(8, 8)))[0]
  y_NO = left_NI @ draw.normal(size=(8, 6)) * np.geomspace(2, 0.2, 6)
  x_NI = left_NI * np.geomspace(1, 1 / condition, 8) @ right_II
  if mean:
    x_NI = draw.normal(size=(200, 8))
    y_NO = x_NI @ draw.normal(size=(8, 6)) * np.geomspace(2, 0.2, 6)
  return (x_NI + mean).astype(np.float32), y_NO.astype(np.float32)


def share_beyond(got_NO, x_NI, y_NO, rank):
  """What a fit leaves of ||Y||^2 more than the closed form in float64."""
  x_NI, y_NO = x_NI.astype(np.float64), y_NO.astype(np.float64)
  q_NI = np.linalg.qr(x_NI)[0]
  u, s, vt = np.linalg.svd(q_NI.T @ y_NO, full_matrices=False)
  best_NO = q_NI @ (u[:, :rank] * s[:rank]) @ vt[:rank]
  left = [np.sum((y_NO - fitted) ** 2) for fitted in (got_NO, best_NO)]
  return (left[0] - left[1]) / np.sum(y_NO**2)


@pytest.mark.parametrize('solver', [Power(), Alternating()])
@pytest.mark.parametrize('condition', [1e2, 1e4, 1e6])
def test_float32_inputs_of_any_condition_reach_the_closed_form(condition, solver):
  x_NI, y_NO = conditioned(condition)
  schedule = Schedule(rounds=400, local_steps=2, tolerance=1e-6)
  got = fit(x_NI, y_NO, 3, solver=solver, schedule=schedule)
  for rank in (1, 3):
    beyond = share_beyond(got.predict(x_NI, rank), x_NI, y_NO, rank)
    assert abs(beyond) < 1e-6
  exact = exact_fit(x_NI, y_NO, 3)
  assert abs(share_beyond(exact.predict(x_NI), x_NI, y_NO, 3)) < 1e-6


@pytest.mark.parametrize('mean', [1e2, 1e4])
def test_inputs_far_from_zero_reach_the_closed_form(mean):
  x_NI, y_NO = conditioned(1.0, mean)
  schedule = Schedule(rounds=400, local_steps=2, tolerance=1e-6)
  got = fit(x_NI, y_NO, 3, schedule=schedule)
  assert abs(share_beyond(got.predict(x_NI), x_NI, y_NO, 3)) < 1e-6


def test_a_well_conditioned_fit_sums_in_float32_alone(monkeypatch):
  module = sys.modules['adapad_jax.regression.fit']
  asked, summed = [], module._summed
  spy = lambda *given: asked.append(given[-1]) or summed(*given)
  monkeypatch.setattr(module, '_summed', spy)
  for condition, want in ((1, ['float32']), (1e3, ['float32', 'float64'])):
    asked.clear()
    module.sums(*conditioned(condition), 3, 'float32')
    assert asked == want
  asked.clear()
  module.sums(*conditioned(1.0, mean=1e4), 3, 'float32')
  assert asked == ['float32']
