"""Tests small parts of ../../adapad_jax/lowrank: terms, packings, starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.lowrank import (
  INITIALIZERS,
  Delta,
  Deployed,
  LowRank,
  Packing,
  init_packed,
  init_updates,
)


def test_a_rows_term_and_its_gradients_follow_the_masks():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  x, a, b, dy = draw(3, 2, 4), draw(2, 4), draw(2, 5), draw(3, 2, 5)
  sees = jnp.array([[1.0, 1], [0, 1], [1, 0]])
  trains = jnp.array([[0.0, 1], [0, 1], [1, 0]])

  def masked(x, a, b):
    return jnp.sum(Delta(a, b, sees, trains)(x) * dy)

  def dense(x, a, b, mask):
    y = jnp.einsum('bli,si,bs,so->blo', x, a, mask, b)
    return jnp.sum(y * dy)

  grad = jax.grad(masked, argnums=(0, 1, 2))(x, a, b)
  want_x = jax.grad(dense)(x, a, b, sees)
  want_ab = jax.grad(dense, argnums=(1, 2))(x, a, b, trains)
  np.testing.assert_allclose(masked(x, a, b), dense(x, a, b, sees), rtol=1e-5)
  for got, want in zip(grad, (want_x, *want_ab), strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_term_refuses_inputs_that_are_not_rows_of_the_batch():
  ones = jnp.ones((3, 1))
  delta = Delta(jnp.ones((1, 4)), jnp.ones((1, 5)), ones, ones)
  with pytest.raises(ValueError, match=r'shape \(4, 4\).*the 3 rows'):
    delta(jnp.ones((4, 4)))
  assert delta.broadcast(jnp.ones((7, 4))).shape == (3, 7, 5)


def test_a_layout_takes_components_apart_and_together():
  packing = Packing.of({'wide': (4, 6), 'thin': (2, 3)})
  rng = np.random.default_rng(1)
  parts = {
    name: LowRank(
      jnp.asarray(rng.normal(size=(2, i)), jnp.float32),
      jnp.asarray(rng.normal(size=(2, o)), jnp.float32),
    )
    for name, (i, o) in zip(packing.modules, packing.shapes, strict=True)
  }
  stack_RMP = packing.pack(parts)
  assert stack_RMP.shape == (2, 2, 10) and packing.sizes_M.tolist() == [10, 5]
  assert not stack_RMP[:, 1, 5:].any()
  back = packing.unpack(stack_RMP)
  jax.tree.map(np.testing.assert_array_equal, back, parts)


@pytest.mark.parametrize(
  'order',
  [
    'up.0 down.0 up.1 down.1 up.2 down.2 alone',
    'up.2 alone down.1 up.0 down.2 up.1 down.0',
  ],
)
def test_layers_of_a_scanned_layer_are_taken_at_once(order):
  names = order.split()
  sizes = {'up': (2, 4), 'down': (4, 2), 'alone': (3, 5)}
  shapes = {name: sizes[name.split('.')[0]] for name in names}
  stacks = {name: tuple(f'{name}.{i}' for i in range(3)) for name in ('up', 'down')}
  packing = Packing.of(shapes, stacks)
  stack_RMP = jnp.asarray(np.random.default_rng(2).normal(size=(2, 7, 8)), jnp.float32)
  stack_RMP = packing.pack(packing.unpack(stack_RMP))  # Zeros beyond a component.
  one_by_one, at_once = packing.unpack(stack_RMP), packing.split(stack_RMP)
  assert set(at_once) == {'up', 'down', 'alone'} == set(packing.places)
  for name, layers in stacks.items():
    for i, layer in enumerate(layers):
      np.testing.assert_array_equal(at_once[name].a_RI[i], one_by_one[layer].a_RI)
      np.testing.assert_array_equal(at_once[name].b_RO[i], one_by_one[layer].b_RO)
  np.testing.assert_array_equal(at_once['alone'].b_RO, one_by_one['alone'].b_RO)
  np.testing.assert_array_equal(packing.joined(at_once), stack_RMP)
  plain = Packing.of(shapes)
  np.testing.assert_array_equal(plain.joined(plain.split(stack_RMP)), stack_RMP)
  assert set(packing.numbers) == {'alone'} and set(plain.numbers) == set(names)
  for one in (packing, plain):
    at = lambda stack, numbers, one=one: one.split(stack, one.places | numbers)
    at_numbers = jax.jit(at)(stack_RMP, one.numbers)
    jax.tree.map(np.testing.assert_array_equal, at_numbers, one.split(stack_RMP))


def test_the_deployed_update_is_a_prefix_of_the_active_components():
  rng = np.random.default_rng(2)
  a = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
  b = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
  deployed = Deployed({'m': LowRank(a, b)}, jnp.array([[1.0, 1, 0]]), {})
  x = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
  for prefix, used in ((0, 0), (1, 1), (2, 2), (3, 2)):
    got = deployed.deltas(('m',), 2, prefix)['m'](x)
    np.testing.assert_allclose(got, x @ a[:used].T @ b[:used], atol=1e-5)


@pytest.mark.parametrize('how', ['kaiming', 'gaussian', 'orthonormal'])
def test_a_module_starts_as_its_place_among_all_says(how):
  shapes = {'q': (8, 3), 'down': (12, 8), 'k': (8, 4), 'up': (12, 1)}
  key = jax.random.key(11)
  found = jax.jit(lambda key: init_updates(key, shapes, 3, how))(key)
  assert set(found) == set(shapes)
  for m, (name, (i, o)) in enumerate(shapes.items()):
    alone = INITIALIZERS[how](jax.random.fold_in(key, m), (3, i))
    np.testing.assert_allclose(found[name].a_RI, alone, rtol=1e-6, atol=1e-7)
    assert found[name].b_RO.shape == (3, o) and not found[name].b_RO.any()
  packing = Packing.of(shapes)
  packed = jax.jit(lambda key: init_packed(key, packing, 3, how))(key)
  np.testing.assert_array_equal(packed, packing.pack(found))


@pytest.mark.parametrize('how', ['kaiming', 'gaussian', 'orthonormal'])
def test_updates_start_at_zero_and_rows_do_not_depend_on_their_number(how):
  key, shapes = jax.random.key(0), {'m': (8, 3)}
  few, many = (init_updates(key, shapes, n, how)['m'] for n in (2, 4))
  assert not many.b_RO.any()
  np.testing.assert_allclose(few.a_RI, many.a_RI[:2], atol=1e-6)
  if how == 'orthonormal':
    gram = many.a_RI @ many.a_RI.T
    np.testing.assert_allclose(gram, np.eye(4) / 3, atol=1e-5)
    wide = init_updates(key, {'m': (2, 3)}, 4, how)['m'].a_RI
    np.testing.assert_allclose(wide[:2] @ wide[:2].T, np.eye(2) / 3, atol=1e-5)
    assert np.isfinite(wide).all() and wide.shape == (4, 2)
  with pytest.raises(ValueError, match="unknown init 'zeros'; choose from"):
    init_updates(key, shapes, 2, 'zeros')
