"""Tests ../../adapad_jax/training/train.py: whole runs on a tiny model."""

import dataclasses
import json
import logging
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from adapad_jax.training import Diverged, Interrupted, finetune_config, make_plan, train
from adapad_jax.training.checkpoints import Checkpoints
from adapad_jax.training.claim import as_begun, claim_workdir, make_record
from adapad_jax.training.saved import restore
from adapad_jax.training.session import open_session
from adapad_jax.workdir import read_lines
from tests import tiny


@pytest.fixture(scope='module')
def finished(data, tmp_path_factory):
  """One uninterrupted run: its workdir and result."""
  workdir = tmp_path_factory.mktemp('runs') / 'whole'
  return workdir, train(finetune_config(tiny.values(data)), workdir)


def final_state(values, workdir, mesh=(1, 1)):
  """The newest saved state, read on another mesh, as numpy."""
  values = values | {'mesh': {'worker': mesh[0], 'data': mesh[1]}}
  plan = make_plan(finetune_config(values))
  with jax.set_mesh(plan.mesh):
    checkpoints = Checkpoints(workdir / 'checkpoints')
    found = open_session(plan).saved(checkpoints, 'latest')
    checkpoints.close()
    assert {len(x.devices()) for x in jax.tree.leaves(found.state)} == {plan.mesh.size}
    return found.step, jax.device_get(plan.method.portable(found.state))


def assert_same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_result_tells_the_outcome(finished, data):
  workdir, result = finished
  assert json.loads((workdir / 'result.json').read_text())['ranks'] == result['ranks']
  assert result['traces'] == 1
  assert sum(result['ranks'].values()) == result['rank_total'] == result['budget'] == 18
  assert len(result['ranks']) == 6 * tiny.LAYERS
  assert len(set(result['ranks'].values())) > 1
  assert [g['component'] for g in result['grants']].count(2) >= 3
  assert len(result['grants']) == 18 - 12
  assert result['rounds'] == result['last']['step'] == tiny.STEPS
  assert result['baseline']['name'] == 'majority class'
  assert 0 < result['seconds_to_first_step'] <= result['seconds']
  assert result['best']['metrics']['accuracy'] > 0.7
  assert result['best']['metrics']['accuracy'] > (
    result['baseline']['metrics']['accuracy'] + 0.1
  )


def test_every_prefix_is_scored_and_the_whole_one_is_the_best_metric(finished):
  _, result = finished
  assert len(result['prefixes']) == 4
  assert result['prefixes'][-1] == result['best']['metrics']['accuracy']
  lowest, highest = min(result['prefixes'][1:]), max(result['prefixes'][1:])
  assert lowest <= result['curve']['aurac'] <= highest


def test_logs_hold_every_round_and_evaluation(finished):
  workdir, result = finished
  lines = read_lines(workdir / 'metrics.jsonl')
  losses = [x['train/loss'] for x in lines if 'train/loss' in x]
  assert len(losses) == tiny.STEPS and losses[-1] < losses[0]
  steps = [line['step'] for line in lines if 'eval/accuracy' in line]
  assert steps == [20, 40, 60]
  ranks = read_lines(workdir / 'ranks.jsonl')
  assert ranks[-1]['rank'] == list(result['ranks'].values())
  assert all(value > 0 for value in ranks[-1]['importance'])
  assert list((workdir / 'tensorboard').iterdir())


@pytest.mark.parametrize('mesh', [(4, 1), (2, 2)])
def test_a_run_on_another_mesh_ends_at_the_same_numbers(finished, data, tmp_path, mesh):
  workdir, result = finished
  values = tiny.values(data, mesh={'worker': mesh[0], 'data': mesh[1]})
  got = train(finetune_config(values), tmp_path)
  assert got['ranks'] == result['ranks']
  assert got['mesh'] == {'worker': mesh[0], 'data': mesh[1], 'model': 1}
  _, want_state = final_state(tiny.values(data), workdir)
  # Saved on four devices, restored on one.
  _, got_state = final_state(tiny.values(data), tmp_path)
  np.testing.assert_allclose(
    got_state.stack_RMP, want_state.stack_RMP, atol=3e-4, rtol=3e-3
  )


def test_a_checkpoint_restores_on_more_and_fewer_devices(finished, data):
  workdir, _ = finished
  _, one = final_state(tiny.values(data), workdir, (1, 1))
  for mesh in ((2, 1), (2, 2)):
    step, other = final_state(tiny.values(data), workdir, mesh)
    assert step == tiny.STEPS
    assert_same(other, one)


def run_until_stopped(values, workdir):
  """What a process of its own does."""
  try:
    train(finetune_config(values), pathlib.Path(workdir))
  except Interrupted as stop:
    print(stop)


def start(forks, values, workdir):
  """A run in a process of its own, with the settings of these tests."""
  run = 'tests.training.train_test:run_until_stopped'
  return forks.start(run, values, str(workdir), devices=4)


def wait_for_step(process, workdir, step):
  while process.poll() is None:
    lines = read_lines(workdir / 'metrics.jsonl')
    if lines and lines[-1]['step'] >= step:
      return
    time.sleep(0.002)
  raise AssertionError(process.communicate(timeout=300))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(finished, data, forks, tmp_path):
  """kill -9 twice and SIGTERM once; the adapter is the same to the last bit."""
  whole, result = finished
  values = tiny.values(data)
  for step, kind in ((13, signal.SIGKILL), (25, signal.SIGTERM), (47, signal.SIGKILL)):
    process = start(forks, values, tmp_path)
    wait_for_step(process, tmp_path, step)
    process.send_signal(kind)
    output, errors = process.communicate(timeout=300)
    if kind == signal.SIGTERM:
      assert process.returncode == 0, errors
      assert 'SIGTERM: saved after round' in output
    else:
      assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / 'result.json').exists()
  resumed = train(finetune_config(values), tmp_path)
  want_step, want = final_state(values, whole)
  got_step, got = final_state(values, tmp_path)
  assert got_step == want_step == tiny.STEPS
  assert_same(got, want)
  assert resumed['best'] == result['best'] and resumed['prefixes'] == result['prefixes']
  strip = lambda folder: [
    {k: v for k, v in line.items() if k != 'train/seconds'}
    for line in read_lines(folder / 'metrics.jsonl')
  ]
  assert strip(tmp_path) == strip(whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
  finished, data, tmp_path, caplog
):
  whole, _ = finished
  values = tiny.values(data)
  train(finetune_config(values), tmp_path)
  (tmp_path / 'result.json').unlink()
  newest = tmp_path / 'checkpoints/latest/60'
  for path in newest.rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with caplog.at_level(logging.WARNING):
    train(finetune_config(values), tmp_path)
  assert 'latest/60 of step 60 is damaged' in caplog.text
  assert_same(final_state(values, tmp_path)[1], final_state(values, whole)[1])


@pytest.mark.parametrize('damage', ['lost', 'damaged', 'all lost'])
def test_the_outcome_is_of_a_best_state_that_is_there(data, tmp_path, damage):
  """Of the evaluations after rounds 20, 40 and 60, two that were the best are kept."""
  config = finetune_config(tiny.values(data))
  result = train(config, tmp_path)
  (tmp_path / 'result.json').unlink()
  best = tmp_path / 'checkpoints/best'
  saves = sorted(best.iterdir(), key=lambda path: int(path.name))
  assert result['best']['step'] == int(saves[-1].name) and len(saves) == 2
  if damage == 'damaged':
    for path in filter(pathlib.Path.is_file, saves[1].rglob('*')):
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  for save in {'lost': saves[1:], 'damaged': [], 'all lost': saves}[damage]:
    shutil.rmtree(save)
  if damage == 'all lost':
    with pytest.raises(
      ValueError, match='best state any more, which round .* had saved'
    ):
      train(config, tmp_path)
    return
  again = train(config, tmp_path)
  assert again['best']['step'] == int(saves[0].name) < result['best']['step']
  metric, run = result['metric'], restore(tmp_path)
  assert run.evaluate()[metric] == pytest.approx(again['best']['metrics'][metric])
  assert again['prefixes'][-1] == pytest.approx(again['best']['metrics'][metric])


def test_what_was_ended_before_it_had_a_config_has_not_begun(data, tmp_path):
  """Whatever was recorded by then may change."""
  rows = tmp_path / 'data'
  shutil.copytree(data, rows)
  few = {'train': {'steps': 2, 'evaluations': 1}, 'adapad': {'budget': 12}}
  values, workdir = tiny.values(rows, **few), tmp_path / 'run'
  claim_workdir(
    workdir, finetune_config(values), make_record(make_plan(finetune_config(values)))
  )
  (workdir / 'config.json').unlink()
  train_file = next(rows.rglob('train*'))
  train_file.write_text(
    train_file.read_text() + train_file.read_text().splitlines()[-1] + '\n'
  )
  assert train(finetune_config(values), workdir)['rounds'] == 2


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(data, tmp_path):
  values = tiny.values(data, optimizer={'learning_rate': 1e30, 'warmup': 0.0})
  with pytest.raises(Diverged, match=r'not finite in round 2; the state after round 1'):
    train(finetune_config(values), tmp_path)
  step, state = final_state(values, tmp_path)
  assert step == 1 and state.failed == 1
  assert np.isfinite(state.stack_RMP).all()
  assert not (tmp_path / 'result.json').exists()


def test_a_run_from_before_a_field_existed_goes_on(finished, data, tmp_path):
  config = finetune_config(tiny.values(data))
  record = make_record(make_plan(config))
  claim_workdir(tmp_path, config, record)
  stored = json.loads((tmp_path / 'config.json').read_text())
  del stored['train']['buckets'], stored['settings']['joint']
  (tmp_path / 'config.json').write_text(json.dumps(stored))
  claim_workdir(tmp_path, config, record)
  longer = finetune_config(tiny.values(data, train={'buckets': (4,)}))
  with pytest.raises(ValueError, match='train.buckets is .4.*, there it is ..;'):
    claim_workdir(tmp_path, longer, record)


def test_a_run_keeps_the_form_of_its_model_wherever_it_goes_on(data, tmp_path):
  config = finetune_config(tiny.values(data))
  plan = make_plan(config)
  assert config.model.scan is None and plan.config.model.scan is False
  record, path = make_record(plan), tmp_path / 'config.json'
  assert as_begun(tmp_path, config) == config
  for scan in (True, False):
    form = dataclasses.replace(plan.config.model, scan=scan)
    path.unlink(missing_ok=True)
    claim_workdir(tmp_path, dataclasses.replace(plan.config, model=form), record)
    claim_workdir(tmp_path, config, record)
    assert as_begun(tmp_path, config).model.scan is scan
    assert make_plan(as_begun(tmp_path, config)).outlined.scan is scan
  scanned = finetune_config(tiny.values(data, model={'scan': True}))
  with pytest.raises(ValueError, match='model.scan is True, there it is False'):
    claim_workdir(tmp_path, scanned, record)
  # Of a version that knew no other form.
  stored = json.loads(path.read_text())
  del stored['model']['scan']
  path.write_text(json.dumps(stored))
  assert as_begun(tmp_path, config).model.scan is False


def test_another_config_in_the_same_workdir_is_refused(finished, data):
  workdir, _ = finished
  values = tiny.values(data, seed=1, optimizer={'learning_rate': 0.5})
  with pytest.raises(
    ValueError, match='optimizer.learning_rate is 0.5, there it is 0.02; seed'
  ):
    train(finetune_config(values), workdir)
  values = tiny.values(data, adapad={'budget': 17})
  with pytest.raises(ValueError, match='config: adapad.budget is 17, there it is 18;'):
    train(finetune_config(values), workdir)
  values = tiny.values(data, method='lora')
  with pytest.raises(
    ValueError, match="config: method is 'lora', there it is 'adapad';"
  ):
    train(finetune_config(values), workdir)


def test_buckets_compile_once_a_length_and_leave_metrics_alone(data, tmp_path):
  """Rows have 5 to 7 tokens, padded to 6 or 8."""
  values = tiny.values(data)
  values['train'] |= {'buckets': (6,), 'steps': 40, 'evaluations': 1}
  result = train(finetune_config(values), tmp_path)
  assert result['traces'] == 2
  assert result['last']['metrics']['accuracy'] > 0.9
  run = restore(tmp_path, 'latest')
  cut = run.session.evaluator
  whole = dataclasses.replace(cut, program=dataclasses.replace(cut.program, buckets=()))
  with jax.set_mesh(run.plan.mesh):
    for evaluator in (cut, whole):
      metrics = evaluator.validation(run.session.params, run.deployed, 3).metrics
      assert metrics == result['last']['metrics']


def test_patience_ends_a_run_early(data, tmp_path):
  values = tiny.values(
    data, optimizer={'learning_rate': 0.0}, head_optimizer={'learning_rate': 0.0}
  )
  values['train'] |= {'patience': 1}
  result = train(finetune_config(values), tmp_path)
  assert result['rounds'] == 40 and result['best']['step'] == 20
  # What is exported is the best state, which had grown less.
  kept = restore(tmp_path).adapter
  assert result['best_rank_total'] == sum(kept.ranks.values()) == 14
  assert result['rank_total'] == 18
  assert result['adapter_parameters'] == kept.parameters()
