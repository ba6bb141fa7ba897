"""Equal layers run in turn, unrolled or as one scanned layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

STACKED = 'stacked'  # the attribute in the path of a leaf with a layer axis
# Layers from which on an accelerator scans them if it may choose.
_MANY = 12


class Stacked(nnx.Module):
  """`size` equal blocks as one, every leaf with a leading layer axis.

  A parameter of block i, `layer.{i}.dense.kernel` when unrolled, is slice i of
  `layer.stacked.dense.kernel`.
  """

  def __init__(self, block: nnx.Module, size: int) -> None:
    self.stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), block)
    self.size = size


Blocks = nnx.List | Stacked


def is_scanned(platform: str, layers: int) -> bool:
  """Whether layers are scanned where nobody has said so.

  A program that writes out every layer grows with their number, and so does the time to
  compile it; one with a scanned layer does not. That counts on a GPU or TPU, where a
  step is short beside its compilation. On the CPU layers are written out: XLA's loop
  there copies what it keeps for the backward pass.

  Args:
    platform: as JAX names it: 'cpu', 'gpu', 'tpu'.
    layers: how many are equal.
  """
  return platform != 'cpu' and layers >= _MANY


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
  alike: bool = False,
) -> jax.Array:
  """Threads x through step(block, x, index) for every block in order.

  Args:
    blocks: from `make_blocks`.
    step: pure function; what it closes over is shared by all blocks. The index is a
      number, traced where the blocks are scanned or alike.
    x: what the first block receives; shape and dtype stay the same.
    remat: keep only each block's input for the backward pass.
    alike: whether the index makes no difference to what a step is made of, only to
      numbers in it, such as those of its noise.
  """
  if isinstance(blocks, Stacked):
    step = jax.checkpoint(step) if remat else step
    body = lambda x, item: (step(item[0], x, item[1]), None)
    return jax.lax.scan(body, x, (blocks.stacked, jnp.arange(blocks.size)))[0]
  # What stands where an update does may be a function that notes what it is given.
  alike = alike and all(map(_is_array, jax.tree.leaves(list(blocks))))
  static = () if alike else 2
  step = jax.checkpoint(step, static_argnums=static) if remat else step
  # Compiled into the program around it as if it were written there; but blocks that are
  # alike are traced, differentiated and lowered once, not each anew.
  step = jax.jit(step) if alike else step
  for index, block in enumerate(blocks):
    x = step(block, x, np.int32(index) if alike else index)
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


def _is_array(leaf: object) -> bool:
  return isinstance(leaf, jax.Array | np.ndarray)
