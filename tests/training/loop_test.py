"""Tests ../../adapad_jax/training/train.py: what its loop waits for and moves."""

import importlib

import jax
import numpy as np
import pytest

from adapad_jax.training import finetune_config
from adapad_jax.workdir import read_lines
from tests import tiny
from tests.training.train_test import final_state

# The package offers the function by the name of its module.
loop = importlib.import_module('adapad_jax.training.train')
ROUNDS = 6


def values_of(data, **groups):
  values = tiny.values(data, **groups)
  values['train'] |= {'steps': ROUNDS, 'evaluations': 1, 'checkpoint_every': 0}
  values['adapad'] |= {'start': 1, 'interval': 1, 'grants_per_event': 3}
  return values


def losses(workdir):
  lines = read_lines(workdir / 'metrics.jsonl')
  return [line['train/loss'] for line in lines if 'train/loss' in line]


def test_a_round_is_read_while_the_next_one_runs_and_its_input_is_gone(
  data, tmp_path, monkeypatch
):
  events, inputs = [], []
  build, advance, read = loop.round_batch, loop._advance, loop._read

  def building(columns, order, first, *args):
    events.append(('rows', first + 1))
    return build(columns, order, first, *args)

  def advancing(run, course, batch):
    inputs.extend(jax.tree.leaves(course.state.stack_RMP))
    metrics = advance(run, course, batch)
    events.append(('sent', course.step + 1))
    return metrics

  def reading(run, course, metrics):
    events.append(('read', int(jax.device_get(metrics['step']))))
    read(run, course, metrics)

  monkeypatch.setattr(loop, 'round_batch', building)
  monkeypatch.setattr(loop, '_advance', advancing)
  monkeypatch.setattr(loop, '_read', reading)
  loop.train(finetune_config(values_of(data)), tmp_path)
  # Rows of the next round are put, and it is sent off, before this one is waited for.
  late = [(('rows', i + 1), ('sent', i + 1), ('read', i)) for i in range(1, ROUNDS)]
  assert events == [('rows', 1), ('sent', 1), *sum(late, ()), ('read', ROUNDS)]
  # Donated: no round keeps the components that it was given.
  assert len(inputs) == ROUNDS and all(x.is_deleted() for x in inputs)


def test_nothing_moves_to_the_devices_unasked(data, tmp_path, monkeypatch):
  advance = loop._advance

  def careless(run, course, batch):
    jax.jit(lambda x: -x)(np.ones(3, np.float32))
    return advance(run, course, batch)

  monkeypatch.setattr(loop, '_advance', careless)
  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    loop.train(finetune_config(values_of(data)), tmp_path)


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
    loop.train(finetune_config(values), workdir)
    states.append(final_state(values, workdir)[1])
  np.testing.assert_allclose(
    losses(tmp_path / '4'), losses(tmp_path / '1'), atol=1e-5, rtol=1e-5
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
  jax.tree.map(close, states[1], states[0])


def test_a_run_in_bfloat16_learns_the_task(data, tmp_path):
  values = tiny.values(data, model={'dtype': 'bfloat16', 'remat': True, 'scan': True})
  result = loop.train(finetune_config(values), tmp_path)
  assert result['best']['metrics']['accuracy'] > 0.8
  _, state = final_state(values, tmp_path)
  assert state.stack_RMP.dtype == np.float32
