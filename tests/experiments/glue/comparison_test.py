"""Tests ../../../experiments/glue: fairness, statistics, and what is skipped."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.methods import METHODS
from configs.glue import get_config
from experiments import tables
from experiments.glue import comparison, runs, settings, summary
from experiments.harness import main
from experiments.results import row
from experiments.several_runs import Outcome, Trained
from tests.methods import toy

# In this process, where what trains can be replaced.
EXPERIMENT = dataclasses.replace(comparison.EXPERIMENT, own_process=False)


@pytest.fixture
def table(tmp_path, monkeypatch):
  """The command with a folder of its own, and runs that cost nothing."""
  ran = []

  def result(one):
    ran.append(one)
    value = 0.5 + one.rate if one.kind == 'tune' else 0.8 + 0.01 * one.seed
    # The highest rate is the best of the first seed, and the worst of the others.
    if one.kind == 'tune' and one.seed != 1000 and one.rate > 2e-3:
      value = 0.4
    more = dict(
      rank_M=[1], prefixes=[0.5, 0.6], spectral_prefixes=[0.5, 0.7], peak_mib=9
    )
    more |= dict(metric='accuracy', adapter_parameters=10, head_parameters=5)
    return row('glue_table', value, 'accuracy', **one.details(), **more)

  def trained(specs, data, size):
    assert len({(one.task, one.method) for one in specs}) <= 1
    yield from map(result, specs)

  monkeypatch.setattr(runs, 'trained', trained)

  def call(*arguments):
    ran.clear()
    main(EXPERIMENT, ['--data=x', '--tasks=rte', *arguments, f'--out={tmp_path}'])
    return list(ran)

  return call


@pytest.mark.parametrize('average', [1, 2, 3])
@pytest.mark.parametrize('name', sorted(set(METHODS) - {'head', 'full'}))
def test_every_method_gets_the_same_budget(name, average):
  given = settings.method_settings(name, average, len(toy.SHAPES))
  given |= {'r_max': min(given['r_max'], 6)} if 'r_max' in given else {}
  given |= {'initial': 5} if name == 'adalora' else {}
  method = toy.build(name, given)
  assert method.timeline()[-1][1] == average * len(toy.SHAPES)


def test_default_settings_give_the_same_budget():
  ends = {
    name: toy.build(name, {'r_max': 4} if name == 'increlora' else None).timeline()[-1][
      1
    ]
    for name in set(METHODS) - {'head', 'full'}
  }
  assert set(ends.values()) == {2 * len(toy.SHAPES)}, ends


def test_runs_that_are_there_are_skipped(table, tmp_path, capsys):
  chosen = ['--methods=lora,adapad', '--seeds=0,1']
  assert len(table(*chosen)) == 4
  assert table(*chosen) == []
  more = table('--methods=lora,adapad,head', '--seeds=0,1,2')
  assert {(one.method, one.seed) for one in more} == {
    ('head', 0),
    ('head', 1),
    *((name, 2) for name in ('lora', 'adapad', 'head')),
  }
  lines = (tmp_path / 'comparison.jsonl').read_text().splitlines()
  assert len(lines) == 9 and json.loads(lines[0])['value'] == 0.8
  assert '| adapad | 81.0 ± 1.0 | 81.0 ± 1.0 |' in capsys.readouterr().out
  assert (tmp_path / 'front.png').stat().st_size > 1000


def test_runs_take_the_best_rate_of_tuning(table):
  first = table('--methods=lora,full', '--tune', '--seeds=0', '--tuning_seeds=1000')
  tuning = [one for one in first if one.kind == 'tune']
  rates = [one.rate for one in tuning if one.method == 'lora']
  assert rates == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
  assert {one.seed for one in tuning} == {1000}
  assert [one.rate for one in first if one.kind == 'run'] == [8e-3, 4e-4]
  (one,) = table('--methods=full', '--seeds=0,1', '--tune', '--tuning_seeds=1000')
  assert (one.kind, one.seed, one.rate) == ('run', 1, 4e-4), 'tuned but once'
  (one,) = table('--methods=lora', '--seeds=0', '--steps=7')
  assert one.rate == settings.RATES['lora'], 'tuned at another length'


def test_the_search_counts_every_seed(table, capsys):
  table('--methods=lora', '--tune', '--seeds=0,1', '--tuning_seeds=1000')
  *tuning, first, second = table('--methods=lora', '--tune', '--seeds=0,1')
  assert {(one.seed, one.kind) for one in tuning} == {(1001, 'tune'), (1002, 'tune')}
  assert len(tuning) == 12 and first.rate == second.rate == 2e-3
  assert '| lora | 80.5 ± 0.7 |' in capsys.readouterr().out.rsplit('method', 1)[1]
  assert not table('--methods=lora', '--tune', '--seeds=0,1')


def test_a_search_may_be_narrower_and_widened_later(table):
  narrow = ['--methods=lora', '--seeds=0', '--tune', '--tuning_seeds=1000']
  ran = table(*narrow, '--factors=0.5,1')
  assert [(one.kind, one.rate) for one in ran] == [
    ('tune', 1e-3),
    ('tune', 2e-3),
    ('run', 2e-3),
  ]
  more = table(*narrow)
  assert [one.rate for one in more] == [2.5e-4, 5e-4, 4e-3, 8e-3, 8e-3]


def test_a_search_needs_no_runs(table):
  search = ['--methods=lora', '--seeds=', '--tune', '--tuning_seeds=1000']
  ran = table(*search, '--factors=0.5,1')
  assert [(one.kind, one.rate) for one in ran] == [('tune', 1e-3), ('tune', 2e-3)]
  assert not table(*search, '--factors=0.5,1')


def test_a_wider_search_repeats_no_run(table):
  search = ['--methods=lora', '--tune', '--factors=0.5,1']
  table(*search, '--seeds=0,1', '--tuning_seeds=1000')
  more = table(*search, '--seeds=0,1,2', '--tuning_seeds=1000,1001')
  assert [(one.kind, one.rate, one.seed) for one in more] == [
    ('tune', 1e-3, 1001),
    ('tune', 2e-3, 1001),
    ('run', 2e-3, 2),
  ]


def test_the_best_rate_is_one_that_stayed_finite():
  tried = [(1e-3, 0, 0.5), (2e-3, 0, None), (2e-3, 1, 0.9), (4e-3, 0, 0.4)]
  assert runs.best_rate(tried) == 1e-3
  assert runs.best_rate([*tried, (8e-3, 0, 0.6)]) == 8e-3
  with pytest.raises(FloatingPointError, match='no rate'):
    runs.best_rate([(1e-3, 0, None)])


def test_the_best_rate_is_one_of_those_with_the_most_seeds():
  lucky = [(4e-3, 0, 0.9), (1e-3, 0, 0.5), (1e-3, 1, 0.6), (2e-3, 0, 0.7)]
  assert runs.best_rate([*lucky, (2e-3, 1, 0.5)]) == 2e-3, 'on the means, 0.60 to 0.55'
  assert runs.best_rate([*lucky, (2e-3, 1, None)]) == 1e-3, 'the only finite pair'


def test_every_task_may_have_its_own_steps(table):
  ran = table('--tasks=rte,mrpc', '--steps=5,7', '--methods=lora', '--seeds=0')
  assert {one.task: one.steps for one in ran} == {'rte': 5, 'mrpc': 7}
  with pytest.raises(ValueError, match='2 numbers for 1 tasks'):
    table('--steps=5,7')


def test_paired_interval_equals_scipy():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=6), rng.normal(size=6)
  found = tables.paired(dict(enumerate(first)), dict(enumerate(second)) | {9: 1.0})
  want = stats.ttest_rel(first, second).confidence_interval(0.95)
  assert (found['low'], found['high']) == pytest.approx((want.low, want.high))
  assert found['seeds'] == 6 and found['mean'] == pytest.approx((first - second).mean())
  alone = tables.paired({0: 2.0}, {0: 1.0})
  assert alone['mean'] == 1.0 and np.isnan(alone['low'])


def test_front_holds_what_nothing_beats():
  points = {'a': (1, 5.0), 'b': (2, 4.0), 'c': (2, 6.0), 'd': (9, 6.0), 'e': (10, 7.0)}
  assert summary.front(points) == ['a', 'c', 'e']


def test_seeds_run_together_and_costs_have_columns_of_their_own(table, capsys):
  assert len(table('--methods=lora', '--cost')) == 1
  assert len(table('--methods=lora', '--seeds=0,1,2', '--together=2')) == 3
  assert '| lora | 81.0 ± 1.0 | 81.0 ± 1.0 | 10 | 0.00 | 0.800 | 9 |' in (
    capsys.readouterr().out
  )


def test_no_budget_asks_for_more_workers_than_have_rows():
  config = get_config('cola,minilm')
  for average in (1, 2, 4, 8):
    given = settings.method_settings('adapad', average, 36)
    assert average <= given['r_max'] and given['budget'] == 36 * average
    found = AdaPaDSettings(**given).resolve(36, 200, config.train.batch)
    assert found.joint == 0.75, 'a quarter of the batch is enough for the workers'


def test_the_table_holds_runs_at_the_chosen_rate_alone(table, tmp_path, capsys):
  table('--methods=lora', '--seeds=0,1')
  assert '| lora | 80.5 ± 0.7 |' in capsys.readouterr().out
  table('--methods=lora', '--seeds=0', '--tune', '--tuning_seeds=1000')
  assert '| lora | 80.0 |' in capsys.readouterr().out, 'seed 1 has another rate'


def test_budgets_have_a_table_of_their_own(table, capsys):
  table('--methods=lora,head', '--seeds=0,1', '--budget=8,1')
  out = capsys.readouterr().out
  assert '| lora | 1 | 80.5 ± 0.7 | 80.5 ± 0.7 | 10 |\n| lora | 8 | 80.5' in out
  assert '| lora 8 minus 1 | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] |' in out
  table('--methods=lora', '--seeds=0,1', '--budget=1')
  assert 'average rank' not in capsys.readouterr().out


def test_rows_outlive_a_case_that_fails(table, tmp_path, monkeypatch):
  def trained(specs, data, size):
    if specs:
      yield row('glue_table', 0.5, 'accuracy', **specs[0].details())
      raise RuntimeError('out of memory')

  monkeypatch.setattr(runs, 'trained', trained)
  with pytest.raises(SystemExit, match='1 cases failed'):
    table('--methods=lora', '--tune')
  lines = (tmp_path / 'comparison.jsonl').read_text().splitlines()
  assert [json.loads(line)['value'] for line in lines] == [0.5]


def test_a_run_that_is_not_finite_costs_no_other(tmp_path, monkeypatch):
  fine = Outcome({'accuracy': 0.7}, [0.5, 0.7], [0.5, 0.7], [1], 10)

  def train(config, runs, curves):
    outcomes = [None if run.seed == 1 else fine for run in runs]
    return Trained('accuracy', outcomes, 7, 1.0, 5)

  monkeypatch.setattr(runs, 'train_runs', train)
  like = settings.Spec('run', 'rte', 'lora', 0, 2, 'all-linear', 1.0, 7, 32, 0, 0, 1e-3)
  specs = tuple(dataclasses.replace(like, seed=seed) for seed in range(3))
  found = list(runs.execute(settings.Job((), (), specs), tmp_path, 2))
  assert [(row['seed'], row['value']) for row in found] == [
    (0, 0.7),
    (1, None),
    (2, 0.7),
  ]
  assert (
    summary.main_table(found, [], ['lora'], ['rte'])
    .splitlines()[2]
    .startswith('| lora | 70.0 ± 0.0 (1 not finite) |')
  )
