"""Streaming fits against fits of everything at once."""

import numpy as np
import optax
import pytest

from adapad_jax import sharding
from adapad_jax.regression import Alternating, Gradient, Power, Schedule, partial_fit
from tests.regression.fit_test import (
  conditioned,
  data,
  reduced_rank,
  share_beyond,
)


@pytest.mark.parametrize('mesh', [1, 2])
def test_batches_add_up_to_the_whole(mesh):
  x_NI, y_NO = data(90, 6, 5)
  stream = None
  for rows in np.split(np.arange(90), [20, 25, 60]):
    stream = partial_fit(
      x_NI[rows], y_NO[rows], 3, stream, dtype='float64', seed=1,
      schedule=Schedule(rounds=120), mesh=sharding.make_mesh(mesh),
    )  # fmt: skip
  assert int(stream.carry.round) == 480
  got_NO = stream.fit.predict(x_NI)
  np.testing.assert_allclose(got_NO, reduced_rank(x_NI, y_NO, 3), atol=1e-6)
  objective = 0.5 * np.sum((y_NO - got_NO) ** 2)
  np.testing.assert_allclose(stream.fit.objective_LR[-1, -1], objective, rtol=1e-9)


def test_batches_of_ill_conditioned_float32_add_up_to_the_whole():
  x_NI, y_NO = conditioned(1e5)
  stream = None
  for rows in np.split(np.arange(200), [60, 130]):
    stream = partial_fit(
      x_NI[rows], y_NO[rows], 3, stream, schedule=Schedule(rounds=200)
    )
  assert abs(share_beyond(stream.fit.predict(x_NI), x_NI, y_NO, 3)) < 1e-6


def test_a_batch_continues_where_the_last_one_ended():
  x_NI, y_NO = data(50, 6, 5)
  calls = {}
  for parts in (1, 2):
    stream = None
    for part in range(parts):  # the second batch adds nothing but rounds
      share = slice(None) if part == 0 else slice(0, 1)
      zero = 1.0 if part == 0 else 0.0
      stream = partial_fit(
        zero * x_NI[share], zero * y_NO[share], 3, stream, dtype='float64',
        schedule=Schedule(rounds=12 // parts),
      )  # fmt: skip
    calls[parts] = stream.fit
  np.testing.assert_allclose(calls[1].a_RI, calls[2].a_RI, rtol=1e-8, atol=1e-10)


def test_gradient_steps_keep_their_optimiser_state():
  x_NI, y_NO = data(50, 4, 3)
  solver = Gradient(optax.adam(0.05))
  stream = None
  for _ in range(2):
    stream = partial_fit(
      x_NI, y_NO, 2, stream, solver=solver, schedule=Schedule(rounds=7)
    )
  count_R = np.asarray(stream.carry.state.opt[0].count)
  np.testing.assert_array_equal(count_R, [14, 14])


def test_forgetting_follows_a_change():
  x_NI, y_NO = data(60, 5, 4, noise=0)
  stream = None
  for sign in (1, -1):
    stream = partial_fit(
      x_NI, sign * y_NO, 4, stream, decay=0.0, dtype='float64',
      schedule=Schedule(rounds=80),
    )  # fmt: skip
  np.testing.assert_allclose(stream.fit.predict(x_NI), -y_NO, atol=1e-6)


def test_batches_that_do_not_belong_together_are_refused():
  x_NI, y_NO = data(9, 3, 2)
  start = lambda: partial_fit(x_NI, y_NO, 1, schedule=Schedule(rounds=1))
  with pytest.raises(ValueError, match='rank was 1 .* is 2'):
    partial_fit(x_NI, y_NO, 2, start())
  with pytest.raises(ValueError, match=r'was \(2, 3\) .* is \(2, 2\)'):
    partial_fit(x_NI[:, :2], y_NO, 1, start())
  with pytest.raises(ValueError, match='dtype was float32 .* is float64'):
    partial_fit(x_NI, y_NO, 1, start(), dtype='float64')
  with pytest.raises(ValueError, match='^solver was .*Alternating.* is .*Gradient'):
    partial_fit(x_NI, y_NO, 1, start(), solver=Gradient(optax.sgd(0.1)))
  stream = partial_fit(x_NI, y_NO, 1, solver=Gradient(optax.sgd(0.1)))
  with pytest.raises(ValueError, match='^solver has another optimiser'):
    partial_fit(x_NI, y_NO, 1, stream, solver=Gradient(optax.adam(0.1)))
  with pytest.raises(ValueError, match="^mesh was .*'worker': 1.* is .*'worker': 2"):
    partial_fit(x_NI, y_NO, 1, start(), mesh=sharding.make_mesh(2))


@pytest.mark.parametrize('mesh', [1, 2])
@pytest.mark.parametrize('zero', ['inputs', 'outputs', 'rows'])
def test_components_that_a_batch_left_at_zero_come_back(zero, mesh):
  """After a batch of zeros, or of fewer rows than there are components."""
  x_NI = np.random.default_rng(0).normal(size=(40, 4))
  y_NO = x_NI[:, :2].copy()
  first = slice(1 if zero == 'rows' else 20)
  if zero != 'rows':
    (x_NI if zero == 'inputs' else y_NO)[first] = 0
  given = {'mesh': sharding.make_mesh(mesh), 'schedule': Schedule(rounds=200)}
  stream = partial_fit(x_NI[first], y_NO[first], 2, **given)
  rest = slice(first.stop, None)
  stream = partial_fit(x_NI[rest], y_NO[rest], 2, stream, **given)
  want_OI = np.linalg.lstsq(x_NI, y_NO, rcond=None)[0].T
  np.testing.assert_allclose(stream.fit.weight(), want_OI, atol=1e-5)


def test_bad_settings_are_named():
  with pytest.raises(ValueError, match='Power'):
    partial_fit(*data(9, 3, 2), 1, solver=Power())
  with pytest.raises(ValueError, match='decay=2'):
    partial_fit(*data(9, 3, 2), 1, decay=2, solver=Alternating())


def test_steps_that_diverge_are_refused():
  solver = Gradient(optax.sgd(1e3))
  with pytest.raises(ValueError, match='the fit diverged'):
    partial_fit(*data(20, 4, 3), 2, solver=solver, schedule=Schedule(rounds=30))


def test_means_are_subtracted_always_or_never():
  x_NI, y_NO = data(40, 4, 3)
  stream = partial_fit(x_NI, y_NO, 2, centre=True)
  with pytest.raises(ValueError, match='centre was True in the last call and is False'):
    partial_fit(x_NI, y_NO, 2, stream)
