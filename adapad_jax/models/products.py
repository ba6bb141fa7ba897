"""Products in bfloat16 whose both passes take the units that a device has for them.

XLA's CPU compiler has kernels for a processor's bfloat16 units, but takes them only for
products whose result is float32. For a bfloat16 result it widens both operands and
multiplies in float32, in no less time than float32 weights take. So both passes ask for
float32 here and round it, which is what a bfloat16 result means anyway. A float32
cotangent would widen the weights just so, on any device, and is rounded too.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def dense_dot_general(dtype: Any, backend: str) -> Callable[..., jax.Array]:
  """The `dot_general` of a dense layer that computes in `dtype`.

  Args:
    dtype: of activations and weights.
    backend: 'gpu', 'cpu' or 'tpu'.
  """
  slow = backend == 'cpu' and jnp.dtype(dtype) == jnp.bfloat16
  return narrow_dot_general if slow else jax.lax.dot_general


def narrow_dot_general(
  x: jax.Array,
  kernel_IO: jax.Array,
  dimension_numbers: Any,
  *,
  precision: Any = None,
  out_sharding: Any = None,
) -> jax.Array:
  """x W for x (..., I) in bfloat16, summed in float32 and rounded to bfloat16.

  Args:
    x: activations.
    kernel_IO: W.
    dimension_numbers: of `jax.lax.dot_general`; those of x W.
    precision: not read, since bfloat16 has one.
    out_sharding: None.

  Raises:
    ValueError: for another product than x W, or a sharding of the result.
  """
  expected = ((x.ndim - 1,), (0,)), ((), ())
  if dimension_numbers != expected or out_sharding is not None:
    raise ValueError(
      f'only x W is known here, {expected}; got {dimension_numbers} and out_sharding'
      f' {out_sharding}'
    )
  return _product(x, kernel_IO)


@jax.custom_vjp
def _product(x: jax.Array, kernel_IO: jax.Array) -> jax.Array:
  return _wide(x, kernel_IO, (x.ndim - 1,), (0,)).astype(x.dtype)


def _forward(x: jax.Array, kernel_IO: jax.Array) -> tuple[jax.Array, Any]:
  return _product(x, kernel_IO), (x, kernel_IO)


def _backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel_IO = saved
  rows = tuple(range(dy.ndim - 1))
  dx = _wide(dy, kernel_IO, (dy.ndim - 1,), (1,))
  return dx.astype(x.dtype), _wide(x, dy, rows, rows).astype(kernel_IO.dtype)


_product.defvjp(_forward, _backward)


@jax.custom_vjp
def token_product(x: jax.Array, table_VD: jax.Array) -> jax.Array:
  """x E^T in float32, for x (..., D) and a table E of tokens; gives (..., V).

  The gradient of the result is rounded to the dtype of x before it goes on.
  """
  return _wide(x, table_VD, (x.ndim - 1,), (1,))


def _token_forward(x: jax.Array, table_VD: jax.Array) -> tuple[jax.Array, Any]:
  return token_product(x, table_VD), (x, table_VD)


def _token_backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, table_VD = saved
  dy, rows = dy.astype(x.dtype), tuple(range(dy.ndim - 1))
  dx = _wide(dy, table_VD, (dy.ndim - 1,), (0,))
  return dx.astype(x.dtype), _wide(dy, x, rows, rows).astype(table_VD.dtype)


token_product.defvjp(_token_forward, _token_backward)


def gradient_dtype(dtype: Any) -> Any:
  """The dtype in which the gradient of a float32 result goes on.

  That of the operands, which halves the bytes of bfloat16; but float32 on a CPU, which
  has to widen it again and was slower for it.
  """
  return jnp.float32 if jax.default_backend() == 'cpu' else dtype


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_einsum(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """einsum(spec, x, y) in float32 of arrays of one dtype.

  The gradient of the result goes on in `gradient_dtype`.
  """
  return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _einsum_forward(spec: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
  return wide_einsum(spec, x, y), (x, y)


def _einsum_backward(spec: str, saved: Any, dz: jax.Array) -> Any:
  return einsum_gradients(spec, *saved, dz)


wide_einsum.defvjp(_einsum_forward, _einsum_backward)


def einsum_gradients(
  spec: str, x: jax.Array, y: jax.Array, dz: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Gradients of `wide_einsum`, of which dz is the result's."""
  dtype = gradient_dtype(x.dtype)
  product = functools.partial(jnp.einsum, spec, preferred_element_type=dtype)
  # As JAX transposes it: an einsum of one's own may lie in memory so that XLA's CPU
  # compiler has no fast product for it.
  return jax.vjp(product, x, y)[1](dz.astype(dtype))


def _wide(
  x: jax.Array, y: jax.Array, axes_x: tuple[int, ...], axes_y: tuple[int, ...]
) -> jax.Array:
  """The product over these axes, in float32."""
  return jax.lax.dot_general(
    x, y, ((axes_x, axes_y), ((), ())), preferred_element_type=jnp.float32
  )
