"""Tests ../adapad_jax/left_out.py: packages that are there, to some alone."""

import importlib
import importlib.util
import sys

import pytest

from adapad_jax import left_out

ASKS = """
import importlib.util, sys
spec = importlib.util.find_spec('unused_here')
try:
  import unused_here
except ImportError:
  unused_here = None
inside = sys.modules.get('unused_here', 'nothing')
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
  """Two modules that ask for a third, and that one."""
  (tmp_path / 'unused_here.py').write_text('value = 7\n')
  (tmp_path / 'asks_one.py').write_text(ASKS)
  (tmp_path / 'asks_two.py').write_text(f'{ASKS}\nimport asks_one\n')
  (tmp_path / 'fails_here.py').write_text('raise ValueError("broken")\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
  names = 'unused_here', 'asks_one', 'asks_two', 'fails_here'
  yield names
  for name in names:
    sys.modules.pop(name, None)


def test_who_is_named_does_not_find_it_and_others_do(packages):
  left_out.leave_out('unused_here', of=['asks_one'])
  one = importlib.import_module('asks_one')
  assert one.unused_here is None and one.spec is None
  # Libraries look there for what is in use, and ask it for its classes.
  assert 'unused_here' not in sys.modules
  two = importlib.import_module('asks_two')
  assert two.unused_here.value == 7 and two.spec is not None


def test_one_that_imports_another_hides_it_for_both_and_no_longer(packages):
  left_out.leave_out('unused_here', of=['asks_one', 'asks_two'])
  two = importlib.import_module('asks_two')
  assert two.unused_here is None and two.asks_one.unused_here is None
  assert importlib.import_module('unused_here').value == 7


def test_what_is_in_use_already_stays_and_a_failed_import_leaves_nothing(packages):
  left_out.leave_out('unused_here', of=['asks_one', 'fails_here'])
  with pytest.raises(ValueError, match='broken'):
    importlib.import_module('fails_here')
  assert 'unused_here' not in sys.modules
  used = importlib.import_module('unused_here')
  assert importlib.import_module('asks_one').unused_here is used
  assert sys.modules['unused_here'] is used


def test_modules_name_their_own_loaders(packages):
  plain = type(importlib.util.find_spec('asks_two').loader)
  left_out.leave_out('unused_here', of=['asks_one'])
  one = importlib.import_module('asks_one')
  assert type(one.__loader__) is type(one.__spec__.loader) is plain
  with pytest.raises(ModuleNotFoundError, match='not_there'):
    left_out.leave_out('unused_here', of=['not_there'])
    importlib.import_module('not_there')
