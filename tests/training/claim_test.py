"""Tests ../../adapad_jax/training/claim.py and record.py on one run, and its lock."""

import contextlib
import csv
import hashlib
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from adapad_jax import export, finetune_config, restore, train
from adapad_jax.lowrank.prefixes import cut_to_budget
from adapad_jax.tasks.facts import Unavailable
from adapad_jax.training import make_plan
from adapad_jax.training.checkpoints import OtherShapes
from adapad_jax.training.claim import make_record
from adapad_jax.training.cutting import require_adapter
from adapad_jax.training.record import read_record
from adapad_jax.training.transfer import deploy_adapter
from adapad_jax.workdir import LOCK, locked
from tests import tiny
from tests.commands import exchange

ROOT = pathlib.Path(__file__).parents[2]
FEW = {'steps': 4, 'evaluations': 1, 'checkpoint_every': 0}
SPENT = {'budget': 18, 'r_max': 2, 'start': 1, 'interval': 1, 'grants_per_event': 6}
ROWS = [{'text': 'good film'}, {'text': 'poor plot awful cast'}, {'text': 'fine'}]


def values_in(folder, **groups):
  """The config of four rounds on what `home` has made, by paths as they are given."""
  values = tiny.values(pathlib.Path('data'), train=FEW, adapad=SPENT, **groups)
  values['data']['path'] = f'{folder}/data'
  values['model'] = {'source': f'{folder}/data/whole'}
  return values


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A folder with data/, and the finished run `run` that was begun from it."""
  home = tmp_path_factory.mktemp('home')
  (home / 'data').mkdir()
  exchange.values_in(home / 'data')
  with contextlib.chdir(home):
    train(finetune_config(values_in('.')), 'run')
  return home


@pytest.fixture
def config(home):
  """The config with absolute paths, as it may be given from anywhere."""
  with contextlib.chdir(home):
    return finetune_config(values_in(home))


@contextlib.contextmanager
def changed(path, change):
  """A file with other content for a while; `None` takes it, or a folder, away."""
  aside = path.with_name(path.name + '.aside')
  path.rename(aside)
  try:
    if change is not None:
      # Line ends stay, so that a change of letters leaves the size alone.
      path.write_bytes(change(aside.read_bytes().decode()).encode())
    yield
  finally:
    path.unlink(missing_ok=True)
    aside.rename(path)


def seen(folder):
  """All that lies in a folder, with contents."""
  return {
    str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
    if path.name != LOCK
  }


def test_a_run_records_what_it_was_begun_with(home):
  record = read_record(home / 'run')
  data = record.data
  assert (data.task, data.kind) == ('classification', 'classification')
  assert (data.classes, data.text, data.label) == (('neg', 'pos'), ('text',), 'label')
  assert data.splits == {'train': 96, 'validation': 40} and record.train_rows == 96
  assert data.sources['validation'].rows == 40
  (file,) = data.sources['train'].files
  content = (home / 'data/train.csv').read_bytes()
  assert file.path == str(home / 'data/train.csv') and file.bytes == len(content)
  assert file.digest == f'sha256:{hashlib.sha256(content).hexdigest()}'
  with (home / 'data/validation.csv').open() as lines:
    labels = [row['label'] for row in csv.DictReader(lines)]
  best = max(labels.count('neg'), labels.count('pos')) / 40
  assert data.baseline.name == 'majority class'
  assert data.baseline.metrics['accuracy'] in (best, 1 - best)
  base = home / 'data/whole'
  assert record.model.config == json.loads((base / 'config.json').read_text())
  assert 'vocab.txt' in [file.path for file in record.model.tokenizer]
  (weights,) = record.model.weights
  content = (base / weights.path).read_bytes()
  assert weights.digest == f'sha256:{hashlib.sha256(content).hexdigest()}'
  assert record.versions['jax'] == jax.__version__
  stored = json.loads((home / 'run/config.json').read_text())
  assert stored['data']['path'] == str(home / 'data')
  assert stored['model']['source'] == str(base)


def test_using_a_run_needs_no_data_and_no_folder(home, tmp_path, monkeypatch, caplog):
  monkeypatch.chdir(tmp_path)
  want = restore(home / 'run').predict(ROWS)
  gone = [changed(home / f'data/{name}.csv', None) for name in ('train', 'validation')]
  with gone[0], gone[1], caplog.at_level(logging.WARNING):
    run = restore(home / 'run')
    assert run.predict(ROWS) == want and run.plan.train_rows == 96
    metrics = json.loads((home / 'run/result.json').read_text())['best']['metrics']
    assert run.metrics == metrics
    with pytest.raises(Unavailable, match='validation.csv, .* is not there any more'):
      run.evaluate()
    found = export(home / 'run', tmp_path / 'whole')
    assert found.items() >= metrics.items() and found['logit_gap'] < 1e-5
    assert 'metrics are those that training reported' in caplog.text
    assert 'accuracy' not in export(home / 'run', tmp_path / 'cut', max_rank=1)
  again = export(home / 'run', tmp_path / 'again')
  assert again['accuracy'] == metrics['accuracy']


def test_classes_are_those_of_the_run_whatever_the_training_file_says(home):
  before = restore(home / 'run')
  want, metrics = before.predict(ROWS), before.evaluate()
  rename = lambda text: text.replace(',pos', ',alpha').replace(',neg', ',zeta')
  with changed(home / 'data/train.csv', rename):
    run = restore(home / 'run')
    assert run.plan.task.label_names == ('neg', 'pos')
    assert run.predict(ROWS) == want and run.evaluate() == metrics
  with changed(home / 'data/train.csv', lambda text: text + 'good,aaa\n'):
    assert restore(home / 'run').evaluate() == metrics


def test_other_validation_data_are_asked_for_by_name(home):
  path = home / 'data/validation.csv'
  want = restore(home / 'run').evaluate()
  with changed(path, lambda text: text.replace(',pos', ',neg')):
    run = restore(home / 'run')
    with pytest.raises(Unavailable, match=f'{path}, .* has changed since .*--input='):
      run.evaluate()
    found = run.evaluate_file(path)
  logits_NC = run.outputs(run.plan.task.read(path))['logits_BC']
  assert found['accuracy'] == np.mean(logits_NC.argmax(1) == 0)
  assert run.evaluate_file(path) == want  # It is back.


CHANGES = {
  'rows': (
    'data/train.csv',
    lambda text: text + 'good,pos\n',
    r'train data: .*train.csv has changed \(.* rows .*: 96 then, 97 now',
  ),
  'classes': (
    'data/train.csv',
    lambda text: text + 'good,aaa\n',
    r"classes: \['neg', 'pos'\] then, \['aaa', 'neg', 'pos'\] now",
  ),
  'validation': (
    'data/validation.csv',
    lambda text: text.replace(',pos', ',neg', 1),
    'validation data: .*validation.csv has changed',
  ),
  'tokenizer': (
    'data/whole/vocab.txt',
    lambda text: text.replace('good\nfine', 'fine\ngood'),
    'the tokenizer in .*: vocab.txt has changed',
  ),
  'base': (
    'data/whole/config.json',
    lambda text: text.replace('"hidden_size": 16', '"hidden_size": 32'),
    'hidden_size in the model.s config.json: 16 then, 32 now',
  ),
}


@pytest.mark.parametrize('name', CHANGES)
def test_going_on_with_something_else_is_refused_and_named(home, config, name):
  path, change, message = CHANGES[name]
  before = seen(home / 'run')
  with changed(home / path, change):
    with pytest.raises(ValueError, match=message):
      train(config, home / 'run')
    if 'whole' in path:
      with pytest.raises(ValueError, match=message):
        restore(home / 'run')
  assert seen(home / 'run') == before


@pytest.fixture(scope='module')
def old(home, tmp_path_factory):
  """The run as versions before the record wrote it, with paths relative to `home`."""
  old = tmp_path_factory.mktemp('old') / 'run'
  shutil.copytree(home / 'run', old)
  (old / 'run.json').unlink()
  stored = json.loads((old / 'config.json').read_text())
  stored['data']['path'], stored['model']['source'] = 'data', 'data/whole'
  (old / 'config.json').write_text(json.dumps(stored))
  return old


def test_a_run_without_a_record_is_rebuilt_with_a_warning(
  home, old, config, monkeypatch, caplog
):
  monkeypatch.chdir(home)
  with caplog.at_level(logging.WARNING):
    run = restore(old)
  assert 'has no run.json' in caplog.text
  new = restore(home / 'run')
  assert run.predict(ROWS) == new.predict(ROWS) and run.evaluate() == new.evaluate()
  # Its config is the same one, though this one has whole paths.
  assert (
    train(config, old)['best']
    == json.loads((home / 'run/result.json').read_text())['best']
  )


@pytest.mark.parametrize('name', ['classes', 'base'])
def test_a_state_of_other_shapes_is_refused_and_stays(
  home, old, name, tmp_path, monkeypatch
):
  monkeypatch.chdir(home)
  path, change, _ = CHANGES[name]
  # Weights that are drawn fit any config.json, so that only the state does not.
  drawn = tmp_path / 'run'
  shutil.copytree(old, drawn)
  stored = json.loads((drawn / 'config.json').read_text())
  stored['model']['random_weights'] = True
  (drawn / 'config.json').write_text(json.dumps(stored))
  values = values_in('.')
  values['model']['random_weights'] = True
  before = seen(drawn)
  wanted = {
    'classes': r'head.classifier.bias is \[2\], it should be \[3\]',
    'base': r'head.* is \[16.*\], it should be \[32',
  }
  with changed(home / path, change):
    with pytest.raises(OtherShapes, match=wanted[name]):
      restore(drawn)
    with pytest.raises(OtherShapes, match=wanted[name]):
      train(finetune_config(values), drawn)
  assert seen(drawn) == before
  assert restore(drawn).step == 4


def test_looking_at_a_run_changes_nothing_even_in_a_damaged_one(home, tmp_path, caplog):
  run = tmp_path / 'run'
  shutil.copytree(home / 'run', run)
  before = seen(run)
  restored = restore(run)
  restored.evaluate()
  restored.predict(ROWS)
  assert seen(run) == before
  for path in (run / 'checkpoints/best').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  before = seen(run)
  with pytest.raises(ValueError, match='none of the checkpoints .* they are damaged'):
    restore(run)
  assert seen(run) == before and 'is damaged' in caplog.text
  shutil.rmtree(run / 'checkpoints')
  with pytest.raises(ValueError, match='holds no best checkpoint yet'):
    restore(run)
  assert not (run / 'checkpoints').exists()


def test_a_budget_keeps_what_an_export_would_keep(home):
  run = restore(home / 'run')
  split = run.plan.task.splits['validation']
  cut = cut_to_budget(run.adapter, 14)
  with jax.set_mesh(run.plan.mesh):
    deployed = deploy_adapter(cut, run.plan.modules)
    want = run.session.evaluator.outputs(run.session.params, deployed, split, 2)
  got = run.outputs(split, budget=14)
  np.testing.assert_allclose(got['logits_BC'], want['logits_BC'], atol=1e-6)
  whole = run.outputs(split)['logits_BC']
  assert np.abs(got['logits_BC'] - whole).max() > 1e-4
  np.testing.assert_array_equal(run.outputs(split, budget=18)['logits_BC'], whole)
  for use in (run.evaluate, lambda **cut: run.predict(ROWS, **cut)):
    with pytest.raises(ValueError, match='--max_rank or --budget, not both'):
      use(max_rank=1, budget=2)
    with pytest.raises(ValueError, match='--budget must be at least 1, .* got -1'):
      use(budget=-1)
  require_adapter(run.deployed, 1, 0)


HOLD = """
import pathlib, sys, time
from adapad_jax.workdir import locked
with locked(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(600)
"""


def test_a_second_run_is_refused_until_the_first_is_gone(home, config, tmp_path):
  workdir = tmp_path / 'run'
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(workdir)],
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  )
  try:
    assert process.stdout.readline() == 'held\n'
    with pytest.raises(
      ValueError, match=f'in use by another run .process {process.pid}'
    ):
      train(config, workdir)
    assert sorted(path.name for path in workdir.iterdir()) == [LOCK]
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
  with locked(workdir), pytest.raises(ValueError, match=f'process {os.getpid()} on'):
    with locked(workdir):
      raise AssertionError('held twice')
  with locked(workdir):
    pass


@pytest.mark.parametrize('name', ['run[1]', 'a*', 'what?', 'back\\slash'])
def test_a_folder_that_checkpoints_cannot_be_read_from_is_refused(
  config, tmp_path, name
):
  for workdir in (tmp_path / name, tmp_path / name / 'below'):
    with pytest.raises(ValueError, match='which the library that writes checkpoints'):
      train(config, workdir)
  assert list(tmp_path.iterdir()) == []


def test_the_home_folder_has_its_short_name_everywhere(home, config, monkeypatch):
  monkeypatch.setenv('HOME', str(home))
  with contextlib.chdir(home):
    values = values_in('~', seed=1)
  assert restore('~/run').plan.train_rows == 96
  # Settled, it is the config that the run has.
  with pytest.raises(ValueError, match='another config: seed is 1, there it is 0;'):
    train(finetune_config(values), '~/run')


def test_a_newer_record_is_not_guessed_at(home, tmp_path):
  shutil.copytree(home / 'run', tmp_path / 'run')
  path = tmp_path / 'run/run.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'format': 2}))
  with pytest.raises(ValueError, match='has format 2, this version reads format 1'):
    restore(tmp_path / 'run')


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('run.json', '{"format": 1}', 'run.json is damaged: .*train_rows'),
    ('run.json', '{"format"', 'run.json is not JSON'),
    ('run.json', '[]', 'run.json has format'),
    ('config.json', '{"seed": 1}', r"config.json is not the config .* it has .'seed'."),
    ('config.json', '[1]', 'config.json is not the config of a run: it holds .1'),
  ],
)
def test_damaged_notes_of_a_run_are_named(home, tmp_path, name, text, message):
  shutil.copytree(home / 'run', tmp_path / 'run')
  (tmp_path / 'run' / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    restore(tmp_path / 'run')


def test_a_holdout_is_recalled_row_by_row(tmp_path):
  tiny.make_data(tmp_path)
  values = tiny.values(tmp_path, data={'holdout': 0.25, 'max_eval_rows': 7})
  plan = make_plan(finetune_config(values))
  again = make_plan(plan.config, make_record(plan))
  assert again.train_rows == plan.train_rows == len(again.task.splits['train']) == 72
  for name in ('train', 'validation', 'dev'):
    want, got = (one.task.splits[name] for one in (plan, again))
    assert want.columns.keys() == got.columns.keys()
    for column in want.columns:
      np.testing.assert_array_equal(want.columns[column], got.columns[column])
  assert again.task.baseline == plan.task.baseline
