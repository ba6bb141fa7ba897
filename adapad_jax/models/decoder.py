"""Qwen3 and Llama: one causal decoder with switches.

Follows Touvron et al. (2023), arXiv:2302.13971, and Yang et al. (2025),
arXiv:2505.09388, as the Hugging Face checkpoints name and compute them. M, the key
positions of `layers`, counts a cache's slots where there is one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import layers, rotary, stack
from adapad_jax.models.cache import Cache
from adapad_jax.models.config_fields import pick, require, require_multiple, size
from adapad_jax.models.encoder import span_logits
from adapad_jax.models.family import Family, Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.unembedding import Unembedding
from adapad_jax.ranges import Count, Fraction, NonNegative, Positive, Text
from adapad_jax.settings import convert


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes, rates and switches of a decoder, mostly under the names of config.json.

  Attributes:
    qk_norm: queries and keys are normalised per head (Qwen3).
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
  rope: rotary.Rotary
  qk_norm: bool
  rms_norm_eps: Positive = 1e-6
  hidden_act: Text = 'silu'
  attention_bias: bool = False
  mlp_bias: bool = False
  tie_word_embeddings: bool = False
  hidden_dropout_prob: Fraction = 0.0
  attention_probs_dropout_prob: Fraction = 0.0
  initializer_range: NonNegative = 0.02

  @property
  def max_length(self) -> int:
    """Longest input in tokens."""
    return self.max_position_embeddings


# Sites of dropout, told apart inside one layer; layer i adds 4 * i.
_HEAD_SITE, _FIRST_LAYER_SITE = 0, 4
_PROBS_SITE, _ATTENTION_SITE, _OUTPUT_SITE = 0, 1, 2


class Attention(nnx.Module):
  """Grouped-query attention with rotary positions."""

  def __init__(self, config: DecoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    size, bias = config.head_dim, config.attention_bias
    make = lambda inputs, outputs: layers.linear(
      inputs, outputs, bias=bias, dtype=runtime.dtype, rngs=rngs
    )
    inner = config.num_attention_heads * size
    self.q_proj = make(config.hidden_size, inner)
    self.k_proj = make(config.hidden_size, config.num_key_value_heads * size)
    self.v_proj = make(config.hidden_size, config.num_key_value_heads * size)
    self.o_proj = make(inner, config.hidden_size)
    if config.qk_norm:
      self.q_norm = layers.RMSNorm(size, config.rms_norm_eps)
      self.k_norm = layers.RMSNorm(size, config.rms_norm_eps)
    self.config = config
    self.fused = runtime.fused

  def __call__(
    self,
    x_BLD: jax.Array,
    cache: Cache | None,
    turn: jax.Array,
    bias_B1LM: jax.Array,
    keys_B: jax.Array | None,
    index: Any,
  ) -> tuple[jax.Array, Cache | None]:
    """Mixed values (B, L, D), and the cache with this layer's keys and values."""
    config = self.config
    q_BLNH = layers.split_heads(self.q_proj(x_BLD), config.num_attention_heads)
    k_BMGH = layers.split_heads(self.k_proj(x_BLD), config.num_key_value_heads)
    v_BMGH = layers.split_heads(self.v_proj(x_BLD), config.num_key_value_heads)
    if config.qk_norm:
      q_BLNH, k_BMGH = self.q_norm(q_BLNH), self.k_norm(k_BMGH)
    q_BLNH, k_BMGH = rotary.rotate(q_BLNH, turn), rotary.rotate(k_BMGH, turn)
    if cache is not None:
      cache, k_BMGH, v_BMGH = cache.store(index, k_BMGH, v_BMGH)
    out_BLNH = layers.attention(
      q_BLNH,
      k_BMGH,
      v_BMGH,
      bias_B1LM,
      scale=config.head_dim**-0.5,
      keys_B=keys_B,
      rate=config.attention_probs_dropout_prob,
      site=_FIRST_LAYER_SITE + 4 * index + _PROBS_SITE,
      fused=self.fused,
    )
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
    norm = lambda: layers.RMSNorm(config.hidden_size, config.rms_norm_eps)
    self.self_attn = Attention(config, runtime, rngs)
    self.mlp = GatedPerceptron(config, runtime.dtype, rngs)
    self.input_layernorm = norm()
    self.post_attention_layernorm = norm()
    self.rate = config.hidden_dropout_prob

  def __call__(
    self,
    x_BLD: jax.Array,
    cache: Cache | None,
    turn: jax.Array,
    bias_B1LM: jax.Array,
    keys_B: jax.Array | None,
    index: Any,
  ) -> tuple[jax.Array, Cache | None]:
    """Hidden states (B, L, D) after layer `index`, and the cache."""
    site = _FIRST_LAYER_SITE + 4 * index
    mixed_BLD, cache = self.self_attn(
      self.input_layernorm(x_BLD), cache, turn, bias_B1LM, keys_B, index
    )
    x_BLD += layers.dropout(mixed_BLD, keys_B, self.rate, site + _ATTENTION_SITE)
    mixed_BLD = self.mlp(self.post_attention_layernorm(x_BLD))
    x_BLD += layers.dropout(mixed_BLD, keys_B, self.rate, site + _OUTPUT_SITE)
    return x_BLD, cache


class Backbone(nnx.Module):
  """Embedding, layers and the last norm."""

  def __init__(self, config: DecoderConfig, runtime: Runtime, rngs: nnx.Rngs) -> None:
    make = lambda: Layer(config, runtime, rngs)
    self.embed_tokens = layers.embedding(
      config.vocab_size, config.hidden_size, dtype=runtime.dtype, rngs=rngs
    )
    self.layers = stack.make_blocks(make, config.num_hidden_layers, runtime.scan)
    self.norm = layers.RMSNorm(config.hidden_size, config.rms_norm_eps)
    self.config = config
    self.dtype = runtime.dtype
    self.remat = runtime.remat

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
    mask_BL = batch['mask_BL']
    segments_BL = batch.get('segments_BL')
    if segments_BL is not None and cache is not None:
      raise ValueError('documents that share a row cannot be read into a cache')
    if cache is None:
      mask_BM, first = mask_BL, 0
    else:
      first = cache.used
      cache = cache.append(mask_BL)
      mask_BM = cache.mask_BM
    positions_BM = jnp.maximum(jnp.cumsum(mask_BM, axis=1) - 1, 0)
    positions_BL = jax.lax.dynamic_slice_in_dim(
      positions_BM, first, mask_BL.shape[1], axis=1
    )
    bias_B1LM = _causal_bias(mask_BM, mask_BL.shape[1], first)
    if segments_BL is not None:
      positions_BL = _inner_positions(segments_BL)
      bias_B1LM = jnp.minimum(bias_B1LM, _segment_bias(segments_BL))
    turn = rotary.rotation(self.config.rope, positions_BL, self.config.head_dim)
    step = lambda layer, carry, index: layer(*carry, turn, bias_B1LM, keys_B, index)
    start = (self.embed_tokens(batch['ids_BL']), cache)
    x_BLD, cache = stack.run_blocks(self.layers, step, start, remat=self.remat)
    return self.norm(x_BLD), cache

  def empty_cache(self, rows: int, slots: int) -> Cache:
    """A cache for `rows` sequences of `slots` tokens, padding included."""
    config = self.config
    shape = (config.num_hidden_layers, rows, slots)
    shape += (config.num_key_value_heads, config.head_dim)
    return Cache.empty(shape, self.dtype)


def _causal_bias(mask_BM: jax.Array, length: int, first: int | jax.Array) -> jax.Array:
  """(B, 1, L, M) bias: slot first + l sees the tokens in slots up to its own."""
  query_L1 = first + jnp.arange(length)[:, None]
  seen_LM = query_L1 >= jnp.arange(mask_BM.shape[1])[None]
  floor = jnp.finfo(jnp.float32).min
  return layers.mask_bias(mask_BM) + jnp.where(seen_LM, 0.0, floor)[None, None]


def _segment_bias(segments_BL: jax.Array) -> jax.Array:
  """(B, 1, L, M) bias that keeps tokens of a document among themselves.

  Padding, number 0, may look at everything: a query with nothing to see is what
  kernels of attention disagree about.
  """
  query_BL1, key_B1M = segments_BL[:, :, None], segments_BL[:, None, :]
  apart_BLM = (query_BL1 != key_B1M) & (query_BL1 > 0)
  return jnp.where(apart_BLM, jnp.finfo(jnp.float32).min, 0.0)[:, None]


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
    if head.kind == 'span':
      # transformers has another name for the backbone under this head alone.
      self.transformer = backbone
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
      return span_logits(self.qa_outputs(self.transformer(batch, keys_B)[0]))
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


def _read(raw: Mapping[str, Any], **switches: Any) -> DecoderConfig:
  """Picks the fields of config.json that a decoder has.

  Raises:
    ValueError: for a variant of the architecture that is not implemented, or as
      `pick`.
  """
  kinds = convert(list, raw.get('layer_types') or [], 'layer_types in config.json')
  if raw.get('use_sliding_window') or 'sliding_attention' in kinds:
    raise ValueError(
      'config.json asks for sliding-window attention; only full attention is'
      ' implemented'
    )
  require(raw, 'num_attention_heads', 'hidden_size')
  heads = size(raw, 'num_attention_heads')
  derived = {
    'num_key_value_heads': raw.get('num_key_value_heads') or heads,
    'head_dim': raw.get('head_dim') or size(raw, 'hidden_size') // heads,
    'rope': rotary.read_rotary(raw),
    'attention_probs_dropout_prob': raw.get('attention_dropout') or 0.0,
  }
  config = pick(DecoderConfig, raw, **derived | switches)
  if config.head_dim % 2:
    raise ValueError(f'head_dim {config.head_dim} in config.json; only even ones turn')
  return config


def _read_qwen3(raw: Mapping[str, Any]) -> DecoderConfig:
  """The same with what a config.json of Qwen3 means by leaving a size out."""
  implied = {'num_key_value_heads': 32, 'head_dim': 128}
  # Checkpoints of Qwen3 name no biases of the perceptron: it has none.
  return _read(implied | dict(raw), qk_norm=True, mlp_bias=False)


_LAYER = r'.*layers\.\d+\.'
TARGETS = {
  'q': _LAYER + r'self_attn\.q_proj',
  'k': _LAYER + r'self_attn\.k_proj',
  'v': _LAYER + r'self_attn\.v_proj',
  'o': _LAYER + r'self_attn\.o_proj',
  'gate': _LAYER + r'mlp\.gate_proj',
  'up': _LAYER + r'mlp\.up_proj',
  'down': _LAYER + r'mlp\.down_proj',
}
_HEAD_MODULES = {
  'classification': ('score',),
  'regression': ('score',),
  'span': ('qa_outputs',),
  'lm': (),
}
_SPLITS = (
  (r'.*\.(q|k|v|gate|up)_proj\.kernel', -1),
  (r'.*\.(o|down)_proj\.kernel', -2),
  (r'.*\.embed_tokens\.embedding', -2),
  (r'lm_head\.kernel', -1),
)


def _family(
  name: str, read_config: Callable[[Mapping[str, Any]], DecoderConfig]
) -> Family:
  return Family(
    name=name,
    read_config=read_config,
    build=DecoderModel,
    heads=tuple(_HEAD_MODULES),
    prefixes=('model', 'transformer'),
    head_modules=lambda head: _HEAD_MODULES[head.kind],
    targets=TARGETS,
    renames=((r'^(model|transformer)\.', ''),),
    ignorable=(r'.*rotary_emb\.inv_freq', r'(lm_head|score|qa_outputs)\..*'),
    splits=_SPLITS,
  )


QWEN3 = _family('qwen3', _read_qwen3)
LLAMA = _family('llama', functools.partial(_read, qk_norm=False))
