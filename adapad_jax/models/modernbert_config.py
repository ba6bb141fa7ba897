"""Sizes, rates and switches of ModernBERT, from config.json in either layout."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adapad_jax.models.config_fields import (
  pick,
  require_activation,
  require_multiple,
  size,
)
from adapad_jax.models.masks import Reach
from adapad_jax.models.rotary import Rotary, read_rotary
from adapad_jax.ranges import Count, Fraction, NonNegative, Positive, Text
from adapad_jax.settings import convert

_FULL, _SLIDING = 'full_attention', 'sliding_attention'
_POOLINGS = ('cls', 'mean')


@dataclasses.dataclass(frozen=True)
class ModernBertConfig:
  """Sizes, rates and switches, mostly under the names of config.json.

  Attributes:
    rope: rotary positions of the layers that see everything.
    local_rope: rotary positions of the layers with a window.
    local: by layer, whether it has the window.
    local_attention: width of the window, half of it on either side.
    hidden_act: config.json's hidden_activation.
    hidden_dropout_prob: config.json's mlp_dropout.
    attention_probs_dropout_prob: config.json's attention_dropout, which also acts on
      what attention gives.
  """

  vocab_size: Count
  hidden_size: Count
  num_hidden_layers: Count
  num_attention_heads: Count
  intermediate_size: Count
  rope: Rotary
  local_rope: Rotary
  local: tuple[bool, ...]
  local_attention: Count = 128
  max_position_embeddings: Count = 8192
  hidden_act: Text = 'gelu'
  norm_eps: Positive = 1e-5
  norm_bias: bool = False
  attention_bias: bool = False
  mlp_bias: bool = False
  classifier_bias: bool = False
  classifier_activation: Text = 'gelu'
  classifier_pooling: Text = 'cls'
  classifier_dropout: Fraction = 0.0
  embedding_dropout: Fraction = 0.0
  hidden_dropout_prob: Fraction = 0.0
  attention_probs_dropout_prob: Fraction = 0.0
  initializer_range: NonNegative = 0.02

  @property
  def max_length(self) -> int:
    """Longest input in tokens."""
    return self.max_position_embeddings

  @property
  def reach(self) -> Reach:
    """The window as furthest positions back and ahead."""
    return (self.local_attention // 2,) * 2


def read_config(raw: Mapping[str, Any]) -> ModernBertConfig:
  """Picks the fields of config.json that the model has.

  Raises:
    ValueError: for a variant of the architecture that is not implemented, or as
      `pick`.
  """
  derived = {
    'hidden_act': raw.get('hidden_activation') or 'gelu',
    'hidden_dropout_prob': raw.get('mlp_dropout') or 0.0,
    'attention_probs_dropout_prob': raw.get('attention_dropout') or 0.0,
    'local': _local(raw),
    'rope': read_rotary(
      raw, theta=160000.0, theta_name='global_rope_theta', layers=_FULL
    ),
    'local_rope': read_rotary(
      raw, theta=10000.0, theta_name='local_rope_theta', layers=_SLIDING
    ),
  }
  require_activation('hidden_activation', derived['hidden_act'])
  config = pick(ModernBertConfig, raw, **derived)
  require_activation('classifier_activation', config.classifier_activation)
  if config.classifier_pooling not in _POOLINGS:
    raise ValueError(
      f'classifier_pooling {config.classifier_pooling!r} in config.json; choose from'
      f' {_POOLINGS}'
    )
  require_multiple(config, 'hidden_size', 'num_attention_heads')
  if (config.hidden_size // config.num_attention_heads) % 2:
    raise ValueError(
      f'hidden_size {config.hidden_size} of {config.num_attention_heads} heads in'
      ' config.json; only heads of an even size turn'
    )
  return config


def _local(raw: Mapping[str, Any]) -> tuple[bool, ...]:
  """Whether each layer has a window: by `layer_types`, or every few layers none."""
  count = size(raw, 'num_hidden_layers')
  types = convert(list, raw.get('layer_types') or [], 'layer_types in config.json')
  if not types:
    every = raw.get('global_attn_every_n_layers')
    every = convert(Count, 3 if every is None else every, 'global_attn_every_n_layers')
    return tuple(bool(i % every) for i in range(count))
  if len(types) != count or not set(types) <= {_FULL, _SLIDING}:
    raise ValueError(
      f'layer_types {types} in config.json; expected {count} of {(_FULL, _SLIDING)}'
    )
  return tuple(kind == _SLIDING for kind in types)
