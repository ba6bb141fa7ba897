"""Tells which linear layers cannot have an update or be trained whole, and why.

An update hangs on one attribute of one module, and merging adds it to that layer's
kernel. The merged model is the trained one only if both mean the same.
"""

from collections.abc import Collection

from flax import nnx

from adapad_jax.adapters.locate import linears, parent_of
from adapad_jax.models.quantised import Linear, PackedLinear, kernel_shape

# Another call may do more than the product, and the update would not go through it.
_CALLS = nnx.Linear.__call__, PackedLinear.__call__
_BARE = '(the model itself, which has no name: make it an attribute of a module)'
_ELSEWHERE = '(in no attribute of that name: use nnx.List, or nnx.Dict and plain names)'


def refuse(model: nnx.Module, names: Collection[str], whole: bool = False) -> None:
  """Raises if one of these linear layers cannot be adapted.

  Args:
    model: filled or abstract.
    names: of linear layers.
    whole: whether they are trained whole, with their bias.

  Raises:
    ValueError: naming each that cannot, and why.
  """
  reasons = unadaptable(model, whole)
  told = [f'{name} {reasons[name]}'.strip() for name in names if name in reasons]
  if told:
    what = 'be trained whole' if whole else 'be adapted and must be excluded'
    raise ValueError(f'linear layers that cannot {what}: {", ".join(told)}')


def unadaptable(model: nnx.Module, whole: bool = False) -> dict[str, str]:
  """Why linear layers cannot be adapted, or be trained whole, by name."""
  found = {}
  shared = places(model, whole)
  for name, layer in linears(model).items():
    if type(layer).__call__ not in _CALLS:
      kind = type(layer).__name__
      found[name] = f'(a {kind}, whose call is not that of nnx.Linear)'
    elif name in shared:
      found[name] = f'(shared: at {", ".join(shared[name])})'
    elif not _stands(model, name, layer):
      found[name] = _ELSEWHERE if name else _BARE
    elif len(kernel_shape(layer)) != 2 + (parent_of(model, name)[2] is not None):
      found[name] = f'(many layers in one: its kernel is {kernel_shape(layer)})'
  return found


def places(model: nnx.Module, whole: bool = False) -> dict[str, tuple[str, ...]]:
  """Where linear layers stand that stand, or have parameters, at several places.

  A layer of a module that is shared itself is at one place of that module.
  """
  at: dict[int, list[str]] = {}
  for path, node in nnx.iter_graph(model):
    if isinstance(node, nnx.Pytree | list | tuple | dict):
      for key, child in nnx.iter_children(node):
        at.setdefault(id(child), []).append('.'.join(map(str, (*path, key))))
  found = {}
  for name, layer in linears(model).items():
    params = [
      child for key, child in nnx.iter_children(layer) if whole or key != 'bias'
    ]
    several = [at[id(one)] for one in (layer, *params) if len(at.get(id(one), ())) > 1]
    if several:
      found[name] = tuple(several[0])
  return found


def _stands(model: nnx.Module, name: str, layer: Linear) -> bool:
  """Whether the name leads to the layer, as an attribute that may be replaced."""
  try:
    parent, leaf, _ = parent_of(model, name)
  except (AttributeError, LookupError, TypeError, ValueError):
    return False
  return isinstance(parent, nnx.Module) and getattr(parent, leaf, None) is layer
