"""The decoders against torch on random configurations, and their invariances."""

import hypothesis
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from adapad_jax.models import Head, load, rotary, weights
from tests.models import parity

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')

HEADS = {
  'lm': 'ForCausalLM',
  'classification': 'ForSequenceClassification',
  'regression': 'ForSequenceClassification',
  'span': 'ForQuestionAnswering',
}
LLAMA3 = {
  'rope_type': 'llama3',
  'rope_theta': 1000.0,
  'factor': 4.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 3.0,
  'original_max_position_embeddings': 16,
}
YARN = {
  'rope_type': 'yarn',
  'rope_theta': 100.0,
  'factor': 4.0,
  'beta_fast': 4.0,
  'original_max_position_embeddings': 32,
}
ROPES = (
  {'rope_type': 'default', 'rope_theta': 10000.0},
  {'rope_type': 'linear', 'rope_theta': 500.0, 'factor': 2.5},
  LLAMA3,
  YARN,
)


def torch_config(family='Qwen3', **changes):
  fields = dict(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    rope_parameters=ROPES[0],
    pad_token_id=0,
  )
  if family in WINDOWED:
    fields |= WINDOWED[family]
  return getattr(transformers, family + 'Config')(**fields | changes)


# Windows shorter than the rows, and layers with and without them.
WINDOWED = {
  'Qwen2': {'use_sliding_window': True, 'sliding_window': 5, 'max_window_layers': 1},
  'Mistral': {'sliding_window': 4},
  'SmolLM3': {
    'use_sliding_window': True,
    'sliding_window': 6,
    'no_rope_layers': [1, 0],
  },
  'Gemma3Text': {
    'sliding_window': 5,
    'layer_types': ['sliding_attention', 'full_attention'],
    'query_pre_attn_scalar': 12,
    'rope_parameters': None,
  },
}


def make_pair(config, head, seed=0, **options):
  if head.kind != 'lm':
    config.num_labels = head.outputs
  family = type(config).__name__.removesuffix('Config')
  if head.kind == 'lm':
    family = family.removesuffix('Text')
  torch_class = getattr(transformers, family + HEADS[head.kind])
  return parity.make_pair(torch_class, config, head, seed, **options)


@st.composite
def sizes(draw, family):
  groups = draw(st.sampled_from([2, 1]))
  heads = groups * draw(st.sampled_from([2, 1, 3]))
  config = dict(
    hidden_size=heads * draw(st.sampled_from([4, 6])),
    num_attention_heads=heads,
    num_key_value_heads=groups,
    head_dim=draw(st.sampled_from([4, 8])),
    rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
    tie_word_embeddings=draw(st.booleans()) != (family != 'Llama'),
  )
  if family in WINDOWED:
    config['sliding_window'] = draw(st.sampled_from([4, 1, 13]))
  else:
    config['num_hidden_layers'] = draw(st.integers(1, 2))
  if family == 'Gemma3Text':
    config['query_pre_attn_scalar'] = draw(st.sampled_from([9, 256]))
    full = draw(st.sampled_from(ROPES[:2]))
    config['rope_parameters'] = {
      'full_attention': dict(full),
      'sliding_attention': {'rope_type': 'default', 'rope_theta': 700.0},
    }
  else:
    ropes = (YARN, *ROPES[:3]) if family == 'Qwen2' else ROPES
    config['rope_parameters'] = dict(draw(st.sampled_from(ropes)))
  if family not in ('Qwen2', 'Mistral'):
    config['attention_bias'] = draw(st.booleans())
  if family in ('Llama', 'SmolLM3'):
    config['mlp_bias'] = draw(st.booleans())
  return config


CASES = [
  ('Qwen3', 'lm'),
  ('Qwen3', 'classification'),
  ('Qwen3', 'span'),
  ('Llama', 'lm'),
  ('Llama', 'classification'),
  ('Llama', 'span'),
  ('Qwen2', 'lm'),
  ('Mistral', 'lm'),
  ('Mistral', 'span'),
  ('SmolLM3', 'lm'),
  ('Gemma3Text', 'lm'),
  ('Gemma3Text', 'classification'),
]


@pytest.mark.parametrize('family,kind', CASES)
@hypothesis.settings(deadline=None, max_examples=2, derandomize=True)
@hypothesis.given(data=st.data())
def test_outputs_and_gradients_equal_torchs(family, kind, data):
  seed = data.draw(st.integers(0, 99))
  config = torch_config(family, **data.draw(sizes(family)))
  pair = make_pair(config, Head(kind, num_labels=3), seed)
  left = data.draw(st.booleans())
  batch = parity.draw_batch(seed, *data.draw(parity.shapes()), 300, left)
  parity.assert_same(pair, batch)


def test_regression_equals_torchs():
  pair = make_pair(torch_config('Llama'), Head('regression'))
  parity.assert_same(pair, parity.draw_batch(3, [12, 5], 12, 300))


WAYS = [
  ('Qwen3', {'scan': True, 'remat': True}, False),
  ('Qwen3', {'fused': True}, False),
  ('Qwen3', {'fused': True}, True),
  ('Qwen2', {'scan': True, 'fused': True}, False),
  ('SmolLM3', {'scan': True, 'remat': True}, True),
  ('Gemma3Text', {'remat': True}, False),
  ('Gemma3Text', {'scan': True, 'remat': True, 'fused': True}, True),
]


@pytest.mark.parametrize('family,options,left', WAYS)
def test_ways_to_compute_equal_torch_too(family, options, left):
  """Fused, a mask is a form, and rows that are padded on the left are moved."""
  pair = make_pair(torch_config(family), Head('lm'), **options)
  parity.assert_same(pair, parity.draw_batch(3, [30, 11], 30, 300, left))


@pytest.mark.parametrize(
  'family,options',
  [
    ('Mistral', {}),
    ('SmolLM3', {'fused': True}),
    ('Gemma3Text', {'fused': True, 'scan': True}),
  ],
)
def test_documents_that_share_a_row_are_those_that_torch_reads_alone(family, options):
  pair = make_pair(torch_config(family), Head('lm'), seed=3, **options)
  rng, lengths, width = np.random.default_rng(0), [[9, 2, 7], [14]], 20
  batch = {n: np.zeros((2, width), np.int32) for n in ('ids_BL', 'mask_BL')}
  batch['segments_BL'] = np.zeros((2, width), np.int32)
  expected = np.zeros((2, width, 300), np.float32)
  for row, sizes in enumerate(lengths):
    ends = np.cumsum(sizes)
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True), start=1):
      ids_1L = rng.integers(3, 300, (1, size)).astype(np.int32)
      place = slice(end - size, end)
      batch['ids_BL'][row, place], batch['mask_BL'][row, place] = ids_1L, 1
      batch['segments_BL'][row, place] = number
      alone = {'ids_BL': ids_1L, 'mask_BL': np.ones_like(ids_1L)}
      said = parity.outputs_of_torch(pair.reference, alone)['logits']
      expected[row, place] = said.detach().numpy()[0]
  real = batch['mask_BL'] > 0
  found = np.asarray(parity.run(pair.ours.model, batch))
  np.testing.assert_allclose(found[real], expected[real], atol=parity.ATOL, rtol=0)
  assert np.isfinite(found).all()


@pytest.mark.parametrize('rope', ROPES)
def test_frequencies_equal_torchs_at_the_released_sizes(rope):
  from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

  rope = rope | {'rope_theta': 500000.0}
  if rope['rope_type'] == 'llama3':
    rope |= {'factor': 8.0, 'high_freq_factor': 4.0}
    rope['original_max_position_embeddings'] = 8192
  if rope['rope_type'] == 'yarn':  # As Qwen2.5's model cards give it.
    rope |= {'rope_theta': 1e6, 'original_max_position_embeddings': 32768}
    del rope['beta_fast']
  config = torch_config('Llama', head_dim=128, rope_parameters=rope)
  model_class = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
  plain = model_class.compute_default_rope_parameters
  reference, factor = ROPE_INIT_FUNCTIONS.get(rope['rope_type'], plain)(config)
  ours = rotary.read_rotary({'rope_parameters': rope})
  assert ours.amplitude == pytest.approx(factor, rel=1e-12)
  np.testing.assert_allclose(ours.frequencies(128), reference.numpy(), rtol=2e-6)


def test_older_layouts_of_the_rotary_fields_mean_the_same():
  old = {'rope_theta': 1000.0, 'rope_scaling': {'type': 'linear', 'factor': 2.0}}
  new = {'rope_type': 'linear', 'rope_theta': 1000.0, 'factor': 2.0}
  assert rotary.read_rotary(old) == rotary.read_rotary({'rope_parameters': new})
  assert rotary.read_rotary({'rope_theta': 5e5, 'rope_scaling': None}).rope_theta == 5e5


@pytest.mark.parametrize('family,tied', [('Qwen2', False), ('Gemma3Text', True)])
def test_shards_of_sixteen_bits_are_read(family, tied, tmp_path):
  import torch

  name = family.removesuffix('Text') + HEADS['lm']
  config = torch_config(family, tie_word_embeddings=tied)
  reference = getattr(transformers, name)(config).to(torch.bfloat16)
  reference.save_pretrained(tmp_path, max_shard_size='10KB')
  assert len(list(tmp_path.glob('model-*.safetensors'))) > 2
  ours = load(str(tmp_path), Head('lm'), dtype='bfloat16', scan=True)
  assert ours.initialised == () and hasattr(ours.model, 'lm_head') != tied
  state = dict(nnx.to_flat_state(nnx.state(ours.model)))
  theirs = reference.state_dict()
  for slot in weights.slots_of(ours.model):
    leaf = np.asarray(state[slot.path][...], np.float32)
    leaf = leaf if 'stacked' in slot.path else leaf[None]
    for part, tensor in zip(leaf, slot.names, strict=True):
      part = part.T if slot.kind == 'kernel' else part
      np.testing.assert_array_equal(part, theirs[tensor].float().numpy())


@pytest.fixture(scope='module', params=['Qwen3', 'Gemma3Text'])
def model(request):
  return make_pair(torch_config(request.param), Head('lm')).ours.model


@pytest.mark.parametrize('before,after', [(0, 6), (5, 0), (2, 3)])
def test_padding_on_either_side_does_not_matter(model, before, after):
  batch = parity.draw_batch(1, [7, 7], 7, 300)
  pad = ((0, 0), (before, after))
  padded = {name: np.pad(x, pad) for name, x in batch.items()}
  padded['ids_BL'][padded['mask_BL'] == 0] = 11
  np.testing.assert_allclose(
    parity.run(model, batch),
    parity.run(model, padded)[:, before : before + 7],
    atol=1e-5,
  )


def test_a_token_sees_nothing_after_it(model):
  batch = parity.draw_batch(1, [9], 9, 300)
  changed = batch | {'ids_BL': batch['ids_BL'].copy()}
  changed['ids_BL'][0, 5] = 4
  same, other = parity.run(model, batch), parity.run(model, changed)
  np.testing.assert_array_equal(same[:, :5], other[:, :5])
  assert (np.abs(same - other)[0, 5:].max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize('family', ['Qwen3', 'Llama'])
def test_batch_order_does_not_matter(family):
  config = torch_config(family, attention_dropout=0.3)
  pair = make_pair(config, Head('classification', dropout=0.3), hidden_dropout=0.2)
  batch = parity.draw_batch(2, [9, 3, 6], 9, 300)
  keys_B = jax.random.split(jax.random.key(0), 3)
  order = np.array([2, 0, 1])
  shuffled_batch = {name: x[order] for name, x in batch.items()}
  noisy = parity.run(pair.ours.model, batch, keys_B)
  shuffled = parity.run(pair.ours.model, shuffled_batch, keys_B[order])
  np.testing.assert_allclose(noisy[order], shuffled, atol=1e-5)
  assert np.abs(noisy - parity.run(pair.ours.model, batch)).max() > 1e-3
