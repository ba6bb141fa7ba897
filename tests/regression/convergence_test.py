"""A fit that the limit of rounds has ended says so; one that converged does not."""

import re
import warnings

import numpy as np
import optax
import pytest
from sklearn.exceptions import ConvergenceWarning

from adapad_jax.regression import (
  Eigen,
  Schedule,
  discover,
  exact_fit,
  fit,
  joint_fit,
  partial_fit,
  planted,
  sequential_fit,
)
from adapad_jax.regression.estimator import (
  ParallelDeflationPCA,
  ParallelDeflationRegressor,
)
from adapad_jax.regression.run import run
from tests.regression.run_test import config

CLUSTER = [1, 0.999, 0.998, 0.997, 0.996, 0.995]
FEW = Schedule(rounds=20, tolerance=1e-6)
X_NI, Y_NO = planted.exact_design(np.array(CLUSTER), 60, 6, 6, seed=0)

UNCONVERGED = {
  'fit': (lambda: fit(X_NI, Y_NO, 3, schedule=FEW), 'rounds=20', 'tolerance=1.00e-06'),
  'no tolerance': (lambda: fit(X_NI, Y_NO, 3), 'rounds=100', 'tolerance=1.00e-05'),
  'pca': (
    lambda: fit(Y_NO, None, 3, solver=Eigen(), schedule=FEW),
    'rounds=20',
    'tolerance=1.00e-06',
  ),
  'sequential': (
    lambda: sequential_fit(X_NI, Y_NO, (8, 8, 8)),
    'rounds_R=24',
    'tolerance=1.00e-05',
  ),
  'joint': (
    lambda: joint_fit(X_NI, Y_NO, 3, optax.sgd(0.1), rounds_in_all=9),
    'rounds_in_all=9',
    'tolerance=1.00e-05',
  ),
  'discover': (
    lambda: discover(X_NI, Y_NO, 4, noise=0.01, schedule=FEW),
    'rounds=20',
    'tolerance=1.00e-06',
  ),
  'regressor': (
    lambda: ParallelDeflationRegressor(3, max_rounds=15).fit(X_NI, Y_NO),
    'max_rounds=15',
    'tol=1.00e-06',
  ),
  'estimator of pca': (
    lambda: ParallelDeflationPCA(3, max_rounds=15).fit(Y_NO),
    'max_rounds=15',
    'tol=1.00e-06',
  ),
}


@pytest.mark.parametrize('name', UNCONVERGED)
def test_the_limit_of_rounds_is_named_with_the_numbers(name):
  call, limit, tolerance = UNCONVERGED[name]
  with pytest.warns(ConvergenceWarning) as caught:
    found = call()
  [message] = [str(w.message) for w in caught]
  assert f'the limit of {limit} ended the fit' in message and tolerance in message
  moved = float(re.search(r'moved by ([0-9.e+-]+) of', message)[1])
  assert moved > float(tolerance.split('=')[1])
  assert caught[0].filename == __file__  # where the user called
  if hasattr(found, 'converged'):
    assert not found.converged and found.movement == pytest.approx(moved, rel=0.01)


def test_components_that_have_yet_to_join_are_waited_for():
  x_NI, y_NO = planted.exact_design(planted.exponential(6, 0.9), 60, 6, 6, seed=0)
  schedule = Schedule(rounds=3, tolerance=0.5)
  with pytest.warns(ConvergenceWarning, match='rounds=3 .* not all components had'):
    assert not fit(x_NI, y_NO, 4, schedule=schedule).converged


def test_a_fit_that_converged_gives_no_warning(tmp_path):
  x_NI, y_NO = planted.exact_design(planted.exponential(6, 0.5), 60, 6, 6, seed=0)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    found = fit(x_NI, y_NO, 3)
    assert found.converged and 0 <= found.movement <= 1e-5
    stopped = fit(x_NI, y_NO, 3, schedule=Schedule(rounds=100, tolerance=1e-4))
    assert stopped.converged and len(stopped.moved_LR) < 100
    assert sequential_fit(x_NI, y_NO, (30, 30, 30)).converged
    assert exact_fit(x_NI, y_NO, 3).converged
    ParallelDeflationRegressor(3).fit(x_NI, y_NO)
    assert run(config(), tmp_path, dry_run=False)['converged']


def test_a_run_says_whether_it_converged(tmp_path):
  values = config(schedule__rounds=4)
  with pytest.warns(ConvergenceWarning, match='rounds=4'):
    result = run(values, tmp_path, dry_run=False)
  assert result['converged'] is False and result['movement'] > 1e-5


def test_a_stream_carries_the_judgement_without_a_warning():
  schedule = Schedule(rounds=5)
  stream = partial_fit(X_NI, Y_NO, 3, schedule=schedule)
  assert not stream.fit.converged and stream.fit.movement > 1e-5
  x_NI, y_NO = planted.exact_design(planted.exponential(6, 0.9), 60, 6, 6, seed=0)
  stream = partial_fit(x_NI, y_NO, 3, schedule=Schedule(rounds=20))
  assert stream.fit.converged
