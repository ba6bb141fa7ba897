"""Tests ../../experiments/processes.py."""

import os
import time

import pytest

from experiments.processes import call, stream


def told(seconds, code):
  yield {'heard': os.environ.get('HEARD'), 'process': os.getpid()}
  time.sleep(seconds)
  print('not a figure')
  if code:
    os._exit(code)
  yield 'the end'


def add(first, second):
  return first + second


def test_values_come_from_another_process_with_its_own_environment(capfd):
  first, last = stream(told, 0, 0, env={'HEARD': 'yes'})
  assert first['heard'] == 'yes' and first['process'] != os.getpid()
  assert last == 'the end' and 'HEARD' not in os.environ
  out, err = capfd.readouterr()
  assert not out and 'not a figure' in err


def test_what_was_told_before_the_end_is_there():
  for seconds, code, message in (
    (60, 0, 'told was not done after 10 s'),
    (0, 3, 'told ended with exit code 3'),
  ):
    values = stream(told, seconds, code, timeout=10)
    assert next(values)['process']
    with pytest.raises(RuntimeError, match=message):
      next(values)


def test_one_value_or_the_reason_why_not():
  assert call(add, 1, 2) == 3
  with pytest.raises(RuntimeError, match='TypeError'):
    call(add, 1, 'x')
