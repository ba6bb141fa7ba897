"""Layers that every family shares.

Axis letters of this package: B rows of a batch, L query positions, M key positions,
D hidden features, N attention heads, G key/value heads, H features of one head,
V vocabulary, C classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models.products import dense_dot_general, gradient_dtype


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) with the exact normal distribution function Phi, in x's dtype.

  The forward pass also takes the derivative Phi(x) + x phi(x) and keeps it instead
  of x. Left to itself, XLA on the CPU evaluates erf and exp again inside whatever
  consumes the gradient: inside a transposing copy, that alone made the backward
  pass of an encoder twice as slow.
  """
  return _gelu(x)[0]


def _gelu(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  wide = x.astype(jnp.float32)
  # erfc would keep the relative accuracy of the far left tail, at 2.5 times the cost.
  cdf = 0.5 + 0.5 * jax.lax.erf(wide * (0.5**0.5))
  pdf = jnp.exp(-0.5 * wide * wide) * ((2 * jnp.pi) ** -0.5)
  return (wide * cdf).astype(x.dtype), (cdf + wide * pdf).astype(x.dtype)


def _gelu_backward(slope: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
  return (jax.lax.optimization_barrier(dy * slope),)


gelu.defvjp(_gelu, _gelu_backward)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu': gelu,
  'gelu_new': lambda x: jax.nn.gelu(x, approximate=True),
  'gelu_pytorch_tanh': lambda x: jax.nn.gelu(x, approximate=True),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'swish': jax.nn.silu,
  'tanh': jnp.tanh,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """The elementwise function that a config.json calls `name`.

  Raises:
    ValueError: for a name without an implementation here.
  """
  if name not in ACTIVATIONS:
    raise ValueError(f'unknown activation {name!r}; choose from {sorted(ACTIVATIONS)}')
  return ACTIVATIONS[name]


def dropout(
  x: jax.Array, keys_B: jax.Array | None, rate: float, site: int | jax.Array
) -> jax.Array:
  """Zeroes each element with probability `rate` and rescales the rest.

  Every row draws from its own key, folded with the number of this call's `site` in
  the model, so the mask of a row depends neither on the rows beside it nor on how
  the batch is sharded.

  Args:
    x: (B, ...) activations.
    keys_B: one PRNG key per row; None leaves x as it is.
    rate: probability in [0, 1), rounded to a multiple of 1/65536.
    site: number that no other call in the model shares.
  """
  drop = round(rate * 65536)
  if keys_B is None or drop == 0:
    return x
  draw = lambda key: jax.random.bits(
    jax.random.fold_in(key, site), x.shape[1:], jnp.uint16
  )
  keep = jax.vmap(draw)(keys_B) >= drop
  return jnp.where(keep, x * (65536 / (65536 - drop)), jnp.zeros_like(x))


def linear(
  in_features: int,
  out_features: int,
  *,
  bias: bool = True,
  dtype: jnp.dtype = jnp.float32,
  rngs: nnx.Rngs,
) -> nnx.Linear:
  """A dense layer whose parameters and arithmetic are in `dtype`."""
  return nnx.Linear(
    in_features,
    out_features,
    use_bias=bias,
    dtype=dtype,
    param_dtype=dtype,
    dot_general=dense_dot_general(dtype, jax.default_backend()),
    rngs=rngs,
  )


def embedding(
  rows: int, features: int, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs
) -> nnx.Embed:
  """A lookup table in `dtype`."""
  return nnx.Embed(rows, features, dtype=dtype, param_dtype=dtype, rngs=rngs)


class LayerNorm(nnx.Module):
  """Layer normalisation in float32, whatever the dtype of its input.

  y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias, over the last axis; the bias
  may be absent.
  """

  def __init__(self, features: int, eps: float, bias: bool = True) -> None:
    self.scale = nnx.Param(jnp.ones(features, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(features, jnp.float32)) if bias else None
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises the last axis; keeps the dtype."""
    y = _standardised(x, self.eps)
    y = _rows(self.scale, y) * y
    return (y if self.bias is None else y + _rows(self.bias, y)).astype(x.dtype)


class RMSNorm(nnx.Module):
  """Root-mean-square normalisation in float32: x / sqrt(mean(x^2) + eps) * scale."""

  def __init__(self, features: int, eps: float) -> None:
    self.scale = nnx.Param(jnp.ones(features, jnp.float32))
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises the last axis; keeps the dtype."""
    y = _over_rms(x, self.eps)
    return (_rows(self.scale, y) * y).astype(x.dtype)


class ExcessRMSNorm(nnx.Module):
  """The same whose scale is stored as what it exceeds one by: x / rms(x) (1 + w)."""

  def __init__(self, features: int, eps: float) -> None:
    self.excess = nnx.Param(jnp.zeros(features, jnp.float32))
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises the last axis; keeps the dtype."""
    y = _over_rms(x, self.eps)
    return ((1.0 + _rows(self.excess, y)) * y).astype(x.dtype)


def _standardised_forward(x: jax.Array, eps: float) -> tuple[jax.Array, Any]:
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=-1, keepdims=True)
  centred = wide - mean
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  rate = jax.lax.rsqrt(variance + eps)
  return centred * rate, (x, mean, rate)


def _standardised_backward(eps: float, saved: Any, dy: jax.Array) -> tuple[jax.Array]:
  x, mean, rate = saved
  y = (x.astype(jnp.float32) - mean) * rate
  along = jnp.mean(dy * y, axis=-1, keepdims=True)
  dx = rate * (dy - jnp.mean(dy, axis=-1, keepdims=True) - y * along)
  return (dx.astype(x.dtype),)


def _over_rms_forward(x: jax.Array, eps: float) -> tuple[jax.Array, Any]:
  wide = x.astype(jnp.float32)
  power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  rate = jax.lax.rsqrt(power + eps)
  return wide * rate, (x, rate)


def _over_rms_backward(eps: float, saved: Any, dy: jax.Array) -> tuple[jax.Array]:
  x, rate = saved
  y = x.astype(jnp.float32) * rate
  dx = rate * (dy - y * jnp.mean(dy * y, axis=-1, keepdims=True))
  return (dx.astype(x.dtype),)


def _keeping(forward: Any, backward: Any) -> Callable[[jax.Array, float], jax.Array]:
  """The (x, eps) -> y of `forward`, with `backward` where `gradient_dtype` is narrow.

  It then keeps x as it came and a number or two a row, where JAX would keep float32
  arrays of the size of x, which a scanned layer has to copy as well. Of a float32 x
  there is nothing to win.
  """
  plain = lambda x, eps: forward(x, eps)[0]
  kept = jax.custom_vjp(plain, nondiff_argnums=(1,))
  kept.defvjp(forward, backward)
  is_wide = lambda x: gradient_dtype(x.dtype) == jnp.float32
  return lambda x, eps: (plain if is_wide(x) else kept)(x, eps)


# (x - mean(x)) / sqrt(var(x) + eps), and x / sqrt(mean(x^2) + eps), over the last axis
# and in float32.
_standardised = _keeping(_standardised_forward, _standardised_backward)
_over_rms = _keeping(_over_rms_forward, _over_rms_backward)


def _rows(param: nnx.Param, like: jax.Array) -> jax.Array:
  """Gives a vector the leading axes that rank promotion would add silently."""
  return jnp.reshape(param[...], (1,) * (like.ndim - 1) + (-1,))


def split_heads(x_BLD: jax.Array, heads: int) -> jax.Array:
  """(B, L, N * H) -> (B, L, N, H)."""
  return x_BLD.reshape(*x_BLD.shape[:-1], heads, -1)


def merge_heads(x_BLNH: jax.Array) -> jax.Array:
  """(B, L, N, H) -> (B, L, N * H)."""
  return x_BLNH.reshape(*x_BLNH.shape[:-2], -1)
