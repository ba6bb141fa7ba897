"""Tests ../../../experiments/sft/every_rank.py: configs, chosen rates, the table."""

import pytest

from experiments.results import row, stamped
from experiments.sft import comparison, every_rank

ABOUT = {'steps': 40, 'batch': 8, 'rows': 256, 'dtype': 'bfloat16', 'task': 'gsm8k'}


def run_of(folder, rows=(), trained=(), **options):
  run = every_rank.EXPERIMENT.run(folder, model='m', data='d', **options)
  run.results.keep(map(stamped, rows))
  comparison.EXPERIMENT.run(folder).results.keep(map(stamped, trained))
  return run


def made(kind, method, seed, rate, losses):
  """All rows of a run."""
  about = ABOUT | {'kind': kind, 'method': method, 'seed': seed, 'rate': rate}
  ranks = [
    row('loss', loss, 'nats a token', rank=rank, **about)
    for rank, loss in zip(every_rank.RANKS, losses, strict=True)
  ]
  mean = every_rank.over_ranks(losses)
  return [*ranks, row('mean loss', mean, 'nats a token', **about)]


def lora(rank, seed, loss):
  """A row of LoRA that was trained at a rank."""
  about = ABOUT | {'kind': 'run', 'method': f'lora-{rank}', 'seed': seed}
  return row('held-out loss', loss, 'nats a token', **about)


@pytest.mark.parametrize('tune', [True, False])
def test_a_method_has_eight_components_and_is_scored_where_it_should(tmp_path, tune):
  run = run_of(tmp_path, tune=tune)
  found = {
    c.method: every_rank.config_of(run.options, c) for c in every_rank.cases(run)
  }
  assert set(found) == set(every_rank.METHODS)
  for name, config in found.items():
    capacity = getattr(config.settings, 'r_max', None) or config.settings.rank
    assert capacity == 8, name
    assert (config.data.validation == '') == (config.data.holdout > 0) == tune
    assert not config.data.generation.answer and config.train.curve_from > 8
  nested = {name: c.settings.nested for name, c in found.items() if 'adapad' in name}
  assert nested == {
    'adapad': 0.0,
    'adapad nested': 1.0,
    'adapad half nested': 0.5,
  }
  resolved = found['adapad'].settings.resolve(210, 40, 8)
  resolved.check(210, 40)
  assert resolved.budget == 8 * 210


def test_the_mean_weighs_every_doubling_alike():
  assert every_rank.over_ranks([1.0, 0.5, 0.5, 0.0]) == pytest.approx(0.5)
  assert every_rank.over_ranks([1.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 6)


def test_runs_take_the_rate_with_the_lowest_mean(tmp_path):
  rows = [
    *made('tune', 'dylora', 1000, 1e-3, [1.0, 1.0, 1.0, 1.0]),
    *made('tune', 'dylora', 1000, 2e-3, [1.3, 0.9, 0.9, 1.0]),
    *made('tune', 'dylora', 1000, 4e-3, [1.5, 1.0, 0.9, 0.9]),
  ]
  about = ABOUT | {'kind': 'tune', 'method': 'lora-2', 'seed': 1000, 'rate': 8e-3}
  searched = [row('held-out loss', 1.0, 'nats a token', **about)]
  run = run_of(tmp_path, rows, searched, methods=('dylora', 'lora'), seeds=(0, 1))
  found = [(case.seed, case.method, case.rate) for case in every_rank.cases(run)]
  assert found == [
    (seed, method, rate)
    for seed in (0, 1)
    for method, rate in (('dylora', 2e-3), ('lora', 8e-3))
  ]


def test_the_table_has_every_rank_beside_lora_trained_there(tmp_path):
  rows = [
    *made('run', 'adapad', 0, 4e-3, [1.0, 0.9, 0.8, 0.8]),
    *made('run', 'adapad', 1, 4e-3, [1.2, 0.9, 0.8, 0.6]),
    *made('tune', 'adapad', 1000, 4e-3, [9.0, 9.0, 9.0, 9.0]),
  ]
  trained = [
    lora(rank, seed, 1.0 - seed / 2) for rank in (1, 2, 4, 8) for seed in (0, 1)
  ]
  trained.append(lora(8, 7, 0.0))  # Of a seed that nothing else has.
  search, values, gaps = every_rank.table(run_of(tmp_path, rows, trained)).split('\n\n')
  assert search.splitlines()[2:] == [
    '| adapad | 0.004 | 9.0000 | 9.0000 | 9.0000 | 9.0000 | 9.0000 |'
  ]
  assert values.splitlines()[2:] == [
    '| adapad | 2 | 1.1000 | 0.9000 | 0.8000 | 0.7000 | 0.8667 |',
    '| LoRA trained at each | 2 | 0.7500 | 0.7500 | 0.7500 | 0.7500 | 0.7500 |',
  ]
  assert gaps.splitlines()[2].startswith('| adapad | +0.3500 [')
  assert len(gaps.splitlines()) == 3
