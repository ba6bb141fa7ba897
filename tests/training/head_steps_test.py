"""Tests steps of the head alone and starts along the gradient in whole runs."""

import os
import signal

import pytest

from adapad_jax.training import Interrupted, finetune_config, make_plan, train
from adapad_jax.training.logs import RunLog
from adapad_jax.training.session import Session
from adapad_jax.workdir import read_lines
from tests import tiny, tiny_chat
from tests.training.train_test import assert_same, final_state


def values_of(data, **train_fields):
  values = tiny.values(data)
  values['train'] |= {'head_steps': 12, 'steps': 40} | train_fields
  values['adapad'] |= {'gradient_batches': 2, 'start': 4, 'interval': 4}
  return values


def losses(workdir):
  lines = read_lines(workdir / 'metrics.jsonl')
  return [line['train/loss'] for line in lines if 'train/loss' in line]


def test_the_head_is_trained_before_the_first_round_and_not_again(
  data, tmp_path, monkeypatch
):
  values, whole, parts = values_of(data), tmp_path / 'whole', tmp_path / 'parts'
  train(finetune_config(values), whole)
  train(finetune_config(values_of(data, head_steps=0)), tmp_path / 'plain')
  # The first rows are the same; a head that has trained on them does better there.
  assert losses(whole)[0] < 0.9 * losses(tmp_path / 'plain')[0]

  before = RunLog.ranks

  def stop(log, step, values):
    os.kill(os.getpid(), signal.SIGTERM)
    before(log, step, values)

  with monkeypatch.context() as patch:
    patch.setattr(RunLog, 'ranks', stop)
    with pytest.raises(Interrupted, match='saved after round'):
      train(finetune_config(values), parts)
  with monkeypatch.context() as patch:
    patch.delattr(Session, 'beginning')
    train(finetune_config(values), parts)
  assert_same(final_state(values, parts)[1], final_state(values, whole)[1])


def test_a_start_that_the_method_does_not_read_is_refused(data):
  for method in ('adalora', 'increlora'):
    values = values_of(data) | {'method': method, 'adapter': {'init': 'orthonormal'}}
    with pytest.raises(ValueError, match=f"'orthonormal' is not read by .*'{method}'"):
      make_plan(finetune_config(values))


def test_head_steps_need_a_head_and_rows_that_all_may_see(data, chat_folder):
  values = tiny_chat.values(chat_folder, train={'head_steps': 3})
  with pytest.raises(ValueError, match="a task like 'sft' does not have; must be 0"):
    make_plan(finetune_config(values))
  with pytest.raises(ValueError, match="'head' trains .* 'sft' does not have: nothing"):
    make_plan(finetune_config(tiny_chat.values(chat_folder) | {'method': 'head'}))
  values = values_of(data, batch=15)
  values['adapad'] = {'feeding': 'federated', 'r_max': 3}
  with pytest.raises(ValueError, match='head_steps=12 trains the head on rows of all'):
    make_plan(finetune_config(values))
