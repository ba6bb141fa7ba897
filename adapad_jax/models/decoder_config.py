"""What a decoder is made of: sizes, rates and switches, and how layers differ."""

import dataclasses

from adapad_jax.models.masks import Reach
from adapad_jax.models.rotary import Rotary
from adapad_jax.ranges import Count, Fraction, NonNegative, Positive, Text


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """What layers of one model may differ in.

  Attributes:
    rope: rotary positions; None: queries and keys are not turned.
    window: tokens that a token sees, itself and those before it; None: all.
  """

  rope: Rotary | None
  window: Count | None = None

  @property
  def reach(self) -> Reach:
    """The window as furthest positions back and ahead."""
    return None if self.window is None else (self.window - 1, 0)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes, rates and switches of a decoder, mostly under the names of config.json.

  Attributes:
    rope: rotary positions of every layer, unless `kinds` says otherwise.
    qk_norm: queries and keys are normalised per head (Qwen3, Gemma 3).
    kinds: of each layer; () for layers that all see everything and have `rope`.
    qkv_bias: queries, keys and values have a bias; None: where `attention_bias` says.
    excess_norms: norms store their scale less one (Gemma 3).
    output_norms: what attention and perceptron give is normalised too (Gemma 3).
    embedding_scale: embeddings are multiplied by sqrt(hidden_size) (Gemma 3).
    query_pre_attn_scalar: its inverse root is the factor of the scores; None takes
      head_dim.
    span_backbone: name of the backbone under a span head.
    nested: the backbone is the `language_model` of a model of text and images.
    hidden_dropout_prob: of what each block adds to the residual; zero in
      pretraining.
  """

  vocab_size: Count
  hidden_size: Count
  intermediate_size: Count
  num_hidden_layers: Count
  num_attention_heads: Count
  num_key_value_heads: Count
  head_dim: Count
  max_position_embeddings: Count
  rope: Rotary
  qk_norm: bool
  kinds: tuple[LayerKind, ...] = ()
  rms_norm_eps: Positive = 1e-6
  hidden_act: Text = 'silu'
  attention_bias: bool = False
  qkv_bias: bool | None = None
  mlp_bias: bool = False
  excess_norms: bool = False
  output_norms: bool = False
  embedding_scale: bool = False
  query_pre_attn_scalar: Positive | None = None
  tie_word_embeddings: bool = False
  span_backbone: Text = 'transformer'
  nested: bool = False
  hidden_dropout_prob: Fraction = 0.0
  attention_probs_dropout_prob: Fraction = 0.0
  initializer_range: NonNegative = 0.02

  @property
  def max_length(self) -> int:
    """Longest input in tokens; YaRN stretches what pretraining had."""
    stretched = 0
    if self.rope.rope_type == 'yarn':
      stretched = self.rope.factor * self.rope.original_max_position_embeddings
    return max(self.max_position_embeddings, int(stretched))

  @property
  def layer_kinds(self) -> tuple[LayerKind, ...]:
    """The kind of each layer."""
    return self.kinds or (LayerKind(self.rope),) * self.num_hidden_layers

  @property
  def score_scale(self) -> float:
    """Factor of the attention scores."""
    return (self.query_pre_attn_scalar or self.head_dim) ** -0.5
