"""Tests ../../adapad_jax/training/loop.py: what it waits for, and what runs move."""

import importlib

import jax
import numpy as np
import pytest

from adapad_jax.training import finetune_config, loop
from adapad_jax.training.progress import Progress
from adapad_jax.training.watchdog import Watchdog
from adapad_jax.workdir import read_lines
from tests import tiny
from tests.training.train_test import final_state

# The package offers the function by the name of its module.
training = importlib.import_module('adapad_jax.training.train')
ROUNDS = 6


def values_of(data, **groups):
  values = tiny.values(data, **groups)
  values['train'] |= {'steps': ROUNDS, 'evaluations': 1, 'checkpoint_every': 0}
  values['adapad'] |= {'start': 1, 'interval': 1, 'grants_per_event': 3}
  return values


def losses(workdir):
  lines = read_lines(workdir / 'metrics.jsonl')
  return [line['train/loss'] for line in lines if 'train/loss' in line]


def rounds_of(last, pause, done=0):
  """What the loop does on the way from `done` rounds to the last, and where it ends."""
  events, asked, progress = [], [], Progress(10 * done, done)

  def batch_of(step):
    events.append(('rows', step + 1))
    return step

  def advance(state, batch):
    events.append(('sent', batch + 1))
    return state + 10, {'loss': np.float32(batch), 'state': np.int32(state)}

  def asking(number):
    asked.append((number, events[-1]))
    return number in pause

  found = loop.rounds(advance, batch_of, progress, last, Watchdog(0), asking)
  for number, metrics in found:
    assert metrics['loss'] == number - 1 and metrics['state'] == 10 * (number - 1)
    events.append(('read', number))
    # After a pause, and at the end, there is the state of this very round.
    at_hand = number in pause or number == last
    assert progress.step == number + (not at_hand)
    assert progress.state == 10 * progress.step
  # Asked when a round is on its way and the one before it has been read, if it was due.
  assert [number for number, _ in asked] == list(range(done + 1, last + 1))
  assert all(before in (('sent', n), ('read', n - 1)) for n, before in asked)
  return events


def test_outcomes_come_one_round_behind_but_for_pauses():
  rows, sent, read = (lambda n, kind=k: (kind, n) for k in ('rows', 'sent', 'read'))
  start = lambda n: [rows(n), sent(n)]
  assert rounds_of(3, {}) == [
    *start(1), *start(2), read(1), *start(3), read(2), read(3)
  ]  # fmt: skip
  assert rounds_of(4, {2, 4}) == [
    *start(1), *start(2), read(1), read(2), *start(3), *start(4), read(3), read(4)
  ]  # fmt: skip
  assert rounds_of(3, {1}, done=1) == [*start(2), *start(3), read(2), read(3)]
  assert rounds_of(2, {1}, done=2) == []


def test_a_round_is_read_while_the_next_one_runs_and_its_input_is_gone(
  data, tmp_path, monkeypatch
):
  events, inputs = [], []

  def watching(advance, batch_of, progress, *args):
    def building(step):
      events.append(('rows', step + 1))
      return batch_of(step)

    def advancing(state, batch):
      inputs.extend(jax.tree.leaves(state.stack_RMP))
      found = advance(state, batch)
      events.append(('sent', progress.step + 1))
      return found

    for number, metrics in loop.rounds(advancing, building, progress, *args):
      events.append(('read', int(metrics['step'])))
      yield number, metrics

  monkeypatch.setattr(training, 'rounds', watching)
  training.train(finetune_config(values_of(data)), tmp_path)
  # Rows of the next round are put, and it is sent off, before this one is waited for.
  # The first one alone is waited for, to be shown before another program is compiled.
  late = [(('rows', i + 1), ('sent', i + 1), ('read', i)) for i in range(2, ROUNDS)]
  first = [(kind, n) for n in (1, 2) for kind in ('rows', 'sent')]
  first.insert(2, ('read', 1))
  assert events == [*first, *sum(late, ()), ('read', ROUNDS)]
  # Nothing is saved on that account.
  kept = tmp_path / 'checkpoints/latest'
  assert [path.name for path in kept.iterdir()] == [str(ROUNDS)]
  # Donated: no round keeps the components that it was given.
  assert len(inputs) == ROUNDS and all(x.is_deleted() for x in inputs)


def test_nothing_moves_to_the_devices_unasked(data, tmp_path, monkeypatch):
  def careless(advance, *args):
    def advancing(state, batch):
      jax.jit(lambda x: -x)(np.ones(3, np.float32))
      return advance(state, batch)

    return loop.rounds(advancing, *args)

  monkeypatch.setattr(training, 'rounds', careless)
  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    training.train(finetune_config(values_of(data)), tmp_path)


@pytest.mark.parametrize('method', ['adapad', 'lora'])
def test_a_batch_in_parts_trains_what_the_whole_one_does(data, tmp_path, method):
  states = []
  for parts in (1, 4):
    # Plain descent, lest Adam divide the rounding of small gradients by itself.
    values = values_of(
      data,
      method=method,
      optimizer={'rule': 'sgd', 'learning_rate': 0.5, 'clip': 0.0},
      head_optimizer={'rule': 'sgd', 'learning_rate': 0.1, 'clip': 0.0},
    )
    values['train'] |= {'accumulate': parts}
    workdir = tmp_path / str(parts)
    training.train(finetune_config(values), workdir)
    states.append(final_state(values, workdir)[1])
  np.testing.assert_allclose(
    losses(tmp_path / '4'), losses(tmp_path / '1'), atol=1e-5, rtol=1e-5
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
  jax.tree.map(close, states[1], states[0])


def test_a_run_in_bfloat16_learns_the_task(data, tmp_path):
  values = tiny.values(data, model={'dtype': 'bfloat16', 'remat': True, 'scan': True})
  result = training.train(finetune_config(values), tmp_path)
  assert result['best']['metrics']['accuracy'] > 0.8
  _, state = final_state(values, tmp_path)
  assert state.stack_RMP.dtype == np.float32
