"""Equal layers run in turn, unrolled or as one scanned layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

STACKED = 'stacked'  # the attribute in the path of a leaf with a layer axis


class Stacked(nnx.Module):
  """`size` equal blocks as one, every leaf with a leading layer axis.

  A parameter of block i, `layer.{i}.dense.kernel` when unrolled, is slice i of
  `layer.stacked.dense.kernel`.
  """

  def __init__(self, block: nnx.Module, size: int) -> None:
    self.stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), block)
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
    step: pure function; what it closes over is shared by all blocks. The index is a
      number, traced where the blocks are scanned.
    x: what the first block receives; shape and dtype stay the same.
    remat: keep only each block's input for the backward pass.
  """
  if isinstance(blocks, Stacked):
    step = jax.checkpoint(step) if remat else step
    body = lambda x, item: (step(item[0], x, item[1]), None)
    return jax.lax.scan(body, x, (blocks.stacked, jnp.arange(blocks.size)))[0]
  step = jax.checkpoint(step, static_argnums=2) if remat else step
  for index, block in enumerate(blocks):
    x = step(block, x, index)
  return x


def unrolled_paths(path: Sequence[str], shape: Sequence[int]) -> list[str]:
  """The dotted names that a leaf, or its slices, have in the unrolled model.

  ('layer', 'stacked', 'dense', 'kernel') of shape (2, I, O) gives
  ['layer.0.dense.kernel', 'layer.1.dense.kernel']; any other path gives itself.
  """
  dotted = '.'.join(path)
  if STACKED not in path:
    return [dotted]
  return [dotted.replace(f'.{STACKED}.', f'.{i}.') for i in range(shape[0])]
