"""Attention on a TPU by JAX's own kernel, which skips the blocks that nobody sees.

The kernel is `jax.experimental.pallas.ops.tpu.splash_attention`. Axis letters as in
`layers`.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels

from adapad_jax.models.masks import Mask

_BLOCK = 128  # queries and keys of one block; also the lanes of the device


def fits(lengths: tuple[int, int], size: int) -> bool:
  """Whether the kernel takes such rows: whole blocks, and heads of whole lanes."""
  queries, keys = lengths
  return queries == keys and queries % _BLOCK == 0 and size % _BLOCK == 0


def attend(
  q_BLNH: jax.Array,
  k_BMGH: jax.Array,
  v_BMGH: jax.Array,
  mask: Mask,
  scale: float,
  interpret: bool = False,
) -> jax.Array:
  """softmax(scale q k^T) v over what the mask's form lets be seen.

  Args:
    q_BLNH: queries; `fits` holds for their lengths and size.
    k_BMGH: keys.
    v_BMGH: values.
    mask: a form. Padding is a document of its own.
    scale: factor of the scores.
    interpret: run the kernel without a TPU.
  """
  length, heads = q_BLNH.shape[1:3]
  seen = kernels.MultiHeadMask([_seen(mask, length)] * heads)
  kernel = kernels.make_splash_mha(
    seen, head_shards=1, q_seq_shards=1, interpret=interpret
  )
  segments_BL = mask.segments_BL
  if segments_BL is None:
    segments_BL = jnp.arange(length)[None] < mask.lengths_B[:, None]
  segments_BL = segments_BL.astype(jnp.int32)
  heads_first = lambda x: x.transpose(0, 2, 1, 3)
  out_BNLH = jax.vmap(kernel)(
    heads_first(q_BLNH * scale),
    heads_first(k_BMGH),
    heads_first(v_BMGH),
    kernels.SegmentIds(segments_BL, segments_BL),
  )
  return heads_first(out_BNLH)


def _seen(mask: Mask, length: int) -> kernels.Mask:
  """Order and window, without the rows' padding and documents."""
  shape = (length, length)
  if mask.reach is not None:
    back, ahead = mask.reach
    return kernels.LocalMask(shape, (back, 0 if mask.causal else ahead), offset=0)
  return kernels.CausalMask(shape) if mask.causal else kernels.FullMask(shape)
