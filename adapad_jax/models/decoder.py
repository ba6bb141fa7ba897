"""Llama and its relatives: one causal decoder with switches.

Follows Touvron et al. (2023), arXiv:2302.13971 (Llama), Yang et al. (2025),
arXiv:2505.09388 (Qwen3), and the Gemma team (2025), arXiv:2503.19786 (Gemma 3), as the
Hugging Face checkpoints name and compute them; `decoder_families` has the others. M,
the key positions of `layers`, counts a cache's slots where there is one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import layers, masks, rotary, stack
from adapad_jax.models.attention import attention
from adapad_jax.models.by_layer import ByLayer
from adapad_jax.models.cache import Cache
from adapad_jax.models.config_fields import require_multiple
from adapad_jax.models.decoder_config import DecoderConfig
from adapad_jax.models.encoder import span_logits
from adapad_jax.models.family import Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.masks import Mask
from adapad_jax.models.unembedding import Unembedding

# Sites of dropout, told apart inside one layer; layer i adds 4 * i.
_HEAD_SITE, _FIRST_LAYER_SITE = 0, 4
_PROBS_SITE, _ATTENTION_SITE, _OUTPUT_SITE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Surroundings:
  """What the layers of one pass share.

  Attributes:
    turns: by layer, the rotation of each position.
    masks: by layer, who sees whom.
    keys_B: PRNG keys of the rows, None without dropout.
  """

  turns: ByLayer
  masks: ByLayer
  keys_B: jax.Array | None


def _norm(config: DecoderConfig, features: int) -> nnx.Module:
  kind = layers.ExcessRMSNorm if config.excess_norms else layers.RMSNorm
  return kind(features, config.rms_norm_eps)


class Attention(nnx.Module):
  """Grouped-query attention with rotary positions."""

  def __init__(self, config: DecoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    size, inner = config.head_dim, config.num_attention_heads * config.head_dim
    qkv_bias = config.qkv_bias
    qkv_bias = config.attention_bias if qkv_bias is None else qkv_bias
    make = lambda inputs, outputs, bias: layers.linear(
      inputs, outputs, bias=bias, dtype=runtime.dtype, rngs=rngs
    )
    self.q_proj = make(config.hidden_size, inner, qkv_bias)
    self.k_proj = make(config.hidden_size, config.num_key_value_heads * size, qkv_bias)
    self.v_proj = make(config.hidden_size, config.num_key_value_heads * size, qkv_bias)
    self.o_proj = make(inner, config.hidden_size, config.attention_bias)
    if config.qk_norm:
      self.q_norm, self.k_norm = _norm(config, size), _norm(config, size)
    self.config = config
    self.fused = runtime.fused

  def __call__(
    self, x_BLD: jax.Array, cache: Cache | None, around: Surroundings, index: Any
  ) -> tuple[jax.Array, Cache | None]:
    """Mixed values (B, L, D), and the cache with this layer's keys and values."""
    config = self.config
    q_BLNH = layers.split_heads(self.q_proj(x_BLD), config.num_attention_heads)
    k_BMGH = layers.split_heads(self.k_proj(x_BLD), config.num_key_value_heads)
    v_BMGH = layers.split_heads(self.v_proj(x_BLD), config.num_key_value_heads)
    if config.qk_norm:
      q_BLNH, k_BMGH = self.q_norm(q_BLNH), self.k_norm(k_BMGH)
    turn = around.turns.at(index)
    q_BLNH, k_BMGH = rotary.rotate(q_BLNH, turn), rotary.rotate(k_BMGH, turn)
    if cache is not None:
      cache, k_BMGH, v_BMGH = cache.store(index, k_BMGH, v_BMGH)
    attend = lambda mask: attention(
      q_BLNH,
      k_BMGH,
      v_BMGH,
      mask,
      scale=config.score_scale,
      keys_B=around.keys_B,
      rate=config.attention_probs_dropout_prob,
      site=_FIRST_LAYER_SITE + 4 * index + _PROBS_SITE,
      fused=self.fused,
    )
    out_BLNH = around.masks.apply(index, attend)
    return self.o_proj(layers.merge_heads(out_BLNH)), cache


class GatedPerceptron(nnx.Module):
  """down(act(gate(x)) * up(x))."""

  def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    hidden, inner = config.hidden_size, config.intermediate_size
    make = lambda inputs, outputs: layers.linear(
      inputs, outputs, bias=config.mlp_bias, dtype=dtype, rngs=rngs
    )
    self.gate_proj = make(hidden, inner)
    self.up_proj = make(hidden, inner)
    self.down_proj = make(inner, hidden)
    self.act = layers.activation(config.hidden_act)

  def __call__(self, x_BLD: jax.Array) -> jax.Array:
    """Transformed states (B, L, D)."""
    return self.down_proj(self.act(self.gate_proj(x_BLD)) * self.up_proj(x_BLD))


class Layer(nnx.Module):
  """One pre-norm decoder layer."""

  def __init__(self, config: DecoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    norm = lambda: _norm(config, config.hidden_size)
    self.self_attn = Attention(config, runtime, rngs)
    self.mlp = GatedPerceptron(config, runtime.dtype, rngs)
    self.input_layernorm = norm()
    self.post_attention_layernorm = norm()
    if config.output_norms:
      self.pre_feedforward_layernorm = norm()
      self.post_feedforward_layernorm = norm()
    self.output_norms = config.output_norms
    self.rate = config.hidden_dropout_prob

  def __call__(
    self, x_BLD: jax.Array, cache: Cache | None, around: Surroundings, index: Any
  ) -> tuple[jax.Array, Cache | None]:
    """Hidden states (B, L, D) after layer `index`, and the cache."""
    site = _FIRST_LAYER_SITE + 4 * index
    add = lambda x_BLD, y_BLD, here: (
      x_BLD + layers.dropout(y_BLD, around.keys_B, self.rate, site + here)
    )
    mixed_BLD, cache = self.self_attn(self.input_layernorm(x_BLD), cache, around, index)
    if not self.output_norms:
      x_BLD = add(x_BLD, mixed_BLD, _ATTENTION_SITE)
      mixed_BLD = self.mlp(self.post_attention_layernorm(x_BLD))
      return add(x_BLD, mixed_BLD, _OUTPUT_SITE), cache
    x_BLD = add(x_BLD, self.post_attention_layernorm(mixed_BLD), _ATTENTION_SITE)
    mixed_BLD = self.mlp(self.pre_feedforward_layernorm(x_BLD))
    mixed_BLD = self.post_feedforward_layernorm(mixed_BLD)
    return add(x_BLD, mixed_BLD, _OUTPUT_SITE), cache


class Backbone(nnx.Module):
  """Embedding, layers and the last norm."""

  def __init__(self, config: DecoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    make = lambda: Layer(config, runtime, rngs)
    self.embed_tokens = layers.embedding(
      config.vocab_size, config.hidden_size, dtype=runtime.dtype, rngs=rngs
    )
    self.layers = stack.make_blocks(make, config.num_hidden_layers, runtime.scan)
    self.norm = _norm(config, config.hidden_size)
    self.config = config
    self.runtime = runtime

  def __call__(
    self,
    batch: Mapping[str, jax.Array],
    keys_B: jax.Array | None = None,
    cache: Cache | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """Last hidden states (B, L, D), and the cache where one came in.

    Positions count the tokens before them, so padding may stand anywhere. With
    'segments_BL', numbers of the documents that share a row, positions count from the
    start of each, and attention stays inside; padding stands behind them.

    Raises:
      ValueError: for documents that share a row where there is a cache.
    """
    ids_BL, mask_BL = batch['ids_BL'], batch['mask_BL']
    segments_BL = batch.get('segments_BL')
    if cache is not None:
      if segments_BL is not None:
        raise ValueError('documents that share a row cannot be read into a cache')
      return self._read_on(ids_BL, mask_BL, keys_B, cache)
    front = masks.InFront.of(mask_BL) if self.runtime.fused else None
    if front is not None:
      ids_BL, mask_BL = front(ids_BL), front(mask_BL)
      segments_BL = None if segments_BL is None else front(segments_BL)
    positions_BL = _positions(mask_BL)
    if segments_BL is not None:
      positions_BL = _inner_positions(segments_BL)

    def make_mask(reach: masks.Reach) -> Mask:
      if front is not None:
        return Mask(None, front.lengths_B, segments_BL, causal=True, reach=reach)
      seen_BLM = _seen(mask_BL, positions_BL, positions_BL, 0, reach)
      if segments_BL is not None:
        seen_BLM &= masks.same_document(segments_BL)
      return Mask(masks.bias_of(seen_BLM))

    x_BLD, _ = self._run(ids_BL, positions_BL, make_mask, keys_B, None)
    return x_BLD if front is None else front.back(x_BLD), None

  def _read_on(
    self,
    ids_BL: jax.Array,
    mask_BL: jax.Array,
    keys_B: jax.Array | None,
    cache: Cache,
  ) -> tuple[jax.Array, Cache]:
    """The same for tokens that follow those in a cache."""
    first, length = cache.used, ids_BL.shape[1]
    cache = cache.append(mask_BL)
    positions_BM = _positions(cache.mask_BM)
    positions_BL = jax.lax.dynamic_slice_in_dim(positions_BM, first, length, axis=1)

    def make_mask(reach: masks.Reach) -> Mask:
      seen = _seen(cache.mask_BM, positions_BL, positions_BM, first, reach)
      return Mask(masks.bias_of(seen))

    return self._run(ids_BL, positions_BL, make_mask, keys_B, cache)

  def _run(
    self,
    ids_BL: jax.Array,
    positions_BL: jax.Array,
    make_mask: Callable[[masks.Reach], Mask],
    keys_B: jax.Array | None,
    cache: Cache | None,
  ) -> tuple[jax.Array, Cache | None]:
    """Embeds the tokens and takes them through the layers and the last norm."""
    config, kinds = self.config, self.config.layer_kinds
    make_turn = lambda rope: rotary.rotation(rope, positions_BL, config.head_dim)
    around = Surroundings(
      turns=ByLayer.of([kind.rope for kind in kinds], make_turn),
      masks=ByLayer.of([kind.reach for kind in kinds], make_mask),
      keys_B=keys_B,
    )
    x_BLD = self.embed_tokens(ids_BL)
    if config.embedding_scale:
      # In 16 bits the root is rounded first, as the checkpoints were trained.
      x_BLD *= jnp.asarray(config.hidden_size**0.5, x_BLD.dtype)
    step = lambda layer, carry, index: layer(*carry, around, index)
    x_BLD, cache = stack.run_blocks(
      self.layers, step, (x_BLD, cache), remat=self.runtime.remat
    )
    return self.norm(x_BLD), cache

  def empty_cache(self, rows: int, slots: int) -> Cache:
    """A cache for `rows` sequences of `slots` tokens, padding included."""
    config = self.config
    shape = (config.num_hidden_layers, rows, slots)
    shape += (config.num_key_value_heads, config.head_dim)
    return Cache.empty(shape, self.runtime.dtype)


class Nested(nnx.Module):
  """A backbone under the name that it has in a model of text and images."""

  def __init__(self, backbone: Backbone) -> None:
    self.language_model = backbone

  def __call__(self, *args: Any, **kwargs: Any) -> tuple[jax.Array, Cache | None]:
    """As the backbone."""
    return self.language_model(*args, **kwargs)

  def empty_cache(self, rows: int, slots: int) -> Cache:
    """As the backbone's."""
    return self.language_model.empty_cache(rows, slots)

  @property
  def embed_tokens(self) -> nnx.Module:
    """The backbone's table."""
    return self.language_model.embed_tokens


def _positions(mask_BM: jax.Array) -> jax.Array:
  """Numbers of the tokens before each slot."""
  return jnp.maximum(jnp.cumsum(mask_BM, axis=1) - 1, 0)


def _seen(
  mask_BM: jax.Array,
  positions_BL: jax.Array,
  positions_BM: jax.Array,
  first: int | jax.Array,
  reach: masks.Reach,
) -> jax.Array:
  """(B, L, M): slot first + l sees the tokens in slots up to its own, if near enough.

  A window counts tokens, not slots: padding may stand between a prompt and what
  follows it.
  """
  query_1L = first + jnp.arange(positions_BL.shape[1])[None]
  place_1M = jnp.arange(mask_BM.shape[1])[None]
  seen_BLM = masks.within(query_1L, place_1M, True, None) & (mask_BM[:, None] > 0)
  if reach is not None:
    seen_BLM &= masks.within(positions_BL, positions_BM, False, reach)
  return seen_BLM


def _inner_positions(segments_BL: jax.Array) -> jax.Array:
  """Places (B, L) of tokens in their documents, counted from zero."""
  place_BL = jnp.broadcast_to(jnp.arange(segments_BL.shape[1])[None], segments_BL.shape)
  before_BL = jnp.pad(segments_BL[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
  first_BL = jnp.where(segments_BL != before_BL, place_BL, 0)
  return place_BL - jax.lax.cummax(first_BL, axis=1)


class DecoderModel(nnx.Module):
  """A decoder with a classification, regression, span or language-model head."""

  def __init__(
    self, config: DecoderConfig, head: Head, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    require_multiple(config, 'num_attention_heads', 'num_key_value_heads')
    self.head = head
    self.config = config
    backbone = Backbone(config, runtime, rngs)
    backbone = Nested(backbone) if config.nested else backbone
    if head.kind == 'span':
      # transformers may have another name for the backbone under this head alone.
      setattr(self, config.span_backbone, backbone)
      self.qa_outputs = layers.linear(config.hidden_size, head.outputs, rngs=rngs)
      return
    self.model = backbone
    if head.kind != 'lm':
      self.score = layers.linear(
        config.hidden_size, head.outputs, bias=False, rngs=rngs
      )
    elif not config.tie_word_embeddings:
      self.lm_head = layers.linear(
        config.hidden_size,
        config.vocab_size,
        bias=False,
        dtype=runtime.dtype,
        rngs=rngs,
      )

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> Any:
    """Logits of a batch; see `Head` for their shapes."""
    if self.head.kind == 'span':
      backbone = getattr(self, self.config.span_backbone)
      return span_logits(self.qa_outputs(backbone(batch, keys_B)[0]))
    hidden_BLD, _ = self.model(batch, keys_B)
    if self.head.kind == 'lm':
      return self.token_logits(hidden_BLD)
    last_BD = last_token(hidden_BLD, batch['mask_BL'])
    return self.score(
      layers.dropout(last_BD, keys_B, self.head.dropout or 0.0, _HEAD_SITE)
    )

  def token_logits(self, hidden_BLD: jax.Array) -> jax.Array:
    """Next-token logits (B, L, V) in float32, from a head that may be tied."""
    return self.unembedding()(hidden_BLD)

  def unembedding(self) -> Unembedding:
    """What `token_logits` computes, apart from the model."""
    if self.config.tie_word_embeddings:
      table_VD = self.model.embed_tokens.embedding[...]
      return Unembedding(table_VD, tied=True, dtype=table_VD.dtype)
    return Unembedding(
      self.lm_head.kernel[...], tied=False, dtype=jnp.dtype(self.lm_head.dtype)
    )


def last_token(x_BLD: jax.Array, mask_BL: jax.Array) -> jax.Array:
  """States (B, D) of each row's last token, wherever its padding stands."""
  place_L = jnp.arange(mask_BL.shape[1])
  last_B = jnp.max(jnp.where(mask_BL > 0, place_L[None], 0), axis=1)
  return jnp.take_along_axis(x_BLD, last_B[:, None, None], axis=1)[:, 0]
