"""Reads adapter_config.json and refuses what would change what the adapter computes."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapad_jax.files import read_json
from adapad_jax.interchange.peft_format import CONFIG

# Settings of training, of loading, or of which modules there are: the tensors tell.
_HARMLESS = {
  'auto_mapping',
  'base_model_name_or_path',
  'corda_config',
  'eva_config',
  'exclude_modules',
  'inference_mode',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'modules_to_save',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
}
_READ = {
  'alpha_pattern',
  'bias',
  'init_lora_weights',
  'lora_alpha',
  'peft_type',
  'r',
  'rank_pattern',
  'use_rslora',
}
# These initialisations subtract from the base model's weights, or quantise them.
_CHANGES_BASE = ('pissa', 'olora', 'corda', 'loftq', 'lora_ga')
_LARGEST = float(np.finfo(np.float32).max)
_OFF = (None, False, 0, '', [], {})


@dataclasses.dataclass(frozen=True)
class PeftConfig:
  """What the tensors alone do not tell.

  Attributes:
    path: of the file, for messages.
    base_name: the base model as its author named it.
    revision: which state of it, on the hub; '' if not stated.
    task_type: 'SEQ_CLS', 'QUESTION_ANS', 'CAUSAL_LM', ... or None.
    rank, alpha: defaults of all modules.
    rank_pattern, alpha_pattern: regex for the end of a module's name -> value.
    rslora: divide alpha by sqrt(r) instead of r.
    modules_to_save: names of modules that are stored whole.
    targets: ends of the names of all adapted modules; empty where a regex, or an
      exclusion, says which they are.
  """

  path: pathlib.Path
  base_name: str
  revision: str
  task_type: str | None
  rank: int
  alpha: float
  rank_pattern: Mapping[str, int]
  alpha_pattern: Mapping[str, float]
  rslora: bool
  modules_to_save: tuple[str, ...]
  targets: tuple[str, ...]

  def rank_of(self, module: str) -> int:
    """The rank that the file states for a module."""
    return _lookup(self.rank_pattern, module, self.rank)

  def scale_of(self, module: str) -> float:
    """The factor of lora_B lora_A: alpha / r, or alpha / sqrt(r) with rslora."""
    rank = self.rank_of(module)
    alpha = _lookup(self.alpha_pattern, module, self.alpha)
    return alpha / (math.sqrt(rank) if self.rslora else rank)


def _lookup(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
  """PEFT's rule: the first key that matches a dotted end of the name wins."""
  for key, value in pattern.items():
    if re.match(rf'(.*\.)?({key})$', module):
      return value
  return default


def read_config(folder: pathlib.Path) -> PeftConfig:
  """Reads and checks the configuration of a LoRA adapter.

  Raises:
    ValueError: if it is missing, is no LoRA, uses a feature that is not implemented
      here, or has a rank or an alpha that makes no sense.
  """
  path = folder / CONFIG
  if not path.is_file():
    raise ValueError(f'{folder} has no {CONFIG}, so it holds no PEFT adapter')
  raw = read_json(path)
  if not isinstance(raw, dict) or raw.get('peft_type') != 'LORA':
    kind = raw.get('peft_type') if isinstance(raw, dict) else type(raw).__name__
    raise ValueError(f"{path}: peft_type is {kind!r}; only 'LORA' can be imported")
  _refuse_features(raw, path)
  targets = raw.get('target_modules')
  partly = raw.get('exclude_modules') or raw.get('layers_to_transform') is not None
  if isinstance(targets, str) or partly:
    targets = None
  return PeftConfig(
    path=path,
    base_name=raw.get('base_model_name_or_path') or '',
    revision=str(raw.get('revision') or ''),
    task_type=raw.get('task_type'),
    rank=_rank(raw.get('r', 8), 'r', path),
    alpha=_alpha(raw.get('lora_alpha', 8), 'lora_alpha', path),
    rank_pattern=_pattern(raw, 'rank_pattern', _rank, path),
    alpha_pattern=_pattern(raw, 'alpha_pattern', _alpha, path),
    rslora=bool(raw.get('use_rslora')),
    modules_to_save=_names(raw.get('modules_to_save'), 'modules_to_save', path),
    targets=_names(targets, 'target_modules', path),
  )


def _refuse_features(raw: Mapping[str, Any], path: pathlib.Path) -> None:
  found = [
    f'{name}={value!r}'
    for name, value in raw.items()
    if name not in _HARMLESS | _READ and value not in _OFF
  ]
  if raw.get('bias', 'none') != 'none':
    found.append(f'bias={raw["bias"]!r}')
  start = raw.get('init_lora_weights')
  if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
    found.append(f'init_lora_weights={start!r} (it changes the base; let PEFT convert)')
  if found:
    raise ValueError(
      f'{path} uses what is not implemented here: {"; ".join(found)}; plain LoRA with'
      " bias='none', with or without use_rslora, can be imported"
    )


def _names(value: Any, field: str, path: pathlib.Path) -> tuple[str, ...]:
  is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
  if value and not is_list:
    raise ValueError(f'{path}: {field} must be a list of names, got {value!r}')
  return tuple(value or ())


def _pattern(
  raw: Mapping[str, Any], field: str, check: Any, path: pathlib.Path
) -> dict[str, Any]:
  pattern = raw.get(field) or {}
  if not isinstance(pattern, dict):
    raise ValueError(f'{path}: {field} must be an object, got {pattern!r}')
  for key in pattern:
    try:
      re.compile(key)
    except re.error as error:
      raise ValueError(f'{path}: {field} key {key!r} is no regex: {error}') from error
  return {key: check(v, f'{field}[{key!r}]', path) for key, v in pattern.items()}


def _rank(value: Any, field: str, path: pathlib.Path) -> int:
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise ValueError(f'{path}: {field} must be a whole number above 0, got {value!r}')
  return value


def _alpha(value: Any, field: str, path: pathlib.Path) -> float:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not abs(value) <= _LARGEST:
    raise ValueError(
      f'{path}: {field} must be a finite number in float32, got {value!r}'
    )
  return float(value)
