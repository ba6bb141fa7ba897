"""Tests ../adapad_jax/__init__.py: what it offers, says of it, and costs."""

import inspect
import pydoc
import subprocess
import sys

import pytest

import adapad_jax


def run(program):
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_importing_costs_nothing_and_asking_initialises_no_device():
  run(
    'import sys, adapad_jax\n'
    "heavy = {'jax', 'flax', 'numpy', 'transformers', 'matplotlib'}\n"
    'assert not heavy & set(sys.modules), heavy & set(sys.modules)\n'
    'from adapad_jax import *\n'
    "assert 'matplotlib' not in sys.modules\n"
    'import jax\n'
    # Refused once a backend is there.
    "jax.config.update('jax_num_cpu_devices', 3)\n"
    'assert jax.device_count() == 3\n'
  )


@pytest.mark.parametrize('name', adapad_jax.__all__)
def test_everything_offered_is_explained(name):
  offered = getattr(adapad_jax, name)
  text = inspect.getdoc(offered)
  assert text and text[0].isupper() and '.' in text.splitlines()[0]
  assert name in dir(adapad_jax)
  if inspect.isfunction(offered):
    assert 'Raises:' in text or name == 'describe'
    given = inspect.signature(offered)
    assert given.return_annotation is not given.empty
  if inspect.isclass(offered):
    missing = [f for f in inspect.signature(offered).parameters if f not in text]
    assert not missing, f'{name} does not say what {missing} are'


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    _ = adapad_jax.trian
  with pytest.raises(ImportError):
    from adapad_jax import trian  # noqa: F401


def test_help_shows_all_of_it():
  page = pydoc.render_doc(adapad_jax, renderer=pydoc.plaintext)
  for name in adapad_jax.__all__:
    assert name in page
