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
  print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))
"""
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
  importlib.import_module(name)
print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))
"""


def loaded(code, *args):
  """The packages that a fresh process has imported in the end."""
  done = subprocess.run(
    [sys.executable, '-c', code, *args],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  last = done.stdout.splitlines()[-1].split()
  assert last[0] == 'LOADED', done.stdout + done.stderr
  return set(last[1:])


def test_the_help_imports_nothing_that_computes():
  found = loaded(CODE, '--help')
  assert 'absl' in found and found.isdisjoint((*HEAVY, *COMPUTES))


def test_info_imports_no_library_that_it_does_not_use():
  found = loaded(CODE, '--mode=info', f'--config={ROOT}/configs/glue.py:quickstart')
  assert 'jax' in found and found.isdisjoint(HEAVY)


def test_modes_import_nothing_heavy():
  """`rerank` alone solves by the package of regression, which needs scipy."""
  files = {path.stem for path in (ROOT / 'adapad_jax/commands').glob('[a-z]*.py')}
  names = [f'adapad_jax.commands.{name}' for name in sorted(files - {'rerank'})]
  assert len(names) > 8
  assert loaded(IMPORTS, *names).isdisjoint(HEAVY)
