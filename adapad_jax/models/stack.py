"""Equal layers run in turn, unrolled or as one scanned layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class Stacked(nnx.Module):
  """`size` equal blocks as one, every leaf with a leading layer axis.

  A parameter of block i, `layer.{i}.dense.kernel` when unrolled, is slice i of
  `layer.block.dense.kernel`.
  """

  def __init__(self, block: nnx.Module, size: int) -> None:
    self.block = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), block)
    self.size = size


Blocks = nnx.List | Stacked


def make_blocks(make: Callable[[], nnx.Module], size: int, scan: bool) -> Blocks:
  """`size` blocks, to be filled with weights, for `run_blocks`."""
  if scan:
    return Stacked(make(), size)
  return nnx.List([make() for _ in range(size)])


def run_blocks(
  blocks: Blocks,
  step: Callable[[Any, jax.Array, int | jax.Array], jax.Array],
  x: jax.Array,
  *,
  remat: bool = False,
) -> jax.Array:
  """Threads x through step(block, x, index) for every block in order.

  Args:
    blocks: from `make_blocks`.
    step: pure function; what it closes over is shared by all blocks.
    x: what the first block receives; shape and dtype stay the same.
    remat: keep only each block's input for the backward pass.
  """
  if remat:
    step = jax.checkpoint(step)
  if isinstance(blocks, Stacked):
    body = lambda x, item: (step(item[0], x, item[1]), None)
    return jax.lax.scan(body, x, (blocks.block, jnp.arange(blocks.size)))[0]
  for index, block in enumerate(blocks):
    x = step(block, x, index)
  return x
