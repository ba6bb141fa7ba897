"""Who attends to whom: as a form that kernels know, or as a dense bias.

Axis letters as in `layers`.
"""

import dataclasses

import jax
import jax.numpy as jnp

# Furthest positions (back, ahead) that a token looks at; None: all.
Reach = tuple[int, int] | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask:
  """A dense bias, or a form: tokens in front, causal or not, a window or not.

  Attributes:
    bias: (B, 1 or N, L or 1, M) float32, added to the scaled scores; None for a form.
    lengths_B: tokens of each row, which stand before its padding.
    segments_BL: numbers of the documents that share a row, from one; attention stays
      inside. None where a row is one document.
    causal: no token sees a later one.
    reach: furthest positions that a token sees.
  """

  bias: jax.Array | None = None
  lengths_B: jax.Array | None = None
  segments_BL: jax.Array | None = None
  causal: bool = dataclasses.field(default=False, metadata={'static': True})
  reach: Reach = dataclasses.field(default=None, metadata={'static': True})

  def dense(self, length: int) -> jax.Array:
    """The bias, made from the form if need be, for rows of `length` tokens."""
    if self.bias is not None:
      return self.bias
    place_L = jnp.arange(length)
    token_BL = place_L[None] < self.lengths_B[:, None]
    seen_BLM = token_BL[:, None]
    if self.causal or self.reach is not None:
      near_LM = within(place_L[None], place_L[None], self.causal, self.reach)
      seen_BLM = seen_BLM & near_LM
    if self.segments_BL is not None:
      seen_BLM &= same_document(self.segments_BL)
    return bias_of(seen_BLM)


def within(
  query_BL: jax.Array, key_BM: jax.Array, causal: bool, reach: Reach
) -> jax.Array:
  """Whether positions (B, L) may look at positions (B, M), as (B, L, M)."""
  back_BLM = query_BL[:, :, None] - key_BM[:, None, :]
  seen_BLM = back_BLM >= 0 if causal else jnp.ones_like(back_BLM, bool)
  if reach is not None:
    seen_BLM &= (back_BLM <= reach[0]) & (-back_BLM <= reach[1])
  return seen_BLM


def same_document(segments_BL: jax.Array) -> jax.Array:
  """Whether tokens are of one document, as (B, L, L).

  Padding, number 0, may look at everything: a query with nothing to see is what
  kernels of attention disagree about.
  """
  query_BL1, key_B1M = segments_BL[:, :, None], segments_BL[:, None, :]
  return (query_BL1 == key_B1M) | (query_BL1 == 0)


def bias_of(seen_BLM: jax.Array) -> jax.Array:
  """(B, 1, L or 1, M) float32 bias that removes what is not seen."""
  return jnp.where(seen_BLM, 0.0, jnp.finfo(jnp.float32).min)[:, None]


def of_keys(mask_BM: jax.Array) -> Mask:
  """Everything sees the keys whose mask is one."""
  return Mask(bias=bias_of(mask_BM[:, None, :] > 0))


@dataclasses.dataclass(frozen=True)
class InFront:
  """Rows with their tokens before their padding, and the way back.

  A kernel that is told the number of a row's tokens takes them to be the first ones.
  Rows padded on the right stay as they are.

  Attributes:
    order_BL: the slot that each place is taken from.
    place_BL: the place that each slot went to.
    lengths_B: tokens of each row; one for a row without any, for which kernels have
      no answer.
  """

  order_BL: jax.Array
  place_BL: jax.Array
  lengths_B: jax.Array

  @classmethod
  def of(cls, mask_BL: jax.Array) -> 'InFront':
    """By the rows' masks."""
    token_BL = mask_BL > 0
    order_BL = jnp.argsort(~token_BL, axis=1, stable=True)
    lengths_B = jnp.sum(token_BL, axis=1, dtype=jnp.int32)
    before_BL = jnp.cumsum(token_BL, axis=1) - 1
    padding_BL = jnp.cumsum(~token_BL, axis=1) - 1 + lengths_B[:, None]
    place_BL = jnp.where(token_BL, before_BL, padding_BL)
    return cls(order_BL, place_BL, jnp.maximum(lengths_B, 1))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Moves the tokens of (B, L, ...) to the front."""
    return _take(x, self.order_BL)

  def back(self, x: jax.Array) -> jax.Array:
    """Moves them back to their slots."""
    return _take(x, self.place_BL)


def _take(x: jax.Array, at_BL: jax.Array) -> jax.Array:
  at = at_BL.reshape(at_BL.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, at, axis=1)
