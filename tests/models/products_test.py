"""Products in bfloat16 beside the same ones in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from adapad_jax.models import layers, products

DIMENSIONS = (((2,), (0,)), ((), ()))


@pytest.fixture
def operands():
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (3, 5, 40), (40, 24), (3, 5, 24)
  return [
    jax.random.normal(k, s, jnp.bfloat16) for k, s in zip(keys, shapes, strict=True)
  ]


def test_both_passes_are_the_float32_ones_rounded(operands):
  x, kernel, dy = operands
  y, pull = jax.vjp(lambda *xy: products.narrow_dot_general(*xy, DIMENSIONS), x, kernel)
  wide_y, wide_pull = jax.vjp(jnp.matmul, x.astype('float32'), kernel.astype('float32'))
  pairs = [(y, wide_y), *zip(pull(dy), wide_pull(dy.astype('float32')), strict=True)]
  for found, expected in pairs:
    assert found.dtype == jnp.bfloat16
    # Half a unit in the last of eight bits; a sum may end beside such a border.
    np.testing.assert_allclose(found.astype('float32'), expected, rtol=2**-7, atol=1e-5)


def test_logits_of_tokens_are_float32_and_their_gradients_bfloat16(operands):
  x, kernel, _ = operands
  table = kernel.T
  y, pull = jax.vjp(products.token_product, x, table)
  wide = [z.astype('float32') for z in (x, table)]
  wide_y, wide_pull = jax.vjp(lambda x, table: x @ table.T, *wide)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, wide_y, rtol=1e-5, atol=1e-5)
  for found, expected in zip(pull(y), wide_pull(wide_y), strict=True):
    assert found.dtype == jnp.bfloat16
    scale = jnp.abs(expected).max()
    np.testing.assert_allclose(found.astype('float32'), expected, atol=scale / 128)
  loss = lambda *xy: jnp.sum(products.token_product(*xy) ** 2)
  dots = [*_dots(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x, table).jaxpr)]
  assert len(dots) == 3
  for dot in dots:
    assert {v.aval.dtype for v in dot.invars} == {jnp.dtype('bfloat16')}


def test_logits_of_tokens_in_float32_are_the_plain_product(operands):
  x, table = operands[0].astype('float32'), operands[1].T.astype('float32')
  y, pull = jax.vjp(products.token_product, x, table)
  wide_y, wide_pull = jax.vjp(lambda x, table: x @ table.T, x, table)
  for found, expected in zip((y, *pull(y)), (wide_y, *wide_pull(wide_y)), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def _dots(jaxpr):
  """All products of a program, in subprograms too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield equation
    for inner in jaxprs_in_params(equation.params):
      yield from _dots(inner)


def test_every_product_takes_bfloat16_and_gives_float32(operands):
  x, kernel, _ = operands
  layer = layers.linear(40, 24, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  graph, state = nnx.split(layer)

  def loss(x, state):
    return jnp.sum(nnx.merge(graph, state)(x).astype(jnp.float32) ** 2)

  program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x, state)
  dots = list(_dots(program.jaxpr))
  assert len(dots) == 3
  for dot in dots:
    assert {v.aval.dtype for v in dot.invars} == {jnp.dtype('bfloat16')}
    assert dot.outvars[0].aval.dtype == jnp.float32


@pytest.mark.parametrize(
  ('dtype', 'backend', 'narrow'),
  [
    (jnp.bfloat16, 'cpu', True),
    ('bfloat16', 'cpu', True),
    (jnp.float32, 'cpu', False),
    (jnp.bfloat16, 'gpu', False),
    (jnp.bfloat16, 'tpu', False),
  ],
)
def test_other_devices_and_dtypes_take_jaxs_own(dtype, backend, narrow):
  found = products.dense_dot_general(dtype, backend)
  expected = products.narrow_dot_general if narrow else jax.lax.dot_general
  assert found is expected


def test_other_products_are_refused(operands):
  x, kernel, _ = operands
  with pytest.raises(ValueError, match='only x W'):
    products.narrow_dot_general(x, kernel.T, (((2,), (1,)), ((), ())))


@pytest.mark.parametrize('backend, dtype', [('gpu', 'bfloat16'), ('cpu', 'float32')])
def test_gradients_of_float32_results_are_narrow_off_the_cpu(
  backend, dtype, operands, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  x, kernel, dy = operands
  pull = jax.vjp(lambda x: products.wide_einsum('abi,io->abo', x, kernel), x)[1]
  found = [
    one.outvars[0].aval.dtype
    for one in jax.make_jaxpr(pull)(dy.astype('float32')).eqns
    if one.primitive.name == 'dot_general'
  ]
  assert found and set(found) == {jnp.dtype(dtype)}
  assert pull(dy.astype('float32'))[0].dtype == jnp.bfloat16
