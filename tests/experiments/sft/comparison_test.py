"""Tests ../../../experiments/sft: configs of runs, rates that are chosen, the table."""

import dataclasses

import pytest

from experiments.harness import missing
from experiments.results import row, stamped
from experiments.sft import comparison

ABOUT = {'steps': 40, 'batch': 8, 'rows': 256, 'dtype': 'bfloat16', 'task': 'arc'}


def run_of(folder, rows=(), **options):
  run = comparison.EXPERIMENT.run(folder, model='m', data='d', **options)
  run.results.keep(map(stamped, rows))
  return run


def made(kind, method, seed, rate, loss, match=None):
  more = {'exact_match': match, 'adapter_parameters': 7}
  more |= {'prefixes': [2.0, loss], 'prefix_matches': [0.0, match]}
  about = ABOUT | {'kind': kind, 'method': method, 'seed': seed, 'rate': rate}
  return row('held-out loss', loss, 'nats a token', **about, **more)


@pytest.mark.parametrize('kind', ['tune', 'run'])
@pytest.mark.parametrize('method', comparison.METHODS)
def test_a_search_never_sees_the_test_file(tmp_path, kind, method):
  run = run_of(tmp_path, tune=kind == 'tune', tasks=('gsm8k',), methods=(method,))
  for case in comparison.cases(run):
    assert case.kind == kind
    config = comparison.config_of(run.options, case)
    assert config.data.train == 'd/gsm8k-train.jsonl'
    assert (config.data.validation == '') == (kind == 'tune')
    assert (config.data.holdout > 0) == (kind == 'tune')
    assert config.data.generation.answer == ('' if kind == 'tune' else 'hashes')
    assert config.optimizer.learning_rate == case.rate
    name, _, rank = method.partition('-')
    assert config.method == name
    assert not rank or config.settings.rank == int(rank)


def test_runs_take_the_rate_with_the_lowest_loss(tmp_path):
  rows = [made('tune', 'lora-2', 1000, rate, loss) for rate, loss in
          ((5e-4, 1.2), (1e-3, 1.1), (2e-3, None))]  # fmt: skip
  run = run_of(tmp_path, rows, tasks=('arc',), methods=('lora-2', 'adapad'))
  rates = {(case.method, case.rate) for case in comparison.cases(run)}
  assert rates == {('lora-2', 1e-3), ('adapad', 1e-3)}
  again = run_of(tmp_path, [made('tune', 'adapad', 1000, 5e-4, 1.0)],
                 tasks=('arc',), methods=('adapad',))  # fmt: skip
  assert {case.rate for case in comparison.cases(again)} == {5e-4}


def test_what_is_recorded_is_not_run_again(tmp_path):
  run = run_of(tmp_path, [made('run', 'adapad', 1, 1e-3, 1.0)], tasks=('arc',),
               methods=('adapad',))  # fmt: skip
  assert [case.seed for case in missing(comparison.EXPERIMENT, run)] == [0, 2]


def test_the_table_has_paired_differences(tmp_path):
  rows = [
    made('run', 'adapad', 0, 1e-3, 1.0, 0.5), made('run', 'adapad', 1, 1e-3, 1.2, 0.7),
    made('run', 'lora-1', 1, 5e-4, 1.5, 0.5), made('run', 'lora-1', 0, 5e-4, 1.1, 0.4),
    made('tune', 'lora-1', 1000, 5e-4, 9.0),
  ]  # fmt: skip
  lines = comparison.table(run_of(tmp_path, rows)).splitlines()
  assert lines[0] == 'arc:'
  assert '| adapad | 0.001 | 1.1000 ± 0.1414 | 60.0 ± 14.1 |  | 7 |' in lines
  # Gaps are -0.1 and -0.3: their mean, and 12.7 standard errors of 0.1.
  assert '| -0.2000 [-1.4706, +1.0706] | 7 |' in lines[-6]
  assert lines[-2:] == [
    '| 0 | 2.0000 | 0.0 ± 0.0 |  |  |',
    '| 1 | 1.1000 | 60.0 ± 14.1 | 1.3000 | 45.0 ± 7.1 |',
  ]


def test_a_case_is_its_own_key(tmp_path):
  run = run_of(tmp_path)
  case = next(iter(comparison.cases(run)))
  assert comparison.EXPERIMENT.key(run, case) == dataclasses.asdict(case)


def test_the_table_of_a_search_has_every_rate(tmp_path):
  rows = [
    made('tune', 'lora-2', 1000, 1e-3, 1.25), made('tune', 'adapad', 1000, 5e-4, 1.5),
    made('tune', 'adapad', 1000, 1e-3, None),
  ]  # fmt: skip
  lines = comparison.table(run_of(tmp_path, rows)).splitlines()
  assert lines[0] == 'arc:' and '| method | 0.0005 | 0.001 |' in lines
  assert lines[-2:] == ['| adapad | 1.5000 |  |', '| lora-2 |  | 1.2500 |']
