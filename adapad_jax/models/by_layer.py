"""Values that differ from layer to layer, for layers that run alike."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByLayer:
  """One value for each layer, of which every distinct one is held once.

  Attributes:
    values: the distinct ones.
    number_of: by layer, which of them it has.
  """

  values: tuple[Any, ...]
  number_of: tuple[int, ...] = dataclasses.field(metadata={'static': True})

  @classmethod
  def of(cls, keys: Sequence[Hashable], make: Callable[[Any], Any]) -> 'ByLayer':
    """The value make(key) for every layer's key."""
    distinct = tuple(dict.fromkeys(keys))
    numbers = tuple(distinct.index(key) for key in keys)
    return cls(tuple(make(key) for key in distinct), numbers)

  def at(self, index: int | jax.Array) -> Any:
    """The value of a layer, whose index may be traced if all are built alike."""
    if len(self.values) == 1:
      return self.values[0]
    if isinstance(index, int):
      return self.values[self.number_of[index]]
    number = jnp.asarray(self.number_of)[index]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[number], *self.values)

  def apply(self, index: int | jax.Array, function: Callable[[Any], Any]) -> Any:
    """function(value of a layer); values that are built differently are a branch each.

    Args:
      index: of the layer; traced inside a scan over layers.
      function: gives arrays of the same shapes for every value.
    """
    alike = len({jax.tree.structure(value) for value in self.values}) == 1
    if alike or isinstance(index, int):
      return function(self.at(index))
    branches = [lambda value=value: function(value) for value in self.values]
    return jax.lax.switch(jnp.asarray(self.number_of)[index], branches)
