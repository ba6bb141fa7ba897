"""Stacks of rank-one components, one per worker, and their broadcast.

Axis letters, declared here for the whole package: R components (workers), S
components as seen by others (all of them), r the workers of one device, M
modules, I and O a module's input and output features, B rows of a batch, L
positions, H local steps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Component:
  """Rank-one terms b a^T of one module's update, stacked over workers.

  Attributes:
    a_RI: input directions.
    b_RO: output directions.
  """

  a_RI: jax.Array
  b_RO: jax.Array


def all_gather(tree: Any, axis_name: str) -> Any:
  """Broadcasts every worker's slice to all: one all-gather of one buffer.

  Inside `shard_map`, where each leaf is this device's (r, ...) block, returns the
  (R, ...) stacks of all devices. Ravelling the leaves into one (r, P) buffer first
  is what keeps it to a single collective however many modules there are.
  """
  if jax.lax.axis_size(axis_name) == 1:
    return tree
  flat_rP = jax.vmap(lambda own: ravel_pytree(own)[0])(tree)
  unravel = ravel_pytree(jax.tree.map(lambda x: x[0], tree))[1]
  flat_SP = jax.lax.all_gather(flat_rP, axis_name, axis=0, tiled=True)
  return jax.vmap(unravel)(flat_SP)


def strictly_lower(size: int, dtype: Any = jnp.float32) -> jax.Array:
  """The (R, S) matrix that lets worker k see its predecessors j < k alone."""
  return jnp.tril(jnp.ones((size, size), dtype), k=-1)
