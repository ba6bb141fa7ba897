"""Tests ../adapad_jax/main.py: what a mode imports before it works."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = (
  'datasets',
  'matplotlib',
  'pandas',
  'pyarrow',
  'scipy',
  'sklearn',
  'tensorboardX',
  'torch',
  'transformers',
)
# What computes or downloads; no flag needs it.
COMPUTES = ('flax', 'huggingface_hub', 'jax', 'numpy', 'optax', 'orbax', 'rich')
CODE = """
import runpy, sys
try:
  runpy.run_module('adapad_jax.main', run_name='__main__')
finally:
  there = [name for name, module in sys.modules.items() if module]
  print('LOADED', *sorted({name.split('.')[0] for name in there}))
"""
# The same, and how many programs it had compiled.
COMPILING = """
import sys
import jax.monitoring
compiled = []
def listen(event, seconds, **_):
  if event == '/jax/core/compile/backend_compile_duration':
    compiled.append(event)
jax.monitoring.register_event_duration_secs_listener(listen)
""" + CODE.replace("print('LOADED'", "print('COMPILED', len(compiled)); print('LOADED'")
# Asked for first, so called last: after all that a program does in the end.
ENDING = """
import atexit, gc, runpy
def tell():
  frozen, before = gc.get_freeze_count(), gc.get_threshold()[0]
  gc.collect()
  print('LOADED', f'{frozen}/{before}/{gc.get_threshold()[0]}')
atexit.register(tell)
runpy.run_module('adapad_jax.main', run_name='__main__')
"""
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
  importlib.import_module(name)
print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))
"""


def loaded(code, *args):
  """The packages that a fresh process has imported in the end."""
  return set(said(code, *args)[-1].split()[1:])


def said(code, *args):
  """The lines of a fresh process, of which the last names what it has imported."""
  done = subprocess.run(
    [sys.executable, '-c', code, *args],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  lines = done.stdout.splitlines()
  assert lines and lines[-1].startswith('LOADED'), done.stdout + done.stderr
  return lines


def test_the_help_imports_nothing_that_computes():
  found = loaded(CODE, '--help')
  assert 'absl' in found and found.isdisjoint((*HEAVY, *COMPUTES))


def test_objects_of_a_start_and_of_the_end_are_not_looked_through_for_garbage():
  """Which takes as long as importing jax. In between they are, after the first time."""
  (counts,) = loaded(ENDING, '--help')
  frozen, before, later = map(int, counts.split('/'))
  assert frozen > 10_000 and before == 1_000_000 and later == 50_000


def test_info_imports_no_library_that_it_does_not_use():
  found = loaded(CODE, '--mode=info', f'--config={ROOT}/configs/glue.py:quickstart')
  assert 'jax' in found and found.isdisjoint({*HEAVY, 'IPython'})


def test_a_dry_run_compiles_nothing_and_imports_what_it_uses(tmp_path, monkeypatch):
  """At first transformers, kept from importing torch; then its tokenizer is kept."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  config = f'--config={ROOT}/configs/glue.py:quickstart'
  first, second = (said(COMPILING, config, '--dry_run') for _ in range(2))
  assert any('memory of a device: about' in line for line in first)
  assert first[:-1] == second[:-1] and first[-2] == 'COMPILED 0'
  unused = {*HEAVY, 'IPython', 'orbax', 'tensorstore'} - {'transformers'}
  found, later = (set(lines[-1].split()[1:]) for lines in (first, second))
  assert 'transformers' in found and found.isdisjoint(unused)
  unused |= {'httpx', 'httpx2', 'transformers'}  # One of the two asks the hub.
  assert 'tokenizers' in later and later.isdisjoint(unused)


def test_what_is_left_out_of_a_start_is_there_for_who_asks_for_it(tmp_path):
  """scipy and scikit-learn look at torch among the modules if it is there."""
  config = f'--config={ROOT}/configs/regression.py'
  code = CODE.replace(
    'finally:', 'finally:\n  import scipy.stats, sklearn.linear_model'
  )
  more = '--config.schedule.rounds=2', f'--workdir={tmp_path / "run"}'
  assert {'scipy', 'sklearn'} <= loaded(code, config, *more)
  assert (tmp_path / 'run' / 'result.json').exists()


def test_modes_import_nothing_heavy():
  """`rerank` alone solves by the package of regression, which needs scipy."""
  files = {path.stem for path in (ROOT / 'adapad_jax/commands').glob('[a-z]*.py')}
  names = [f'adapad_jax.commands.{name}' for name in sorted(files - {'rerank'})]
  assert len(names) > 8
  assert loaded(IMPORTS, *names).isdisjoint(HEAVY)
