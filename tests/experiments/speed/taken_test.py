"""Tests ../../../experiments/speed/taken.py: a process's own seconds and memory."""

import json
import mmap
import subprocess
import sys

from experiments.speed import taken

SAYS = 'import time; print("a line"); print("the line", flush=True); time.sleep(60)'


def measured(line, code):
  """What the script tells of Python code, as it is called."""
  command = [sys.executable, '-I', taken.__file__, line, sys.executable, '-c', code]
  return json.loads(subprocess.check_output(command))


def test_the_peak_is_that_of_the_command_whatever_its_caller_holds():
  held = bytearray(2**29)
  held[:: mmap.PAGESIZE] = b'x' * len(held[:: mmap.PAGESIZE])
  assert measured('', 'pass')['peak'] < 0.1
  quarter = 'x = bytearray(2**28); x[::4096] = x[::4096].replace(b"\\0", b"x")'
  assert 0.25 < measured('', quarter)['peak'] < 0.4


def test_a_command_is_over_with_its_line_or_its_end():
  line = measured('the line', SAYS)
  assert line['seen'] and line['code'] < 0 and line['seconds'] < 60
  end = measured('', 'import time; time.sleep(0.3); raise SystemExit(3)')
  assert not end['seen'] and end['code'] == 3
  assert 0.3 < end['seconds'] and 0 < end['cpu'] < 0.3
  assert not measured('no such line', 'print("a line")')['seen']
