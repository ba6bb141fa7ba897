"""Export, import, re-ranking and info, end to end on a tiny run with real files."""

import json
import subprocess
import sys

import numpy as np
import pytest

from adapad_jax.commands import Request, registry, rerank
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.checkpoints import Checkpoints
from tests.commands import exchange
from tests.commands.exchange import DEFAULTS, call
from tests.interchange import kit

pytest.importorskip('torch')


@pytest.fixture(scope='module')
def values(tmp_path_factory):
  return exchange.values_in(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def run(values, tmp_path_factory):
  """A finished run: its workdir and result."""
  workdir = tmp_path_factory.mktemp('runs') / 'whole'
  return workdir, train(finetune_config(values), workdir)


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  out = tmp_path_factory.mktemp('export') / 'adapter'
  registry.run('export', Request(None, run[0], DEFAULTS | {'out': str(out)}))
  return out


def test_metric_in_torch_equals_ours_to_the_last_digit(run, exported, values):
  task = make_plan(finetune_config(values)).task
  split = task.splits['validation']
  batch = {name: split.columns[name] for name in ('ids_BL', 'mask_BL', 'types_BL')}
  logits = kit.torch_logits(kit.run_snippet(exported)['model'], batch)['logits']
  best = run[1]['best']['metrics']
  assert task.evaluate(split, {'logits_BC': logits}) == best
  notes = json.loads((exported / 'adapad.json').read_text())
  assert notes['metrics'] == best and notes['ranks'].keys() == run[1]['ranks'].keys()
  assert list(notes['label2id']) == ['neg', 'pos'] == list(task.label_names)


def test_cuts_have_the_metrics_of_the_prefixes(run, capsys, tmp_path):
  workdir, result = run
  for rank in (1, 2):
    found = call('export', capsys, workdir, out=tmp_path / f'{rank}', max_rank=rank)
    assert found['accuracy'] == result['prefixes'][rank]
  found = call('export', capsys, workdir, out=tmp_path / 'budget', budget=14)
  assert found['components'] == 14 and found['delta_error'] == 0


@pytest.mark.parametrize('form', ['peft-uniform', 'merged'])
def test_other_formats_give_the_same_logits(run, exported, form, capsys, tmp_path):
  found = call('export', capsys, run[0], out=tmp_path / 'out', format=form)
  assert found['accuracy'] == run[1]['best']['metrics']['accuracy']
  batch = kit.random_batch(14, width=8)
  logits = [
    kit.torch_logits(kit.run_snippet(folder)['model'], batch)['logits']
    for folder in (exported, tmp_path / 'out')
  ]
  np.testing.assert_allclose(*logits, atol=1e-5)


def test_import_evaluates_trains_on_and_exports_the_same_bytes(
  run, exported, values, capsys, tmp_path
):
  workdir = tmp_path / 'imported'
  found = call('import', capsys, workdir, values, adapter=exported)
  best = run[1]['best']['metrics']
  assert found['accuracy'] == best['accuracy']
  assert call('eval', capsys, workdir)['accuracy'] == best['accuracy']
  call('export', capsys, workdir, out=tmp_path / 'again')
  for path in exported.iterdir():
    assert path.read_bytes() == (tmp_path / 'again' / path.name).read_bytes()
  registry.run('train', Request(None, workdir, DEFAULTS))
  result = json.loads((workdir / 'result.json').read_text())
  assert result['rounds'] == run[1]['rounds']
  assert result['rank_total'] == run[1]['budget'] == 18
  assert result['best']['metrics']['accuracy'] >= best['accuracy']
  # All of it came with the adapter.
  assert len(result['grants']) == result['rank_total'] - sum(run[1]['ranks'].values())
  with pytest.raises(ValueError, match='holds a run already'):
    call('import', capsys, workdir, values, adapter=exported)


def test_an_import_that_was_ended_before_it_had_saved_is_never_trained_from_nothing(
  exported, values, capsys, tmp_path, monkeypatch
):
  workdir = tmp_path / 'imported'

  def ends(self, kind, step, state, meta):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Checkpoints, 'save', ends)
    call('import', capsys, workdir, values, adapter=exported)
  with pytest.raises(ValueError, match='delete the workdir and import again'):
    registry.run('train', Request(None, workdir, DEFAULTS))


def test_rerank_of_an_adapter(run, exported, values, capsys, tmp_path):
  out = tmp_path / 'small'
  found = call('rerank', capsys, None, values, adapter=exported, budget=15, out=out)
  assert found['components'] == 15 and 0.8 < found['explained'] < 1
  assert found['accuracy'] >= run[1]['best']['metrics']['accuracy'] - 0.1
  options = {'max_rank': 3, 'budget': 36, 'out': tmp_path / 'same'}
  found = call('rerank', capsys, None, values, adapter=exported, **options)
  assert found['explained'] == pytest.approx(1, abs=1e-3)
  assert found['components'] == 18, 'no more than the adapter has'
  assert found['accuracy'] == run[1]['best']['metrics']['accuracy']


def test_full_fine_tuning_is_exported_whole_and_cut_down(values, capsys, tmp_path):
  full = values | {
    'method': 'full',
    'optimizer': {'learning_rate': 0.003, 'warmup': 2.0},
  }
  best = train(finetune_config(full), tmp_path / 'run')['best']['metrics']
  with pytest.raises(ValueError, match='export it whole with --format=merged'):
    call('export', capsys, tmp_path / 'run', out=tmp_path / 'x')
  found = call('export', capsys, tmp_path / 'run', out=tmp_path / 'w', format='merged')
  assert found['accuracy'] == best['accuracy']
  model = kit.run_snippet(tmp_path / 'w')['model']
  split = make_plan(finetune_config(full)).task.splits['validation']
  batch = {name: split.columns[name] for name in ('ids_BL', 'mask_BL', 'types_BL')}
  accuracy = np.mean(
    kit.torch_logits(model, batch)['logits'].argmax(1) == split.columns['label_B']
  )
  assert accuracy == pytest.approx(best['accuracy'])
  options = {'tuned': tmp_path / 'w', 'budget': 30, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, values, **options)
  assert 0.5 < found['explained'] < 1 and found['components'] == 30
  del options['budget']
  options |= {'parameters': 300, 'out': tmp_path / 'smaller'}
  smaller = call('rerank', capsys, None, values, **options)
  assert (
    200 < smaller['parameters'] <= 300 and smaller['explained'] < found['explained']
  )


@pytest.mark.parametrize(
  'mode, options, message',
  [
    ('export', {'format': 'pfet', 'out': 'x'}, "'pfet'; did you mean 'peft'"),
    ('export', {}, 'needs --out=FOLDER'),
    ('export', {'out': 'x', 'max_rank': 1, 'budget': 2}, '--max_rank or --budget, not'),
    ('export', {'out': 'x', 'max_rank': -1}, '--max_rank must be at least 1, or 0'),
    ('export', {'out': 'x', 'budget': -1}, '--budget must be at least 1, .* got -1'),
    ('export', {'out': __file__}, 'exchange_test.py exists already'),
    ('export', {'out': '/proc/x/y'}, 'cannot write /proc/x/y: .*nothing was left'),
    ('import', {}, 'needs --config=FILE for the task and --adapter'),
    ('rerank', {'out': 'x'}, 'and --budget=COMPONENTS or --parameters=COUNT over all'),
    ('rerank', {'budget': 3, 'parameters': 9}, '--budget or --parameters, not both'),
    ('rerank', {'parameters': -9}, '--parameters must be at least 1, .* got -9'),
    ('rerank', {'budget': 3, 'order': 'sdv'}, "--order 'sdv'; did you mean 'svd'"),
    ('rerank', {'out': 'x', 'budget': 3}, '--adapter=FOLDER or --tuned=MODEL'),
    ('rerank', {'budget': -3, 'tuned': 'x'}, '--budget must be at least 1, .* got -3'),
    ('rerank', {'budget': 3, 'max_rank': -3, 'tuned': 'x'}, '--max_rank must be at'),
    ('rerank', {'budget': 3, 'tuned': 'x', 'out': __file__}, 'exists already'),
    ('rerank', {'budget': 3, 'tuned': 'x', 'out': 'x', 'input': 'no'}, 'no file no'),
  ],
)
def test_requests_that_cannot_work(
  values, capsys, monkeypatch, tmp_path, mode, options, message
):
  """They are refused before weights are read, and but for --input before the data."""

  def refuse(*args, **kwargs):
    raise AssertionError('must not get here')

  if 'input' not in options:
    monkeypatch.setattr(rerank, 'make_plan', refuse)
  monkeypatch.setattr(rerank, 'open_session', refuse)
  config = values if mode == 'rerank' else None
  # There is no run, which nothing gets as far as to notice.
  workdir = None if mode == 'rerank' else tmp_path
  with pytest.raises(ValueError, match=message):
    call(mode, capsys, workdir, config, **options)


@pytest.mark.parametrize('method', ['lora', 'increlora'])
def test_only_adapad_takes_an_adapter_over(values, capsys, tmp_path, method):
  other = values | {'method': method}
  with pytest.raises(ValueError, match=f"of method 'adapad', not '{method}'"):
    call('import', capsys, tmp_path / 'no', other, adapter='nowhere')


def test_info_is_one_json_object_from_the_command_line():
  command = [sys.executable, '-m', 'adapad_jax.main', '--mode=info']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  found = json.loads(done.stdout)
  assert found['versions']['jax'] and found['devices'] and found['caches']['hub']
