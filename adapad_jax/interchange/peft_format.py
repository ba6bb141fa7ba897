"""PEFT's LoRA layout on disk: names of files, tensors and settings.

A tensor is called `base_model.model.<module>.lora_A.weight`, (R, I), or `lora_B`,
(O, R); the update is scale * lora_B lora_A with scale = lora_alpha / r, both of which
`rank_pattern` and `alpha_pattern` may override by module. Everything here is written
with all scaling inside lora_B and alpha = r, so that the scale is one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.lowrank.update import padded
from adapad_jax.models import Pretrained

CONFIG = 'adapter_config.json'
TENSORS = 'adapter_model.safetensors'
PREFIX = 'base_model.model.'
TASK_TYPES = {
  'classification': 'SEQ_CLS',
  'regression': 'SEQ_CLS',
  'span': 'QUESTION_ANS',
  'lm': 'CAUSAL_LM',
}
_TORCH_LEAF = {'kernel': 'weight', 'bias': 'bias'}


def layout(adapter: Adapter, uniform: bool) -> dict[str, LowRank]:
  """The updates as PEFT is to store them.

  PEFT has no rank zero: such modules are left out, or padded where all have one rank.

  Raises:
    ValueError: if no module has a component.
  """
  largest = max(adapter.ranks.values(), default=0)
  if largest == 0:
    raise ValueError(
      'no module of the adapter has a component, and PEFT cannot store that; export'
      ' the head as a merged checkpoint instead'
    )
  if uniform:
    return {name: padded(u, largest) for name, u in adapter.modules.items()}
  return {name: u for name, u in adapter.modules.items() if u.rank}


def tensors_of(
  updates: Mapping[str, LowRank], head: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Every tensor under its name, float32 and contiguous.

  The copies matter: safetensors 0.8.0 writes a transposed view in the wrong order.
  """
  tensors = {}
  for name, update in updates.items():
    tensors[f'{PREFIX}{name}.lora_A.weight'] = update.a_RI
    tensors[f'{PREFIX}{name}.lora_B.weight'] = update.b_RO.T
  for name, params in head.items():
    for kind, value in params.items():
      tensors[f'{PREFIX}{name}.{_TORCH_LEAF[kind]}'] = value.T
  return {k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}


def config_of(
  updates: Mapping[str, LowRank],
  base: Pretrained,
  base_name: str,
  revision: str | None = None,
) -> dict[str, Any]:
  """adapter_config.json, sorted as PEFT itself writes it; `revision` is the base's."""
  rank = max(update.rank for update in updates.values())
  others = {name: u.rank for name, u in updates.items() if u.rank != rank}
  heads = sorted(module.split('.')[-1] for module in base.head_modules)
  config = {
    'peft_type': 'LORA',
    'task_type': TASK_TYPES[base.head.kind],
    'base_model_name_or_path': base_name,
    'revision': revision,
    'r': rank,
    'lora_alpha': rank,
    'rank_pattern': others,
    'alpha_pattern': others,
    'target_modules': sorted(updates),
    'modules_to_save': heads or None,
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
    'lora_dropout': 0.0,
    'use_dora': False,
    'use_rslora': False,
  }
  return dict(sorted(config.items()))
