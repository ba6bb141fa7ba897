"""The families that are the one decoder with switches, and how they write config.json.

Sources beside those of `decoder`: Qwen2.5, arXiv:2412.15115; Mistral 7B,
arXiv:2310.06825; SmolLM3, huggingface.co/blog/smollm3. What a config.json means by
leaving a field out is as transformers 5.24 has it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapad_jax.models import rotary
from adapad_jax.models.config_fields import (
  pick,
  require,
  require_activation,
  size,
)
from adapad_jax.models.decoder import DecoderModel
from adapad_jax.models.decoder_config import DecoderConfig, LayerKind
from adapad_jax.models.family import Family
from adapad_jax.ranges import Count
from adapad_jax.settings import convert

Raw = Mapping[str, Any]
_FULL, _SLIDING = 'full_attention', 'sliding_attention'


def _read(raw: Raw, kinds: Sequence[LayerKind], **switches: Any) -> DecoderConfig:
  """Picks the fields of config.json that a decoder has.

  Raises:
    ValueError: for a variant of the architecture that is not implemented, or as
      `pick`.
  """
  require(raw, 'num_attention_heads', 'hidden_size')
  heads = size(raw, 'num_attention_heads')
  derived = {
    'num_key_value_heads': raw.get('num_key_value_heads') or heads,
    'head_dim': raw.get('head_dim') or size(raw, 'hidden_size') // heads,
    'attention_probs_dropout_prob': raw.get('attention_dropout') or 0.0,
    'rope': next((kind.rope for kind in kinds if kind.rope), rotary.Rotary()),
    'kinds': tuple(kinds) if len(set(kinds)) > 1 or kinds[0].window else (),
  }
  config = pick(DecoderConfig, raw, **derived | switches)
  if config.head_dim % 2:
    raise ValueError(f'head_dim {config.head_dim} in config.json; only even ones turn')
  return config


def _layers(raw: Raw) -> range:
  return range(size(raw, 'num_hidden_layers'))


def _window(raw: Raw, default: int) -> int:
  given = raw.get('sliding_window')
  return convert(
    Count, default if given is None else given, 'sliding_window in config.json'
  )


def _layer_types(raw: Raw, implied: Sequence[str]) -> list[str]:
  """The kind of attention of each layer: `layer_types`, or else what is implied.

  Raises:
    ValueError: for another kind, or another number of them than of layers.
  """
  types = convert(list, raw.get('layer_types') or [], 'layer_types in config.json')
  unknown = sorted({str(kind) for kind in types} - {_FULL, _SLIDING})
  if unknown:
    raise ValueError(
      f'layer_types {unknown} in config.json; choose from {(_FULL, _SLIDING)}'
    )
  if types and len(types) != len(implied):
    raise ValueError(
      f'layer_types in config.json is of {len(types)} layers, num_hidden_layers of'
      f' {len(implied)}'
    )
  return types or list(implied)


def _uniform(raw: Raw) -> list[LayerKind]:
  """Every layer sees everything."""
  types = _layer_types(raw, [_FULL] * len(_layers(raw)))
  if _SLIDING in types:
    raise ValueError(
      f'layer_types in config.json asks for {_SLIDING!r}, which model_type'
      f' {raw.get("model_type")!r} does not have'
    )
  return [LayerKind(rotary.read_rotary(raw)) for _ in types]


def _late_windows(raw: Raw) -> list[LayerKind]:
  """Qwen's layers from max_window_layers on look back a window, if it is in use."""
  # A window of null is none, whatever is said of its use.
  is_none = raw.get('sliding_window', 0) is None
  used = bool(raw.get('use_sliding_window')) and not is_none
  first = raw.get('max_window_layers')
  first = convert(int, 28 if first is None else first, 'max_window_layers')
  implied = [_SLIDING if used and i >= first else _FULL for i in _layers(raw)]
  types = _layer_types(raw, implied)
  if _SLIDING in types and not used:
    raise ValueError(
      f'layer_types in config.json asks for {_SLIDING!r}, and use_sliding_window is'
      ' not set, or sliding_window null'
    )
  full = LayerKind(rotary.read_rotary(raw))
  slides = LayerKind(full.rope, _window(raw, 4096))
  return [slides if kind == _SLIDING else full for kind in types]


def _read_llama(raw: Raw) -> DecoderConfig:
  return _read(raw, _uniform(raw), qk_norm=False)


def _read_qwen2(raw: Raw) -> DecoderConfig:
  raw = {'num_key_value_heads': 32} | dict(raw)
  # Biases are not named in the file: queries, keys and values have one.
  fixed = {'attention_bias': False, 'qkv_bias': True, 'mlp_bias': False}
  return _read(raw, _late_windows(raw), qk_norm=False, **fixed)


def _read_qwen3(raw: Raw) -> DecoderConfig:
  raw = {'num_key_value_heads': 32, 'head_dim': 128} | dict(raw)
  # Checkpoints of Qwen3 name no biases of the perceptron: it has none.
  return _read(raw, _late_windows(raw), qk_norm=True, mlp_bias=False)


def _read_mistral(raw: Raw) -> DecoderConfig:
  """Every layer looks back a window, unless sliding_window is null."""
  raw = {'num_key_value_heads': 8, 'sliding_window': 4096} | dict(raw)
  window = None if raw['sliding_window'] is None else _window(raw, 4096)
  implied = [_FULL if window is None else _SLIDING for _ in _layers(raw)]
  if _layer_types(raw, implied) != implied:
    raise ValueError(
      f'layer_types in config.json differs from sliding_window'
      f' {raw["sliding_window"]}, by which all layers of a Mistral are alike'
    )
  kind = LayerKind(rotary.read_rotary(raw), window)
  fixed = {'attention_bias': False, 'mlp_bias': False}
  fixed['span_backbone'] = 'model'
  return _read(raw, [kind] * len(implied), qk_norm=False, **fixed)


def _read_smollm3(raw: Raw) -> DecoderConfig:
  """A layer of every few has no rotary positions, and the window if one is in use."""
  raw = {'num_key_value_heads': 4, 'tie_word_embeddings': True} | dict(raw)
  layers = _layers(raw)
  every = raw.get('no_rope_layer_interval')
  every = convert(Count, 4 if every is None else every, 'no_rope_layer_interval')
  turned = raw.get('no_rope_layers')
  if turned is None:
    turned = [int((i + 1) % every != 0) for i in layers]
  turned = convert(list, turned, 'no_rope_layers in config.json')
  if len(turned) < len(layers):
    raise ValueError(
      f'no_rope_layers in config.json is of {len(turned)} layers, num_hidden_layers'
      f' of {len(layers)}'
    )
  windowed = bool(raw.get('use_sliding_window')) and raw.get('sliding_window')
  implied = [_SLIDING if windowed and not turned[i] else _FULL for i in layers]
  types = _layer_types(raw, implied)
  rope = rotary.read_rotary(raw, theta=2e6)
  kinds = [
    LayerKind(
      rope if turned[i] else None, _window(raw, 0) if types[i] == _SLIDING else None
    )
    for i in layers
  ]
  return _read(raw, kinds, qk_norm=False, rope=rope)


def _read_gemma3_text(raw: Raw, nested: bool = False) -> DecoderConfig:
  """Layers of two kinds in turn, with a base of rotary positions each."""
  for name in ('use_bidirectional_attention', 'final_logit_softcapping'):
    if raw.get(name):
      raise ValueError(f'{name} {raw[name]} in config.json is not implemented')
  implied = {'num_key_value_heads': 4, 'head_dim': 256, 'tie_word_embeddings': True}
  implied |= {'query_pre_attn_scalar': 256, 'max_position_embeddings': 131072}
  raw = implied | {name: x for name, x in raw.items() if x is not None}
  every = convert(Count, raw.get('sliding_window_pattern', 6), 'sliding_window_pattern')
  types = [_FULL if (i + 1) % every == 0 else _SLIDING for i in _layers(raw)]
  types = _layer_types(raw, types)
  full = LayerKind(rotary.read_rotary(raw, theta=1e6, layers=_FULL))
  # An older file scales the positions of the full layers alone.
  unscaled = {name: x for name, x in raw.items() if name != 'rope_scaling'}
  local = rotary.read_rotary(
    unscaled, theta=1e4, theta_name='rope_local_base_freq', layers=_SLIDING
  )
  slides = LayerKind(local, _window(raw, 4096))
  act = raw.get('hidden_activation', 'gelu_pytorch_tanh')
  require_activation('hidden_activation', act)
  return _read(
    raw,
    [slides if kind == _SLIDING else full for kind in types],
    rope=full.rope,
    hidden_act=act,
    qk_norm=True,
    mlp_bias=False,
    excess_norms=True,
    output_norms=True,
    embedding_scale=True,
    nested=nested,
  )


def _read_gemma3(raw: Raw) -> DecoderConfig:
  """The part of a model of text and images that reads text."""
  require(raw, 'text_config')
  text = convert(dict, raw['text_config'], 'text_config in config.json')
  implied = {'model_type': 'gemma3', 'vocab_size': 262208, 'num_attention_heads': 8}
  for name in ('tie_word_embeddings', 'initializer_range'):
    if raw.get(name) is not None:
      implied[name] = raw[name]
  given = {n: x for n, x in text.items() if x is not None and n != 'model_type'}
  return _read_gemma3_text(implied | given, nested=True)


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
  name: str,
  read_config: Callable[[Raw], DecoderConfig],
  heads: tuple[str, ...] = tuple(_HEAD_MODULES),
) -> Family:
  return Family(
    name=name,
    read_config=read_config,
    build=DecoderModel,
    heads=heads,
    prefixes=('model', 'transformer'),
    head_modules=lambda head: _HEAD_MODULES[head.kind],
    targets=TARGETS,
    renames=((r'^(model|transformer)\.', ''),),
    ignorable=(r'.*rotary_emb\.inv_freq', r'(lm_head|score|qa_outputs)\..*'),
    splits=_SPLITS,
  )


# transformers has no span head for Gemma 3.
_NO_SPAN = ('classification', 'regression', 'lm')
LLAMA = _family('llama', _read_llama)
QWEN2 = _family('qwen2', _read_qwen2)
QWEN3 = _family('qwen3', _read_qwen3)
MISTRAL = _family('mistral', _read_mistral)
SMOLLM3 = _family('smollm3', _read_smollm3)
GEMMA3_TEXT = _family('gemma3_text', _read_gemma3_text, _NO_SPAN)
GEMMA3 = dataclasses.replace(
  _family('gemma3', _read_gemma3, _NO_SPAN),
  prefixes=('model.language_model',),
  renames=(
    (r'^language_model\.lm_head\.', 'lm_head.'),
    (r'^(model\.language_model|language_model\.model|language_model|model)\.', ''),
  ),
  ignorable=(
    r'.*rotary_emb\.inv_freq',
    r'(lm_head|score)\..*',
    r'(vision_tower|multi_modal_projector)\..*',
  ),
)
DECODERS = (LLAMA, QWEN2, QWEN3, MISTRAL, SMOLLM3, GEMMA3_TEXT, GEMMA3)
