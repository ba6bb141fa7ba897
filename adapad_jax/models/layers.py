"""Layers that every family shares.

Axis letters of this package: B rows of a batch, L query positions, M key positions,
D hidden features, N attention heads, G key/value heads, H features of one head,
V vocabulary, C classes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models.products import dense_dot_general


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

  y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias, over the last axis.
  """

  def __init__(self, features: int, eps: float) -> None:
    self.scale = nnx.Param(jnp.ones(features, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises the last axis; keeps the dtype."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + self.eps)
    return (_rows(self.scale, y) * y + _rows(self.bias, y)).astype(x.dtype)


class RMSNorm(nnx.Module):
  """Root-mean-square normalisation in float32: x / sqrt(mean(x^2) + eps) * scale."""

  def __init__(self, features: int, eps: float) -> None:
    self.scale = nnx.Param(jnp.ones(features, jnp.float32))
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises the last axis; keeps the dtype."""
    wide = x.astype(jnp.float32)
    power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    y = wide * jax.lax.rsqrt(power + self.eps)
    return (_rows(self.scale, y) * y).astype(x.dtype)


def _rows(param: nnx.Param, like: jax.Array) -> jax.Array:
  """Gives a vector the leading axes that rank promotion would add silently."""
  return jnp.reshape(param[...], (1,) * (like.ndim - 1) + (-1,))


def split_heads(x_BLD: jax.Array, heads: int) -> jax.Array:
  """(B, L, N * H) -> (B, L, N, H)."""
  return x_BLD.reshape(*x_BLD.shape[:-1], heads, -1)


def merge_heads(x_BLNH: jax.Array) -> jax.Array:
  """(B, L, N, H) -> (B, L, N * H)."""
  return x_BLNH.reshape(*x_BLNH.shape[:-2], -1)


def mask_bias(mask_BM: jax.Array) -> jax.Array:
  """(B, 1, 1, M) float32 bias that removes the keys whose mask is zero."""
  floor = jnp.finfo(jnp.float32).min
  return jnp.where(mask_BM[:, None, None, :] > 0, 0.0, floor).astype(jnp.float32)


def attention(
  q_BLNH: jax.Array,
  k_BMGH: jax.Array,
  v_BMGH: jax.Array,
  bias: jax.Array,
  *,
  scale: float,
  keys_B: jax.Array | None = None,
  rate: float = 0.0,
  site: int | jax.Array = 0,
  fused: bool = False,
) -> jax.Array:
  """softmax(scale q k^T + bias) v with the softmax in float32.

  Args:
    q_BLNH: queries.
    k_BMGH: keys; head n of N reads key/value head n // (N / G).
    v_BMGH: values.
    bias: added to the scaled scores, broadcastable to (B, N, L, M), all four axes
      present; very negative where attention is not allowed.
    scale: factor of the scores, usually H^-0.5.
    keys_B: PRNG keys of the rows, None without dropout.
    rate: dropout rate of the probabilities.
    site: dropout site.
    fused: use `jax.nn.dot_product_attention` if no probability is dropped.

  Returns:
    (B, L, N, H) in the dtype of the values.
  """
  if fused and (keys_B is None or rate == 0):
    return _fused_attention(q_BLNH, k_BMGH, v_BMGH, bias, scale)
  batch, length, heads, size = q_BLNH.shape
  groups = k_BMGH.shape[2]
  # Heads first: the products of the forward and the backward pass are then plain
  # matrices in memory, a fifth faster on the CPU than einsum's own order.
  q_BNLH, k_BGMH, v_BGMH = (
    x.transpose(0, 2, 1, 3) for x in (q_BLNH * scale, k_BMGH, v_BMGH)
  )
  # The heads of a group share keys, so they are rows of one product.
  q_BGLH = q_BNLH.reshape(batch, groups, -1, size)
  scores_BGLM = jnp.einsum(
    'BGLH,BGMH->BGLM', q_BGLH, k_BGMH, preferred_element_type=jnp.float32
  )
  scores_BNLM = scores_BGLM.reshape(batch, heads, length, -1) + bias
  probs_BNLM = jax.nn.softmax(scores_BNLM, axis=-1).astype(v_BMGH.dtype)
  probs_BNLM = dropout(probs_BNLM, keys_B, rate, site)
  probs_BGLM = probs_BNLM.reshape(scores_BGLM.shape)
  out_BGLH = jnp.einsum('BGLM,BGMH->BGLH', probs_BGLM, v_BGMH)
  return out_BGLH.reshape(q_BNLH.shape).transpose(0, 2, 1, 3)


def _fused_attention(
  q_BLNH: jax.Array, k_BMGH: jax.Array, v_BMGH: jax.Array, bias: jax.Array, scale: float
) -> jax.Array:
  """The same by JAX's own function, which has a flash kernel on some devices.

  A bias that all heads share only tells who sees whom, so it becomes a mask, and
  cuDNN's kernel applies where it exists. A bias by head, DeBERTa's, carries gradients
  and takes the path that every device has.
  """
  attend = functools.partial(
    jax.nn.dot_product_attention, q_BLNH, k_BMGH, v_BMGH, scale=scale
  )
  if bias.shape[1] > 1 or q_BLNH.shape[2] == 1:
    return attend(bias=bias, implementation='xla')
  chosen = implementation(
    jax.default_backend(),
    q_BLNH.dtype,
    lengths=(q_BLNH.shape[1], k_BMGH.shape[1]),
    size=q_BLNH.shape[3],
  )
  return attend(mask=bias >= 0, implementation=chosen)


def implementation(
  backend: str, dtype: Any, lengths: tuple[int, int], size: int
) -> str:
  """'cudnn' where its kernel takes a mask of these shapes, elsewhere 'xla'.

  JAX raises for what the kernel does not take: it needs even lengths, and heads of a
  multiple of 8 features up to 128 (256 on newer cards alone).

  Args:
    backend: 'gpu', 'cpu' or 'tpu'.
    dtype: of the queries.
    lengths: of queries and keys.
    size: features of one head.
  """
  fits = size % 8 == 0 and size <= 128 and not any(n % 2 for n in lengths)
  return 'cudnn' if backend == 'gpu' and dtype == jnp.bfloat16 and fits else 'xla'
