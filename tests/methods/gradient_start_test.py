"""Tests starts along the gradient, and the steps of the head alone before them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.lowrank import along_gradient
from adapad_jax.methods.head import head_alone
from tests.methods import toy

LOOKS = 4
SETTINGS = {
  'adapad': dict(r_max=3, budget=6, gradient_batches=LOOKS),
  'lora': dict(rank=3, gradient_batches=LOOKS),
}
FIRST = {key: x[:LOOKS] for key, x in toy.batches().items()}


def started(name, shape=(1, 1), **changes):
  """(a_RI, b_RO) of every module before the first round."""
  method = toy.build(name, SETTINGS[name], **changes)
  state = toy.run(method, shape, data=FIRST).states[0]
  assert state.step == 0
  if name == 'adapad':
    updates = method.deflation.packing.unpack(state.stack_RMP)
  else:
    updates = state.tuned.params
  return {module: (one.a_RI, one.b_RO) for module, one in updates.items()}


@functools.cache
def gradients():
  """G of every module over the first batches, by differentiating its own weights."""
  model, head = toy.network()

  def total(model):
    rows = {key: x.reshape(-1, *x.shape[2:]) for key, x in FIRST.items()}
    return jnp.sum(toy.loss(model, head, {}, None, rows, None)[0])

  return jax.device_get(jax.jit(jax.grad(total))(model))


@pytest.mark.parametrize('name', SETTINGS)
def test_components_start_along_the_singular_directions_in_their_order(name):
  for module, (a_RI, b_RO) in started(name).items():
    u_IK = np.linalg.svd(gradients()[module].astype('f8'))[0]
    cosines = np.abs(np.sqrt(3) * np.asarray(a_RI) @ u_IK[:, :3])
    np.testing.assert_allclose(cosines, np.eye(3), atol=2e-4, err_msg=module)
    np.testing.assert_array_equal(b_RO, 0)


@pytest.mark.parametrize('shape', [(4, 1), (2, 2), (1, 4)])
def test_the_start_is_the_same_on_every_mesh(shape):
  want, found = started('adapad'), started('adapad', shape, accumulate=2)
  for got, one in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(got, one, atol=1e-4)


def test_a_start_that_looks_at_batches_leaves_their_training_as_it_is():
  plain = toy.build('adapad', SETTINGS['adapad'] | {'gradient_batches': 0})
  informed = toy.build('adapad', SETTINGS['adapad'])
  start = toy.run(informed, data=FIRST).states[0]
  got = toy.run(informed, data=FIRST).states[LOOKS]
  want = toy.run(plain, start=start, data=FIRST).states[LOOKS]
  for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(one, other)


def test_where_the_gradient_has_no_direction_the_row_stays_as_drawn():
  rng = np.random.default_rng(0)
  drawn_RI = rng.normal(size=(4, 3)).astype('f4')
  column, row = rng.normal(size=(3, 1)), rng.normal(size=(1, 5))
  start = np.asarray(along_gradient(jnp.asarray(column @ row, 'f4'), drawn_RI))
  one = column[:, 0] / np.linalg.norm(column) / np.sqrt(3)
  np.testing.assert_allclose(np.abs(start[0]), np.abs(one), rtol=1e-5)
  np.testing.assert_array_equal(start[1:], drawn_RI[1:])
  for nothing in (0.0, np.nan):
    kept = along_gradient(jnp.full((3, 5), nothing, 'f4'), drawn_RI)
    np.testing.assert_array_equal(kept, drawn_RI)


def test_data_that_stay_apart_are_not_looked_at():
  with pytest.raises(ValueError, match='gradient_batches=4 sums gradients over'):
    toy.build('adapad', dict(feeding='federated', r_max=4, gradient_batches=4))


@pytest.mark.parametrize('shape', [(1, 1), (2, 2)])
def test_the_head_alone_takes_the_steps_of_the_method_head(shape):
  method = toy.build('head')
  want = toy.run(method, keep=[LOOKS], data=toy.batches()).states[LOOKS].head
  mesh, (model, head) = toy.mesh_of(shape), toy.network()
  order = toy.shard_order(toy.BATCH, shape[1])
  with jax.set_mesh(mesh):
    whole = jax.NamedSharding(mesh, jax.P())
    rows = jax.NamedSharding(mesh, jax.P(None, 'data'))
    batch_of = lambda t: jax.device_put(
      {key: x[t][None][:, order] for key, x in FIRST.items()}, rows
    )
    head, model = jax.device_put((head, model), whole)
    found = head_alone(method.problem, head, mesh, model, batch_of, LOOKS)
  for got, one in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-6)
