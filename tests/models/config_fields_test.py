"""What every family reads from config.json, and what it refuses there."""

import pytest

from adapad_jax.models.families import FAMILIES

SIZES = {
  'vocab_size': 30,
  'hidden_size': 8,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'intermediate_size': 16,
  'max_position_embeddings': 20,
  'type_vocab_size': 2,
}
NEEDED = sorted(set(SIZES) - {'type_vocab_size', 'max_position_embeddings'})


# What a file may leave out: transformers implies it.
IMPLIED = {'gemma3': ('vocab_size', 'num_attention_heads')}
NAMED = [
  (family, name)
  for family in FAMILIES
  for name in NEEDED
  if name not in IMPLIED.get(family, ())
]
# What a family calls its activation.
ACTIVATION = dict.fromkeys(('gemma3_text', 'gemma3', 'modernbert'), 'hidden_activation')


def raw_of(family, fields):
  """A config.json with these fields of its text model."""
  if family == 'gemma3':
    return {'model_type': family, 'text_config': fields}
  return {'model_type': family} | fields


def read(family, **changes):
  return FAMILIES[family].read_config(raw_of(family, SIZES | changes))


@pytest.mark.parametrize('family,name', NAMED)
def test_a_size_that_is_missing_is_named(family, name):
  match = f"config.json of model_type '{family}' lacks \\['{name}'\\]"
  raw = {k: v for k, v in SIZES.items() if k != name}
  with pytest.raises(ValueError, match=match):
    FAMILIES[family].read_config(raw_of(family, raw))
  with pytest.raises(ValueError, match=match):
    read(family, **{name: None})


def test_all_that_is_missing_is_named_at_once():
  with pytest.raises(ValueError, match="'vocab_size', 'hidden_size'"):
    FAMILIES['bert'].read_config({'model_type': 'bert'})


@pytest.mark.parametrize('family', FAMILIES)
def test_an_unknown_activation_is_refused_when_it_is_read(family):
  name = ACTIVATION.get(family, 'hidden_act')
  with pytest.raises(ValueError, match=f"{name} 'mish' in config.json; choose"):
    read(family, **{name: 'mish'})


@pytest.mark.parametrize(
  ('family', 'name', 'default'),
  [
    ('deberta-v2', 'conv_kernel_size', 0),
    ('deberta-v2', 'position_buckets', -1),
    ('deberta-v2', 'embedding_size', None),
    ('bert', 'hidden_dropout_prob', 0.1),
    ('roberta', 'pad_token_id', 1),
    ('llama', 'tie_word_embeddings', False),
    ('llama', 'num_key_value_heads', 2),
    ('qwen2', 'num_key_value_heads', 2),
    ('smollm3', 'tie_word_embeddings', False),
    ('gemma3_text', 'head_dim', 256),
    ('gemma3', 'vocab_size', 262208),
    ('modernbert', 'local_attention', 128),
  ],
)
def test_null_means_the_default(family, name, default):
  assert getattr(read(family, **{name: None}), name) == default


TORCH = {
  'qwen2': 'Qwen2',
  'qwen3': 'Qwen3',
  'llama': 'Llama',
  'mistral': 'Mistral',
  'smollm3': 'SmolLM3',
  'gemma3_text': 'Gemma3Text',
}


@pytest.mark.parametrize('family', TORCH)
def test_what_a_file_leaves_out_is_what_transformers_implies(family):
  transformers = pytest.importorskip('transformers')
  sizes = {k: v for k, v in SIZES.items() if k != 'type_vocab_size'} | {
    'num_hidden_layers': 9
  }
  reference = getattr(transformers, f'{TORCH[family]}Config')(**sizes)
  ours = FAMILIES[family].read_config({'model_type': family} | sizes)
  assert_same_layers(ours, reference)
  head_dim = getattr(reference, 'head_dim', None) or 8 // 2
  assert ours.head_dim == head_dim
  for name in ('num_key_value_heads', 'rms_norm_eps', 'tie_word_embeddings'):
    assert getattr(ours, name) == getattr(reference, name), name


def assert_same_layers(ours, reference):
  """Windows and rotary positions of every layer, as transformers has them."""
  window = getattr(reference, 'sliding_window', None)
  alike = 'sliding_attention' if window else 'full_attention'
  types = getattr(reference, 'layer_types', None) or [alike] * len(ours.layer_kinds)
  turned = getattr(reference, 'no_rope_layers', None)
  for i, kind in enumerate(ours.layer_kinds):
    assert kind.window == (window if types[i] == 'sliding_attention' else None)
    rope = reference.rope_parameters
    rope = rope.get(types[i], rope)
    theta = None if turned and not turned[i] else rope['rope_theta']
    assert (kind.rope and kind.rope.rope_theta) == theta


# Released files and what transformers 5 makes of them.
LAYERS = {
  'qwen2': {'use_sliding_window': True, 'sliding_window': 6, 'max_window_layers': 3},
  'qwen3': {'use_sliding_window': True, 'max_window_layers': 0, 'rope_theta': 5e5},
  'mistral': {'sliding_window': None, 'rope_theta': 1e6, 'num_key_value_heads': 1},
  'smollm3': {'no_rope_layer_interval': 3, 'rope_theta': 5e6},
  'gemma3_text': {
    'sliding_window_pattern': 2,
    'sliding_window': 7,
    'rope_theta': 1e5,
    'rope_local_base_freq': 200.0,
    'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
  },
}


@pytest.mark.parametrize('family', LAYERS)
def test_old_and_new_layouts_mean_the_same(family):
  """A file of before transformers 5, and what that makes of it."""
  transformers = pytest.importorskip('transformers')
  sizes = {k: v for k, v in SIZES.items() if k != 'type_vocab_size'}
  old = sizes | {'num_hidden_layers': 5} | LAYERS[family]
  reference = getattr(transformers, f'{TORCH[family]}Config')(**old)
  older = ('rope_theta', 'rope_scaling', 'rope_local_base_freq')
  older += ('sliding_window_pattern',)
  new = {name: x for name, x in reference.to_dict().items() if name not in older}
  assert new['rope_parameters']
  read = FAMILIES[family].read_config
  ours = read({'model_type': family} | old)
  assert ours == read(new)
  assert_same_layers(ours, reference)
  if 'rope_scaling' in old:
    kinds = {kind.window: kind.rope for kind in ours.layer_kinds}
    assert kinds[None].factor == 8.0 and kinds[7].rope_type == 'default'


def test_old_and_new_layouts_of_modernbert_mean_the_same():
  transformers = pytest.importorskip('transformers')
  old = {k: v for k, v in SIZES.items() if k != 'type_vocab_size'} | {
    'num_hidden_layers': 5,
    'global_attn_every_n_layers': 2,
    'global_rope_theta': 8e4,
    'local_rope_theta': 500.0,
    'local_attention': 6,
  }
  reference = transformers.ModernBertConfig(**old)
  ours = FAMILIES['modernbert'].read_config({'model_type': 'modernbert'} | old)
  assert ours == FAMILIES['modernbert'].read_config(reference.to_dict())
  assert ours.local == tuple(x == 'sliding_attention' for x in reference.layer_types)
  assert ours.reach == (reference.sliding_window,) * 2 == (3, 3)
  assert (ours.rope.rope_theta, ours.local_rope.rope_theta) == (8e4, 500.0)


ROPE = 'rope_parameters'


@pytest.mark.parametrize(
  'family,changes,match',
  [
    ('qwen3', {ROPE: {'rope_type': 'dynamic', 'factor': 2.0}}, "rope_type 'dynamic'"),
    ('qwen2', {ROPE: {'rope_type': 'yarn'}}, r"'yarn' in config.json lacks.*factor"),
    (
      'qwen2',
      {'rope_scaling': {'type': 'yarn', 'factor': 2.0, 'mscale': 0.7}},
      'mscale 0.7',
    ),
    ('qwen3', {'rope_scaling': {'rope_type': 'llama3', 'factor': 2.0}}, 'lacks.*low_'),
    (
      'qwen3',
      {ROPE: {'rope_theta': 1e6}, 'rope_scaling': {'type': 'yarn', 'factor': 2.0}},
      'both rope_parameters and rope_scaling, which say different',
    ),
    ('qwen3', {ROPE: {'partial_rotary_factor': 0.5}}, 'partial_rotary_factor 0.5'),
    ('llama', {'partial_rotary_factor': 0.25}, 'partial_rotary_factor 0.25'),
    ('llama', {'layer_types': ['sliding_attention']}, "'llama' does not have"),
    ('qwen2', {'layer_types': ['sliding_attention']}, 'use_sliding_window is not set'),
    ('qwen3', {'layer_types': ['linear_attention']}, "'linear_attention'.*choose"),
    ('qwen3', {'layer_types': ['full_attention'] * 2}, 'of 2 layers'),
    ('mistral', {'layer_types': ['full_attention']}, 'differs from sliding_window'),
    ('mistral', {'sliding_window': 0}, 'sliding_window in config.json.*>= 1'),
    ('smollm3', {'no_rope_layers': []}, 'no_rope_layers in config.json is of 0'),
    ('gemma3_text', {'use_bidirectional_attention': True}, 'use_bidirectional_attent'),
    ('gemma3_text', {'final_logit_softcapping': 30.0}, 'final_logit_softcapping 30.0'),
    ('gemma3_text', {ROPE: {'rope_type': 'default'}}, 'expected full_attention'),
    ('llama', {ROPE: {'full_attention': {'rope_theta': 1e4}}}, 'one for all layers'),
    ('modernbert', {'classifier_pooling': 'max'}, "'max' in config.json; choose"),
    ('modernbert', {'layer_types': ['full']}, 'expected 1 of'),
    ('modernbert', {'hidden_size': 6}, 'heads of an even size'),
  ],
)
def test_variants_that_are_not_implemented_are_refused_by_name(family, changes, match):
  with pytest.raises(ValueError, match=match):
    read(family, **changes)


def test_what_both_layouts_say_may_stand_in_both():
  old = {'rope_scaling': {'type': 'linear', 'factor': 2.0}, 'rope_theta': 1e6}
  new = {
    ROPE: {'rope_type': 'linear', 'factor': 2.0, 'rope_theta': 1e6, 'beta_fast': None}
  }
  assert read('qwen3', **old, **new) == read('qwen3', **old) == read('qwen3', **new)


def test_what_is_null_is_not_there():
  nothing = {'rope_type': None, 'type': None, 'factor': 2.0}
  plain = read('qwen3')
  assert read('qwen3', rope_scaling=nothing).layer_kinds[0].rope.rope_type == 'default'
  window = {'use_sliding_window': True, 'max_window_layers': 0}
  assert read('qwen3', **window, sliding_window=None) == plain
  assert read('qwen3', **window).layer_kinds[0].window == 4096


def test_yarn_stretches_the_longest_input():
  """As the model card of Qwen2.5-7B-Instruct gives it for long texts."""
  yarn = {'factor': 4.0, 'original_max_position_embeddings': 32768, 'type': 'yarn'}
  sizes = {'max_position_embeddings': 32768, 'rope_theta': 1e6}
  assert read('qwen2', **sizes).max_length == 32768
  assert read('qwen2', **sizes, rope_scaling=yarn).max_length == 131072
