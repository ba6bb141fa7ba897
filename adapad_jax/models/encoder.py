"""BERT and RoBERTa: one post-norm encoder with two sets of names.

Follows Devlin et al. (2019), arXiv:1810.04805, and Liu et al. (2019),
arXiv:1907.11692, as the Hugging Face checkpoints name and compute them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import layers, masks, stack
from adapad_jax.models.attention import attention
from adapad_jax.models.config_fields import pick, require_multiple
from adapad_jax.models.family import Family, Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.masks import Mask
from adapad_jax.ranges import Count, Fraction, Natural, NonNegative, Positive, Text


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Sizes and rates of an encoder, under the names of config.json.

  Attributes:
    position_offset: number of the first position; RoBERTa starts after its padding
      id and counts tokens only, BERT starts at zero and counts everything.
  """

  vocab_size: Count
  hidden_size: Count
  num_hidden_layers: Count
  num_attention_heads: Count
  intermediate_size: Count
  max_position_embeddings: Count
  type_vocab_size: Count
  hidden_act: Text = 'gelu'
  layer_norm_eps: Positive = 1e-12
  pad_token_id: Natural = 0
  position_offset: Natural = 0
  hidden_dropout_prob: Fraction = 0.1
  attention_probs_dropout_prob: Fraction = 0.1
  classifier_dropout: Fraction | None = None
  initializer_range: NonNegative = 0.02

  @property
  def max_length(self) -> int:
    """Longest input in tokens."""
    return self.max_position_embeddings - self.position_offset


# Sites of dropout, told apart inside one layer; layer i adds 4 * i.
_EMBEDDING_SITE, _HEAD_SITE, _HIDDEN_SITE, _FIRST_LAYER_SITE = 0, 1, 2, 4
_PROBS_SITE, _ATTENTION_SITE, _OUTPUT_SITE = 0, 1, 2


class Embeddings(nnx.Module):
  """Sum of word, position and segment embeddings, normalised."""

  def __init__(self, config: EncoderConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    table = lambda rows: layers.embedding(
      rows, config.hidden_size, dtype=dtype, rngs=rngs
    )
    self.word_embeddings = table(config.vocab_size)
    self.position_embeddings = table(config.max_position_embeddings)
    self.token_type_embeddings = table(config.type_vocab_size)
    self.LayerNorm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
    self.config = config

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None
  ) -> jax.Array:
    """Embedded tokens (B, L, D) of a batch."""
    ids_BL = batch['ids_BL']
    types_BL = jnp.zeros_like(ids_BL)
    if self.config.type_vocab_size > 1 and 'types_BL' in batch:
      types_BL = batch['types_BL']
    x_BLD = self.word_embeddings(ids_BL) + self.token_type_embeddings(types_BL)
    x_BLD += self.position_embeddings(self._positions(ids_BL))
    x_BLD = self.LayerNorm(x_BLD)
    return layers.dropout(
      x_BLD, keys_B, self.config.hidden_dropout_prob, _EMBEDDING_SITE
    )

  def _positions(self, ids_BL: jax.Array) -> jax.Array:
    if self.config.position_offset == 0:
      return jax.lax.broadcasted_iota(jnp.int32, ids_BL.shape, 1)
    token_BL = (ids_BL != self.config.pad_token_id).astype(jnp.int32)
    return jnp.cumsum(token_BL, axis=1) * token_BL + self.config.pad_token_id


class SelfAttention(nnx.Module):
  """The three projections and the attention between them."""

  def __init__(self, config: EncoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    size = config.hidden_size
    self.query = layers.linear(size, size, dtype=runtime.dtype, rngs=rngs)
    self.key = layers.linear(size, size, dtype=runtime.dtype, rngs=rngs)
    self.value = layers.linear(size, size, dtype=runtime.dtype, rngs=rngs)
    self.config = config
    self.fused = runtime.fused

  def __call__(
    self, x_BLD: jax.Array, mask: Mask, keys_B: jax.Array | None, site: Any
  ) -> jax.Array:
    """Mixed values (B, L, D), before their output projection."""
    heads = self.config.num_attention_heads
    q_BLNH, k_BLNH, v_BLNH = (
      layers.split_heads(project(x_BLD), heads)
      for project in (self.query, self.key, self.value)
    )
    out_BLNH = attention(
      q_BLNH,
      k_BLNH,
      v_BLNH,
      mask,
      scale=q_BLNH.shape[-1] ** -0.5,
      keys_B=keys_B,
      rate=self.config.attention_probs_dropout_prob,
      site=site,
      fused=self.fused,
    )
    return layers.merge_heads(out_BLNH)


class Output(nnx.Module):
  """A projection back to the hidden size, added to the residual and normalised."""

  def __init__(
    self, features: int, config: EncoderConfig, dtype: Any, rngs: nnx.Rngs
  ) -> None:
    self.dense = layers.linear(features, config.hidden_size, dtype=dtype, rngs=rngs)
    self.LayerNorm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
    self.rate = config.hidden_dropout_prob

  def __call__(
    self, x: jax.Array, residual_BLD: jax.Array, keys_B: jax.Array | None, site: Any
  ) -> jax.Array:
    """norm(dense(x) + residual)."""
    x_BLD = layers.dropout(self.dense(x), keys_B, self.rate, site)
    return self.LayerNorm(x_BLD + residual_BLD)


class Dense(nnx.Module):
  """A projection under the name `dense`, then an activation."""

  def __init__(
    self, features: int, outputs: int, act: str, dtype: Any, rngs: nnx.Rngs
  ) -> None:
    self.dense = layers.linear(features, outputs, dtype=dtype, rngs=rngs)
    self.act = layers.activation(act)

  def __call__(self, x: jax.Array) -> jax.Array:
    """act(dense(x))."""
    return self.act(self.dense(x))


class Attention(nnx.Module):
  """Self-attention and its output projection, under torch's names."""

  def __init__(self, config: EncoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    # torch calls this submodule `self`, so that is its name here too.
    self.self = SelfAttention(config, runtime, rngs)
    self.output = Output(config.hidden_size, config, runtime.dtype, rngs)


class Layer(nnx.Module):
  """One encoder layer: attention, then a two-layer perceptron."""

  def __init__(self, config: EncoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    hidden, inner = config.hidden_size, config.intermediate_size
    self.attention = Attention(config, runtime, rngs)
    self.intermediate = Dense(hidden, inner, config.hidden_act, runtime.dtype, rngs)
    self.output = Output(inner, config, runtime.dtype, rngs)

  def __call__(
    self, x_BLD: jax.Array, mask: Mask, keys_B: jax.Array | None, index: Any
  ) -> jax.Array:
    """Hidden states (B, L, D) after layer `index`."""
    site = _FIRST_LAYER_SITE + 4 * index
    mixed_BLD = self.attention.self(x_BLD, mask, keys_B, site + _PROBS_SITE)
    x_BLD = self.attention.output(mixed_BLD, x_BLD, keys_B, site + _ATTENTION_SITE)
    return self.output(self.intermediate(x_BLD), x_BLD, keys_B, site + _OUTPUT_SITE)


class Encoder(nnx.Module):
  """The layers, as `layer.{i}`."""

  def __init__(self, config: EncoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    make = lambda: Layer(config, runtime, rngs)
    self.layer = stack.make_blocks(make, config.num_hidden_layers, runtime.scan)
    self.runtime = runtime

  def __call__(
    self, x_BLD: jax.Array, mask_BL: jax.Array, keys_B: jax.Array | None
  ) -> jax.Array:
    """Last hidden states (B, L, D); keys are tokens where the mask is 1."""
    front = masks.InFront.of(mask_BL) if self.runtime.fused else None
    mask = masks.of_keys(mask_BL) if front is None else Mask(lengths_B=front.lengths_B)
    step = lambda layer, x_BLD, index: layer(x_BLD, mask, keys_B, index)
    x_BLD = x_BLD if front is None else front(x_BLD)
    remat = self.runtime.remat
    x_BLD = stack.run_blocks(self.layer, step, x_BLD, remat=remat, alike=True)
    return x_BLD if front is None else front.back(x_BLD)


class Backbone(nnx.Module):
  """Embeddings and encoder, and BERT's pooler where the head reads it."""

  def __init__(
    self, config: EncoderConfig, runtime: Runtime, rngs: nnx.Rngs, pooler: bool
  ) -> None:
    self.embeddings = Embeddings(config, runtime.dtype, rngs)
    self.encoder = Encoder(config, runtime, rngs)
    if pooler:
      size = config.hidden_size
      self.pooler = Dense(size, size, 'tanh', jnp.float32, rngs)

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> jax.Array:
    """Last hidden states (B, L, D)."""
    x_BLD = self.embeddings(batch, keys_B)
    return self.encoder(x_BLD, batch['mask_BL'], keys_B)


def _head_rate(config: EncoderConfig, head: Head) -> float:
  """Dropout in front of the head: the head's own, else the model's."""
  for rate in (head.dropout, config.classifier_dropout):
    if rate is not None:
      return rate
  return config.hidden_dropout_prob


class BertModel(nnx.Module):
  """BERT with a classification, regression or span head."""

  def __init__(
    self, config: EncoderConfig, head: Head, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    self.head = head
    self.rate = _head_rate(config, head)
    self.bert = Backbone(config, runtime, rngs, pooler=head.kind != 'span')
    name = 'qa_outputs' if head.kind == 'span' else 'classifier'
    setattr(self, name, layers.linear(config.hidden_size, head.outputs, rngs=rngs))

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> Any:
    """Logits of a batch; see `Head` for their shapes."""
    hidden_BLD = self.bert(batch, keys_B)
    if self.head.kind == 'span':
      return span_logits(self.qa_outputs(hidden_BLD))
    pooled_BD = self.bert.pooler(hidden_BLD[:, 0])
    pooled_BD = layers.dropout(pooled_BD, keys_B, self.rate, _HEAD_SITE)
    return self.classifier(pooled_BD)


class RobertaClassifier(nnx.Module):
  """RoBERTa's head: the first token through two dense layers."""

  def __init__(self, config: EncoderConfig, head: Head, rngs: nnx.Rngs) -> None:
    size = config.hidden_size
    self.dense = layers.linear(size, size, rngs=rngs)
    self.out_proj = layers.linear(size, head.outputs, rngs=rngs)
    self.rate = _head_rate(config, head)

  def __call__(self, first_BD: jax.Array, keys_B: jax.Array | None) -> jax.Array:
    """Logits (B, C) from the states of the first token."""
    x_BD = layers.dropout(first_BD, keys_B, self.rate, _HIDDEN_SITE)
    x_BD = jnp.tanh(self.dense(x_BD))
    return self.out_proj(layers.dropout(x_BD, keys_B, self.rate, _HEAD_SITE))


class RobertaModel(nnx.Module):
  """RoBERTa with a classification, regression or span head."""

  def __init__(
    self, config: EncoderConfig, head: Head, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    self.head = head
    self.roberta = Backbone(config, runtime, rngs, pooler=False)
    if head.kind == 'span':
      self.qa_outputs = layers.linear(config.hidden_size, head.outputs, rngs=rngs)
    else:
      self.classifier = RobertaClassifier(config, head, rngs)

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> Any:
    """Logits of a batch; see `Head` for their shapes."""
    hidden_BLD = self.roberta(batch, keys_B)
    if self.head.kind == 'span':
      return span_logits(self.qa_outputs(hidden_BLD))
    return self.classifier(hidden_BLD[:, 0], keys_B)


def span_logits(logits_BL2: jax.Array) -> dict[str, jax.Array]:
  """Splits the two outputs of `qa_outputs` by name."""
  return {'start_BL': logits_BL2[..., 0], 'end_BL': logits_BL2[..., 1]}


def read_config(raw: Mapping[str, Any], **fixed: Any) -> EncoderConfig:
  """Picks the fields of config.json that an encoder has; `fixed` ones win.

  Raises:
    ValueError: for a variant of the architecture that is not implemented, or as
      `pick`.
  """
  kind = raw.get('position_embedding_type') or 'absolute'
  if kind != 'absolute':
    raise ValueError(
      f"position_embedding_type {kind!r} in config.json; only 'absolute' is implemented"
    )
  if raw.get('is_decoder'):
    raise ValueError('is_decoder is true in config.json; this family only encodes')
  config = pick(EncoderConfig, raw, **fixed)
  require_multiple(config, 'hidden_size', 'num_attention_heads')
  return config


def _read_roberta(raw: Mapping[str, Any]) -> EncoderConfig:
  config = read_config(
    {'pad_token_id': 1} | {k: v for k, v in raw.items() if v is not None}
  )
  pad = config.pad_token_id
  if pad + 1 >= config.max_position_embeddings:
    raise ValueError(
      f'pad_token_id {pad} in config.json leaves none of max_position_embeddings'
      f' {config.max_position_embeddings}: positions are counted from the one after it'
    )
  return dataclasses.replace(config, position_offset=pad + 1)


_LAYER = r'.*encoder\.layer\.\d+\.'
TARGETS = {
  'query': _LAYER + r'attention\.self\.query',
  'key': _LAYER + r'attention\.self\.key',
  'value': _LAYER + r'attention\.self\.value',
  'attention.output': _LAYER + r'attention\.output\.dense',
  'intermediate': _LAYER + r'intermediate\.dense',
  'layer.output': _LAYER + r'output\.dense',
}
_HEADS = ('classification', 'regression', 'span')
_OLD_NAMES = ((r'LayerNorm\.gamma$', 'LayerNorm.weight'), (r'\.beta$', '.bias'))
_IGNORABLE = (
  r'.*embeddings\.position_ids',
  r'.*pooler\..*',
  r'(cls|lm_head|classifier|qa_outputs)\..*',
)
_SPLITS = (
  (r'.*\.(query|key|value|intermediate\.dense)\.kernel', -1),
  (r'.*\.layer\..*output\.dense\.kernel', -2),
  (r'.*\.word_embeddings\.embedding', -2),
)

BERT = Family(
  name='bert',
  read_config=read_config,
  build=BertModel,
  heads=_HEADS,
  prefixes=('bert',),
  head_modules=lambda head: (
    ('qa_outputs',) if head.kind == 'span' else ('bert.pooler', 'classifier')
  ),
  targets=TARGETS,
  old_names=_OLD_NAMES,
  ignorable=_IGNORABLE,
  splits=_SPLITS,
)
ROBERTA = Family(
  name='roberta',
  read_config=_read_roberta,
  build=RobertaModel,
  heads=_HEADS,
  prefixes=('roberta',),
  head_modules=lambda head: ('qa_outputs' if head.kind == 'span' else 'classifier',),
  targets=TARGETS,
  old_names=_OLD_NAMES,
  ignorable=_IGNORABLE,
  splits=_SPLITS,
)
