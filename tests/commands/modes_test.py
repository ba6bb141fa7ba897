"""Tests ../../adapad_jax/commands: train, evaluate and predict as the user does."""

import collections
import csv
import gzip
import json
import shutil

import pytest

from adapad_jax.commands import Request, predict
from adapad_jax.commands.registry import run
from adapad_jax.regression.run import run as regress
from configs.regression import get_config
from tests import tiny
from tests.commands.exchange import DEFAULTS


def request(config=None, workdir=None, **options):
  return Request(config, workdir, DEFAULTS | options)


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'one'
  run('train', request(tiny.values(data), workdir))
  return workdir


def result_of(workdir):
  return json.loads((workdir / 'result.json').read_text())


@pytest.mark.parametrize('checkpoint', ['best', 'latest'])
def test_eval_prints_what_training_reported(trained, capsys, checkpoint):
  run('eval', request(workdir=trained, checkpoint=checkpoint))
  printed = json.loads(capsys.readouterr().out.splitlines()[-1])
  want = result_of(trained)['best' if checkpoint == 'best' else 'last']
  assert printed == {'checkpoint': checkpoint, 'round': want['step'], **want['metrics']}


def test_eval_of_a_prefix_is_a_point_of_the_truncation_curve(trained, capsys):
  run('eval', request(workdir=trained, max_rank=1))
  printed = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert printed['accuracy'] == result_of(trained)['prefixes'][1]


def test_predictions_score_like_the_evaluation(trained, data, tmp_path, capsys):
  output = tmp_path / 'out.csv'
  source = data / 'validation.csv'
  run('predict', request(workdir=trained, input=str(source), output=str(output)))
  assert '40 predictions' in capsys.readouterr().out
  rows = lambda path: csv.DictReader(path.read_text().splitlines())
  want = [row['label'] for row in rows(source)]
  got = [row['prediction'] for row in rows(output)]
  right = sum(a == b for a, b in zip(want, got, strict=True)) / len(want)
  assert right == pytest.approx(result_of(trained)['best']['metrics']['accuracy'])


@pytest.mark.parametrize(
  'name, message',
  [
    ('in.csv', 'is the file that --input='),
    ('old.tsv', 'exists already'),
    ('out.xls', "cannot write predictions as '.xls'"),
    ('out.json', "cannot write predictions as '.json'"),
    ('in.csv/out.tsv', 'is not a folder'),
  ],
)
def test_predictions_replace_nothing_and_fail_before_the_work(
  trained, data, tmp_path, monkeypatch, name, message
):
  monkeypatch.setattr(predict, 'restore', None)  # It is not reached.
  shutil.copy(data / 'validation.csv', tmp_path / 'in.csv')
  (tmp_path / 'old.tsv').write_text('old')
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
  asked = {'input': str(tmp_path / 'in.csv'), 'output': str(tmp_path / name)}
  with pytest.raises(ValueError, match=message):
    run('predict', request(workdir=trained, **asked))
  with pytest.raises(ValueError, match="unknown kind of file '.html'"):
    run('predict', request(workdir=trained, input=str(trained / 'report.html')))
  assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_predictions_of_the_same_name_are_replaced_when_asked_for(
  trained, data, tmp_path
):
  source = tmp_path / 'mine.CSV.gz'
  source.write_bytes(gzip.compress((data / 'validation.csv').read_bytes()))
  output = trained / 'predictions-mine.tsv'
  output.write_text('old')
  with pytest.raises(ValueError, match='predictions-mine.tsv exists already'):
    run('predict', request(workdir=trained, input=str(source)))
  assert output.read_text() == 'old'
  run('predict', request(workdir=trained, input=str(source), overwrite=True))
  assert output.read_text().count('\n') == 41
  output.unlink()


def test_training_again_shows_the_finished_run(trained, data, capsys):
  before = (trained / 'result.json').stat().st_mtime_ns
  run('train', request(tiny.values(data), trained))
  out = capsys.readouterr().out
  assert 'holds a finished run' in out and '--mode=eval --workdir=' in out
  assert 'rank of every module, 18 of 18 components' in out
  assert (trained / 'result.json').stat().st_mtime_ns == before


def test_a_finished_run_is_not_the_outcome_of_another_config(trained, data):
  before = (trained / 'result.json').stat().st_mtime_ns
  other = tiny.values(data, train={'steps': 50}, optimizer={'learning_rate': 0.5})
  message = (
    'optimizer.learning_rate is 0.5, there it is 0.02;'
    ' train.steps is 50, there it is 60'
  )
  with pytest.raises(ValueError, match=message):
    run('train', request(other, trained))
  assert (trained / 'result.json').stat().st_mtime_ns == before


def test_a_finished_run_is_not_the_outcome_of_other_data(trained, data, capsys):
  path = data / 'train.csv'
  text = path.read_text()
  path.write_text(text + 'good,pos\n')
  try:
    with pytest.raises(ValueError, match='has changed .*: 96 then, 97 now'):
      run('train', request(tiny.values(data), trained))
    run('train', request(workdir=trained))  # Only looks at it.
  finally:
    path.write_text(text)
  assert 'holds a finished run' in capsys.readouterr().out


def test_eval_of_a_file_is_of_that_file(trained, data, tmp_path, capsys):
  other = tmp_path / 'other.csv'
  rows = list(csv.DictReader((data / 'validation.csv').read_text().splitlines()))
  flip = {'pos': 'neg', 'neg': 'pos'}
  lines = [f'{row["text"]},{flip[row["label"]]}' for row in rows[:20]]
  other.write_text('\n'.join(['text,label', *lines]) + '\n')
  half = tmp_path / 'half.csv'
  half.write_text(''.join(f'{line}\n' for line in ['text,label', *lines[:10]]))

  def accuracy(**options):
    run('eval', request(workdir=trained, **options))
    return json.loads(capsys.readouterr().out.splitlines()[-1])['accuracy']

  answers = tmp_path / 'answers.csv'
  run('predict', request(workdir=trained, input=str(other), output=str(answers)))
  got = [r['prediction'] for r in csv.DictReader(answers.read_text().splitlines())]
  wrong = [flip[row['label']] == x for row, x in zip(rows, got, strict=False)]
  assert accuracy(input=str(other)) == pytest.approx(sum(wrong) / 20)
  assert accuracy(input=str(half)) == pytest.approx(sum(wrong[:10]) / 10)
  (tmp_path / 'bare.csv').write_text('text\ngood\n')
  with pytest.raises(ValueError, match="bare.csv has no column 'label'"):
    accuracy(input=str(tmp_path / 'bare.csv'))
  with pytest.raises(ValueError, match='--input=FILE or --split=NAME, not both'):
    accuracy(input=str(other), split='validation')


@pytest.mark.parametrize('mode', ['eval', 'predict', 'export'])
def test_a_cut_is_checked_alike_wherever_there_is_one(mode, trained, tmp_path):
  options = {'out': str(tmp_path / 'out')} if mode == 'export' else {}
  options |= {'split': 'validation'} if mode == 'predict' else {}
  for cut, message in (
    ({'max_rank': 1, 'budget': 2}, '--max_rank or --budget, not both'),
    ({'max_rank': -1}, '--max_rank must be at least 1, or 0 for all, got -1'),
    ({'budget': -2}, '--budget must be at least 1, or 0 for all, got -2'),
  ):
    with pytest.raises(ValueError, match=message):
      run(mode, request(workdir=trained, **options, **cut))


def test_a_regression_is_told_of_what_it_does_not_read(tmp_path):
  config = get_config().to_dict()
  config['data'] |= {'examples': 60, 'inputs': 8, 'outputs': 6, 'rank': 2}
  config |= {'rank': 2, 'method': 'exact'}
  regress(config, tmp_path / 'fit', dry_run=False)
  asked = Request(None, tmp_path / 'fit', DEFAULTS, given=('workdir', 'split'))
  with pytest.raises(ValueError, match='--split is not read for a run of program'):
    run('eval', asked)
  with pytest.raises(ValueError, match='regression.* goes on by --mode=train with its'):
    run('train', request(workdir=tmp_path / 'fit'))
  with pytest.raises(ValueError, match="config.program is 'regression', and"):
    run('import', request(config, tmp_path / 'no', adapter='nowhere'))


def test_dry_run_refuses_a_workdir_that_holds_another_run(trained, data):
  values = tiny.values(data, seed=7)
  with pytest.raises(ValueError, match='another config: .*seed is 7, there it is'):
    run('train', request(values, trained, dry_run=True))


def test_a_run_that_began_with_what_is_not_read_goes_on(data, tmp_path, monkeypatch):
  """As an earlier version let it: its config cannot be changed any more."""
  values = tiny.values(data, train={'steps': 2, 'evaluations': 1})
  values['data']['prompt'] = 'unread'
  values['adapad'] |= {'budget': 12}
  begin = lambda: run('train', request(values, tmp_path / 'run'))
  with pytest.raises(ValueError, match="data.prompt='unread' is not read by task"):
    begin()
  with monkeypatch.context() as patch:
    patch.setattr('adapad_jax.training.plan.require_read', lambda config: None)
    begin()
  run('train', request(values, tmp_path / 'run', dry_run=True))
  begin()
  (tmp_path / 'run' / 'result.json').unlink()
  begin()
  assert result_of(tmp_path / 'run')['rounds'] == 2


def test_dry_run_shows_the_timeline_and_writes_nothing(data, tmp_path, capsys):
  run('train', request(tiny.values(data), tmp_path / 'no', dry_run=True))
  out = capsys.readouterr().out
  assert '"budget": 18' in out
  rows = collections.Counter(
    line.rpartition(',')[2] for line in (data / 'train.csv').read_text().split()
  )
  assert f'classes: neg {rows["neg"]}, pos {rows["pos"]}\n' in out
  timeline, needs = out.split('allocations:')[1].split('what a device would need')
  assert needs.splitlines()[2].split()[0] == '1'
  lines = [line.split() for line in timeline.splitlines()[2:]]
  assert lines == [['0', '12'], ['11', '14'], ['21', '16'], ['31', '18']]
  assert not (tmp_path / 'no').exists()


def spoil(folder, name, old, new):
  path = folder / f'{name}.csv'
  path.write_text(path.read_text().replace(old, new))


BAD = {
  'task': ({'data': {'task': 'colla'}}, "unknown task 'colla'.*did you mean 'cola'"),
  'field': ({'train': {'epoch': 3}}, r'config.train.epoch; did you mean .epochs.'),
  'group': ({'trian': {}}, r'config.trian; did you mean .train.'),
  'method': ({'method': 'adaptad'}, "unknown method 'adaptad'; did you mean 'adapad'"),
  'type': (
    {'train': {'batch': '8'}},
    r"config.train.batch must be of type int, got '8'",
  ),
  'pattern': ({'adapter': {'targets': ('qury',)}}, r"'qury' matches no .*'query'"),
  'column': ({'data': {'label': 'lable'}}, "no column 'lable'.*did you mean 'label'"),
  'label': ({'data': {'labels': ('pos', 'neu')}}, "label 'neg' in row .* not one of"),
  'file': ({'data': {'train': 'nowhere.csv'}}, 'no file nowhere.csv'),
  'model': ({'model': {'source': './nowhere'}}, "there is no directory './nowhere'"),
  'length': ({'data': {'max_length': 64}}, 'above the model.s maximum of 32 tokens'),
  'budget': (
    {'adapad': {'budget': 11}},
    'adapad.budget 11 is below one .* choose 12..36',
  ),
  'too_much': ({'adapad': {'budget': 37}}, r'adapad.budget 37 exceeds .* = 36'),
  'too_late': ({'adapad': {'start': 59}}, r'spent in round 80 .* ends after 60'),
  'score': (
    {'adapad': {'score': 'mean'}},
    "unknown config.adapad.score 'mean'; .*choose from",
  ),
  'feeding': (
    {'adapad': {'feeding': 'spilt'}},
    "unknown config.adapad.feeding 'spilt'; did you mean 'split'. choose from",
  ),
  'init': (
    {'adapter': {'init': 'zeros'}},
    "unknown config.adapter.init 'zeros'; .*choose from",
  ),
  'mesh': ({'mesh': {'worker': 3, 'data': 2}}, r'worker=3 x data=2 does not fit 4'),
  'data_axis': ({'mesh': {'data': 3}}, 'mesh.data=3 does not divide train.batch'),
  'parts': (
    {'train': {'accumulate': 3}},
    'accumulate=3 does not divide train.batch=16',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_settings_are_refused_before_anything_is_written(name, data, tmp_path):
  change, message = BAD[name]
  with pytest.raises(ValueError, match=message):
    run('train', request(tiny.values(data, **change), tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'edit, message',
  [
    (('train', 'neg', 'pos'), r"all 96 training rows have the same class 'pos'"),
    (('train', 'text,label', 'text,other'), r"no column 'label'; it has"),
    (('validation', 'neg', 'nix'), "label 'nix' in row"),
  ],
)
def test_bad_data_is_refused(edit, message, tmp_path):
  tiny.make_data(tmp_path)
  spoil(tmp_path, *edit)
  with pytest.raises(ValueError, match=message):
    run('train', request(tiny.values(tmp_path), tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_unknown_names_at_restoring_are_refused(trained, tmp_path):
  with pytest.raises(ValueError, match="unknown --mode 'evla'; did you mean 'eval'"):
    run('evla', request(workdir=trained))
  with pytest.raises(ValueError, match="unknown split 'dev'.*'validation'"):
    run('eval', request(workdir=trained, split='dev'))
  with pytest.raises(ValueError, match="unknown checkpoint 'newest'; choose from"):
    run('eval', request(workdir=trained, checkpoint='newest'))
  with pytest.raises(ValueError, match='holds no run'):
    run('eval', request(workdir=tmp_path))
  with pytest.raises(ValueError, match='needs --workdir'):
    run('eval', request())
  with pytest.raises(ValueError, match='predict needs --input=FILE'):
    run('predict', request(workdir=trained))
  with pytest.raises(ValueError, match="cannot write predictions as '.doc'"):
    run('predict', request(workdir=trained, split='validation', output='x.doc'))
  with pytest.raises(ValueError, match='needs --config'):
    run('train', request())
