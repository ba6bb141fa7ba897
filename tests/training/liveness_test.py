"""Tests ../../adapad_jax/training/liveness.py on programs of few arrays."""

import functools

import jax
import jax.numpy as jnp
import pytest

from adapad_jax.training.liveness import peak

N = 64
ONE = N * N * 4  # bytes of a square of float32
SQUARE = jax.ShapeDtypeStruct((N, N), jnp.float32)


def peak_of(function, *arguments):
  return peak(jax.jit(function).trace(*arguments).jaxpr)


def test_an_array_is_held_until_it_is_read_for_the_last_time():
  chain = lambda w: w @ w @ w @ w  # a product and the one before it
  assert peak_of(chain, SQUARE) == 2 * ONE

  def later(w):
    first = w @ w
    return w @ w @ w @ w + first

  assert peak_of(later, SQUARE) == 3 * ONE


def test_elementwise_operations_work_in_place():
  assert peak_of(lambda w: jnp.tanh(jnp.exp(w @ w) + 1.0), SQUARE) == ONE
  assert peak_of(lambda w: jnp.sum(jnp.tanh(w * 2.0)), SQUARE) == 4


def test_a_mask_is_not_held_and_what_a_product_reads_is():
  masked = lambda w: jnp.sum(jnp.where(jnp.tri(N, dtype=bool), w @ w, 0.0))
  assert peak_of(masked, SQUARE) == ONE + 4
  assert peak_of(lambda w: jnp.tri(N) @ w, SQUARE) == 2 * ONE


def test_what_is_read_twice_is_held_unless_it_was_only_widened():
  twice = lambda x: jnp.sum(x @ x * 2.0) + jnp.max(x @ x * 2.0)
  assert peak_of(twice, SQUARE) < 2 * ONE + 16
  half = jax.ShapeDtypeStruct((N, N), jnp.bfloat16)

  def normed(x):
    y = (x @ x).astype('float32')
    return jnp.sum(y / jnp.sqrt(jnp.sum(y * y)))

  assert peak_of(normed, half) < ONE // 2 + 16


def test_names_for_the_same_array_cost_nothing():
  turned = lambda w: (w @ w).T.reshape(2, -1, N).reshape(N, N) @ w
  assert peak_of(turned, SQUARE) == 2 * ONE


def test_what_no_result_depends_on_does_not_exist():
  def idle(w):
    _ = (w @ w) @ (w @ w)
    return w @ w

  assert peak_of(idle, SQUARE) == ONE


def layers(remat, stack_LNN, x):
  """Each layer keeps two arrays for its gradient, or its input alone."""

  def layer(x, w):
    return jnp.sin(jnp.sin(x @ w) @ w), None

  body = jax.checkpoint(layer) if remat else layer
  return jnp.sum(jax.lax.scan(body, x, stack_LNN)[0])


def test_a_scan_holds_what_its_backward_pass_reads():
  count = 20
  stack = jax.ShapeDtypeStruct((count, N, N), jnp.float32)
  of = lambda remat: peak_of(
    jax.grad(functools.partial(layers, remat), 1), stack, SQUARE
  )
  assert 2 * count * ONE <= of(False) <= (2 * count + 8) * ONE
  assert count * ONE <= of(True) <= (count + 8) * ONE


def test_a_loop_and_a_branch_hold_what_is_inside():
  turn = lambda w: jax.lax.fori_loop(0, 3, lambda i, x: x @ w @ w @ w, w)
  assert 2 * ONE <= peak_of(turn, SQUARE) <= 4 * ONE
  large = lambda w: jnp.sum((w @ w) @ (w @ w))
  branch = lambda w: jax.lax.cond(w[0, 0] > 0, large, lambda w: w[0, 0], w)
  assert 2 * ONE <= peak_of(branch, SQUARE) <= 3 * ONE + 64


@pytest.mark.parametrize('devices', [1, 4, 16])
def test_devices_need_not_be_there(devices):
  mesh = jax.sharding.AbstractMesh(
    (devices,), ('data',), axis_types=(jax.sharding.AxisType.Explicit,)
  )
  rows = jax.NamedSharding(mesh, jax.P('data'))
  x = jax.ShapeDtypeStruct((16 * N, N), jnp.float32, sharding=rows)
  one = lambda x: jnp.tanh(x @ x.T) @ x
  spread = jax.shard_map(
    one, mesh=mesh, in_specs=jax.P('data'), out_specs=jax.P('data')
  )
  with jax.sharding.use_abstract_mesh(mesh):
    own = 16 * N // devices
    assert peak_of(spread, x) == 4 * (own * own + own * N)


def test_the_compiler_agrees_about_products():
  def network(x, w):
    for _ in range(6):
      x = jnp.tanh(x @ w)
    return jnp.sum(x)

  x = jax.ShapeDtypeStruct((2048, N), jnp.float32)
  traced = jax.jit(jax.grad(network, 1)).trace(x, SQUARE)
  found = traced.lower().compile().memory_analysis()
  compiled = found.temp_size_in_bytes + found.output_size_in_bytes
  assert 0.7 < peak(traced.jaxpr) / compiled < 1.4
