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
  for path, module in nnx.iter_modules(model):
    if isinstance(module, Linear):
      for name in _names(model, path):
        found[name] = module
  return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def stacks(model: nnx.Module, names: Collection[str]) -> dict[str, tuple[str, ...]]:
  """Scanned linear layers by their own dotted names, and what their layers are called.

  Only those of which every layer is among the names.
  """
  found = {}
  for path, module in nnx.iter_modules(model):
    if isinstance(module, Linear) and STACKED in map(str, path):
      layers = tuple(_names(model, path))
      if all(name in names for name in layers):
        found['.'.join(map(str, path))] = layers
  return found


def _natural(name: str) -> list[tuple[int, str | int]]:
  """A sort key that puts layer 2 before layer 10."""
  parts = re.split(r'(\d+)', name)
  return [(1, int(p)) if p.isdigit() else (0, p) for p in parts]


def _names(model: nnx.Module, path: tuple[Any, ...]) -> Iterator[str]:
  parts = [str(part) for part in path]
  if STACKED not in parts:
    yield '.'.join(parts)
    return
  at = parts.index(STACKED)
  size = follow(model, parts[:at]).size
  for i in range(size):
    yield '.'.join([*parts[:at], str(i), *parts[at + 1 :]])


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
