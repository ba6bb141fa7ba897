"""Chooses the linear layers that get an adapter, in the vocabularies users know."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping

from flax import nnx

from adapad_jax.adapters.locate import linears
from adapad_jax.adapters.unadaptable import refuse, unadaptable
from adapad_jax.models.quantised import kernel_shape
from adapad_jax.ranges import Natural, Text
from adapad_jax.settings import check

ALL_LINEAR = 'all-linear'
# No adapter goes there.
OUTPUT_LAYERS = ('lm_head',)


@dataclasses.dataclass(frozen=True)
class Targets:
  """Which linear layers are adapted.

  A pattern is a short name of the model's family ('query', 'layer.output', as in
  AdaLoRA's scripts), the end of a module name ('q_proj', as in PEFT's lists), a regex
  for the whole name, or 'all-linear': everything but heads.

  Attributes:
    patterns: what to adapt.
    exclude: what to leave out of that.
    layers: numbers of the layers to adapt; empty means all.
  """

  patterns: tuple[Text, ...] = (ALL_LINEAR,)
  exclude: tuple[Text, ...] = ()
  layers: tuple[Natural, ...] = ()

  def __post_init__(self) -> None:
    check(self, 'adapter', patterns='adapter.targets')


def linear_shapes(model: nnx.Module) -> dict[str, tuple[int, int]]:
  """(in, out) features of every linear layer that can be adapted, by dotted name."""
  cannot = unadaptable(model)
  return {name: shape for name, shape in _shapes(model).items() if name not in cannot}


def _shapes(model: nnx.Module) -> dict[str, tuple[int, int]]:
  return {name: kernel_shape(layer)[-2:] for name, layer in linears(model).items()}


def choose(
  model: nnx.Module,
  targets: Targets,
  short_names: Mapping[str, str] | None = None,
  head_modules: tuple[str, ...] = (),
) -> dict[str, tuple[int, int]]:
  """The (in, out) shapes of the adapted layers, in the model's order.

  Args:
    model: filled or abstract.
    targets: the patterns.
    short_names: short name -> regex for a whole module name.
    head_modules: paths of modules that are trained whole and never adapted.

  Raises:
    ValueError: if a pattern or a layer matches nothing, with the nearest names, or a
      linear layer that is chosen cannot be adapted.
  """
  outside = (*head_modules, *OUTPUT_LAYERS)
  shapes = {
    name: shape
    for name, shape in _shapes(model).items()
    if not any(name == part or name.startswith(f'{part}.') for part in outside)
  }
  if not shapes:
    raise ValueError(
      f'the model has no linear layer to adapt outside of its head {[*head_modules]}'
    )
  if targets.layers:
    shapes = _in_layers(shapes, targets.layers)
  if not targets.patterns:
    raise ValueError('adapter.targets is empty; name what to adapt, or all-linear')
  find = lambda pattern: _matches(pattern, shapes, short_names or {})
  kept = {name for pattern in targets.patterns for name in find(pattern)}
  kept -= {name for pattern in targets.exclude for name in find(pattern)}
  if not kept:
    raise ValueError(f'adapter.exclude={targets.exclude} leaves nothing to adapt')
  refuse(model, [name for name in shapes if name in kept])
  return {name: shape for name, shape in shapes.items() if name in kept}


def _in_layers(
  shapes: Mapping[str, tuple[int, int]], layers: tuple[int, ...]
) -> dict[str, tuple[int, int]]:
  numbers = {name: layer_of(name) for name in shapes}
  have = sorted({n for n in numbers.values() if n is not None})
  unknown = sorted(set(layers) - set(have))
  if unknown:
    raise ValueError(f'adapter.layers {unknown} do not exist; choose from {have}')
  return {name: s for name, s in shapes.items() if numbers[name] in layers}


def layer_of(name: str) -> int | None:
  """The number of the layer that a module belongs to, None outside the layers."""
  found = re.search(r'\.(\d+)\.', name)
  return int(found[1]) if found else None


def _matches(
  pattern: str, names: Iterable[str], short_names: Mapping[str, str]
) -> set[str]:
  names = list(names)
  if pattern == ALL_LINEAR:
    return set(names)
  if pattern in short_names:
    found = {n for n in names if re.fullmatch(short_names[pattern], n)}
  else:
    found = {n for n in names if n == pattern or n.endswith(f'.{pattern}')}
    found = found or {n for n in names if _is_regex_of(pattern, n)}
  if not found:
    suffixes = sorted({re.sub(r'^.*\.\d+\.', '', name) for name in names})
    near = difflib.get_close_matches(pattern, [*short_names, *suffixes], n=3, cutoff=0)
    raise ValueError(
      f'target pattern {pattern!r} matches no adaptable linear layer; nearest: {near};'
      f' short names {sorted(short_names)}, layers end in {suffixes}, or'
      f' {ALL_LINEAR!r}'
    )
  return found


def _is_regex_of(pattern: str, name: str) -> bool:
  try:
    return re.fullmatch(pattern, name) is not None
  except re.error as error:
    raise ValueError(f'target pattern {pattern!r} is no regex: {error}') from error
