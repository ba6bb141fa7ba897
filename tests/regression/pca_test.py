"""Rules for principal components against numpy's SVD and plain loops."""

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.regression import Eigen, Schedule, fit, program

# Few rounds are looked at here one by one, long before a fit converges.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the limit of:sklearn.exceptions.ConvergenceWarning'
)
RANK = 3
RULES = [Eigen('power'), Eigen('hebb', 1.0), Eigen('mu', 1.0), Eigen('alpha', 1.0)]
by_rule = pytest.mark.parametrize('solver', RULES, ids=lambda solver: solver.rule)


@pytest.fixture(scope='module')
def x_NI():
  draw = np.random.default_rng(0)
  basis_II = np.linalg.qr(draw.normal(size=(6, 6)))[0]
  return np.linalg.qr(draw.normal(size=(40, 6)))[0] * [4, 3, 2, 1, 0.5, 0] @ basis_II


@by_rule
def test_every_rule_finds_the_singular_vectors(x_NI, solver):
  schedule = Schedule(rounds=600, local_steps=2, activation='together')
  got = fit(x_NI, None, RANK, solver=solver, schedule=schedule, dtype='float64')
  want_RI = np.linalg.svd(x_NI)[2][:RANK]
  overlap_R = np.abs(np.sum(got.a_RI * want_RI, 1))
  np.testing.assert_allclose(overlap_R, 1, atol=1e-9)
  np.testing.assert_array_equal(got.a_RI, got.b_RO)
  residual_NI = x_NI - x_NI @ want_RI.T @ want_RI
  np.testing.assert_allclose(
    got.objective_LR[-1, -1], 0.5 * np.sum(residual_NI**2), rtol=1e-8
  )


def off(x_I, others):
  """What is left without the part along each predecessor, as it was broadcast."""
  return x_I - sum((x_I @ w_I) * w_I for w_I in others)


def direction(rule, s_II, v_I, others):
  """The papers' formulas, one worker and one predecessor at a time."""
  total_I = s_II @ v_I
  for w_I in others:
    gain = w_I @ s_II @ w_I
    if rule == 'mu':
      total_I = total_I - (v_I @ s_II @ w_I) * w_I
    elif rule == 'alpha':
      total_I = total_I - (v_I @ s_II @ w_I) / gain * (s_II @ w_I)
    else:
      total_I = total_I - gain * (w_I @ v_I) * w_I
  if rule in ('mu', 'alpha'):
    total_I = total_I - (total_I @ v_I) * v_I
  return total_I


@by_rule
def test_rounds_equal_the_loop_over_workers(x_NI, solver):
  schedule = Schedule(rounds=5, local_steps=2)
  got = fit(
    x_NI, None, RANK, solver=solver, schedule=schedule, dtype='float64',
    mesh=sharding.make_mesh(2),
  )  # fmt: skip
  s_II = x_NI.T @ x_NI
  rate = None if solver.rule == 'power' else solver.learning_rate / np.trace(s_II)
  start_RI = program.draw_start(0, RANK, 6)
  own = [v_I / np.linalg.norm(v_I) for v_I in start_RI]
  sent = []
  for l in range(schedule.rounds):
    for k in range(RANK):
      for _ in range(schedule.local_steps):
        toward_I = direction(solver.rule, s_II, own[k], sent[:k])
        v_I = toward_I if rate is None else own[k] + rate * toward_I
        own[k] = v_I / np.linalg.norm(v_I)
        if solver.rule == 'power':
          once_I = off(toward_I, sent[:k])
          twice_I = off(once_I / np.linalg.norm(once_I), sent[:k])
          own[k] = twice_I / np.linalg.norm(twice_I)
    sent = [v_I.copy() for v_I in own[: l + 1]]
  np.testing.assert_allclose(got.a_RI, own, rtol=1e-9, atol=1e-12)


def test_zero_data_leave_no_term_and_no_error():
  got = fit(np.zeros((9, 6)), None, RANK, solver=Eigen(), dtype='float64')
  np.testing.assert_array_equal(got.weight(), 0)


@pytest.mark.parametrize('devices', [1, 2])
def test_terms_beyond_the_rank_of_the_data_are_zero(x_NI, devices):
  """Of five and of three directions; columns of zeros hold no start of the others."""
  padded_NI = np.pad(x_NI[:, :3], ((0, 0), (0, 3)))
  for z_NI, rank in ((x_NI, 5), (padded_NI, 3)):
    got = fit(
      z_NI, None, 6, solver=Eigen(), dtype='float64', mesh=sharding.make_mesh(devices)
    )
    values, vectors_II = np.linalg.eigh(z_NI.T @ z_NI)
    assert (values > 1e-9).sum() == rank
    np.testing.assert_array_equal(got.b_RO[rank:], 0)
    want_II = vectors_II[:, -rank:] @ vectors_II[:, -rank:].T
    np.testing.assert_allclose(got.weight(), want_II, atol=1e-4)
    np.testing.assert_allclose(got.a_RI @ got.a_RI.T, np.eye(6), atol=1e-4)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'rule': 'pover'}, "did you mean 'power'"),
    ({'rule': 'mu'}, "learning_rate=None with rule='mu'"),
    ({'rule': 'power', 'learning_rate': 0.1}, "learning_rate=0.1 with rule='power'"),
  ],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    Eigen(**settings)


def test_principal_components_of_outputs_are_refused(x_NI):
  with pytest.raises(ValueError, match='pass None as outputs'):
    fit(x_NI, x_NI, RANK, solver=Eigen())


def test_regression_of_the_data_on_themselves_finds_them_too(x_NI):
  schedule = Schedule(rounds=300, activation='together')
  got = fit(x_NI, None, RANK, schedule=schedule, dtype='float64')
  want = fit(x_NI, x_NI, RANK, schedule=schedule, dtype='float64')
  np.testing.assert_allclose(got.weight(), want.weight(), atol=1e-12)
