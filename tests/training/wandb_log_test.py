"""Tests ../../adapad_jax/training/wandb_log.py with a package that only takes notes."""

import sys
import types

import pytest

from adapad_jax.training import finetune_config, make_plan, wandb_log
from adapad_jax.training.claim import claim_workdir, make_record
from adapad_jax.training.logs import RunLog
from adapad_jax.training.train import train
from adapad_jax.workdir import METRICS, read_lines
from tests import tiny


class Run:
  def __init__(self, settings):
    self.settings, self.lines, self.is_over = settings, [], False

  def log(self, values, step):
    assert not self.is_over
    self.lines.append((step, values))

  def finish(self):
    self.is_over = True


@pytest.fixture
def runs(monkeypatch):
  """What was started through a module `wandb` that is not the real one."""
  found = []

  def init(**settings):
    found.append(Run(settings))
    return found[-1]

  module = types.ModuleType('wandb')
  module.init = init
  module.__spec__ = types.SimpleNamespace(name='wandb')
  monkeypatch.setitem(sys.modules, 'wandb', module)
  return found


def test_scalars_go_there_under_one_id_when_a_run_goes_on(runs, tmp_path):
  config = {'seed': 3}
  for step in (1, 2):
    wandb = wandb_log.open_log('films', tmp_path, config)
    log = RunLog(tmp_path, step - 1, wandb)
    log.metrics(step, {'train/loss': 0.5, 'eval/f1': float('nan')})
    log.close()
  assert [run.lines for run in runs] == [
    [(1, {'train/loss': 0.5})],
    [(2, {'train/loss': 0.5})],
  ]
  assert all(run.is_over for run in runs)
  first, second = (run.settings for run in runs)
  assert first == second
  assert first['project'] == 'films' and first['config'] == config
  assert first['resume'] == 'allow' and first['dir'] == str(tmp_path)
  other = wandb_log.open_log('films', tmp_path / 'other', config)
  assert other is not None and runs[-1].settings['id'] != first['id']


def test_without_a_project_nothing_is_imported(runs, tmp_path):
  wandb_log.check('')
  assert wandb_log.open_log('', tmp_path, {}) is None
  assert runs == [] and list(tmp_path.iterdir()) == []


def test_a_missing_package_is_refused_before_anything_is_written(tmp_path, monkeypatch):
  tiny.make_data(tmp_path)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  config = finetune_config(tiny.values(tmp_path, train={'wandb': 'films'}))
  with pytest.raises(ValueError, match=r"train.wandb='films' needs.*adapad-jax\[wandb"):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_logging_may_be_switched_on_while_a_run_is_on(tmp_path):
  tiny.make_data(tmp_path)
  config = finetune_config(tiny.values(tmp_path))
  record = make_record(make_plan(config))
  claim_workdir(tmp_path, config, record)
  on = tiny.values(tmp_path, train={'wandb': 'films'})
  claim_workdir(tmp_path, finetune_config(on), record)
  longer = finetune_config(tiny.values(tmp_path, train={'steps': 7}))
  with pytest.raises(ValueError, match='train.steps is 7'):
    claim_workdir(tmp_path, longer, record)


def test_a_training_run_sends_what_it_writes(runs, tmp_path):
  tiny.make_data(tmp_path)
  few = {'wandb': 'films', 'steps': 6, 'evaluations': 1, 'checkpoint_every': 0}
  grown = {'budget': 12, 'r_max': 2, 'start': 1, 'interval': 1}
  config = finetune_config(tiny.values(tmp_path, train=few, adapad=grown))
  train(config, tmp_path / 'run')
  (run,) = runs
  lines = read_lines(tmp_path / 'run' / METRICS)
  assert [step for step, _ in run.lines] == [line['step'] for line in lines]
  assert run.lines[-1][1]['eval/accuracy'] == lines[-1]['eval/accuracy']
  assert run.settings['config']['train']['steps'] == 6 and run.is_over
