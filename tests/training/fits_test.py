"""Tests ../../adapad_jax/training/fits.py against plans for devices that are here."""

import dataclasses
import json
import shutil

import jax
import pytest

from adapad_jax.commands import Request
from adapad_jax.commands.registry import run
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.fits import fits, needs, verdict
from adapad_jax.training.memory import Memory, added_up
from tests import tiny, tiny_chat

GIB = 2**30


def plan_of(folder, **groups):
  return make_plan(finetune_config(tiny.values(folder, **groups)))


@pytest.mark.parametrize('method', ['adapad', 'lora', 'full'])
@pytest.mark.parametrize('devices', [1, 4])
def test_arguments_are_those_of_a_plan_for_devices_that_are_here(data, method, devices):
  axis = 'data' if method == 'full' else 'model'
  mesh = {'worker': 1, 'data': 1, 'model': 1} | {axis: devices}
  here = plan_of(data, method=method, mesh=mesh)
  with jax.set_mesh(here.mesh):
    want = added_up(here, lambda traced: 0)
  got = needs(plan_of(data, method=method, mesh={'data': 1}), devices)
  for name in ('weights', 'state', 'batches', 'update'):
    assert getattr(got, name) == getattr(want, name), name


def test_devices_that_are_not_here_share_weights_and_activations(data):
  plan = plan_of(data, method='lora', train={'batch': 64, 'steps': 4})
  assert jax.device_count() < 16
  few, many = needs(plan, 1), needs(plan, 16)
  assert many.weights < few.weights / 2 and many.round < few.round / 4
  assert many.state == few.state


# Layers that are written out are traced one by one.
@pytest.mark.parametrize('scan, layers', [(True, 12), (False, 8)])
def test_layers_that_are_recomputed_hold_little_where_weights_are_divided(
  tmp_path, scan, layers
):
  """What the layers hold is not kept for the sake of what they gather."""
  folder = tiny_chat.make_folder(tmp_path)
  path = folder / 'model/config.json'
  config = json.loads(path.read_text()) | {'num_hidden_layers': layers}
  path.write_text(json.dumps(config))
  held = {}
  for remat in (True, False):
    values = tiny_chat.values(folder, method='lora', train={'batch': 16})
    values['model'] |= {'scan': scan, 'remat': remat}
    plan = make_plan(finetune_config(values))
    held[remat] = [needs(plan, devices).round for devices in (1, 4)]
  assert held[True][0] < held[False][0] / 3
  assert held[True][1] < held[False][1] / 2


def test_no_more_devices_are_asked_for_than_every_card_suffices_for(data):
  lines = fits(plan_of(data, method='lora')).splitlines()
  assert lines[2].split()[0] == '1' and lines[2].endswith('yes    yes')
  assert not lines[3].split()[0].isdigit()


def test_rows_that_cannot_be_shared_are_told_in_the_table(data, monkeypatch):
  monkeypatch.setattr('adapad_jax.training.fits.CARDS', (1e-6, 80))
  plan = plan_of(data, method='lora', train={'batch': 4, 'steps': 4})
  with pytest.raises(ValueError, match='8 devices do not divide 4 rows'):
    needs(plan, 8)
  lines = fits(plan).splitlines()
  assert lines[2].split()[0] == '1' and lines[2].split()[-2:] == ['no', 'yes']
  assert lines[4].split(maxsplit=1) == ['8', '8 devices do not divide 4 rows']


@pytest.mark.parametrize(
  'gib, word',
  [(1, 'yes'), (17.9, 'yes'), (18.1, 'barely'), (22.7, 'barely'), (23, 'no')],
)
def test_the_verdict_is_about_what_jax_may_take(gib, word):
  memory = Memory(int(gib * GIB), 0, batches=0, round=0, evaluation=0, update=0)
  assert verdict(memory, 24) == word
  assert verdict(memory, 80) == 'yes'
  more = dataclasses.replace(memory, weights=0, round=int(gib * GIB))
  assert verdict(more, 24) == word


def test_config_and_tokenizer_suffice_for_a_dry_run(chat_folder, tmp_path, capsys):
  folder = tmp_path / 'chat'
  shutil.copytree(chat_folder, folder, ignore=shutil.ignore_patterns('run'))
  values = tiny_chat.values(folder)
  values['model']['random_weights'] = False
  assert not list((folder / 'model').glob('*.safetensors'))
  run('train', Request(values, tmp_path / 'run', {'dry_run': True}))
  told = capsys.readouterr().out
  assert '24 GB  80 GB' in told and f'{folder / "model"} holds no weights' in told
  assert not (tmp_path / 'run').exists()
  with pytest.raises(ValueError, match='holds no weights'):
    train(finetune_config(values), tmp_path / 'run')
