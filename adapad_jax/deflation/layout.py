"""All modules' components as one array, so that a round touches one buffer.

Row m of a worker's (M, P) block is module m's (a, b), padded with zeros to the widest
module. One array means one all-gather, one optimiser update over all modules, and a
compiled program whose size hardly grows with their number.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.components import Component


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where the components of each module lie.

  Attributes:
    modules: names, the order of every M axis.
    shapes: (I, O) of each.
  """

  modules: tuple[str, ...]
  shapes: tuple[tuple[int, int], ...]

  @classmethod
  def of(cls, shapes: Mapping[str, tuple[int, int]]) -> 'Layout':
    """The layout of modules of the given shapes, in their order."""
    return cls(tuple(shapes), tuple(tuple(shape) for shape in shapes.values()))

  @functools.cached_property
  def width(self) -> int:
    """P, the entries of the widest component."""
    return max(i + o for i, o in self.shapes)

  @functools.cached_property
  def sizes_M(self) -> np.ndarray:
    """Entries of one component of each module."""
    return np.array([i + o for i, o in self.shapes], np.float32)

  def stack(self, components: Mapping[str, Component]) -> jax.Array:
    """(R, M, P) from the (R, I) and (R, O) of every module."""

    def row(name: str) -> jax.Array:
      one = components[name]
      size = one.a_RI.shape[1] + one.b_RO.shape[1]
      zeros = jnp.zeros((one.a_RI.shape[0], self.width - size), one.a_RI.dtype)
      return jnp.concatenate([one.a_RI, one.b_RO, zeros], axis=1)

    return jnp.stack([row(name) for name in self.modules], axis=1)

  def unstack(self, stack_RMP: jax.Array) -> dict[str, Component]:
    """The components of every module."""
    return {
      name: Component(stack_RMP[:, m, :i], stack_RMP[:, m, i : i + o])
      for m, (name, (i, o)) in enumerate(zip(self.modules, self.shapes, strict=True))
    }
