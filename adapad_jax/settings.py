"""The border between config dicts and frozen dataclasses, and the check of both.

A dataclass of settings states beside every field's type what values it may have, see
`ranges`, and calls `check` in its `__post_init__`: then a value outside is refused
whether it came from a config or from a program.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from adapad_jax.ranges import Free, OneOf, Range, Text

T = TypeVar('T')


def build(kind: type[T], values: Mapping[str, Any], where: str = 'config') -> T:
  """Makes a frozen dataclass, nested ones included, from a config dict.

  Args:
    kind: the dataclass; its field types say what values are accepted.
    values: field name -> value; absent fields keep their defaults.
    where: dotted path of `values`, for messages.

  Raises:
    ValueError: for an unknown field, a value of another type or outside its range.
  """
  if not isinstance(values, Mapping):
    raise ValueError(f'{where} must be a group of fields, got {values!r}')
  hints = hints_of(kind)
  for name in values:
    if name not in hints:
      raise ValueError(f'unknown field {where}.{name}{did_you_mean(name, hints)}')
  made = {
    name: convert(hints[name], value, f'{where}.{name}')
    for name, value in values.items()
  }
  return kind(**made)


def check(settings: Any, where: str, **renamed: str) -> None:
  """Checks every field of a frozen dataclass, and keeps it as its type says.

  A list becomes a tuple and a number of numpy one of Python.

  Args:
    settings: the dataclass, in its `__post_init__`.
    where: the name of its group, as users say it; '' for fields outside groups.
    renamed: field -> its whole name, where users know it by another.

  Raises:
    ValueError: for the first field that is not what its type says.
    TypeError: for a field that states no range.
  """
  for name, kind in hints_of(type(settings)).items():
    said = renamed.get(name) or (f'{where}.{name}' if where else name)
    value = getattr(settings, name)
    if isinstance(value, str) and typing.get_origin(kind) is tuple:
      raise ValueError(f'{said} must be a tuple of values, got the text {value!r}')
    object.__setattr__(settings, name, convert(kind, value, said))


def unread(
  settings: Any, default: Any, reads: Collection[str]
) -> Iterator[tuple[str, Any]]:
  """Fields that were set and are not read: (name, with a dot if in a group; value).

  Args:
    settings: the dataclass.
    default: what its fields are when nobody sets them.
    reads: what is read, by field, or by group for all that is in it.
  """
  for name, value in _changed(settings, default):
    if not {name, name.partition('.')[0]} & {*reads}:
      yield name, value


def _changed(settings: Any, default: Any) -> Iterator[tuple[str, Any]]:
  """Fields with another value than the default's, those of groups with a dot."""
  for field in dataclasses.fields(settings):
    value, usual = getattr(settings, field.name), getattr(default, field.name)
    if dataclasses.is_dataclass(value):
      yield from ((f'{field.name}.{name}', one) for name, one in _changed(value, usual))
    elif value != usual:
      yield field.name, value


def renamed(
  values: Mapping[str, Any], names: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
  """A config of an earlier version with the present names of its fields.

  Args:
    values: groups by name.
    names: group -> what a field was called -> what it is called now.
  """
  found = dict(values)
  for group, present in names.items():
    if isinstance(found.get(group), Mapping):
      found[group] = {present.get(old, old): v for old, v in found[group].items()}
  return found


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
  """The types of a dataclass's fields, with their ranges.

  Raises:
    TypeError: for a field whose numbers or names have no range.
  """
  hints = typing.get_type_hints(kind, include_extras=True)
  found = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
  for name, hint in found.items():
    if not _states_range(hint):
      raise TypeError(f'{kind.__name__}.{name} states no range, see ranges.py')
  return found


def _states_range(hint: Any) -> bool:
  if typing.get_origin(hint) is typing.Annotated:
    return isinstance(hint.__metadata__[0], Range | OneOf | Free)
  if inner := [kind for kind in typing.get_args(hint) if kind not in (Ellipsis, None)]:
    return all(_states_range(kind) for kind in inner)
  return hint not in (int, float, str)


def did_you_mean(name: str, choices: Collection[Any]) -> str:
  """The tail of an error message: the nearest choice, and all of them."""
  near = difflib.get_close_matches(str(name), [str(c) for c in choices], n=1)
  hint = f'; did you mean {near[0]!r}?' if near else ';'
  return f'{hint} choose from {sorted(choices)}'


def convert(kind: Any, value: Any, where: str) -> Any:
  """A value as a field of that type holds it.

  Args:
    kind: the field's type, with its range.
    value: from a config or a program.
    where: dotted name of the field, for messages.

  Raises:
    ValueError: if it is of another type or outside the range.
  """
  if dataclasses.is_dataclass(kind):
    return value if isinstance(value, kind) else build(kind, value, where)
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin is typing.Annotated:
    return _in_range(args[1], args[0], _typed(args[0], value, where), where)
  if origin in (types.UnionType, typing.Union):
    if value is None and type(None) in args:
      return None
    return convert(next(k for k in args if k is not type(None)), value, where)
  if origin is tuple:
    return _listed(args[0], value, where)
  if origin is dict and isinstance(value, Mapping):
    return {
      key: convert(args[1], item, f'{where}.{key}') for key, item in value.items()
    }
  return value if kind is Any else _typed(kind, value, where)


def _listed(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
  if isinstance(value, str):
    value = [part.strip() for part in value.split(',')]
  if not isinstance(value, list | tuple):
    raise ValueError(f'{where} must be a list, got {value!r}')
  if kind == Text:  # --config.data.labels=0,1 arrives as numbers, True,False as bools.
    value = [str(item) if type(item) in (int, float, bool) else item for item in value]
  # An empty flag, --config.train.buckets=, arrives as one empty string.
  return tuple(convert(kind, item, where) for item in value if item != '')


def _typed(kind: type, value: Any, where: str) -> Any:
  """The value, a number as Python's own; numpy's are welcome too."""
  if not isinstance(value, bool):
    if kind is int and isinstance(value, numbers.Integral):
      return int(value)
    if kind is float and isinstance(value, numbers.Real):
      return _as_float(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise ValueError(f'{where} must be of type {kind.__name__}, got {value!r}')
  return value


def _as_float(value: numbers.Real) -> float:
  try:
    return float(value)
  except OverflowError:  # a whole number of more than 300 digits
    return math.inf if value > 0 else -math.inf


def _in_range(rule: Any, kind: type, value: Any, where: str) -> Any:
  if isinstance(rule, OneOf) and value not in rule.choices:
    raise ValueError(f'unknown {where} {value!r}{did_you_mean(value, rule.choices)}')
  if isinstance(rule, Free) and not (rule.blank or value.strip()):
    raise ValueError(f'{where} must not be blank')
  if isinstance(rule, Range) and not rule.holds(value):
    wanted = ' and '.join(filter(None, (rule.describe(kind), rule.limit(value))))
    raise ValueError(f'{where} must be {wanted}, got {value}')
  return value


def describe(kind: Any) -> str:
  """What a field of that type takes, for a table: 'whole number >= 1'."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin in (types.UnionType, typing.Union):
    return f'{describe(next(k for k in args if k is not type(None)))}, or None'
  if origin is tuple:
    return f'list: {describe(args[0])}'
  if origin is not typing.Annotated:
    return 'True, False' if kind is bool else ''
  rule = args[1]
  if isinstance(rule, OneOf):
    return ', '.join(f'{choice!r}' for choice in rule.choices)
  if isinstance(rule, Free):
    return 'text' if rule.blank else 'text, not blank'
  kind = 'whole number' if args[0] is int else 'number'
  return f'{kind} {rule.describe(args[0])}'.strip()


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
