"""Tests ../../../experiments/speed/trace.py: what a trace tells of a step."""

import jax
import jax.numpy as jnp
import pytest

from experiments.speed import trace
from experiments.speed.trace import Event
from experiments.timing import Waited


def test_a_trace_of_this_machine_names_what_ran():
  x = jnp.ones((256, 256))
  run = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x), axis=0))
  call = Waited(lambda: run(x), jax.block_until_ready)
  told = trace.summary(call, steps=3, top=4)
  names = [name for name, _, _ in told['top']]
  assert any('sort' in name for name in names), names
  assert any('tanh' in name for name in names), names
  assert 0 < told['busy_ms'] <= told['span_ms']
  assert all(number == 1 for name, _, number in told['top'] if 'sort' in name)


def test_time_is_that_of_a_kernel_alone_and_of_one_step():
  ms = 1e6
  found = [
    Event('while', 'one', 0, 10 * ms),
    Event('dot', 'one', 1 * ms, 4 * ms),
    Event('dot', 'one', 4 * ms, 7 * ms),
    Event('copy', 'other', 8 * ms, 12 * ms),
    Event('copy', 'other', 16 * ms, 18 * ms),
  ]
  told = trace.summed(found, steps=2, top=2)
  # The loop has four of its ten milliseconds to itself, the products six.
  assert sorted(told['top']) == [['copy', 3.0, 1.0], ['dot', 3.0, 1.0]]
  assert told['busy_ms'] == (12 + 2) / 2 and told['span_ms'] == 18 / 2
  assert told['kernels'] == 2.5


def test_a_folder_without_a_trace_is_refused(tmp_path):
  with pytest.raises(ValueError, match='no trace in'):
    trace.events(tmp_path)
