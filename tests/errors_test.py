"""Tests ../adapad_jax/errors.py: what a user can put right is said in one line."""

import errno
import os

import jax
import pytest

from adapad_jax import errors
from adapad_jax.errors import doing, one_line


def raised(action):
  with pytest.raises(Exception) as caught:
    action()
  return one_line(caught.value)


def test_an_error_of_the_system_names_the_path_and_what_to_do(tmp_path):
  (tmp_path / 'file').write_text('')
  line = raised(lambda: (tmp_path / 'file' / 'x').mkdir())
  assert line.startswith(f'{tmp_path}/file/x: Not a directory; a file lies where')
  line = raised(lambda: os.rename(tmp_path / 'no', tmp_path / 'other'))
  assert f'{tmp_path}/no: {tmp_path}/other: No such file' in line


def test_an_error_without_a_path_says_what_was_being_done():
  def action():
    with doing('writing runs/1/metrics.jsonl'):
      raise OSError(errno.ENOSPC, 'No space left on device')

  assert raised(action) == (
    'No space left on device; free some space and give the same command again; training'
    ' goes on from its last checkpoint (while writing runs/1/metrics.jsonl)'
  )


def test_what_tensorstore_makes_of_such_an_error_is_read_back():
  text = 'OUT_OF_RANGE: Error writing "a/0"\nFailed to write [os_error_code=\'28\']'
  assert one_line(ValueError(text)).startswith('No space left on device; free some')


@pytest.mark.parametrize(
  'error',
  [
    MemoryError('Unable to allocate 3 TiB'),
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Unable to allocate 3 TiB\nmore'),
  ],
)
def test_too_little_memory_says_what_to_lower(error):
  line = one_line(error)
  assert line.startswith('out of memory: ') and 'Unable to allocate 3 TiB' in line
  assert '\n' not in line
  for choice in ('train.batch', 'train.eval_batch', 'train.accumulate', 'model.remat'):
    assert choice in line


def test_a_failure_inside_xla_is_a_bug():
  assert one_line(jax.errors.JaxRuntimeError('INTERNAL: no kernel')) is None


def test_lines_are_folded_into_one_and_none_is_empty():
  assert one_line(ValueError('two\n  lines')) == 'two lines'
  assert one_line(ValueError()) == 'ValueError'
  assert one_line(OSError()) == 'OSError'


def test_kinds_leave_bugs_alone():
  for bug in (TypeError, KeyError, AttributeError, RuntimeError, AssertionError):
    assert not issubclass(bug, errors.KINDS)
