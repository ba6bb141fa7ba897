"""Sequential deflation, joint descent and the exact solution against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adapad_jax.lowrank import LowRank
from adapad_jax.regression import (
  Alternating,
  Eigen,
  compute_schedule,
  exact_fit,
  joint_fit,
  program,
  sequential_fit,
)
from adapad_jax.regression.baselines import joint_gradient
from adapad_jax.regression.fit import precision, sums
from tests.regression import oracle
from tests.regression.fit_test import data, reduced_rank

X_NI, Y_NO = data(40, 5, 4)


@pytest.mark.parametrize('rank', [2, 6])
def test_the_exact_fit_is_reduced_rank_regression(rank):
  got = exact_fit(X_NI, Y_NO, rank, dtype='float64')
  for k in range(1, rank + 1):
    want_NO = reduced_rank(X_NI, Y_NO, k)
    np.testing.assert_allclose(got.predict(X_NI, k), want_NO, atol=1e-9)
    objective = 0.5 * np.sum((Y_NO - want_NO) ** 2)
    np.testing.assert_allclose(got.objective_LR[0, k - 1], objective, rtol=1e-9)


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
def test_sequential_deflation_equals_the_plain_loop():
  rounds_R, local_steps = (4, 1, 3), 2
  got = sequential_fit(
    X_NI, Y_NO, rounds_R, local_steps=local_steps, solver=Alternating(),
    dtype='float64', seed=3, measure_mismatch=True,
  )  # fmt: skip
  u, sigma, vt = np.linalg.svd(reduced_rank(X_NI, Y_NO, 4), full_matrices=False)
  exact = np.cumsum([s * np.outer(u[:, k], vt[k]) for k, s in enumerate(sigma)], 0)
  left_NO, l = Y_NO, 0
  terms = np.zeros((3, *Y_NO.shape))
  for k, (a_I, rounds) in enumerate(
    zip(program.draw_start(3, 3, 5), rounds_R, strict=True)
  ):
    b_O = np.zeros(4)
    for _ in range(rounds):
      for _ in range(local_steps):
        a_I, b_O = oracle.alternating_step(X_NI, left_NO, a_I, b_O)
      terms[k] = np.outer(X_NI @ a_I, b_O)
      total = np.cumsum(terms, 0)
      objective = [0.5 * np.sum((Y_NO - part) ** 2) for part in total]
      np.testing.assert_allclose(got.objective_LR[l], objective, rtol=1e-9)
      gap = [0.0] + [np.linalg.norm(total[j] - exact[j]) for j in range(2)]
      np.testing.assert_allclose(got.mismatch_LR[l], gap, rtol=1e-6, atol=1e-9)
      l += 1
    left_NO = left_NO - terms[k]
  assert len(got.objective_LR) == l
  np.testing.assert_allclose(got.predict(X_NI), terms.sum(0), atol=1e-10)


def test_sequential_principal_components():
  got = sequential_fit(
    X_NI, None, (200, 200), solver=Eigen(), local_steps=2, dtype='float64'
  )
  want_RI = np.linalg.svd(X_NI)[2][:2]
  np.testing.assert_allclose(np.abs(np.sum(got.a_RI * want_RI, 1)), 1, atol=1e-9)


def test_the_joint_gradient_is_that_of_the_loss():
  draw = np.random.default_rng(1)
  own = LowRank(draw.normal(size=(3, 5)), draw.normal(size=(3, 4)))
  with precision('float64'):
    loss = lambda own: 0.5 * jnp.sum((Y_NO - X_NI @ own.a_RI.T @ own.b_RO) ** 2)
    want = jax.grad(loss)(own)
    got = joint_gradient(sums(X_NI, Y_NO, 3, 'float64'), own)
  np.testing.assert_allclose(got.a_RI, want.a_RI, rtol=1e-9)
  np.testing.assert_allclose(got.b_RO, want.b_RO, rtol=1e-9)


@pytest.mark.parametrize('rank', [2, 6])
def test_joint_descent_reaches_the_exact_fit_in_every_prefix(rank):
  x_NI, y_NO = X_NI / np.linalg.norm(X_NI, 2), Y_NO / np.linalg.norm(Y_NO, 2)
  got = joint_fit(
    x_NI, y_NO, rank, optax.sgd(0.5), rounds_in_all=1000, local_steps=2,
    dtype='float64', measure_mismatch=True,
  )  # fmt: skip
  for k in range(1, rank + 1):
    want_NO = reduced_rank(x_NI, y_NO, min(k, rank))
    np.testing.assert_allclose(got.predict(x_NI, k), want_NO, atol=1e-5)
    objective = 0.5 * np.sum((y_NO - want_NO) ** 2)
    np.testing.assert_allclose(got.objective_LR[-1, k - 1], objective, atol=1e-6)
  assert (np.diff(got.objective_LR[:, -1]) <= 1e-12).all()
  assert got.mismatch_LR[0].max() > 1e-2 > got.mismatch_LR[-1].max()


@pytest.mark.parametrize(
  ('in_all', 'rank', 'slope', 'want'),
  [(12, 3, 0.0, (4, 4, 4)), (12, 3, 1.0, (7, 4, 1)), (5, 1, 1.5, (5,))],
)
def test_compute_schedule(in_all, rank, slope, want):
  assert compute_schedule(in_all, rank, slope) == want


@pytest.mark.parametrize('slope', [-1.5, 0.3, 1.5])
def test_compute_schedules_keep_the_sum_and_forget_nobody(slope):
  got = compute_schedule(101, 7, slope)
  assert sum(got) == 101 and min(got) >= 1
  assert list(got) == sorted(got, reverse=slope > 0)


def test_bad_settings_are_named():
  with pytest.raises(ValueError, match='2 round.*3 component'):
    compute_schedule(2, 3, 0.0)
  with pytest.raises(ValueError, match=r'rounds_R=\(3, 0\)'):
    sequential_fit(X_NI, Y_NO, (3, 0))
  with pytest.raises(ValueError, match='rounds_in_all=0'):
    joint_fit(X_NI, Y_NO, 1, optax.sgd(0.1), rounds_in_all=0)
