"""Tests ../../adapad_jax/train_step.py: a batch computed in parts, with noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.deflation.feeding import Replicate
from adapad_jax.deflation.round import computes_in_turn
from adapad_jax.train_step import sum_by_parts
from tests.deflation import toy

CASES = {
  'split': dict(),
  'replicate': dict(feeding='replicate', head_rows='all'),
  'local_steps': dict(shares='first', local_steps=2),
}


def noisy_loss(model, head, deltas, head_weight_B, batch, keys_B):
  """The toy's loss with dropout of the inputs, drawn row by row."""
  keep_BI = jax.vmap(lambda key: jax.random.bernoulli(key, 0.7, (6,)))(keys_B)
  batch = batch | {'x': jnp.where(keep_BI, batch['x'] / 0.7, 0.0)}
  return toy.loss(model, head, deltas, head_weight_B, batch, keys_B)


def method(case, parts):
  # Clipping would hide a wrong scale of the gradient.
  m = toy.method(settings=CASES[case], accumulate=parts)
  optimizer = dataclasses.replace(m.problem.optimizer, clip=0.0, rule='sgd')
  return toy.changed(m, loss=noisy_loss, optimizer=optimizer)


@functools.cache
def batches(local_steps):
  found = toy.data(np.random.default_rng(1), 4, local_steps, 24)
  weight = np.random.default_rng(2).uniform(0.5, 1.5, found['weight'].shape)
  return found | {'weight': weight.astype('f4')}


@functools.cache
def whole(case):
  m = method(case, 1)
  return toy.run(m, (1, 1), batches(m.settings.local_steps))


@pytest.mark.parametrize(
  'case, parts, mesh',
  [
    ('split', 4, (1, 1)),
    ('split', 5, (2, 2)),
    ('replicate', 5, (2, 1)),
    ('local_steps', 2, (1, 2)),
  ],
)
def test_parts_add_up_to_the_batch(case, parts, mesh):
  """Also for parts that do not divide a device's slots, which are padded then."""
  m = method(case, parts)
  want, want_history, _ = whole(case)
  got, history, step = toy.run(m, mesh, batches(m.settings.local_steps))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5), got, want
  )
  np.testing.assert_allclose(
    history[-1]['loss_R'], want_history[-1]['loss_R'], rtol=1e-4
  )
  assert step._cache_size() == 1


def test_padded_slots_compute_nothing_twice():
  """Slots beyond a device's own workers are idle."""
  feeding = Replicate(workers=4, batch=4)
  slots = feeding.slots(jnp.int32(4), 4, blocks=2, shards=1, w=0, d=0, capacity=10)
  assert slots.valid_C.tolist() == [True] * 8 + [False] * 2


def test_activations_of_one_part_alone_are_held():
  """The hidden layer of all rows, between two products, never exists in parts."""
  weight_IH = jnp.sin(jnp.arange(32 * 256.0)).reshape(32, 256)

  def of_rows(x_BI):
    read = lambda weight_IH: jnp.sum(jnp.tanh(x_BI @ weight_IH) @ weight_IH.T)
    return jax.grad(read)(weight_IH)

  x_BI = jnp.cos(jnp.arange(1024 * 32.0)).reshape(1024, 32)
  memory = {}
  for parts in (1, 8):
    run = jax.jit(functools.partial(sum_by_parts, of_rows, parts=parts))
    memory[parts] = run.lower(x_BI).compile().memory_analysis().temp_size_in_bytes
    np.testing.assert_allclose(run(x_BI), of_rows(x_BI), rtol=1e-3, atol=0.1)
  hidden = 1024 * 256 * 4
  assert memory[1] > hidden > 2 * memory[8]


@pytest.mark.parametrize(
  'case, mesh, is_cpu, want',
  [
    ('replicate', (1, 1), True, 24),
    ('replicate', (2, 1), True, 24),
    ('replicate', (1, 2), True, 12),
    ('replicate', (1, 1), False, 4 * 24),
    ('split', (1, 1), True, 24),
  ],
)
def test_rows_that_are_computed_at_once(case, mesh, is_cpu, want, monkeypatch):
  """A CPU takes one worker's at a time, a GPU those of all its workers."""
  seen = set()

  def loss(model, head, deltas, head_weight_B, batch, keys_B):
    seen.add(len(batch['x']))
    return toy.loss(model, head, deltas, head_weight_B, batch, keys_B)

  m = toy.changed(method(case, 1), loss=loss)
  if not is_cpu:
    name = 'adapad_jax.deflation.round.computes_in_turn'
    monkeypatch.setattr(name, lambda mesh: False)
  few = jax.tree.map(lambda x: x[:1], batches(1))
  toy.run(m, mesh, few)
  assert seen == {want}


def test_devices_that_are_not_there_are_no_cpus():
  there = jax.make_mesh((2, 1), ('worker', 'data'), devices=jax.devices()[:2])
  assert computes_in_turn(there)
  assert not computes_in_turn(there.abstract_mesh)
