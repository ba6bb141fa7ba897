"""Attention between split heads, spelled out or left to a kernel of JAX's.

Axis letters as in `layers`.
"""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.models.layers import dropout
from adapad_jax.models.masks import Mask
from adapad_jax.models.products import gradient_dtype, wide_einsum


def attention(
  q_BLNH: jax.Array,
  k_BMGH: jax.Array,
  v_BMGH: jax.Array,
  mask: Mask,
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
    mask: who sees whom; its dense form is the bias.
    scale: factor of the scores, usually H^-0.5.
    keys_B: PRNG keys of the rows, None without dropout.
    rate: dropout rate of the probabilities.
    site: dropout site.
    fused: leave it to one of JAX's kernels if no probability is dropped.

  Returns:
    (B, L, N, H) in the dtype of the values.
  """
  if fused and (keys_B is None or rate == 0):
    return _fused_attention(q_BLNH, k_BMGH, v_BMGH, mask, scale)
  batch, length, heads, size = q_BLNH.shape
  groups = k_BMGH.shape[2]
  # Heads first: the products of the forward and the backward pass are then plain
  # matrices in memory, a fifth faster on the CPU than einsum's own order.
  q_BNLH, k_BGMH, v_BGMH = (
    x.transpose(0, 2, 1, 3) for x in (q_BLNH * scale, k_BMGH, v_BMGH)
  )
  # The heads of a group share keys, so they are rows of one product.
  q_BGLH = q_BNLH.reshape(batch, groups, -1, size)
  scores_BGLM = wide_einsum('BGLH,BGMH->BGLM', q_BGLH, k_BGMH)
  scores_BNLM = scores_BGLM.reshape(batch, heads, length, -1) + mask.dense(length)
  if gradient_dtype(v_BMGH.dtype) == jnp.float32:
    probs_BNLM = jax.nn.softmax(scores_BNLM, axis=-1).astype(v_BMGH.dtype)
  else:
    probs_BNLM = _narrow_softmax(scores_BNLM, v_BMGH.dtype)
  probs_BNLM = dropout(probs_BNLM, keys_B, rate, site)
  probs_BGLM = probs_BNLM.reshape(scores_BGLM.shape)
  out_BGLH = jnp.einsum('BGLM,BGMH->BGLH', probs_BGLM, v_BGMH)
  return out_BGLH.reshape(q_BNLH.shape).transpose(0, 2, 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _narrow_softmax(scores: jax.Array, dtype: Any) -> jax.Array:
  """Softmax over the last axis, computed in float32 and rounded.

  The backward pass keeps the rounded probabilities and no more.
  """
  return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _softmax_forward(scores: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
  probs = _narrow_softmax(scores, dtype)
  return probs, probs


def _softmax_backward(
  dtype: Any, probs: jax.Array, dprobs: jax.Array
) -> tuple[jax.Array]:
  wide, dwide = probs.astype(jnp.float32), dprobs.astype(jnp.float32)
  along = jnp.sum(wide * dwide, axis=-1, keepdims=True)
  return (wide * (dwide - along),)


_narrow_softmax.defvjp(_softmax_forward, _softmax_backward)


def _fused_attention(
  q_BLNH: jax.Array, k_BMGH: jax.Array, v_BMGH: jax.Array, mask: Mask, scale: float
) -> jax.Array:
  """The same by JAX's own functions, which have flash kernels on some devices.

  A form is passed on as one, so that a kernel can skip what is not seen. A bias that
  all heads share only tells who sees whom, so it becomes a dense mask. A bias by head,
  DeBERTa's, carries gradients and takes the path that every device has.
  """
  attend = functools.partial(
    jax.nn.dot_product_attention, q_BLNH, k_BMGH, v_BMGH, scale=scale
  )
  length, keys = q_BLNH.shape[1], k_BMGH.shape[1]
  by_head = mask.bias is not None and mask.bias.shape[1] > 1
  if by_head or q_BLNH.shape[2] == 1:
    return attend(bias=mask.dense(length), implementation='xla')
  chosen = implementation(
    *_device(), q_BLNH.dtype, lengths=(length, keys), size=q_BLNH.shape[3], mask=mask
  )
  if chosen == 'splash':
    return _splash().attend(q_BLNH, k_BMGH, v_BMGH, mask, scale)
  if _is_dense(mask):
    seen = mask.dense(length) >= 0
    seen = jnp.broadcast_to(seen, (*seen.shape[:2], length, keys))
    return attend(mask=seen, implementation=chosen)
  return attend(
    is_causal=mask.causal,
    query_seq_lengths=mask.lengths_B,
    key_value_seq_lengths=mask.lengths_B,
    local_window_size=mask.reach,
    implementation=chosen,
  )


def _is_dense(mask: Mask) -> bool:
  """Whether `jax.nn.dot_product_attention` has to have it as a dense mask.

  It has no name for documents that share a row, and cuDNN none for a window to the
  right.
  """
  ahead = mask.reach is not None and mask.reach[1] > 0
  return mask.bias is not None or mask.segments_BL is not None or ahead


def _splash() -> types.ModuleType:
  """The kernel of a TPU, the one place where pallas is needed, which imports slowly."""
  from adapad_jax.models import splash

  return splash


def _device() -> tuple[str, float]:
  """The backend, and the compute capability of its first device, 0 where none is."""
  capability = getattr(jax.local_devices()[0], 'compute_capability', None)
  return jax.default_backend(), float(capability or 0)


def implementation(
  backend: str,
  capability: float,
  dtype: Any,
  lengths: tuple[int, int],
  size: int,
  mask: Mask,
) -> str:
  """'cudnn' or 'splash' where that kernel takes these shapes, elsewhere 'xla'.

  JAX raises for what a kernel does not take. cuDNN's needs heads of a multiple of 8
  features, up to 128, or 256 on devices of compute capability 9; and even lengths
  where the mask is dense.

  Args:
    backend: 'gpu', 'cpu' or 'tpu'.
    capability: of a GPU, such as 8.6.
    dtype: of the queries.
    lengths: of queries and keys.
    size: features of one head.
    mask: who sees whom.
  """
  if backend == 'tpu' and mask.bias is None and _splash().fits(lengths, size):
    return 'splash'
  fits = size % 8 == 0 and size <= (256 if capability >= 9 else 128)
  fits = (
    fits and lengths[0] > 1 and not (_is_dense(mask) and any(n % 2 for n in lengths))
  )
  return 'cudnn' if backend == 'gpu' and dtype == jnp.bfloat16 and fits else 'xla'
