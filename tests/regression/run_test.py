"""Configs, files and reports of `program = 'regression'`."""

import contextlib
import html
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from adapad_jax.regression import discover
from adapad_jax.regression.evaluate import evaluate
from adapad_jax.regression.run import COMPONENTS, run
from adapad_jax.report import write_report
from adapad_jax.workdir import locked
from configs.regression import get_config

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {'examples': 60, 'inputs': 6, 'outputs': 5, 'rank': 3, 'noise': 0.05}


def config(arg='parallel', **changes):
  values = get_config(arg).to_dict()
  values['data'] |= SMALL
  values['rank'] = 3
  values['dtype'] = 'float64'
  for name, value in changes.items():
    group, _, field = name.partition('__')
    if field:
      values[group][field] = value
    else:
      values[group] = value
  return values


@pytest.mark.parametrize(
  'arg', ['parallel', 'sequential', 'joint', 'exact', 'discover', 'parallel,pca']
)
def test_every_method_comes_close_to_the_exact_fit(arg, tmp_path):
  values = config(arg)
  if arg == 'joint':
    values['solver']['learning_rate'] = 1e-3
  result = run(values, tmp_path, dry_run=False)
  assert result == json.loads((tmp_path / 'result.json').read_text())
  assert result['distance_to_exact'] < 1e-3
  assert result['active'] == 3 and len(result['test_error_of_prefixes']) == 4
  assert result['train_error'] == pytest.approx(result['train_error_exact'], abs=1e-5)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps == list(range(1, result['rounds'] + 1))
  last = json.loads(lines[-1])
  assert abs(last['train/excess']) < 1e-3 * last['train/objective'] + 1e-9
  saved = np.load(tmp_path / COMPONENTS)
  outputs = 5
  inputs = 5 if 'pca' in arg else 6
  assert saved['a_RI'].shape == (3, inputs) and saved['b_RO'].shape == (3, outputs)
  assert saved['mean_I'].shape == (inputs,) and saved['mean_O'].shape == (outputs,)


@pytest.mark.parametrize(
  ('arg', 'rate', 'local_steps'),
  [('parallel', 1.0, 20), ('parallel', 10.0, 2), ('joint', 10.0, 2)],
)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_run_that_diverges_is_not_finished(arg, rate, local_steps, dtype, tmp_path):
  values = config(arg, dtype=dtype, schedule__local_steps=local_steps)
  values['solver'] |= {'name': 'sgd', 'learning_rate': rate}
  with pytest.raises(ValueError, match=r'the fit diverged: .* solver\.learning_rate'):
    run(values, tmp_path, dry_run=False)
  assert not (tmp_path / 'result.json').exists()


@pytest.mark.parametrize('centre', [False, True])
def test_discovery_knows_whether_the_means_were_subtracted(
  centre, tmp_path, monkeypatch
):
  module, asked = sys.modules['adapad_jax.regression.run'], []
  spy = lambda *given, **named: (
    asked.append(named['centred']) or discover(*given, **named)
  )
  monkeypatch.setattr(module, 'discover', spy)
  run(config('discover', data__centre=centre), tmp_path, dry_run=False)
  assert asked == [centre]


def test_ones_own_files(tmp_path):
  draw = np.random.default_rng(0)
  x_NI = draw.normal(1, 1, (40, 4))
  y_N = x_NI @ [1.0, -2.0, 0.0, 3.0] + 7
  np.save(tmp_path / 'x.npy', x_NI)
  np.savetxt(tmp_path / 'y.csv', y_N, delimiter=',')
  values = config(rank=1, data__x=str(tmp_path / 'x.npy'))
  values['data']['y'] = str(tmp_path / 'y.csv')
  result = run(values, tmp_path / 'run', dry_run=False)
  assert result['test_error'] < 1e-9 and result['outputs'] == 1
  saved = np.load(tmp_path / 'run' / COMPONENTS)
  got_N = (x_NI - saved['mean_I']) @ saved['a_RI'].T @ saved['b_RO'] + saved['mean_O']
  np.testing.assert_allclose(got_N[:, 0], y_N, atol=1e-6)


def test_late_and_absent_workers_still_arrive(tmp_path):
  values = config(traffic__late=2, traffic__random=True, traffic__absent=0.2)
  result = run(values, tmp_path, dry_run=False)
  assert result['distance_to_exact'] < 1e-6


def test_a_finished_run_is_kept(tmp_path):
  first = run(config('exact'), tmp_path, dry_run=False)
  assert run(config('exact'), tmp_path, dry_run=False) == first
  with pytest.raises(ValueError, match='another config: rank is 2, there it is 3;'):
    run(config('exact', rank=2), tmp_path, dry_run=False)


def test_a_fit_that_began_with_what_is_not_read_is_kept(tmp_path, monkeypatch):
  values = config('exact', traffic__absent=0.9)
  with monkeypatch.context() as patch:
    patch.setattr('adapad_jax.regression.run.require_read', lambda config: None)
    first = run(values, tmp_path, dry_run=False)
  assert run(values, tmp_path, dry_run=False) == first
  assert evaluate(tmp_path)['test_error'] == first['test_error']


def test_a_run_that_another_start_began_in_the_meantime_is_no_ones_else(
  tmp_path, monkeypatch
):
  @contextlib.contextmanager
  def late(workdir):
    monkeypatch.undo()
    run(config('exact', rank=2), workdir, dry_run=False)
    with locked(workdir):
      yield

  monkeypatch.setattr('adapad_jax.regression.run.locked', late)
  with pytest.raises(ValueError, match='another config: rank is 3, there it is 2;'):
    run(config('exact'), tmp_path, dry_run=False)


def test_a_run_is_of_the_data_that_it_was_begun_with(tmp_path, monkeypatch):
  """Their path may be relative, and is that of the folder where the run began."""
  draw = np.random.default_rng(0)
  np.save(tmp_path / 'x.npy', draw.normal(0, 1, (40, 4)))
  np.save(tmp_path / 'y.npy', draw.normal(0, 1, (40, 3)))
  values = config('exact', rank=2, data__x='x.npy')
  values['data']['y'] = 'y.npy'
  monkeypatch.chdir(tmp_path)
  first = run(values, tmp_path / 'run', dry_run=False)
  monkeypatch.chdir('/')
  assert evaluate(tmp_path / 'run')['test_error'] == first['test_error']
  np.save(tmp_path / 'y.npy', draw.normal(0, 1, (40, 3)))
  monkeypatch.setenv('HOME', str(tmp_path))
  values['data'] |= {'x': '~/x.npy', 'y': '~/y.npy'}
  for again in (
    lambda: evaluate(tmp_path / 'run'),
    lambda: run(values, tmp_path / 'run', dry_run=False),
  ):
    with pytest.raises(ValueError, match='data.y=.*y.npy has changed since the run in'):
      again()
  (tmp_path / 'y.npy').unlink()
  with pytest.raises(ValueError, match='data.y=.*y.npy .* is not there any more'):
    evaluate(tmp_path / 'run')


def test_a_dry_run_writes_nothing(tmp_path):
  outline = run(config(), tmp_path / 'run', dry_run=True)
  assert outline['parameters'] == 3 * 11 and outline['examples'] == 45
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'rnak': 2}, "config.rnak; did you mean 'rank'"),
    ({'schedule__round': 2}, "config.schedule.round; did you mean 'rounds'"),
    ({'method': 'paralel'}, "did you mean 'parallel'"),
    ({'solver__name': 'adm'}, "did you mean 'adam'"),
    ({'solver__name': 'hebb'}, 'set data.pca=True'),
    (
      {'solver__learning_rate': 0.0},
      'config.solver.learning_rate must be > 0, got 0.0',
    ),
    ({'method': 'joint'}, "solver.name='power' must be one of"),
    ({'method': 'discover', 'ridge': 1.0}, 'ridge=1.0'),
    (
      {'method': 'exact', 'traffic__late': 1},
      "traffic.late=1 is not read by method='exact', which reads ridge",
    ),
    ({'slope': 1.5}, "slope=1.5 is not read by method='parallel', which reads devices"),
    ({'method': 'sequential', 'level': 0.5}, "level=0.5 is not .* method='sequential'"),
    ({'method': 'exact', 'devices': 2}, "devices=2 is not read by method='exact'"),
    (
      {'method': 'joint', 'solver__name': 'adam', 'schedule__tolerance': 0.1},
      "schedule.tolerance=0.1 is not read by method='joint', which reads .*rounds",
    ),
    (
      {'traffic__absent': 0.9, 'traffic__length': 4},
      r'absent=0.9: with absences of traffic.length=4 .* at most 0.800 of them',
    ),
    ({'traffic__late': -1}, 'config.traffic.late must be >= 0, got -1'),
    ({'schedule__activation': 'above_noise'}, "what method='discover' does"),
    ({'rank': 0}, 'config.rank must be >= 1, got 0'),
    ({'seed': -1}, r'config.seed must be in 0..4294967295, got -1'),
    ({'ridge': -1.0}, 'config.ridge must be >= 0, got -1.0'),
    ({'dtype': 'float16'}, "unknown config.dtype 'float16'; .*choose from"),
    ({'devices': 9}, 'devices=9: mesh worker=9'),
    ({'data__rank': 6}, 'data.rank=6 is above'),
    ({'rank': 6}, r'rank=6 is above min\(inputs, outputs\) = 5'),
    ({'data__noise': -0.1}, 'config.data.noise must be >= 0, got -0.1'),
    ({'data__spectrum': 'exponental'}, "did you mean 'exponential'"),
    ({'data__inputs': 0}, 'config.data.inputs must be >= 1, got 0'),
    ({'data__decay': 1.0}, r'data.decay must be in .0, 1. .*, got 1.0'),
    ({'data__y': 'y.npy'}, 'needs data.x'),
    ({'data__x': 'absent.npy'}, 'is not a file'),
    ({'data__x': 'x.mat'}, 'must end in'),
  ],
)
def test_bad_settings_are_refused_before_any_work(changes, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    run(config(**changes), tmp_path / 'run', dry_run=False)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('text', ['1,2\n3,zwei\n', '1,2\n3,nan\n', '1,2\n3\n'])
def test_bad_files_are_refused(text, tmp_path):
  (tmp_path / 'x.csv').write_text(text)
  with pytest.raises(ValueError, match='data.x'):
    run(config(data__x=str(tmp_path / 'x.csv')), tmp_path / 'run', dry_run=False)
  assert not (tmp_path / 'run').exists()


def test_an_unknown_option_of_the_config_file():
  with pytest.raises(ValueError, match="'pcs'"):
    get_config('parallel,pcs=true')


def test_the_command(tmp_path):
  flags = [f'--config.data.{name}={value}' for name, value in SMALL.items()]
  command = [sys.executable, '-m', 'adapad_jax.main', f'--workdir={tmp_path}']
  config_flag = '--config=configs/regression.py:exact'
  done = subprocess.run(
    [*command, config_flag, '--config.rank=3', *flags],
    cwd=ROOT, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / 'result.json').read_text())
  assert json.loads(done.stdout) == result
  assert result['method'] == 'exact' and result['inputs'] == 6
  page = (tmp_path / 'report.html').read_text()
  assert 'regression by exact' in page and f'{result["test_error"]:.4f}' in page


@pytest.mark.parametrize('arg', ['discover', 'parallel,pca'])
def test_a_finished_run_is_evaluated_again(arg, tmp_path):
  result = run(config(arg), tmp_path, dry_run=False)
  again = evaluate(tmp_path)
  for name in ('train_error', 'test_error', 'test_error_of_prefixes'):
    assert again[name] == pytest.approx(result[name], rel=1e-6)
  stored = json.loads((tmp_path / 'config.json').read_text())
  solver = stored['solver']
  solver['rate'] = solver.pop('learning_rate')  # as earlier versions called it
  (tmp_path / 'config.json').write_text(json.dumps(stored))
  two = evaluate(tmp_path, max_rank=2)
  assert two['rank'] == 2
  assert two['test_error'] == again['test_error_of_prefixes'][2]
  with pytest.raises(ValueError, match='has not ended'):
    evaluate(tmp_path / 'other')


def test_a_report_shows_rounds_and_prefixes(tmp_path):
  folder = tmp_path / 'a run'
  result = run(config(), folder, dry_run=False)
  page = write_report(folder).read_text()
  assert f'{result["train_error_exact"]:.4f}' in page
  assert 'Convergence' in page and 'Error of every prefix' in page
  assert f"--workdir='{folder}'" in html.unescape(page)
  assert len(list((folder / 'figures').glob('*.png'))) == 4
