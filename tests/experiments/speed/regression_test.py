"""The speed benchmark at tiny sizes: its competitors agree and its counts are right."""

import itertools

import numpy as np
import pytest

from adapad_jax.regression import Schedule
from adapad_jax.regression.fit import fit_moments, precision
from experiments import hlo
from experiments.harness import main
from experiments.speed import regression
from experiments.speed import regression_race as race
from experiments.speed import regression_rate as rate
from experiments.speed.regression_problem import known

RANK = 3


@pytest.fixture(scope='module')
def problem():
  return known(24, RANK, gap=0.4)


def test_the_known_solution_is_that_of_the_moments(problem):
  moments = problem.moments
  value_I, vector_II = np.linalg.eigh(moments.s_II.astype(np.float64))
  half_II = (vector_II * value_I**-0.5) @ vector_II.T
  left, sigma, right = np.linalg.svd(moments.c_OI @ half_II)
  want_OI = (left[:, :RANK] * sigma[:RANK]) @ right[:RANK]
  np.testing.assert_allclose(problem.left_OR @ problem.right_IR.T, want_OI, atol=1e-5)
  a_RI = (sigma[:RANK, None] * right[:RANK]) @ half_II
  assert problem.error(a_RI, left[:, :RANK].T) < 1e-5
  assert problem.error(0 * a_RI, left[:, :RANK].T) == pytest.approx(1)


def test_a_fit_of_the_known_moments_is_exact(problem):
  with precision('float32'):
    fitted = fit_moments(problem.moments, RANK, schedule=Schedule(rounds=60))
  assert problem.error_of(fitted) < 1e-5


@pytest.mark.parametrize(
  'competitor',
  [lambda p: race.rounds_of_ours(p, chunk=4), race.numpy_loop, race.randomised],
  ids=['ours', 'loop', 'randomised'],
)
def test_every_competitor_gets_there(competitor, problem):
  rows = list(itertools.islice(competitor(problem), 12))
  assert rows[-1][1] < 1e-5
  assert all(earlier[0] > 0 for earlier in rows)


def test_a_competitor_is_stopped():
  slow = ((float(l), 0.5) for l in itertools.count())
  rows = race.run_until(slow, limit_s=0.0)
  assert rows == [(0.0, 0.5)] and race.reached(rows, 1e-5) is None
  rows = race.run_until(iter([(1.0, 1e-5), (2.0, 1e-7), (3.0, 0.0)]), 60.0)
  assert rows == [(1.0, 1e-5), (2.0, 1e-7)]
  assert race.reached(rows, 1e-5) == 1.0 and race.reached(rows, 1e-6) == 2.0


def test_collectives_are_counted():
  compiled = rate.Round(16, 4, local_steps=2, rounds=2, devices=2).compiled()
  assert hlo.collectives(compiled) == [('all-gather', 1)]


def test_figures_are_recorded(tmp_path):
  sizes = '--size=16 --rank=4 --local_steps=1 --repeats=1 --race_sizes=24'
  flags = [*sizes.split(), '--race_ranks=2', '--only=rate,race', f'--out={tmp_path}']
  main(regression.EXPERIMENT, flags)
  lines = (tmp_path / 'regression.jsonl').read_text().splitlines()
  assert len(lines) >= 6
  main(regression.EXPERIMENT, flags)
  assert (tmp_path / 'regression.jsonl').read_text().splitlines() == lines
