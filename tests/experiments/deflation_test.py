"""The experiments on regression and PCA at tiny sizes: they run and mean something."""

import json

import numpy as np
import pytest

from experiments import decay
from experiments.advance_learning import run as advance_learning
from experiments.generalisation import run as generalisation
from experiments.pca_peers import run as pca_peers
from experiments.self_correction import pairs
from experiments.self_correction import run as self_correction
from experiments.spectral_gap import run as spectral_gap
from experiments.staleness import run as staleness

# Tiny runs end long before they converge.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the limit of:sklearn.exceptions.ConvergenceWarning'
)

TINY = {
  self_correction: self_correction.Settings(
    seeds=2, size=8, rank=3, gap=0.5, rounds=40, budgets=(3, 6)
  ),
  spectral_gap: spectral_gap.Settings(
    seeds=2, size=8, rank=3, gaps=(0.4, 0.7), rounds=60
  ),
  advance_learning: advance_learning.Settings(
    seeds=2, size=8, rank=3, gaps=(0.5,), local_steps=(1,), rounds=60
  ),
  generalisation: generalisation.Settings(
    seeds=2, inputs=6, outputs=5, true_rank=3, rank=2, counts=(30, 300),
    noises=(0.1,), rounds=(4, 64), frozen_after=4,
  ),
  pca_peers: pca_peers.Settings(
    seeds=1, size=12, examples=20, rank=2, rounds=30, rates=(1.0,), timings=1,
    data=('exponential',)
  ),
  staleness: staleness.Settings(
    seeds=2, size=8, rank=3, gap=0.5, rounds=60, taus=(0, 3), shares=(0.3,)
  ),
}  # fmt: skip


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """Runs an experiment once; its records."""
  done = {}

  def run(module):
    if module not in done:
      folder = tmp_path_factory.mktemp('experiment')
      module.main(TINY[module], folder)
      assert (folder / 'figure.png').stat().st_size > 5000
      lines = (folder / 'results.jsonl').read_text().splitlines()
      done[module] = [json.loads(line) for line in lines]
    return done[module]

  return run


def values(records, figure, **details):
  found = [
    r['value'] for r in records
    if r['figure'] == figure and all(r[key] == details[key] for key in details)
  ]  # fmt: skip
  assert found, f'no {figure!r} with {details}'
  return found


def test_self_correction(results):
  records = results(self_correction)
  name = 'mismatch of the last component, {}'
  [frozen] = values(records, name.format('sequential'), sequential_rounds_a_component=3)
  [ours] = values(
    records, name.format('parallel, equal rounds in a row'),
    sequential_rounds_a_component=3,
  )  # fmt: skip
  assert ours < frozen
  np.testing.assert_allclose(values(records, 'rate m_k'), 0.25, rtol=0.1)


def test_paired_singular_values(tmp_path):
  settings = pairs.Settings(seeds=2, size=24, ranks=(8,))
  pairs.main(settings, tmp_path)
  lines = (tmp_path / 'results.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  name = 'paired singular values, distance to the best fit, {}'
  [ours], [theirs] = (
    values(records, name.format(kind), rank=8) for kind in ('parallel', 'sequential')
  )
  assert 0 < theirs < 1e-3 * ours
  # The distance of nothing at all is what the best fit explains.
  x_NI, y_NO = pairs.data(settings, 8, 0)
  explained = np.cumsum(np.linalg.svd(y_NO)[1] ** 2)
  assert pairs.excess(y_NO, 8, 0 * y_NO) == pytest.approx(explained[7] / explained[-1])


def test_spectral_gap(results):
  records = results(spectral_gap)
  for gap in (0.4, 0.7):
    [rate] = values(records, 'rate m_k of the last component', gap=gap)
    assert rate == pytest.approx((1 - gap) ** 2, rel=0.1)


def test_advance_learning(results):
  [share] = values(results(advance_learning), 'geometric mean of these shares')
  assert 0 < share < 1.5


def test_generalisation(results):
  records = results(generalisation)
  for method in ('parallel', 'sequential'):
    few, many = (
      values(records, f'algorithmic error, {method}', examples=300, rounds=rounds)
      for rounds in (4, 64)
    )
    assert abs(many[0]) < 1e-6 < abs(few[0])
  few, many = (values(records, 'statistical error', examples=n)[0] for n in (30, 300))
  assert 0 < many < few


def test_pca_peers(results):
  records = results(pca_peers)
  rules = {r['rule'] for r in records}
  assert rules == {'power', 'hebb', 'alpha', 'mu'}
  [left] = values(records, 'error in the last round', rule='power')
  assert left < 0.5


def test_staleness(results):
  records = results(staleness)
  for traffic in ('late by tau', 'late by 0..tau at random'):
    ends = values(records, 'mismatch in the last round of the last component',
                  traffic=traffic)  # fmt: skip
    assert max(ends) < 1e-9
  prompt, late = (
    values(records, 'rounds to 1e-09 of the last component',
           traffic='late by tau', setting=tau)[0]
    for tau in (0, 3)
  )  # fmt: skip
  assert late > prompt


def test_a_line_in_log_scale_is_read_back():
  value_L = 0.5 * 0.8 ** np.arange(100)
  line = decay.fit_decay(value_L, 1e-2, 1e-5)
  assert line.rate == pytest.approx(0.8) and line.constant == pytest.approx(0.5)
  warmup = decay.fit_warmup(value_L, line)
  assert warmup == 0
  assert decay.holds_later(value_L, line, warmup, 0.0)
  slower_L = np.where(np.arange(100) > line.end, 0.9, 0.8) ** np.arange(100)
  assert not decay.holds_later(slower_L, line, warmup, 0.0)


def test_the_warm_up_is_the_least_with_which_the_bound_holds():
  value_L = np.concatenate([np.full(20, 50.0), 50 * 0.5 ** np.arange(60)])
  line = decay.fit_decay(value_L, 1e-2, 1e-8)
  warmup = decay.fit_warmup(value_L, line)
  assert 0 < warmup < 30
  fits = lambda s: (value_L[s : line.end] <= decay.bound(0.5, s, line.end)[s:]).all()
  assert fits(warmup) and not fits(warmup - 1)


def test_a_curve_that_does_not_fall_has_no_rate():
  line = decay.fit_decay(np.ones(50), 1e-2, 1e-5)
  assert np.isnan(line.rate) and decay.fit_warmup(np.ones(50), line) == -1
