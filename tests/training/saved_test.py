"""Tests ../../adapad_jax/training/saved.py on a tiny run."""

import csv
import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from adapad_jax import cut_to_rank, export, finetune_config, restore, train
from tests import tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('saved')


@pytest.fixture(scope='module')
def result(folder):
  tiny.make_data(folder)
  return train(finetune_config(tiny.values(folder)), str(folder / 'run'))


@pytest.fixture(scope='module')
def saved(folder, result):
  return restore(str(folder / 'run'))


def test_it_evaluates_as_training_did_at_every_prefix(saved, result):
  assert saved.step == result['best']['step']
  assert saved.evaluate() == result['best']['metrics'] == saved.evaluate('validation')
  for rank in (1, 2, 3):
    assert saved.evaluate(max_rank=rank)['accuracy'] == result['prefixes'][rank]
  assert saved.evaluate(max_rank=3_000_000_000) == saved.evaluate()


def test_its_adapter_has_the_ranks_of_the_state(saved, result, folder):
  latest = restore(folder / 'run', 'latest')
  assert latest.adapter.ranks == result['ranks']
  assert sum(saved.adapter.ranks.values()) == result['best_rank_total']
  assert saved.adapter.parameters() == result['adapter_parameters']
  assert saved.adapter.head.keys() == {'bert.pooler.dense', 'classifier'}
  assert max(cut_to_rank(saved.adapter, 1).ranks.values()) == 1


def test_predictions_of_rows_in_memory_are_those_of_the_file(saved, folder):
  with (folder / 'validation.csv').open() as file:
    rows = list(csv.DictReader(file))
  found = saved.predict([{'text': row['text']} for row in rows])
  logits_NC = saved.outputs(saved.plan.task.splits['validation'])['logits_BC']
  names = saved.plan.task.label_names
  assert [row['prediction'] for row in found] == [
    names[i] for i in np.argmax(logits_NC, axis=1)
  ]
  assert all(0.5 <= row['probability'] <= 1 for row in found)
  with pytest.raises(ValueError, match="^rows has no column 'text'"):
    saved.predict([{'txt': 'good'}])
  with pytest.raises(ValueError, match='^rows has no rows'):
    saved.predict([])


def test_rows_in_memory_hold_what_a_file_could(saved):
  plain = saved.predict([{'text': 'good film', 'x': 1, 'y': [True, None]}])
  numpy = {'text': np.str_('good film'), 'x': np.float32(1), 'y': [np.bool_(True)]}
  assert saved.predict([numpy]) == plain
  for value in ({1}, np.zeros(2), {'deep': 1j}, np.datetime64('2020-01-01')):
    rows = [{'text': 'good'}, {'text': 'bad', 'x': value}]
    with pytest.raises(ValueError, match=r"^row 1, column 'x': .* cannot be read"):
      saved.predict(rows)
  with pytest.raises(ValueError, match="^row 0 must be columns by name, got 'good'"):
    saved.predict(['good'])
  with pytest.raises(ValueError, match='^row 0: the name of a column .* got 3'):
    saved.predict([{'text': 'good', 3: 'fine'}])


def test_mistakes_are_named(saved, folder, tmp_path):
  with pytest.raises(ValueError, match='holds no run'):
    restore(tmp_path)
  with pytest.raises(ValueError, match="unknown split 'validaton'; .*did you mean"):
    saved.evaluate('validaton')
  for cut in ({'max_rank': 1.5}, {'budget': 12.5}, {'max_rank': True}):
    ((name, value),) = cut.items()
    message = f'--{name} must be a whole number, got {value}'
    with pytest.raises(ValueError, match=message):
      saved.evaluate(**cut)
    with pytest.raises(ValueError, match=message):
      export(folder / 'run', tmp_path / 'out', **cut)
  assert saved.evaluate(max_rank=np.int64(1)) == saved.evaluate(max_rank=1)
  with pytest.raises(ValueError, match="'pfet'; did you mean 'peft'"):
    export(folder / 'run', tmp_path / 'out', format='pfet')
  message = '--base_name=a/b@v1 has a revision .*; give --base_name=a/b[.]'
  with pytest.raises(ValueError, match=message):
    export(folder / 'run', tmp_path / 'out', base_name='a/b@v1')


def elsewhere(folder, tmp_path, **mesh):
  """The run as one that was trained on a mesh of other devices."""
  run = shutil.copytree(folder / 'run', tmp_path / 'elsewhere')
  config = json.loads((run / 'config.json').read_text())
  config['mesh'] |= mesh
  (run / 'config.json').write_text(json.dumps(config))
  return run


@pytest.mark.parametrize(
  'mesh', [{'worker': 8}, {'data': 2, 'model': 4}, {'worker': 2}]
)
def test_a_run_of_more_devices_than_there_are_opens(folder, result, tmp_path, mesh):
  opened = restore(elsewhere(folder, tmp_path, **mesh))
  found, before = opened.evaluate(), result['best']['metrics']
  assert found == pytest.approx(before, rel=1e-5)
  fits = mesh == {'worker': 2}
  assert opened.plan.mesh.shape['worker'] == (2 if fits else 1)


# What a state of AdaPaD is made of on disk: with another part, even an empty one, runs
# of earlier versions cannot be opened.
STORED = {
  'head',
  'head_moments',
  'step',
  'key',
  'failed',
  'stack_RMP',
  'moments',
  'age_RM',
  'ranks',
}


def under(fields, **names):
  """Fields under the names that they once had."""
  assert set(names) <= set(fields)
  return {names.get(name, name): value for name, value in fields.items()}


def of_before(folder, tmp_path):
  """The run as an earlier version left it: other field names, a stop rule unused."""
  before = shutil.copytree(folder / 'run', tmp_path / 'before')
  config = json.loads((before / 'config.json').read_text())
  settings = config['settings'] | {'stop_ratio': 0.0, 'stop_patience': 3}
  config['settings'] = under(settings, grants_per_event='grants')
  for group in ('optimizer', 'head_optimizer'):
    config[group] = under(config[group], learning_rate='rate')
  config['data']['chat']['cache'] = config['data'].pop('cache')
  (before / 'config.json').write_text(json.dumps(config))
  there = before / 'checkpoints' / 'best'
  (step,) = sorted(there.iterdir(), key=lambda path: int(path.name))[-1:]
  handler = ocp.CompositeCheckpointHandler()
  with ocp.Checkpointer(handler) as checkpointer:
    found = checkpointer.restore(step)
    state, meta = found['state'], found['meta']
    assert set(state) == STORED
    state['ranks'] |= {name: np.zeros(()) for name in ('top', 'weak', 'stopped')}
    shutil.rmtree(step)
    checkpointer.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
      ),
    )
  return before


def test_a_run_of_an_earlier_version_opens(saved, folder, result, tmp_path):
  before = of_before(folder, tmp_path)
  opened = restore(before)
  assert opened.evaluate() == saved.evaluate() == result['best']['metrics']
  assert not (before / 'checkpoints' / 'damaged').exists()


def test_a_stop_rule_that_was_used_is_refused(saved, folder, tmp_path):
  before = of_before(folder, tmp_path)
  config = json.loads((before / 'config.json').read_text())
  config['settings']['stop_ratio'] = 0.5
  (before / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='unknown field config.adapad.stop_ratio'):
    restore(before)
