"""Relative positions: which row of the table a distance reads, and scores with it.

Axis letters as in `layers`; R counts the 2 L - 1 distances from 1 - L up to L - 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.models.products import einsum_gradients, gradient_dtype
from adapad_jax.models.quantised import Linear


def rows(length: int, buckets: int, max_distance: int) -> np.ndarray:
  """Rows (R,) of the relative table that distances 1 - L ... L - 1 read.

  Distances up to buckets / 2 have a row each; beyond, rows are shared on a
  logarithmic scale that ends at max_distance (arXiv:2006.03654, appendix A.5 and
  the released code). With buckets below one every distance has its own row. Either
  way the table's ends serve all distances beyond them.
  """
  distance_R = np.arange(1 - length, length)
  span = buckets if buckets > 0 else max_distance
  if buckets > 0:
    distance_R = _bucket(distance_R, buckets // 2, max_distance)
  return np.clip(distance_R + span, 0, 2 * span - 1)


def _bucket(distance_R: np.ndarray, middle: int, max_distance: int) -> np.ndarray:
  """Signed bucket of each distance: itself up to `middle`, logarithmic beyond."""
  # Single precision on purpose: ceil sees the same last bit as the checkpoints did.
  far_R = np.maximum(np.abs(distance_R), middle).astype(np.float32)
  octaves_R = np.log(far_R / np.float32(middle))
  octaves_R /= np.log(np.float32((max_distance - 1) / middle))
  log_R = np.ceil(octaves_R * np.float32(middle - 1)).astype(np.int64) + middle
  near_R = np.abs(distance_R) <= middle
  return np.where(near_R, distance_R, log_R * np.sign(distance_R))


def project(linear: nnx.Module, table_RD: jax.Array, batch: int) -> jax.Array:
  """Passes the table through a projection: (1, R, O), or (B, R, O) if rows differ.

  A plain linear layer treats every row of the batch alike. Anything else in its place
  may adapt each row in its own way: its method `broadcast(table_RD)` is used where it
  has one, and should return (B, R, O) or (1, R, O); otherwise it is called on a copy
  of the table per row.
  """
  if isinstance(linear, Linear):
    return linear(table_RD)[None]
  if hasattr(linear, 'broadcast'):
    return linear.broadcast(table_RD)
  return linear(jnp.broadcast_to(table_RD, (batch, *table_RD.shape)))


@jax.custom_vjp
def scores(x_BLNH: jax.Array, table: jax.Array) -> jax.Array:
  """Scores (B, N, L, L) of x against the distances, aligned with positions.

  out[b, n, i, j] = x[b, i, n] . table[b, j - i + L - 1, n], in float32. Their gradient
  is shifted back and multiplied in `gradient_dtype`.

  Args:
    x_BLNH: queries or keys.
    table: (B, R, N, H) or (1, R, N, H), in order of rising j - i; of the same dtype.
  """
  spec, table = _spec(table)
  return skew(jnp.einsum(spec, x_BLNH, table, preferred_element_type=jnp.float32))


def _spec(table: jax.Array) -> tuple[str, jax.Array]:
  """The product with a table, which is of each row or of all of them."""
  if table.shape[0] == 1:
    return 'BLNH,RNH->BNLR', table[0]
  return 'BLNH,BRNH->BNLR', table


def _scores_forward(x_BLNH: jax.Array, table: jax.Array) -> tuple[jax.Array, Any]:
  return scores(x_BLNH, table), (x_BLNH, table)


def _scores_backward(saved: Any, dy_BNLL: jax.Array) -> tuple[jax.Array, jax.Array]:
  x_BLNH, table = saved
  spec, rows = _spec(table)
  shape = (*dy_BNLL.shape[:-1], table.shape[1])
  dtype = gradient_dtype(x_BLNH.dtype)
  back = jax.linear_transpose(skew, jax.ShapeDtypeStruct(shape, dtype))
  [dz_BNLR] = back(dy_BNLL.astype(dtype))
  dx_BLNH, drows = einsum_gradients(spec, x_BLNH, rows, dz_BNLR)
  return dx_BLNH, drows.reshape(table.shape)


scores.defvjp(_scores_forward, _scores_backward)


def skew(x_BNLR: jax.Array) -> jax.Array:
  """Shifts row i by L - 1 - i places: out[..., i, j] = x[..., i, j - i + L - 1].

  Rows of R + 1 = 2 L elements are re-read as rows of R, each of which then starts one
  place further left (the relative shift of arXiv:1901.02860, appendix B): copies
  only, in the backward pass too, where indexing would scatter.
  """
  *lead, length, width = x_BNLR.shape
  padded = jnp.pad(x_BNLR, [(0, 0)] * (x_BNLR.ndim - 1) + [(0, 1)])
  flat = padded.reshape(*lead, length * (width + 1))
  shifted = flat[..., length - 1 : length - 1 + length * width]
  return shifted.reshape(*lead, length, width)[..., :length]
