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

from adapad_jax.lowrank.update import LowRank


@dataclasses.dataclass(frozen=True)
class Packing:
  """Where the components of each module lie.

  Attributes:
    modules: names, the order of every M axis.
    shapes: (I, O) of each.
  """

  modules: tuple[str, ...]
  shapes: tuple[tuple[int, int], ...]

  @classmethod
  def of(cls, shapes: Mapping[str, tuple[int, int]]) -> 'Packing':
    """The packing of modules of the given shapes, in their order."""
    return cls(tuple(shapes), tuple(tuple(shape) for shape in shapes.values()))

  @functools.cached_property
  def width(self) -> int:
    """P, the entries of the widest component."""
    return max(i + o for i, o in self.shapes)

  @functools.cached_property
  def sizes_M(self) -> np.ndarray:
    """Entries of one component of each module."""
    return np.array([i + o for i, o in self.shapes], np.float32)

  def pack(self, updates: Mapping[str, LowRank]) -> jax.Array:
    """(R, M, P) from the (R, I) and (R, O) of every module."""

    def row(name: str) -> jax.Array:
      one = updates[name]
      size = one.a_RI.shape[1] + one.b_RO.shape[1]
      zeros = jnp.zeros((one.a_RI.shape[0], self.width - size), one.a_RI.dtype)
      return jnp.concatenate([one.a_RI, one.b_RO, zeros], axis=1)

    return jnp.stack([row(name) for name in self.modules], axis=1)

  def unpack(self, stack_RMP: jax.Array) -> dict[str, LowRank]:
    """The updates of every module."""
    return {
      name: LowRank(stack_RMP[:, m, :i], stack_RMP[:, m, i : i + o])
      for m, (name, (i, o)) in enumerate(zip(self.modules, self.shapes, strict=True))
    }
