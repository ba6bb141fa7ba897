"""Rounds on 1, 2 and 4 devices against a plain loop over workers."""

import numpy as np
import optax
import pytest

from adapad_jax import sharding
from adapad_jax.regression import Alternating, Gradient, Power, Schedule, fit, program
from adapad_jax.regression.fit import fit_moments, precision, sums
from adapad_jax.regression.moments import gather_moments
from adapad_jax.regression.planted import exact_design, exponential
from adapad_jax.regression.rounds import Reference
from adapad_jax.regression.schedule import (
  Traffic,
  absent_traffic,
  late_traffic,
  perfect_traffic,
)
from experiments.hlo import collectives
from tests.regression import oracle

# Few rounds are looked at here one by one, long before a fit converges.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the limit of:sklearn.exceptions.ConvergenceWarning'
)
RANK, RATE = 5, 2e-3


@pytest.fixture(scope='module')
def data():
  draw = np.random.default_rng(0)
  x_NI = draw.normal(size=(30, 7)) @ np.diag(np.linspace(1, 2, 7))
  return x_NI, x_NI @ draw.normal(size=(7, 6)) + 0.3 * draw.normal(size=(30, 6))


SOLVERS = {
  'alternating': (Alternating(), oracle.alternating_step),
  'gradient': (Gradient(optax.sgd(RATE)), oracle.gradient_step(RATE)),
}


def compare(data, solver, step, schedule, mesh, traffic=None):
  x_NI, y_NO = data
  traffic = traffic or perfect_traffic(schedule.rounds, RANK)
  got = fit(
    x_NI, y_NO, RANK, solver=solver, schedule=schedule, dtype='float64',
    mesh=sharding.make_mesh(mesh), traffic=traffic, measure_mismatch=True,
  )  # fmt: skip
  sent = oracle.deflate(
    x_NI, y_NO, program.draw_start(0, RANK, x_NI.shape[1]), step,
    rounds=schedule.rounds, local_steps=schedule.local_steps,
    staggered=schedule.activation == 'staggered', advance=schedule.advance,
    late_LR=traffic.late_LR, absent_LR=traffic.absent_LR,
  )  # fmt: skip
  u, sigma, vt = np.linalg.svd(x_NI @ np.linalg.pinv(x_NI) @ y_NO, full_matrices=False)
  for l, terms in enumerate(sent):
    fitted = [np.zeros_like(y_NO) if t is None else np.outer(x_NI @ t[0], t[1])
              for t in terms]  # fmt: skip
    total = np.cumsum(fitted, 0)
    want = [0.5 * np.sum((y_NO - prefix) ** 2) for prefix in total]
    np.testing.assert_allclose(got.objective_LR[l], want, rtol=1e-9)
    exact = np.cumsum([s * np.outer(u[:, k], vt[k]) for k, s in enumerate(sigma)], 0)
    gap = [0.0] + [np.linalg.norm(total[k] - exact[k]) for k in range(RANK - 1)]
    np.testing.assert_allclose(got.mismatch_LR[l], gap, rtol=1e-6, atol=1e-9)
  for k, (a_I, b_O) in enumerate(t for t in sent[-1] if t is not None):
    np.testing.assert_allclose(
      np.outer(got.b_RO[k], got.a_RI[k]), np.outer(b_O, a_I), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
  ('name', 'mesh'), [('alternating', 1), ('gradient', 2), ('alternating', 4)]
)
def test_rounds_equal_the_loop_over_workers(data, name, mesh):
  compare(data, *SOLVERS[name], Schedule(rounds=8, local_steps=2), mesh)


@pytest.mark.parametrize('activation', ['staggered', 'together'])
@pytest.mark.parametrize('advance', [True, False])
def test_activation_and_advance_learning_equal_the_loop(data, activation, advance):
  schedule = Schedule(rounds=7, activation=activation, advance=advance)
  compare(data, *SOLVERS['alternating'], schedule, mesh=2)


@pytest.mark.parametrize(
  'traffic',
  [
    late_traffic(9, RANK, bound=2),
    late_traffic(9, RANK, bound=3, seed=1),
    absent_traffic(9, RANK, share=0.4, length=2, seed=2),
  ],
  ids=['late', 'late at random', 'absent'],
)
def test_bad_traffic_equals_the_loop(data, traffic):
  assert traffic.late_LR.any() or traffic.absent_LR.any()
  compare(data, *SOLVERS['alternating'], Schedule(rounds=9), mesh=2, traffic=traffic)


def test_power_iteration_takes_the_alternating_steps_in_white_inputs(data):
  x_NI, y_NO = data
  white_NI = np.linalg.qr(x_NI)[0]  # where S = 1, T = 1: equal starts, equal steps
  both = [
    fit(
      white_NI, y_NO, RANK, solver=solver, schedule=Schedule(rounds=6), dtype='float64'
    )
    for solver in (Power(), Alternating())
  ]
  np.testing.assert_allclose(both[0].a_RI, both[1].a_RI, rtol=1e-8, atol=1e-11)
  np.testing.assert_allclose(both[0].objective_LR, both[1].objective_LR, rtol=1e-10)


@pytest.mark.parametrize(
  ('solver', 'mesh'),
  [(Power(), 1), (Power(), 4), (Alternating(), 2), (Gradient(optax.adam(0.1)), 2)],
)
def test_a_round_costs_one_all_gather_and_local_steps_none(data, solver, mesh):
  schedule = Schedule(rounds=4, local_steps=3)
  spec = program.ProgramSpec(solver, schedule, RANK, sharding.make_mesh(mesh))
  moments = gather_moments(*(z.astype('float32') for z in data))
  objective = program.prepare(moments, spec.solver)
  carry = program.begin(objective, 0, spec)
  traffic = perfect_traffic(schedule.rounds, RANK)
  reference = Reference(moments.yy)
  args = objective, reference, traffic, carry, spec
  found = collectives(program.advance.lower(*args).compile().as_text())
  # One loop around it: part of the rounds, and not of the local steps inside.
  assert found == ([] if mesh == 1 else [('all-gather', 1)])


def test_local_steps_are_compiled_once_for_any_number_of_rounds_stopped_early(data):
  x_NI, y_NO = data
  size = program.advance._cache_size()
  for seed in range(3):
    got = fit(x_NI, y_NO, 2, seed=seed, schedule=Schedule(rounds=300, tolerance=1e-4))
    assert 3 < len(got.objective_LR) < 300
  assert program.advance._cache_size() == size + 1


def test_traffic_of_another_length_is_refused(data):
  traffic = Traffic(np.zeros((3, 2), np.int32), np.zeros((3, 2), bool), 0)
  with pytest.raises(ValueError, match=r'\(3, 2\).*\(100, 2\)'):
    fit(*data, 2, traffic=traffic)


def floored(settings, floor=0.0, tolerance=0.0, activation='staggered'):
  """Movements of terms in float64, by a schedule that may stop early."""
  x_NI, y_NO = settings
  schedule = Schedule(rounds=200, tolerance=tolerance, activation=activation)
  with precision('float64'):
    moments = sums(x_NI, y_NO, 3, 'float64')
    found = fit_moments(moments, 3, schedule=schedule, floor=floor, dtype='float64')
  return found


@pytest.mark.parametrize('scale', [1e-3, 1e3])
def test_a_run_ends_in_the_first_round_that_moves_less_than_the_tolerance(scale):
  """Against a share of ||Y||, which is far from ||Y||^2."""
  x_NI, y_NO = exact_design(exponential(6, 0.4), 40, 8, 8, seed=0)
  y_NO = scale * y_NO
  every = floored((x_NI, y_NO))
  far_L = every.moved_LR.max(1) / np.linalg.norm(y_NO)
  end = np.flatnonzero((far_L <= 1e-4) & (np.arange(200) >= 2))[0]
  assert 5 < end < 100
  stopped = floored((x_NI, y_NO), tolerance=1e-4)
  assert len(stopped.moved_LR) == end + 1


def test_a_run_waits_for_the_worker_that_is_next_in_line():
  """It may be about to join, although those that broadcast have come to rest."""
  sigma_R = np.array([1.0, 0.1, 0.099, 0.01])
  x_NI, y_NO = exact_design(sigma_R, 40, 8, 8, seed=0)
  settings = dict(floor=0.5, activation='above_noise')
  every = floored((x_NI, y_NO), **settings)
  share_LR = every.moved_LR / np.linalg.norm(y_NO)
  alone = np.flatnonzero(share_LR[:, 0] <= 1e-4)[0]
  both = np.flatnonzero(share_LR[:, :2].max(1) <= 1e-4)[0]
  assert every.active == 1 and alone + 5 < both < 199
  stopped = floored((x_NI, y_NO), tolerance=1e-4, **settings)
  assert len(stopped.moved_LR) == both + 1 and stopped.converged


@pytest.mark.parametrize(
  ('draw', 'message'),
  [
    (lambda: late_traffic(50, 2, -3), 'bound=-3 must be a whole number, at least 0'),
    (lambda: late_traffic(50, 2, 1.5), 'bound=1.5 must be a whole number'),
    (
      lambda: absent_traffic(50, 2, 1.5, 5, 0),
      'share=1.5 must be at least 0',
    ),
    (lambda: absent_traffic(50, 2, -0.1, 5, 0), 'share=-0.1 must be at least 0'),
    (lambda: absent_traffic(50, 2, 0.1, 0, 0), 'length=0 must be a whole .* least 1'),
  ],
)
def test_traffic_that_cannot_be_is_refused(draw, message):
  with pytest.raises(ValueError, match=message):
    draw()
