"""Tests ../../experiments/harness.py: flags, what is skipped, what is kept."""

import dataclasses
import json
import os
from typing import Literal

import pytest

from experiments import harness
from experiments.harness import Experiment, key_of_fields
from experiments.results import row


@dataclasses.dataclass(frozen=True)
class Options:
  """Of a made-up experiment."""

  sizes: tuple[int, ...] = (1, 2)
  kind: Literal['sum', 'product'] = 'sum'
  kinds: tuple[Literal['sum', 'product'], ...] = ('sum',)
  data: str = ''
  scan: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
  """One size."""

  size: int
  kind: str


def cases(run):
  return [Case(size, run.options.kind) for size in run.options.sizes]


def measure(run, case):
  if case.size == 13:
    raise RuntimeError('thirteen')
  yield row('process', os.getpid(), '', **dataclasses.asdict(case))
  yield row('value', case.size, 's', **dataclasses.asdict(case))
  if case.size == 14:
    raise RuntimeError('fourteen')


def whole(run, options):
  yield row('total', sum(options.sizes), '')


MADE_UP = Experiment('theory.made_up', Options(), measure, cases, key_of_fields)


@pytest.fixture
def call(tmp_path, capsys):
  """Runs it; the sizes that it measured, and all that was printed."""

  def run(*flags, experiment=MADE_UP):
    harness.main(experiment, [*flags, f'--out={tmp_path}'])
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines() if line.startswith('{')]
    return [one['value'] for one in rows if one['figure'] != 'process'], out

  return run


def test_what_is_kept_is_skipped(call, tmp_path):
  assert call()[0] == [1, 2]
  assert call('--sizes=1,2,3')[0] == [3]
  assert call('--table')[0] == []
  assert call('--kind=product')[0] == [1, 2]
  assert call('--again')[0] == [1, 2]
  assert len((tmp_path / 'made_up.jsonl').read_text().splitlines()) == 2 * 7


def test_the_table_has_every_figure(call):
  call('--sizes=7')
  _, out = call('--table')
  assert '| value | 7 | s | size=7, kind=sum |' in out


def test_cases_are_chosen_by_their_names(call):
  assert call('--sizes=1,2,3', '--only=size=2,size=3')[0] == [2, 3]
  assert harness.name_of(Case(1, 'sum')) == 'size=1 kind=sum'


def test_no_case_is_begun_after_the_limit(call, capsys):
  assert call('--limit=-1')[0] == []


def test_a_case_that_fails_stops_no_other_and_leaves_no_row(call, tmp_path, capsys):
  with pytest.raises(SystemExit, match='2 cases failed'):
    call('--sizes=13,14,15')
  assert '# size=13 kind=sum: thirteen' in capsys.readouterr().err
  lines = (tmp_path / 'made_up.jsonl').read_text().splitlines()
  assert {json.loads(line)['size'] for line in lines} == {15}


def test_rows_may_be_kept_as_they_come(call, tmp_path):
  each = dataclasses.replace(MADE_UP, kept_as_they_come=True)
  with pytest.raises(SystemExit):
    call('--sizes=14', experiment=each)
  assert len((tmp_path / 'made_up.jsonl').read_text().splitlines()) == 2


def test_cases_run_side_by_side_in_processes_of_their_own(call, tmp_path):
  assert sorted(call('--jobs=2')[0]) == [1, 2]
  lines = (tmp_path / 'made_up.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  pids = [one['value'] for one in rows if one['figure'] == 'process']
  assert len({os.getpid(), *pids}) == 3


def test_a_whole_experiment_is_known_by_its_changed_options(call, tmp_path):
  whole_one = Experiment('theory.whole', Options(), whole)
  assert call(experiment=whole_one)[0] == [3]
  assert call('--sizes=4,5', experiment=whole_one)[0] == [9]
  assert call('--sizes=4,5', experiment=whole_one)[0] == []
  assert call('--sizes=1,2', experiment=whole_one)[0] == []
  first, second = map(json.loads, (tmp_path / 'whole.jsonl').read_text().splitlines())
  assert 'settings' not in first and second['settings'] == {'sizes': [4, 5]}


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--szies=1', 'unrecognized arguments: --szies=1'),
    ('--size=1', 'unrecognized arguments: --size=1'),
    ('--sizes=1,a', "'1,a' is not int joined by commas"),
    ('--kind=smu', "invalid choice: 'smu'"),
    ('--kinds=smu', "did you mean 'sum'"),
    ('--scan', '--data must be given, or --table'),
  ],
)
def test_wrong_flags_are_told(flag, message, capsys):
  needy = dataclasses.replace(MADE_UP, needs=('data',))
  with pytest.raises(SystemExit):
    harness.parse(needy, [flag])
  assert message in capsys.readouterr().err


def test_flags_are_read_by_their_types():
  given = harness.parse(MADE_UP, ['--sizes=', '--kinds=sum,product', '--no-scan'])
  assert (given.sizes, given.kinds, given.scan) == ((), ('sum', 'product'), False)
  assert harness.parse(MADE_UP, ['--sizes=3,4']).sizes == (3, 4)
