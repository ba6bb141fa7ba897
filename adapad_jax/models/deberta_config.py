"""Sizes, rates and switches of DeBERTa-v2/v3."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adapad_jax.models.config_fields import pick, require_multiple
from adapad_jax.ranges import (
  Count,
  Fraction,
  Natural,
  NonNegative,
  Positive,
  Text,
  Whole,
)
from adapad_jax.settings import convert


@dataclasses.dataclass(frozen=True)
class DebertaConfig:
  """Sizes, rates and switches of DeBERTa-v2/v3, under the names of config.json.

  Attributes:
    position_buckets: distances told apart on either side, logarithmically far away;
      below one, every distance up to `max_relative_positions` is its own.
    max_relative_positions: largest distance; below one, max_position_embeddings.
    pos_att_type: 'c2p' (a query looks at distances), 'p2c' (a distance looks at
      keys), or both.
    share_att_key: distances pass through the query and key projections themselves.
    position_biased_input: absolute positions are added to the embeddings.
    embedding_size: width of the token table, None for the hidden size.
    conv_kernel_size: tokens that the convolution beside the first layer sees; 0 for
      none, as in v3.
  """

  vocab_size: Count
  hidden_size: Count
  num_hidden_layers: Count
  num_attention_heads: Count
  intermediate_size: Count
  max_position_embeddings: Count = 512
  type_vocab_size: Natural = 0
  hidden_act: Text = 'gelu'
  layer_norm_eps: Positive = 1e-7
  relative_attention: bool = False
  position_buckets: Whole = -1
  max_relative_positions: Whole = -1
  pos_att_type: tuple[Text, ...] = ()
  share_att_key: bool = False
  norm_rel_ebd: Text = 'none'
  position_biased_input: bool = True
  embedding_size: Count | None = None
  conv_kernel_size: Natural = 0
  conv_groups: Count = 1
  conv_act: Text = 'tanh'
  pooler_hidden_act: Text = 'gelu'
  hidden_dropout_prob: Fraction = 0.1
  attention_probs_dropout_prob: Fraction = 0.1
  pooler_dropout: Fraction = 0.0
  cls_dropout: Fraction | None = None
  initializer_range: NonNegative = 0.02

  @property
  def max_length(self) -> int:
    """Longest input in tokens."""
    return self.max_position_embeddings

  @property
  def max_distance(self) -> int:
    """Largest distance that the buckets tell apart."""
    if self.max_relative_positions < 1:
      return self.max_position_embeddings
    return self.max_relative_positions

  @property
  def span(self) -> int:
    """Half the rows of the table of relative positions."""
    return self.position_buckets if self.position_buckets > 0 else self.max_distance

  @property
  def scale(self) -> float:
    """Factor of the scores: each kind of attention adds one unit of variance."""
    size = self.hidden_size // self.num_attention_heads
    return (size * (1 + len(self.pos_att_type))) ** -0.5


def read_config(raw: Mapping[str, Any]) -> DebertaConfig:
  """Picks the fields of config.json that the model has.

  Raises:
    ValueError: for a variant of the architecture that is not implemented, or as
      `pick`.
  """
  kinds = raw.get('pos_att_type') or ()
  if isinstance(kinds, str):
    kinds = [kind.strip() for kind in kinds.lower().split('|')]
  kinds = convert(tuple[Text, ...], kinds, 'pos_att_type in config.json')
  unknown = sorted(set(kinds) - {'c2p', 'p2c'})
  if unknown:
    raise ValueError(f'pos_att_type {unknown} in config.json; choose c2p, p2c or both')
  config = pick(DebertaConfig, raw, pos_att_type=tuple(kinds))
  require_multiple(config, 'hidden_size', 'num_attention_heads')
  require_multiple(config, 'hidden_size', 'conv_groups')
  width = config.conv_kernel_size
  if width and width % 2 == 0:
    raise ValueError(f'conv_kernel_size {width} in config.json; only odd ones work')
  for name, only in (
    ('attention_head_size', config.hidden_size // config.num_attention_heads),
    ('pooler_hidden_size', config.hidden_size),
  ):
    given = raw.get(name)
    if given is not None and given != only:
      raise ValueError(f'{name} {given} in config.json; only {only} is implemented')
  return config
