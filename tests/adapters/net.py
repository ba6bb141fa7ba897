"""A small network with plain, listed and stacked linear layers."""

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import stack


class Block(nnx.Module):
  """One residual layer."""

  def __init__(self, size, rngs):
    self.up = nnx.Linear(size, 2 * size, rngs=rngs)
    self.down = nnx.Linear(2 * size, size, rngs=rngs)

  def __call__(self, x):
    """x + down(tanh(up(x)))."""
    return x + self.down(jnp.tanh(self.up(x)))


class Net(nnx.Module):
  """Layers and a classifier."""

  def __init__(self, size=4, layers=2, classes=3, scan=False, seed=0):
    rngs = nnx.Rngs(seed)
    self.layer = stack.make_blocks(lambda: Block(size, rngs), layers, scan)
    self.classifier = nnx.Linear(size, classes, rngs=rngs)
    if scan:  # Unequal layers, as after loading.
      scale = jnp.arange(1.0, layers + 1)
      block = self.layer.stacked
      self.layer.stacked = jax.tree.map(
        lambda x: x * scale.reshape(-1, *[1] * (x.ndim - 1)), block
      )

  def __call__(self, batch, keys_B=None):
    """Logits of the rows' means."""
    step = lambda block, x, index: block(x)
    x_BLD = stack.run_blocks(self.layer, step, batch['x'])
    return self.classifier(x_BLD.mean(1))
