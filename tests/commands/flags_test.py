"""Tests ../../adapad_jax/commands/flags.py: every flag belongs to modes."""

import pathlib
import subprocess
import sys

import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.commands.flags import CONFIG, FLAGS, OPTIONS, expanded, require_read
from tests.documented import ask

ROOT = pathlib.Path(__file__).parents[2]
# What each mode reads, stated once more by hand.
READ = {
  'train': 'config workdir dry_run coordinator processes process_id cluster heartbeat',
  'eval': (
    'workdir checkpoint split input max_rank budget'
    ' coordinator processes process_id cluster heartbeat'
  ),
  'predict': (
    'workdir checkpoint split input output overwrite max_rank budget'
    ' temperature top_k top_p max_new_tokens stop seed'
    ' coordinator processes process_id cluster heartbeat'
  ),
  'chat': (
    'workdir checkpoint max_rank budget system'
    ' temperature top_k top_p max_new_tokens stop seed'
  ),
  'export': 'workdir checkpoint max_rank budget format out base_name',
  'push': 'workdir checkpoint max_rank budget format out base_name repo public',
  'import': 'config workdir adapter',
  'rerank': (
    'config input max_rank budget parameters order format out base_name adapter tuned'
  ),
  'info': 'config workdir coordinator processes process_id cluster heartbeat',
  'report': 'workdir output overwrite',
}


@pytest.mark.parametrize('mode', registry.MODES)
def test_a_mode_reads_its_flags_and_refuses_all_others(mode):
  own = READ[mode].split()
  require_read(mode, own)
  for name in ('config', *FLAGS):
    if name in own:
      continue
    modes = (CONFIG if name == 'config' else FLAGS[name]).modes
    with pytest.raises(
      ValueError, match=f'--{name} is not read by --mode={mode}, only'
    ) as e:
      registry.run(mode, Request(None, None, {}, given=(name,)))
    assert all(f'--mode={one}' in str(e.value) for one in modes)


def test_every_flag_has_a_mode_and_every_mode_is_known():
  named = {mode for flag in (CONFIG, *FLAGS.values()) for mode in flag.modes}
  assert named == set(registry.MODES) == set(READ)
  assert all(flag.modes and flag.help for flag in FLAGS.values())


def test_paths_may_begin_at_home(monkeypatch):
  monkeypatch.setenv('HOME', '/somewhere')
  given = {name: '~/x' if FLAGS[name].default == '' else 0 for name in OPTIONS}
  found = {name for name, value in expanded(given).items() if value == '/somewhere/x'}
  assert found == {'input', 'output', 'out', 'adapter', 'tuned'}
  assert Request(None, pathlib.Path('~/run'), {}).run_folder() == pathlib.Path(
    '/somewhere/run'
  )


REFUSED = (
  (
    ['--mode=predict', '--workdir=x', '--out=y'],
    '--out is not read by --mode=predict',
  ),
  (['--mode=export', '--split=test'], '--split is not read by --mode=export'),
  # Given, though with the value that it has anyway.
  (['--mode=report', '--workdir=x', '--budget=0'], '--budget is not read by'),
  (
    ['--mode=eval', '--workdir=x', '--config=configs/glue.py', '--config.seed=3'],
    'choose rows by --split=NAME or --input=FILE',
  ),
  (
    ['--mode=eval', '--workdir=x', '--config.data.validation=y.csv'],
    '--config.data.validation changes a field of --config=FILE, which was not given',
  ),
  (['--config=configs/glue.py:qickstart'], "unknown task 'qickstart'"),
  (['--config=configs/glue.py', '--config.train.epoch=3'], "did you mean 'epochs'"),
  (['--mode=eval'], 'error: this mode needs --workdir'),
)


def test_what_the_command_line_refuses_it_refuses_in_one_line():
  said = ask('refuse', [arguments for arguments, _ in REFUSED], ROOT)
  for line, (arguments, message) in zip(said, REFUSED, strict=True):
    assert message in line, arguments
    assert line.startswith('error: ') and line.count('\n') == 0, arguments


@pytest.mark.parametrize('place', [0, 5], ids=['by the mode', 'by the config'])
def test_a_process_that_refuses_ends_with_that_line_and_a_code(place):
  arguments, message = REFUSED[place]
  done = subprocess.run(
    [sys.executable, '-m', 'adapad_jax.main', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 1 and message in done.stderr
  assert 'Traceback' not in done.stderr
  assert done.stderr.strip().splitlines()[-1].startswith('error: ')
