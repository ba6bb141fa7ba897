"""DeBERTa-v2 and v3: an encoder whose attention knows relative positions alone.

Follows He et al. (2021), arXiv:2006.03654 (disentangled attention), and He et al.
(2023), arXiv:2111.09543 (v3), as the Hugging Face checkpoints name and compute them.
Beside the axis letters of `layers`, R counts relative distances, 2 L - 1 of them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import distances, layers, masks, stack
from adapad_jax.models.attention import attention
from adapad_jax.models.convolution import Convolution
from adapad_jax.models.deberta_config import DebertaConfig, read_config
from adapad_jax.models.encoder import Dense, Output, span_logits
from adapad_jax.models.family import Family, Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.masks import Mask

# Sites of dropout, told apart inside one layer; layer i adds 4 * i.
_EMBEDDING_SITE, _POOLER_SITE, _HEAD_SITE, _FIRST_LAYER_SITE = 0, 1, 2, 4
_PROBS_SITE, _ATTENTION_SITE, _OUTPUT_SITE = 0, 1, 2


class Embeddings(nnx.Module):
  """Token embeddings, normalised, zero where the mask is."""

  def __init__(self, config: DebertaConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    width = config.embedding_size or config.hidden_size
    table = lambda rows: layers.embedding(rows, width, dtype=dtype, rngs=rngs)
    self.word_embeddings = table(config.vocab_size)
    if config.position_biased_input:
      self.position_embeddings = table(config.max_position_embeddings)
    if config.type_vocab_size > 0:
      self.token_type_embeddings = table(config.type_vocab_size)
    if width != config.hidden_size:
      self.embed_proj = layers.linear(
        width, config.hidden_size, bias=False, dtype=dtype, rngs=rngs
      )
    self.LayerNorm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
    self.config = config

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None
  ) -> jax.Array:
    """Embedded tokens (B, L, D) of a batch."""
    ids_BL = batch['ids_BL']
    x_BLD = self.word_embeddings(ids_BL)
    if self.config.position_biased_input:
      x_BLD += self.position_embeddings(jnp.arange(ids_BL.shape[1]))[None]
    if self.config.type_vocab_size > 0:
      types_BL = batch.get('types_BL', jnp.zeros_like(ids_BL))
      x_BLD += self.token_type_embeddings(types_BL)
    if self.word_embeddings.features != self.config.hidden_size:
      x_BLD = self.embed_proj(x_BLD)
    x_BLD = self.LayerNorm(x_BLD)
    x_BLD *= batch['mask_BL'][..., None].astype(x_BLD.dtype)
    return layers.dropout(
      x_BLD, keys_B, self.config.hidden_dropout_prob, _EMBEDDING_SITE
    )


class SelfAttention(nnx.Module):
  """Disentangled attention: content to content, to position, and position to it.

  score(i, j) = scale (q_i . k_j + q_i . K[i - j] + k_j . Q[i - j]), with K and Q the
  relative positions through the key and query projections (eq. 4 of the paper).
  """

  def __init__(self, config: DebertaConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    size = config.hidden_size
    make = lambda: layers.linear(size, size, dtype=runtime.dtype, rngs=rngs)
    self.query_proj, self.key_proj, self.value_proj = make(), make(), make()
    if config.relative_attention and not config.share_att_key:
      if 'c2p' in config.pos_att_type:
        self.pos_key_proj = make()
      if 'p2c' in config.pos_att_type:
        self.pos_query_proj = make()
    self.config = config
    self.fused = runtime.fused

  def __call__(
    self,
    x_BLD: jax.Array,
    bias_B11M: jax.Array,
    relative_RD: jax.Array | None,
    keys_B: jax.Array | None,
    site: Any,
  ) -> jax.Array:
    """Mixed values (B, L, D), before their output projection."""
    heads = self.config.num_attention_heads
    q_BLNH, k_BLNH, v_BLNH = (
      layers.split_heads(project(x_BLD), heads)
      for project in (self.query_proj, self.key_proj, self.value_proj)
    )
    q_BLNH *= self.config.scale
    bias = bias_B11M
    if relative_RD is not None:
      bias += self._position_scores(q_BLNH, k_BLNH, relative_RD)
    out_BLNH = attention(
      q_BLNH,
      k_BLNH,
      v_BLNH,
      Mask(bias),
      scale=1.0,
      keys_B=keys_B,
      rate=self.config.attention_probs_dropout_prob,
      site=site,
      fused=self.fused,
    )
    return layers.merge_heads(out_BLNH)

  def _position_scores(
    self, q_BLNH: jax.Array, k_BLNH: jax.Array, relative_RD: jax.Array
  ) -> jax.Array:
    """Scores (B, N, L, L) that involve relative positions; the queries are scaled."""
    config, rows = self.config, q_BLNH.shape[0]
    scores = 0.0
    if 'c2p' in config.pos_att_type:
      linear = self.key_proj if config.share_att_key else self.pos_key_proj
      # A query's row of the scores runs over j, along which i - j falls.
      table = distances.project(linear, relative_RD[::-1], rows)
      keys = layers.split_heads(table, config.num_attention_heads)
      scores += distances.scores(q_BLNH, keys)
    if 'p2c' in config.pos_att_type:
      linear = self.query_proj if config.share_att_key else self.pos_query_proj
      table = distances.project(linear, relative_RD, rows) * config.scale
      queries = layers.split_heads(table, config.num_attention_heads)
      scores += jnp.swapaxes(distances.scores(k_BLNH, queries), -1, -2)
    return scores


class Attention(nnx.Module):
  """Self-attention and its output projection, under torch's names."""

  def __init__(self, config: DebertaConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    # torch calls this submodule `self`, so that is its name here too.
    self.self = SelfAttention(config, runtime, rngs)
    self.output = Output(config.hidden_size, config, runtime.dtype, rngs)


class Layer(nnx.Module):
  """One encoder layer: disentangled attention, then a two-layer perceptron."""

  def __init__(self, config: DebertaConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    hidden, inner = config.hidden_size, config.intermediate_size
    self.attention = Attention(config, runtime, rngs)
    self.intermediate = Dense(hidden, inner, config.hidden_act, runtime.dtype, rngs)
    self.output = Output(inner, config, runtime.dtype, rngs)

  def __call__(
    self,
    x_BLD: jax.Array,
    bias_B11M: jax.Array,
    relative_RD: jax.Array | None,
    keys_B: jax.Array | None,
    index: Any,
  ) -> jax.Array:
    """Hidden states (B, L, D) after layer `index`."""
    site = _FIRST_LAYER_SITE + 4 * index
    mixed_BLD = self.attention.self(
      x_BLD, bias_B11M, relative_RD, keys_B, site + _PROBS_SITE
    )
    x_BLD = self.attention.output(mixed_BLD, x_BLD, keys_B, site + _ATTENTION_SITE)
    return self.output(self.intermediate(x_BLD), x_BLD, keys_B, site + _OUTPUT_SITE)


class Encoder(nnx.Module):
  """The layers, as `layer.{i}`, and the table of relative positions they share.

  In training torch also drops entries of that table, anew in every layer, at
  hidden_dropout_prob. Here it stays whole: one mask for the batch would tie its rows
  together, and one for each row would make every row project a table of its own.
  """

  def __init__(self, config: DebertaConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    make = lambda: Layer(config, runtime, rngs)
    self.layer = stack.make_blocks(make, config.num_hidden_layers, runtime.scan)
    self.remat = runtime.remat
    self.config = config
    if config.conv_kernel_size > 0:
      self.conv = Convolution(config, runtime.dtype, rngs)
    if config.relative_attention:
      self.rel_embeddings = layers.embedding(
        2 * config.span, config.hidden_size, dtype=runtime.dtype, rngs=rngs
      )
    if self._normalised:
      self.LayerNorm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)

  @property
  def _normalised(self) -> bool:
    kinds = [kind.strip() for kind in self.config.norm_rel_ebd.lower().split('|')]
    return 'layer_norm' in kinds

  def __call__(
    self, x_BLD: jax.Array, mask_BL: jax.Array, keys_B: jax.Array | None
  ) -> jax.Array:
    """Last hidden states (B, L, D); keys are tokens where the mask is 1."""
    bias_B11M = masks.of_keys(mask_BL).bias
    relative_RD = self._relative(x_BLD.shape[1])

    def step(layer: Layer, x_BLD: jax.Array, index: Any) -> jax.Array:
      y_BLD = layer(x_BLD, bias_B11M, relative_RD, keys_B, index)
      if self.config.conv_kernel_size == 0:
        return y_BLD
      convolve = lambda: self.conv(x_BLD, y_BLD, keys_B)
      return jax.lax.cond(index == 0, convolve, lambda: y_BLD)

    alike = self.config.conv_kernel_size == 0
    return stack.run_blocks(self.layer, step, x_BLD, remat=self.remat, alike=alike)

  def _relative(self, length: int) -> jax.Array | None:
    """One embedding per distance from 1 - L up to L - 1, or None without any."""
    config = self.config
    if not config.relative_attention:
      return None
    rows_R = distances.rows(length, config.position_buckets, config.max_distance)
    table_RD = self.rel_embeddings(rows_R)
    return self.LayerNorm(table_RD) if self._normalised else table_RD


class Backbone(nnx.Module):
  """Embeddings and encoder."""

  def __init__(self, config: DebertaConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    self.embeddings = Embeddings(config, runtime.dtype, rngs)
    self.encoder = Encoder(config, runtime, rngs)

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> jax.Array:
    """Last hidden states (B, L, D)."""
    x_BLD = self.embeddings(batch, keys_B)
    return self.encoder(x_BLD, batch['mask_BL'], keys_B)


class DebertaModel(nnx.Module):
  """DeBERTa with a classification, regression or span head."""

  def __init__(
    self, config: DebertaConfig, head: Head, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    size = config.hidden_size
    self.head = head
    self.config = config
    self.deberta = Backbone(config, runtime, rngs)
    if head.kind == 'span':
      self.qa_outputs = layers.linear(size, head.outputs, rngs=rngs)
    else:
      self.pooler = Dense(size, size, config.pooler_hidden_act, jnp.float32, rngs)
      self.classifier = layers.linear(size, head.outputs, rngs=rngs)

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> Any:
    """Logits of a batch; see `Head` for their shapes."""
    hidden_BLD = self.deberta(batch, keys_B)
    if self.head.kind == 'span':
      return span_logits(self.qa_outputs(hidden_BLD))
    first_BD = layers.dropout(
      hidden_BLD[:, 0], keys_B, self.config.pooler_dropout, _POOLER_SITE
    )
    pooled_BD = self.pooler(first_BD)
    pooled_BD = layers.dropout(pooled_BD, keys_B, self._head_rate, _HEAD_SITE)
    return self.classifier(pooled_BD)

  @property
  def _head_rate(self) -> float:
    for rate in (self.head.dropout, self.config.cls_dropout):
      if rate is not None:
        return rate
    return self.config.hidden_dropout_prob


_LAYER = r'.*encoder\.layer\.\d+\.'
TARGETS = {
  'query': _LAYER + r'attention\.self\.query_proj',
  'key': _LAYER + r'attention\.self\.key_proj',
  'value': _LAYER + r'attention\.self\.value_proj',
  'attention.output': _LAYER + r'attention\.output\.dense',
  'intermediate': _LAYER + r'intermediate\.dense',
  'layer.output': _LAYER + r'output\.dense',
}
_SPLITS = (
  (r'.*\.(query|key|value|pos_key|pos_query)_proj\.kernel', -1),
  (r'.*\.intermediate\.dense\.kernel', -1),
  (r'.*\.layer\..*output\.dense\.kernel', -2),
  (r'.*\.word_embeddings\.embedding', -2),
)

DEBERTA = Family(
  name='deberta-v2',
  read_config=read_config,
  build=DebertaModel,
  heads=('classification', 'regression', 'span'),
  prefixes=('deberta',),
  head_modules=lambda head: (
    ('qa_outputs',) if head.kind == 'span' else ('pooler', 'classifier')
  ),
  targets=TARGETS,
  # As pretraining called it: mDeBERTa-v3-base has both, ViDeBERTa the old name alone.
  old_names=((r'word_embeddings\._weight$', 'word_embeddings.weight'),),
  ignorable=(
    r'.*embeddings\.position_ids',
    # v3 checkpoints carry the generator's absolute positions, which v3 never adds.
    r'.*embeddings\.position_embeddings\..*',
    r'(cls|lm_predictions|mask_predictions|pooler|classifier|qa_outputs)\..*',
  ),
  splits=_SPLITS,
)
