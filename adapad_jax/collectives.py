"""Collectives over a mesh axis, inside `shard_map`: one of one buffer for a whole tree.

Ravelling the leaves into one buffer first is what keeps it to a single collective
however many modules there are. On an axis of one device nothing is sent at all.
"""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree


def all_gather(tree: Any, axis_name: str) -> Any:
  """Broadcasts every worker's slice to all.

  Where each leaf is this device's (r, ...) block, returns the (R, ...) stacks of all
  devices.
  """
  if jax.lax.axis_size(axis_name) == 1:
    return tree
  flat_rP = jax.vmap(lambda own: ravel_pytree(own)[0])(tree)
  unravel = ravel_pytree(jax.tree.map(lambda x: x[0], tree))[1]
  flat_SP = jax.lax.all_gather(flat_rP, axis_name, axis=0, tiled=True)
  return jax.vmap(unravel)(flat_SP)


def all_reduce(tree: Any, axis_name: str | tuple[str, ...]) -> Any:
  """Sums a tree over the devices of an axis, or of several."""
  if jax.lax.axis_size(axis_name) == 1:
    return tree
  flat, unravel = ravel_pytree(tree)
  return unravel(jax.lax.psum(flat, axis_name))
