"""The fields of config.json that a family has, as its frozen dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from adapad_jax.models.layers import ACTIVATIONS
from adapad_jax.ranges import Count
from adapad_jax.settings import convert, hints_of

T = TypeVar('T')


def pick(kind: type[T], raw: Mapping[str, Any], **derived: Any) -> T:
  """Makes the dataclass of the fields that config.json has; `derived` ones win.

  A field that is null counts as absent.

  Raises:
    ValueError: if a field without a default is absent, a value is of another type or
      outside its range, or an activation is not implemented.
  """
  fields = dataclasses.fields(kind)
  found = {f.name: raw[f.name] for f in fields if raw.get(f.name) is not None}
  found |= derived
  require(raw, *(f.name for f in fields if _needed(f) and f.name not in found))
  for name, value in found.items():
    if name.endswith('_act'):
      require_activation(name, value)
  hints = hints_of(kind)
  return kind(**{n: convert(hints[n], x, _in_file(n)) for n, x in found.items()})


def _in_file(name: str) -> str:
  return f'{name} in config.json'


def size(raw: Mapping[str, Any], name: str) -> int:
  """A size that config.json must have, where it is needed before the rest.

  Raises:
    ValueError: if it is absent, or no whole number from one.
  """
  require(raw, name)
  return convert(Count, raw[name], _in_file(name))


def require_activation(name: str, value: Any) -> None:
  """Refuses an activation that is not implemented.

  Raises:
    ValueError: naming it, its field and those that are.
  """
  if str(value) not in ACTIVATIONS:
    raise ValueError(
      f'{name} {value!r} in config.json; choose from {sorted(ACTIVATIONS)}'
    )


def require_multiple(config: Any, whole: str, part: str) -> None:
  """Refuses a size that another one does not divide.

  Raises:
    ValueError: naming both.
  """
  sizes = getattr(config, whole), getattr(config, part)
  if sizes[0] % sizes[1]:
    raise ValueError(
      f'{whole} {sizes[0]} in config.json is no multiple of {part} {sizes[1]}'
    )


def _needed(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING


def require(raw: Mapping[str, Any], *names: str) -> None:
  """Checks that config.json has these fields.

  Raises:
    ValueError: with all that are absent or null.
  """
  lacking = [name for name in names if raw.get(name) is None]
  if lacking:
    raise ValueError(
      f'config.json of model_type {raw.get("model_type")!r} lacks {lacking}'
    )
