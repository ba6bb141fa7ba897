"""ModernBERT: a pre-norm encoder with rotary positions and local attention.

Follows Warner et al. (2024), arXiv:2412.13663, as the Hugging Face checkpoints name
and compute it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models import layers, masks, rotary, stack
from adapad_jax.models.attention import attention
from adapad_jax.models.by_layer import ByLayer
from adapad_jax.models.encoder import span_logits
from adapad_jax.models.family import Family, Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.masks import Mask
from adapad_jax.models.modernbert_config import ModernBertConfig, read_config

# Sites of dropout, told apart inside one layer; layer i adds 4 * i.
_EMBEDDING_SITE, _HEAD_SITE, _FIRST_LAYER_SITE = 0, 1, 4
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


def _norm(config: ModernBertConfig) -> layers.LayerNorm:
  return layers.LayerNorm(config.hidden_size, config.norm_eps, config.norm_bias)


class Embeddings(nnx.Module):
  """Token embeddings, normalised."""

  def __init__(self, config: ModernBertConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    self.tok_embeddings = layers.embedding(
      config.vocab_size, config.hidden_size, dtype=dtype, rngs=rngs
    )
    self.norm = _norm(config)
    self.rate = config.embedding_dropout

  def __call__(self, ids_BL: jax.Array, keys_B: jax.Array | None) -> jax.Array:
    """Embedded tokens (B, L, D)."""
    x_BLD = self.norm(self.tok_embeddings(ids_BL))
    return layers.dropout(x_BLD, keys_B, self.rate, _EMBEDDING_SITE)


class Attention(nnx.Module):
  """Self-attention from one projection to queries, keys and values."""

  def __init__(
    self, config: ModernBertConfig, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    size = config.hidden_size
    make = lambda outputs: layers.linear(
      size, outputs, bias=config.attention_bias, dtype=runtime.dtype, rngs=rngs
    )
    self.Wqkv, self.Wo = make(3 * size), make(size)
    self.config = config
    self.fused = runtime.fused

  def __call__(self, x_BLD: jax.Array, around: Surroundings, index: Any) -> jax.Array:
    """Mixed values (B, L, D)."""
    turn, rate = around.turns.at(index), self.config.attention_probs_dropout_prob
    site = _FIRST_LAYER_SITE + 4 * index
    q_BLNH, k_BLNH, v_BLNH = (
      layers.split_heads(part_BLD, self.config.num_attention_heads)
      for part_BLD in jnp.split(self.Wqkv(x_BLD), 3, axis=-1)
    )
    q_BLNH, k_BLNH = rotary.rotate(q_BLNH, turn), rotary.rotate(k_BLNH, turn)
    attend = lambda mask: attention(
      q_BLNH,
      k_BLNH,
      v_BLNH,
      mask,
      scale=q_BLNH.shape[-1] ** -0.5,
      keys_B=around.keys_B,
      rate=rate,
      site=site + _PROBS_SITE,
      fused=self.fused,
    )
    mixed_BLD = self.Wo(layers.merge_heads(around.masks.apply(index, attend)))
    return layers.dropout(mixed_BLD, around.keys_B, rate, site + _ATTENTION_SITE)


class GatedPerceptron(nnx.Module):
  """Wo(act(x) * gate), with x and gate from one projection."""

  def __init__(self, config: ModernBertConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    hidden, inner = config.hidden_size, config.intermediate_size
    make = lambda inputs, outputs: layers.linear(
      inputs, outputs, bias=config.mlp_bias, dtype=dtype, rngs=rngs
    )
    self.Wi, self.Wo = make(hidden, 2 * inner), make(inner, hidden)
    self.act = layers.activation(config.hidden_act)
    self.rate = config.hidden_dropout_prob

  def __call__(self, x_BLD: jax.Array, keys_B: jax.Array | None, site: Any) -> Any:
    """Transformed states (B, L, D)."""
    x_BLF, gate_BLF = jnp.split(self.Wi(x_BLD), 2, axis=-1)
    x_BLF = layers.dropout(self.act(x_BLF) * gate_BLF, keys_B, self.rate, site)
    return self.Wo(x_BLF)


class Layer(nnx.Module):
  """One pre-norm layer.

  The first one takes its input as it is: the embeddings are normalised already. Its
  `attn_norm` is only there so that layers are built alike; checkpoints have none.
  """

  def __init__(
    self, config: ModernBertConfig, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    self.attn_norm = _norm(config)
    self.attn = Attention(config, runtime, rngs)
    self.mlp_norm = _norm(config)
    self.mlp = GatedPerceptron(config, runtime.dtype, rngs)

  def __call__(self, x_BLD: jax.Array, around: Surroundings, index: Any) -> jax.Array:
    """Hidden states (B, L, D) after layer `index`."""
    site = _FIRST_LAYER_SITE + 4 * index + _OUTPUT_SITE
    normed_BLD = jnp.where(index == 0, x_BLD, self.attn_norm(x_BLD))
    x_BLD += self.attn(normed_BLD, around, index)
    return x_BLD + self.mlp(self.mlp_norm(x_BLD), around.keys_B, site)


class Backbone(nnx.Module):
  """Embeddings, layers and the last norm."""

  def __init__(
    self, config: ModernBertConfig, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    make = lambda: Layer(config, runtime, rngs)
    self.embeddings = Embeddings(config, runtime.dtype, rngs)
    self.layers = stack.make_blocks(make, config.num_hidden_layers, runtime.scan)
    self.final_norm = _norm(config)
    self.config = config
    self.runtime = runtime

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> jax.Array:
    """Last hidden states (B, L, D); keys are tokens where the mask is 1."""
    config, mask_BL = self.config, batch['mask_BL']
    x_BLD = self.embeddings(batch['ids_BL'], keys_B)
    front = masks.InFront.of(mask_BL) if self.runtime.fused else None
    x_BLD = x_BLD if front is None else front(x_BLD)
    place_1L = jnp.arange(mask_BL.shape[1])[None]

    def make_mask(reach: masks.Reach) -> Mask:
      if front is not None:
        return Mask(lengths_B=front.lengths_B, reach=reach)
      near_1LM = masks.within(place_1L, place_1L, False, reach)
      return Mask(masks.bias_of(near_1LM & (mask_BL[:, None] > 0)))

    head_dim = config.hidden_size // config.num_attention_heads
    make_turn = lambda rope: rotary.rotation(rope, place_1L, head_dim)
    local = config.local
    around = Surroundings(
      ByLayer.of([config.local_rope if x else config.rope for x in local], make_turn),
      ByLayer.of([config.reach if x else None for x in local], make_mask),
      keys_B,
    )
    step = lambda layer, x_BLD, index: layer(x_BLD, around, index)
    x_BLD = stack.run_blocks(self.layers, step, x_BLD, remat=self.runtime.remat)
    x_BLD = self.final_norm(x_BLD)
    return x_BLD if front is None else front.back(x_BLD)


class PredictionHead(nnx.Module):
  """norm(act(dense(x))), before the classifier."""

  def __init__(self, config: ModernBertConfig, rngs: nnx.Rngs) -> None:
    size = config.hidden_size
    self.dense = layers.linear(size, size, bias=config.classifier_bias, rngs=rngs)
    self.norm = _norm(config)
    self.act = layers.activation(config.classifier_activation)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Transformed states, of the same shape."""
    return self.norm(self.act(self.dense(x)))


class ModernBertModel(nnx.Module):
  """ModernBERT with a classification, regression or span head."""

  def __init__(
    self, config: ModernBertConfig, head: Head, runtime: Runtime, rngs: nnx.Rngs
  ) -> None:
    self.kind = head.kind
    self.config = config
    self.model = Backbone(config, runtime, rngs)
    self.head = PredictionHead(config, rngs)
    self.classifier = layers.linear(config.hidden_size, head.outputs, rngs=rngs)
    given = head.dropout
    self.rate = config.classifier_dropout if given is None else given

  def __call__(
    self, batch: Mapping[str, jax.Array], keys_B: jax.Array | None = None
  ) -> Any:
    """Logits of a batch; see `Head` for their shapes."""
    x = self.model(batch, keys_B)
    if self.kind != 'span':
      x = self._pooled(x, batch['mask_BL'])
    x = layers.dropout(self.head(x), keys_B, self.rate, _HEAD_SITE)
    logits = self.classifier(x)
    return span_logits(logits) if self.kind == 'span' else logits

  def _pooled(self, x_BLD: jax.Array, mask_BL: jax.Array) -> jax.Array:
    """The first state of each row, or the mean over its tokens."""
    if self.config.classifier_pooling == 'cls':
      return x_BLD[:, 0]
    share_BL = mask_BL / jnp.maximum(jnp.sum(mask_BL, axis=1, keepdims=True), 1)
    return jnp.einsum('BLD,BL->BD', x_BLD.astype(jnp.float32), share_BL)


_LAYER = r'.*layers\.\d+\.'
TARGETS = {
  'qkv': _LAYER + r'attn\.Wqkv',
  'o': _LAYER + r'attn\.Wo',
  'gate_up': _LAYER + r'mlp\.Wi',
  'down': _LAYER + r'mlp\.Wo',
}
MODERNBERT = Family(
  name='modernbert',
  read_config=read_config,
  build=ModernBertModel,
  heads=('classification', 'regression', 'span'),
  prefixes=('model',),
  head_modules=lambda head: ('head.dense', 'classifier'),
  targets=TARGETS,
  optional=(r'head\.norm\.(weight|bias)',),
  absent=(r'(model\.)?layers\.0\.attn_norm\.(weight|bias)',),
  ignorable=(r'(decoder|head|classifier)\..*',),
  splits=(
    (r'.*\.(Wqkv|Wi)\.kernel', -1),
    (r'.*\.layers\..*\.Wo\.kernel', -2),
    (r'.*\.tok_embeddings\.embedding', -2),
  ),
)
