"""Tests ../adapad_jax/interrupt.py: signals while the main thread waits."""

import os
import signal
import threading
import time

import pytest

from adapad_jax import interrupt
from tests.endless import is_alive_after, read_until, started

TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.fixture(autouse=True)
def python_handles_interrupts():
  """As it does, unless tests were started where SIGINT is ignored, as behind `&`."""
  before = signal.signal(INT, signal.default_int_handler)
  yield
  signal.signal(INT, before)


WAITS = """
import sys, time
from adapad_jax import interrupt
from tests.endless import deaf
interrupt._GRACE = float(sys.argv[2])
with interrupt.ending_at_once('--mode=eval'):
  try:
    if sys.argv[1] == 'compiled':
      deaf(lambda: print('waits', flush=True))
    print('waits', flush=True)
    if sys.argv[1] == 'python':
      time.sleep(100)
    if sys.argv[1] == 'exit':
      sys.exit(3)
  finally:
    sys.stdout.write('cleans up\\n')  # One write: another thread writes as well.
"""


@pytest.mark.parametrize('kind', [TERM, INT])
def test_a_program_cleans_up_and_ends_on_one_signal(kind):
  with started(WAITS, 'python', 100) as process:
    read_until(process, 'waits')
    time.sleep(1)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + kind
  assert sorted(said.splitlines()) == [
    f'{kind.name}: --mode=eval ends before it is done; what it has saved stays',
    'cleans up',
  ]


@pytest.mark.parametrize('kind, grace', [(INT, 100), (TERM, 100), (TERM, 0.1)])
def test_a_program_ends_although_compiled_code_never_returns(kind, grace):
  """At the second signal, or when the time for its clean-up is over."""
  with started(WAITS, 'compiled', grace) as process:
    read_until(process, 'waits')
    process.send_signal(kind)
    said = read_until(process, 'ends before it is done')
    if grace == 100:
      assert is_alive_after(process, 1)
      process.send_signal(kind)
    rest, _ = process.communicate(timeout=30)
  assert process.returncode == 128 + kind
  assert 'cleans up' not in said + rest


def test_a_program_that_nobody_interrupts_ends_as_it_likes():
  with started(WAITS, 'exit', 1) as process:
    assert process.communicate(timeout=60)[0] == 'waits\ncleans up\n'
  assert process.returncode == 3


RUNS = """
import sys, time
import jax
from adapad_jax import interrupt
from tests.endless import ready_endless
endless = ready_endless()
with interrupt.on_signals(lambda: 'round 4 is saved') as request:
  print('waits', flush=True)
  if sys.argv[1] == 'device':
    jax.device_get(endless())
  while not request:
    time.sleep(0.01)
print('stops:', request.reason())
"""


def test_a_run_ends_after_its_round_on_one_signal():
  with started(RUNS, 'python') as process:
    read_until(process, 'waits')
    process.send_signal(TERM)
    said, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  assert 'SIGTERM: the run ends after this round' in said and 'stops: SIGTERM' in said


@pytest.mark.parametrize('first, second', [(TERM, TERM), (INT, TERM), (INT, INT)])
def test_a_run_ends_at_once_on_the_second_signal(first, second):
  with started(RUNS, 'device') as process:
    read_until(process, 'waits')
    time.sleep(1)
    process.send_signal(first)
    read_until(process, f'{first.name}: the run ends after this round')
    assert is_alive_after(process, 1)
    process.send_signal(second)
    said, _ = process.communicate(timeout=30)
  assert process.returncode == 128 + second
  assert said == f'{second.name} again: the process ends at once; round 4 is saved\n'


def test_handlers_come_back_and_those_of_others_get_the_second_signal():
  seen = []
  old = signal.signal(TERM, lambda number, frame: seen.append(number))
  try:
    mine = signal.getsignal(TERM)
    with interrupt.on_signals(str) as request:
      os.kill(os.getpid(), TERM)
      assert request.signal == TERM and not seen
      os.kill(os.getpid(), TERM)
      assert seen == [TERM]
    assert signal.getsignal(TERM) == mine
  finally:
    signal.signal(TERM, old)


def test_the_second_interrupt_of_an_interactive_session_is_its_own(monkeypatch):
  monkeypatch.setattr('sys.ps1', '>>> ', raising=False)
  with pytest.raises(KeyboardInterrupt), interrupt.on_signals(str) as request:
    os.kill(os.getpid(), INT)
    assert request.reason() == 'SIGINT'
    os.kill(os.getpid(), INT)
    time.sleep(10)
  assert signal.getsignal(INT) == signal.default_int_handler


def test_signals_of_others_reach_whoever_listened_before():
  read, write = os.pipe()
  os.set_blocking(write, False)
  alarm = signal.signal(signal.SIGUSR1, lambda *_: None)
  before = signal.set_wakeup_fd(write)
  try:
    with interrupt.on_signals(str):
      os.kill(os.getpid(), signal.SIGUSR1)
      assert os.read(read, 1) == bytes([signal.SIGUSR1])
    assert signal.set_wakeup_fd(before) == write
  finally:
    signal.signal(signal.SIGUSR1, alarm)
    os.close(read)
    os.close(write)


def test_outside_the_main_thread_nothing_changes():
  found = []

  def work():
    with interrupt.on_signals(str) as request:
      found.extend([signal.getsignal(TERM), bool(request)])

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [signal.SIG_DFL, False]


IMPORTS = """
import runpy, sys, time
class Slow:
  def find_spec(self, name, *rest):
    if name == waited_for:
      print('waits', flush=True)
      time.sleep(100)
waited_for, sys.argv[1:] = sys.argv[1], ['--mode=info']
sys.meta_path.insert(0, Slow())
runpy.run_module('adapad_jax.main', run_name='__main__')
"""


@pytest.mark.parametrize('module', ['absl', 'ml_collections', 'jax', 'flax'])
def test_the_program_ends_in_one_line_while_it_imports(module):
  with started(IMPORTS, module) as process:
    read_until(process, 'waits')
    time.sleep(0.2)
    process.send_signal(INT)
    said, _ = process.communicate(timeout=30)
  assert process.returncode == 128 + INT
  assert said == 'interrupted\n'


MAIN = """
import sys
from absl import app
from adapad_jax import main
from adapad_jax.commands import registry
from tests.endless import deaf
def hang(request):
  deaf(lambda: print('waits', flush=True))
registry.MODES[sys.argv[1]] = hang
app.run(main.main, ['main', f'--mode={sys.argv[1]}'], flags_parser=main.parse)
"""


@pytest.mark.parametrize('mode', ['eval', 'export'])
def test_every_mode_of_the_command_line_ends_on_two_signals(mode):
  with started(MAIN, mode) as process:
    read_until(process, 'waits')
    process.send_signal(INT)
    read_until(process, f'SIGINT: --mode={mode} ends before it is done')
    process.send_signal(INT)
    said, _ = process.communicate(timeout=30)
  assert process.returncode == 128 + INT and not said
