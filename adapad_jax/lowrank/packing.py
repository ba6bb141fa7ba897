"""All modules' components as one array, so that a round touches one buffer.

Row m of a worker's (M, P) block is module m's (a, b), padded with zeros to the widest
module. One array means one all-gather, one optimiser update over all modules, and a
compiled program whose size hardly grows with their number.

The modules of a model are its linear layers. XLA compiles equal kernels once, but two
slices at different places are not equal, and were most of what a large model takes to
compile. So where equal layers run as one scanned layer, theirs are taken out and put
back together, L at once; other modules are taken out at numbers that a program gets as
arguments, and put back together shape by shape.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank.update import LowRank

# Where on the M axis one module is, or those of the layers of a scanned one.
Place = int | jax.Array | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Packing:
  """Where the components of each module lie.

  Attributes:
    modules: names, the order of every M axis.
    shapes: (I, O) of each.
    stacks: names of scanned linear layers, and where the modules of their layers are on
      the M axis.
  """

  modules: tuple[str, ...]
  shapes: tuple[tuple[int, int], ...]
  stacks: tuple[tuple[str, tuple[int, ...]], ...] = ()

  @classmethod
  def of(
    cls,
    shapes: Mapping[str, tuple[int, int]],
    stacks: Mapping[str, Sequence[str]] | None = None,
  ) -> 'Packing':
    """The packing of modules of the given shapes, in their order.

    Args:
      shapes: (I, O) by module.
      stacks: modules that are layers of one scanned linear layer, in the order of the
        layers, by its name; their shapes are equal.
    """
    place = {name: m for m, name in enumerate(shapes)}
    found = tuple(
      (name, tuple(place[layer] for layer in layers))
      for name, layers in (stacks or {}).items()
    )
    return cls(tuple(shapes), tuple(tuple(shape) for shape in shapes.values()), found)

  @functools.cached_property
  def places(self) -> dict[str, int | tuple[int, ...]]:
    """Where on the M axis each of what `split` gives is."""
    scanned = {m for _, layers in self.stacks for m in layers}
    alone = {name: m for m, name in enumerate(self.modules) if m not in scanned}
    return alone | dict(self.stacks)

  @property
  def numbers(self) -> dict[str, np.ndarray]:
    """Places of what is no scanned layer, to be arguments of a program."""
    return {
      name: np.array(at, np.uint32)  # Unsigned, or counting from the end is handled.
      for name, at in self.places.items()
      if isinstance(at, int)
    }

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
    return jnp.stack([self._row(updates[name]) for name in self.modules], axis=1)

  def unpack(self, stack_RMP: jax.Array) -> dict[str, LowRank]:
    """The updates of every module."""
    return {
      name: LowRank(stack_RMP[:, m, :i], stack_RMP[:, m, i : i + o])
      for m, (name, (i, o)) in enumerate(zip(self.modules, self.shapes, strict=True))
    }

  def split(
    self, stack_RMP: jax.Array, places: Mapping[str, Place] | None = None
  ) -> dict[str, LowRank]:
    """As `unpack`, but a scanned layer has one update, (L, R, I) and (L, R, O).

    Args:
      stack_RMP: packed components.
      places: `places`, or the same with `numbers` as a program got them.
    """

    def update(shape: tuple[int, int], at: Place) -> LowRank:
      rows = taken(stack_RMP, at, 1)
      rows = jnp.swapaxes(rows, 0, 1) if isinstance(at, tuple) else rows
      i, o = shape
      return LowRank(rows[..., :i], rows[..., i : i + o])

    places = places or self.places
    return {
      name: update(self._shape(at), places[name]) for name, at in self.places.items()
    }

  def joined(self, updates: Mapping[str, LowRank]) -> jax.Array:
    """(R, M, P) from what `split` gives."""
    order, blocks = [], []
    for names in self._alike:
      each = [self._layers(name, updates[name]) for name in names]
      blocks.append(self._row(jax.tree.map(lambda *x: jnp.concatenate(x), *each)))
      order += [m for name in names for m in _numbers(self.places[name])]
    # Put in order by a scatter, whose result is made once; XLA would put a gather, and
    # all that is joined here, into everything that reads it.
    rows_MRP = jnp.concatenate(blocks)
    ordered_MRP = (
      jnp.zeros_like(rows_MRP).at[np.array(order)].set(rows_MRP, unique_indices=True)
    )
    return jnp.swapaxes(ordered_MRP, 0, 1)

  @functools.cached_property
  def _alike(self) -> list[list[str]]:
    """Names of what `split` gives, those of a shape together."""
    by_shape: dict[tuple[int, int], list[str]] = {}
    for name, at in self.places.items():
      by_shape.setdefault(self._shape(at), []).append(name)
    return list(by_shape.values())

  def _shape(self, at: int | tuple[int, ...]) -> tuple[int, int]:
    """(I, O) of what is at a place."""
    return self.shapes[_numbers(at)[0]]

  def _layers(self, name: str, update: LowRank) -> LowRank:
    """(L, R, I) and (L, R, O), L = 1 of what is no scanned layer."""
    if isinstance(self.places[name], tuple):
      return update
    return jax.tree.map(lambda x: x[None], update)

  def _row(self, one: LowRank) -> jax.Array:
    """(..., R, P) from (..., R, I) and (..., R, O)."""
    size = one.a_RI.shape[-1] + one.b_RO.shape[-1]
    zeros = jnp.zeros((*one.a_RI.shape[:-1], self.width - size), one.a_RI.dtype)
    return jnp.concatenate([one.a_RI, one.b_RO, zeros], axis=-1)


def _numbers(at: int | tuple[int, ...]) -> tuple[int, ...]:
  return (at,) if isinstance(at, int) else at


def taken(x: jax.Array, at: Place, axis: int = 0) -> jax.Array:
  """What is at a place of an axis, or at several, which are then an axis themselves."""
  if not isinstance(at, tuple):
    return jax.lax.dynamic_index_in_dim(x, at, axis, keepdims=False)
  step = at[1] - at[0] if len(at) > 1 else 1
  end = at[0] + step * len(at)
  if step > 0 and at == tuple(range(at[0], end, step)):
    return jax.lax.slice_in_dim(x, at[0], at[-1] + 1, step, axis)
  return jnp.take(x, np.array(at), axis)
