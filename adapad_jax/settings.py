"""The border between config dicts and frozen dataclasses."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar('T')


def build(kind: type[T], values: Mapping[str, Any], where: str = 'config') -> T:
  """Makes a frozen dataclass, nested ones included, from a config dict.

  Args:
    kind: the dataclass; its field types say what values are accepted.
    values: field name -> value; absent fields keep their defaults.
    where: dotted path of `values`, for messages.

  Raises:
    ValueError: for an unknown field or a value of another type.
  """
  hints = typing.get_type_hints(kind)
  fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
  for name in values:
    if name not in fields:
      raise ValueError(f'unknown field {where}.{name}{did_you_mean(name, fields)}')
  made = {
    name: _convert(fields[name], value, f'{where}.{name}')
    for name, value in values.items()
  }
  return kind(**made)


def did_you_mean(name: str, choices: Any) -> str:
  """The tail of an error message: the nearest choice, and all of them."""
  near = difflib.get_close_matches(str(name), [str(c) for c in choices], n=1)
  hint = f'; did you mean {near[0]!r}?' if near else ';'
  return f'{hint} choose from {sorted(choices)}'


def _convert(kind: Any, value: Any, where: str) -> Any:
  if dataclasses.is_dataclass(kind):
    if not isinstance(value, Mapping):
      raise ValueError(f'{where} must be a group of fields, got {value!r}')
    return build(kind, value, where)
  if kind is Any:
    return value
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin in (types.UnionType, typing.Union):
    return _convert_optional(args, value, where)
  if origin is tuple:
    if isinstance(value, str):
      value = tuple(part.strip() for part in value.split(',') if part.strip())
    # An empty flag, --config.train.buckets=, arrives as one empty string.
    return tuple(_convert(args[0], item, where) for item in value if item != '')
  if origin is dict and isinstance(value, Mapping):
    return {
      key: _convert(args[1], item, f'{where}.{key}') for key, item in value.items()
    }
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise ValueError(f'{where} must be of type {kind.__name__}, got {value!r}')
  return value


def _convert_optional(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
  if value is None and type(None) in kinds:
    return None
  return _convert(next(k for k in kinds if k is not type(None)), value, where)


def as_dict(settings: Any) -> dict[str, Any]:
  """The nested plain dict of a frozen dataclass, tuples as lists."""
  listed = lambda value: (
    {key: listed(item) for key, item in value.items()}
    if isinstance(value, dict)
    else [listed(item) for item in value]
    if isinstance(value, tuple | list)
    else value
  )
  return listed(dataclasses.asdict(settings))
