"""Packed kernels beside the formulas of bitsandbytes, and models that have them."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from adapad_jax.models import quantised
from adapad_jax.models.quantised import NF4_LEVELS, Packing, product

LEVELS = np.array(NF4_LEVELS)


def nf4_of_bitsandbytes(weight_OI):
  """What is left of a tensor in its nf4: blocks of 64 of the flat tensor."""
  flat = weight_OI.astype(np.float64).reshape(-1, 64)
  largest = np.abs(flat).max(axis=1, keepdims=True)
  nearest = np.abs((flat / largest)[..., None] - LEVELS).argmin(axis=-1)
  return (LEVELS[nearest] * largest).reshape(weight_OI.shape)


def int8_of_bitsandbytes(weight_OI):
  """What is left of a tensor in its int8: every row by its largest magnitude."""
  wide = weight_OI.astype(np.float64)
  largest = np.abs(wide).max(axis=1, keepdims=True)
  return np.round(wide * (127 / largest)) * (largest / 127)


REFERENCES = {
  'nf4': nf4_of_bitsandbytes,
  'int8': int8_of_bitsandbytes,
  'bfloat16': lambda w_OI: w_OI.astype(ml_dtypes.bfloat16).astype(np.float64),
}


def draw(rows, features, seed=0, outliers=False):
  rng = np.random.default_rng(seed)
  weight_OI = rng.normal(size=(rows, features)).astype(np.float32) * 0.02
  if outliers:
    weight_OI[:, :: features // 3] *= 20
  return weight_OI


def pack(weight_OI, form):
  packing = Packing(form, weight_OI.shape[1])
  codes, scales = packing.pack(weight_OI)
  assert codes.shape == (len(weight_OI), packing.width)
  assert codes.dtype == quantised.FORMS[form]
  if packing.scaled:
    assert scales.shape == (len(weight_OI), packing.blocks)
  return packing, jnp.array(codes), scales if scales is None else jnp.array(scales)


def error_of(found, exact):
  return np.sqrt(np.mean((np.asarray(found, np.float64) - exact) ** 2))


@pytest.mark.parametrize('outliers', [False, True])
@pytest.mark.parametrize('form', REFERENCES)
def test_errors_are_within_those_of_bitsandbytes(form, outliers):
  weight_OI = draw(96, 320, outliers=outliers)
  packing, *packed = pack(weight_OI, form)
  found_OI, reference_OI = packing.unpack(*packed), REFERENCES[form](weight_OI)
  x_BI = np.random.default_rng(1).normal(size=(40, 320)).astype(np.float32)
  outputs = product(packing, x_BI, *packed)
  exact_BO = x_BI.astype(np.float64) @ weight_OI.T
  for found, reference, exact in (
    (found_OI, reference_OI, weight_OI),
    (outputs, x_BI @ reference_OI.T, exact_BO),
  ):
    assert 0 < error_of(found, exact) <= error_of(reference, exact) * 1.001
  if form != 'int8':  # Whose blocks are of 64 weights here, and of a row there.
    np.testing.assert_allclose(found_OI, reference_OI, atol=1e-7)


@pytest.mark.parametrize('features', [1, 33, 63, 64, 65, 130])
@pytest.mark.parametrize('form', REFERENCES)
def test_rows_of_any_length(form, features):
  weight_OI = draw(5, features, seed=features)
  packing, *packed = pack(weight_OI, form)
  found_OI = np.asarray(packing.unpack(*packed))
  assert found_OI.shape == weight_OI.shape
  for start in range(0, features, 64):
    block = np.s_[:, start : start + 64]
    largest_O = np.abs(weight_OI[block]).max(axis=1, keepdims=True)
    bound = {'nf4': 0.153, 'int8': 0.5 / 127, 'bfloat16': 2.0**-8}[form]
    assert (np.abs(found_OI - weight_OI)[block] <= bound * largest_O * 1.0001).all()


@pytest.mark.parametrize('form', REFERENCES)
def test_zeros_stay_zeros_and_what_is_not_finite_shows(form):
  weight_OI = draw(4, 128)
  weight_OI[0] = 0
  weight_OI[1, 3], weight_OI[2, 70] = np.nan, np.inf
  packing, *packed = pack(weight_OI, form)
  found_OI = np.asarray(packing.unpack(*packed))
  assert (found_OI[0] == 0).all()
  assert not np.isfinite(found_OI[1, 3]) and not np.isfinite(found_OI[2, 70])
  assert np.isfinite(found_OI[3]).all() and np.isfinite(found_OI[1, 64:]).all()


@pytest.mark.parametrize('form, bytes_of_64', [('nf4', 36), ('int8', 68)])
def test_bytes(form, bytes_of_64):
  _, codes, scales = pack(draw(8, 256), form)
  assert codes.nbytes + scales.nbytes == 8 * 4 * bytes_of_64


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('form', REFERENCES)
def test_product_and_its_gradient_are_those_of_the_widened_kernel(form, dtype):
  packing, *packed = pack(draw(24, 100), form)
  weight_OI = packing.unpack(*packed).astype(dtype)
  keys = jax.random.split(jax.random.key(0), 2)
  x, dy = (
    jax.random.normal(key, (3, 5, size), dtype)
    for key, size in zip(keys, (100, 24), strict=True)
  )
  y, pull = jax.vjp(lambda x: product(packing, x, *packed), x)
  wide = weight_OI.astype('float32')
  want, want_pull = jax.vjp(lambda x: x @ wide.T, x.astype('float32'))
  close = 2**-7 if dtype == 'bfloat16' else 1e-5
  pairs = (y, want), (pull(dy)[0], want_pull(dy.astype('float32'))[0])
  for found, expected in pairs:
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype('float32'), expected, rtol=close, atol=1e-5)


@pytest.mark.parametrize('form', REFERENCES)
def test_no_pass_keeps_widened_kernels(form):
  """Neither from the forward to the backward pass, nor over the turns of a loop."""
  size, depth = 256, 8
  packed = [pack(draw(size, size, seed), form) for seed in range(depth)]
  packing = packed[0][0]
  layers = jax.tree.map(lambda *xs: jnp.stack(xs), *[one[1:] for one in packed])
  step = lambda x, layer: (jnp.tanh(product(packing, x, *layer)), None)
  loss = lambda x, layers: jnp.sum(jax.lax.scan(step, x, layers)[0])

  def descend(x, layers):
    return jax.lax.fori_loop(0, 3, lambda _, x: x - jax.grad(loss)(x, layers), x)

  x = jnp.ones((4, size))
  _, pull = jax.vjp(lambda x: product(packing, x, *packed[0][1:]), x)
  assert max(leaf.nbytes for leaf in jax.tree.leaves(pull)) <= packed[0][1].nbytes
  program = jax.jit(descend).lower(x, layers).compile()
  kept = sum(leaf.nbytes for leaf in jax.tree.leaves(layers))
  one_kernel = 4 * size * size
  assert program.memory_analysis().temp_size_in_bytes < kept + 2 * one_kernel
  # What the compiler is told for layers that are not scanned; XLA's CPU forgets it.
  once = jax.jit(jax.grad(lambda x, *layer: product(packing, x, *layer).sum()))
  assert once.lower(x, *packed[0][1:]).as_text().count('optimization_barrier') == 1
  both = jax.jit(jax.value_and_grad(lambda x, *y: product(packing, x, *y).sum()))
  assert both.lower(x, *packed[0][1:]).as_text().count('optimization_barrier') == 2


def test_a_layer_of_a_stack_has_its_own_scales():
  linear = nnx.Linear(70, 6, rngs=nnx.Rngs(0))
  stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *x.shape)), linear)
  layer = quantised.PackedLinear(stacked, 'nf4')
  assert layer.codes.shape == (3, 6, 64) and layer.scales.shape == (3, 6, 2)
  assert quantised.kernel_shape(layer) == quantised.kernel_shape(stacked) == (3, 70, 6)
