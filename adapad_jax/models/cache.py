"""Keys and values of the tokens that a decoder has read."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """A fixed number of slots per row, filled from the left for all rows together.

  Attributes:
    keys: (layers, B, M, G, H), rotated.
    values: (layers, B, M, G, H).
    mask_BM: 1 where a slot holds a token, 0 for padding and free slots.
    used: () slots that are taken.
  """

  keys: jax.Array
  values: jax.Array
  mask_BM: jax.Array
  used: jax.Array

  @classmethod
  def empty(cls, shape: tuple[int, ...], dtype: Any) -> 'Cache':
    """A cache of the given shape of keys without a token."""
    return cls(
      keys=jnp.zeros(shape, dtype),
      values=jnp.zeros(shape, dtype),
      mask_BM=jnp.zeros(shape[1:3], jnp.int32),
      used=jnp.zeros((), jnp.int32),
    )

  def append(self, mask_BL: jax.Array) -> 'Cache':
    """Takes L more slots, for which every layer has to `store`."""
    mask_BM = jax.lax.dynamic_update_slice(
      self.mask_BM, mask_BL.astype(jnp.int32), (0, self.used)
    )
    used = self.used + mask_BL.shape[1]
    return dataclasses.replace(self, mask_BM=mask_BM, used=used)

  def store(
    self, layer: int | jax.Array, k_BLGH: jax.Array, v_BLGH: jax.Array
  ) -> tuple['Cache', jax.Array, jax.Array]:
    """Writes one layer's newest slots; gives back all of its (B, M, G, H)."""
    at = (layer, 0, self.used - k_BLGH.shape[1], 0, 0)
    keys = jax.lax.dynamic_update_slice(self.keys, k_BLGH[None], at)
    values = jax.lax.dynamic_update_slice(self.values, v_BLGH[None], at)
    cache = dataclasses.replace(self, keys=keys, values=values)
    return cache, keys[layer], values[layer]
