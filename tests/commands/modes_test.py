"""Tests ../../adapad_jax/commands: train, evaluate and predict as the user does."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest

from adapad_jax.commands import Request
from adapad_jax.commands.registry import run
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


def test_training_again_shows_the_finished_run(trained, data, capsys):
  before = (trained / 'result.json').stat().st_mtime_ns
  run('train', request(tiny.values(data), trained))
  out = capsys.readouterr().out
  assert 'holds a finished run' in out and '--mode=eval --workdir=' in out
  assert 'rank of every module, 18 of 18 components' in out
  assert (trained / 'result.json').stat().st_mtime_ns == before


def test_dry_run_shows_the_timeline_and_writes_nothing(data, tmp_path, capsys):
  run('train', request(tiny.values(data), tmp_path / 'no', dry_run=True))
  out = capsys.readouterr().out
  assert '"budget": 18' in out
  timeline = out.split('allocations:')[1].split('compiling')[0]
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
  'too_late': ({'adapad': {'start': 59}}, r'spent in round 79 .* ends after 60'),
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


def main(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'adapad_jax.main', *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config=configs/glue.py:qickstart'], "unknown task 'qickstart'"),
    (['--config=configs/glue.py', '--config.train.epoch=3'], "did you mean 'epochs'"),
    (['--mode=eval'], 'error: this mode needs --workdir'),
  ],
)
def test_the_command_line_ends_in_one_line(arguments, message):
  done = main(*arguments)
  assert done.returncode == 1
  assert message in done.stderr and 'Traceback' not in done.stderr
  assert done.stderr.strip().splitlines()[-1].startswith('error: ')
