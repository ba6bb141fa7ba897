"""Tests ../../adapad_jax/commands/info.py."""

import json

import jax

from adapad_jax.commands import Request, registry
from adapad_jax.files import write_json
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.claim import claim_workdir, make_record
from configs.regression import get_config
from tests import tiny

OPEN = {'worker': 0, 'data': 0}


def info(capsys, config=None, workdir=None):
  registry.run('info', Request(config, workdir, {}))
  return json.loads(capsys.readouterr().out)


def test_without_a_config_it_tells_of_the_machine_alone(capsys):
  found = info(capsys)
  assert len(found['devices']) == 4 and found['versions']['jax'] == jax.__version__
  assert 'mesh' not in found and 'model' not in found


def test_with_a_config_it_tells_mesh_and_model_as_well(data, capsys):
  found = info(capsys, tiny.values(data, mesh=OPEN))
  assert found['mesh'] == {'worker': 1, 'data': 4, 'model': 1}
  assert found['model'] == {
    'source': str(data / 'model'),
    'folder': str(data / 'model'),
    'max_length': 32,
  }


def test_its_mesh_is_that_of_a_part_of_a_batch(data, capsys):
  values = tiny.values(data, mesh=OPEN, train={'batch': 8, 'accumulate': 4})
  assert info(capsys, values)['mesh']['data'] == 2


def test_its_mesh_divides_weights_that_one_device_cannot_hold(
  data, capsys, monkeypatch
):
  # The tiny model has 22 kB of weights, which may take four fifths of this.
  device = type('Device', (), {'memory_stats': lambda self: {'bytes_limit': 20_000}})()
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  found = info(capsys, tiny.values(data, mesh=OPEN))
  assert found['mesh'] == {'worker': 1, 'data': 2, 'model': 2}


def test_a_regression_has_a_mesh_and_no_model(capsys):
  config = get_config().to_dict() | {'devices': 2}
  found = info(capsys, config)
  assert found['mesh'] == {'worker': 2, 'data': 1, 'model': 1} and 'model' not in found


def test_the_config_of_a_run_will_do(data, capsys, tmp_path):
  values = tiny.values(data, mesh={'worker': 2, 'data': 2})
  config = finetune_config(values)
  claim_workdir(tmp_path / 'tuned', config, make_record(make_plan(config)))
  found = info(capsys, workdir=tmp_path / 'tuned')
  assert found['mesh'] == {'worker': 2, 'data': 2, 'model': 1}
  assert found['model']['source'] == str(data / 'model')
  write_json(tmp_path / 'fitted/config.json', get_config().to_dict() | {'devices': 3})
  # As a fit leaves it.
  write_json(tmp_path / 'fitted/run.json', {'program': 'regression', 'versions': {}})
  assert info(capsys, workdir=tmp_path / 'fitted')['mesh']['worker'] == 3
