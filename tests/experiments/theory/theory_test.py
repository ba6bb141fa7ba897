"""The experiments on regression and PCA at tiny sizes: they run and mean something."""

import json

import numpy as np
import pytest

from experiments.harness import main
from experiments.theory import (
  advance_learning,
  equal_pairs,
  generalisation,
  mismatch,
  pca,
  rank_discovery,
  self_correction,
  spectral_gap,
  staleness,
)

# Tiny runs end long before they converge.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the limit of:sklearn.exceptions.ConvergenceWarning'
)

TINY = {
  self_correction: '--seeds=2 --size=8 --rank=3 --gap=0.5 --rounds=40 --budgets=3,6',
  equal_pairs: '--seeds=2 --size=24 --ranks=8',
  spectral_gap: '--seeds=2 --size=8 --rank=3 --gaps=0.4,0.7 --rounds=60',
  advance_learning: '--seeds=2 --size=8 --rank=3 --gaps=0.5 --local_steps=1'
  ' --rounds=60',
  generalisation: '--seeds=2 --inputs=6 --outputs=5 --true_rank=3 --rank=2'
  ' --counts=30,300 --noises=0.1 --rounds=4,64',
  pca: '--seeds=1 --size=12 --examples=20 --rank=2 --rounds=30 --rates=1 --timings=1'
  ' --data=exponential',
  rank_discovery: '--seeds=2 --inputs=8 --outputs=6 --rank=2 --max_rank=4'
  ' --examples=100 --noises=0.01,20 --alarms=4 --alarm_examples=40',
  staleness: '--seeds=2 --size=8 --rank=3 --gap=0.5 --rounds=60 --taus=0,3'
  ' --shares=0.3',
}
PICTURES = {pca: ['pca.png', 'pca_time.png'], equal_pairs: []}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """Runs an experiment once; its records."""
  done = {}

  def run(module):
    if module not in done:
      folder = tmp_path_factory.mktemp('experiment')
      main(module.EXPERIMENT, [*TINY[module].split(), f'--out={folder}'])
      name = module.EXPERIMENT.name.split('.')[1]
      for picture in PICTURES.get(module, [f'{name}.png']):
        assert (folder / picture).stat().st_size > 5000
      lines = (folder / f'{name}.jsonl').read_text().splitlines()
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


def test_paired_singular_values(results):
  records = results(equal_pairs)
  name = 'paired singular values, distance to the best fit, {}'
  [ours], [theirs] = (
    values(records, name.format(kind), rank=8) for kind in ('parallel', 'sequential')
  )
  assert 0 < theirs < 1e-3 * ours
  # The distance of nothing at all is what the best fit explains.
  options = equal_pairs.Options(seeds=2, size=24, ranks=(8,))
  _, y_NO = equal_pairs.data(options, 8, 0)
  explained = np.cumsum(np.linalg.svd(y_NO)[1] ** 2)
  nothing = equal_pairs.excess(y_NO, 8, 0 * y_NO)
  assert nothing == pytest.approx(explained[7] / explained[-1])


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


def test_pca(results):
  records = results(pca)
  rules = {r['rule'] for r in records}
  assert rules == {'power', 'hebb', 'alpha', 'mu'}
  [left] = values(records, 'error in the last round', rule='power')
  assert left < 0.5


def test_rank_discovery(results):
  records = results(rank_discovery)
  quiet, loud = (values(records, 'rank found', noise=noise) for noise in (0.01, 20))
  assert (quiet, loud) == ([2], [0])
  [share] = values(records, 'share of runs that find a component in noise')
  assert 0 <= share <= 0.5


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
  line = mismatch.fit_decay(value_L, 1e-2, 1e-5)
  assert line.rate == pytest.approx(0.8) and line.constant == pytest.approx(0.5)
  warmup = mismatch.fit_warmup(value_L, line)
  assert warmup == 0
  assert mismatch.holds_later(value_L, line, warmup, 0.0)
  slower_L = np.where(np.arange(100) > line.end, 0.9, 0.8) ** np.arange(100)
  assert not mismatch.holds_later(slower_L, line, warmup, 0.0)


def test_the_warm_up_is_the_least_with_which_the_bound_holds():
  value_L = np.concatenate([np.full(20, 50.0), 50 * 0.5 ** np.arange(60)])
  line = mismatch.fit_decay(value_L, 1e-2, 1e-8)
  warmup = mismatch.fit_warmup(value_L, line)
  assert 0 < warmup < 30
  fits = lambda s: (value_L[s : line.end] <= mismatch.bound(0.5, s, line.end)[s:]).all()
  assert fits(warmup) and not fits(warmup - 1)


def test_a_curve_that_does_not_fall_has_no_rate():
  line = mismatch.fit_decay(np.ones(50), 1e-2, 1e-5)
  assert np.isnan(line.rate) and mismatch.fit_warmup(np.ones(50), line) == -1
