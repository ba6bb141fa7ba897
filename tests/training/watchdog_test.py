"""Tests ../../adapad_jax/training/watchdog.py, and what it says of a run that hangs."""

import json
import re
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp

from adapad_jax.training.watchdog import Watchdog, compiling
from tests import tiny
from tests.endless import is_alive_after, read_until, started


class Heard:
  """Collects messages, and waits for them."""

  def __init__(self):
    self.texts, self.news = [], threading.Semaphore(0)

  def __call__(self, text):
    self.texts.append(text)
    self.news.release()

  def wait(self):
    assert self.news.acquire(timeout=30)
    return self.texts[-1]


def test_it_names_what_is_waited_for_and_where_and_that_it_went_on():
  heard = Heard()
  dog = Watchdog(0.2, heard)
  with dog.over('the first round'):
    dog.moved('round 7')
    text = heard.wait()
  assert text.startswith('round 7: no progress for 0 s, since ')
  assert 'it is waited for' in text and 'threading.py' in text  # where the code is
  assert re.fullmatch(r'round 7: went on after \d+ s', heard.wait())
  assert len(heard.texts) == 2


def test_a_block_inside_another_stands_for_it():
  heard = Heard()
  dog = Watchdog(0.2, heard)
  with dog.over('round 7'):
    with dog.over('evaluation'):
      assert heard.wait().startswith('evaluation: no progress')
    assert heard.wait().startswith('evaluation: went on')
    assert heard.wait().startswith('round 7: no progress')


def test_it_says_so_again_each_time_the_wait_has_doubled():
  heard, begin, at = Heard(), time.monotonic(), []
  with Watchdog(0.2, heard).over('round 7'):
    for _ in range(3):
      heard.wait()
      at.append(time.monotonic() - begin)
  assert at[0] >= 0.2 and at[1] >= 0.4 and at[2] >= 0.8


def test_it_is_silent_while_things_move_and_where_it_is_off():
  heard = Heard()
  dog, off = Watchdog(30, heard), Watchdog(0, heard)
  threads = threading.active_count()
  with off.over('round 1'):
    off.moved('round 2')
    assert threading.active_count() == threads
  with dog.over('round 1'):
    assert threading.active_count() == threads + 1
    for n in range(5):
      dog.moved(f'round {n}')
  assert threading.active_count() == threads and not heard.texts


def test_a_compilation_is_known_by_its_stack():
  found, main = [], threading.get_ident()

  def look():
    while not done.wait(0.002):
      found.append(compiling(sys._current_frames()[main]))

  done = threading.Event()
  looker = threading.Thread(target=look)
  x = jnp.ones(3)
  new = time.time() % 1  # A program that no cache holds.
  run = jax.jit(lambda x: sum(jnp.sin(x + new + n) @ x for n in range(40)))
  run = run.lower(x)
  looker.start()
  run.compile()
  done.set()
  looker.join()
  assert any(found)
  assert not compiling(sys._getframe())


HANGS = """
import importlib, json, pathlib, sys
import jax
from adapad_jax.training import finetune_config
from tests.endless import endless
training = importlib.import_module('adapad_jax.training.train')
rounds = training.rounds
def hanging(advance, batch_of, progress, *args):
  def advancing(state, batch):
    state, metrics = advance(state, batch)
    with jax.transfer_guard('allow'):
      return state, metrics | ({'step': endless()} if progress.step == 5 else {})
  return rounds(advancing, batch_of, progress, *args)
training.rounds = hanging
training.train(finetune_config(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""


def test_a_round_that_never_ends_is_named_and_two_signals_end_the_run(data, tmp_path):
  values = tiny.values(data)
  values['train'] |= {'steps': 6, 'checkpoint_every': 2, 'watchdog': 1.0}
  values['train'] |= {'evaluations': 1}
  values['adapad'] |= {'start': 1, 'interval': 1, 'grants_per_event': 3}
  with started(HANGS, json.dumps(values), tmp_path) as process:
    # Whether it is stuck in sending off or in waiting, jax decides. On a busy machine
    # an earlier round may take a second as well.
    said = read_until(process, 'round 6, ')
    assert 'no progress for' in said.splitlines()[-1]
    read_until(process, 'in rounds')
    deadline = time.monotonic() + 60
    while not (tmp_path / 'checkpoints' / 'latest' / '4').is_dir():
      assert time.monotonic() < deadline
      time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    read_until(process, 'SIGTERM: the run ends after this round')
    assert is_alive_after(process, 1)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
  assert process.returncode == 128 + signal.SIGTERM
  saved = tmp_path / 'checkpoints'
  assert f'round 4 is saved in {saved}, the same command goes on from there' in rest
