"""Finds the linear layers of a module tree by their dotted names.

The layers of a scanned stack have the names of the unrolled model: what is slice i of
`layer.stacked.dense` is called `layer.{i}.dense`.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from flax import nnx

from adapad_jax.models.quantised import Linear
from adapad_jax.models.stack import STACKED, Stacked


def linears(model: nnx.Module) -> dict[str, Linear]:
  """Every linear layer by dotted name, layers in their natural order.

  The linear of a scanned stack appears under the name of each of its layers.
  """
  found: dict[str, Linear] = {}
  for _, names, layer in _named(model):
    found |= dict.fromkeys(names, layer)
  return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def stacks(model: nnx.Module, names: Collection[str]) -> dict[str, tuple[str, ...]]:
  """Scanned linear layers by their own dotted names, and what their layers are called.

  Only those of which every layer is among the names.
  """
  return {
    name: layers
    for name, layers, _ in _named(model)
    if layers != (name,) and all(layer in names for layer in layers)
  }


def _natural(name: str) -> list[tuple[int, str | int]]:
  """A sort key that puts layer 2 before layer 10."""
  parts = re.split(r'(\d+)', name)
  return [(1, int(p)) if p.isdigit() else (0, p) for p in parts]


def _named(model: nnx.Module) -> Iterator[tuple[str, tuple[str, ...], Linear]]:
  """Each linear layer: its own name, those of the unrolled model, and itself."""
  modules = list(nnx.iter_modules(model))
  # A module of one's own may have an attribute of this name, too, and be no stack.
  sizes = {path: stack.size for path, stack in modules if isinstance(stack, Stacked)}
  for path, layer in modules:
    if isinstance(layer, Linear):
      parts = [str(part) for part in path]
      at = parts.index(STACKED) if STACKED in parts else len(parts)
      numbers = range(sizes.get(path[:at], 0))
      layers = [[*parts[:at], str(i), *parts[at + 1 :]] for i in numbers] or [parts]
      yield '.'.join(parts), tuple(map('.'.join, layers)), layer


def follow(module: Any, parts: list[str]) -> Any:
  """The submodule at a path of attribute names and list indices."""
  for part in parts:
    module = module[int(part)] if part.isdigit() else getattr(module, part)
  return module


def parent_of(model: nnx.Module, name: str) -> tuple[Any, str, int | None]:
  """(module, attribute, layer) of a linear.

  The layer is None outside a stack, and for a scanned linear by its own name.
  """
  module: Any = model
  layer = None
  *parts, leaf = name.split('.')
  for part in parts:
    if isinstance(module, Stacked) and part != STACKED:
      module, layer = module.stacked, int(part)
    else:
      module = follow(module, [part])
  return module, leaf, layer
