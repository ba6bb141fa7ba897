"""Qwen3 and Llama against torch on random configurations, and their invariances."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from adapad_jax.models import Head, decoder, rotary
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
ROPES = (
  {'rope_type': 'default', 'rope_theta': 10000.0},
  {'rope_type': 'linear', 'rope_theta': 500.0, 'factor': 2.5},
  LLAMA3,
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
  return getattr(transformers, family + 'Config')(**fields | changes)


def make_pair(config, head, seed=0, **options):
  if head.kind != 'lm':
    config.num_labels = head.outputs
  family = type(config).__name__.removesuffix('Config')
  torch_class = getattr(transformers, family + HEADS[head.kind])
  return parity.make_pair(torch_class, config, head, seed, **options)


@st.composite
def sizes(draw, family):
  groups = draw(st.sampled_from([2, 1]))
  heads = groups * draw(st.sampled_from([2, 1, 3]))
  config = dict(
    hidden_size=heads * draw(st.sampled_from([4, 6])),
    num_hidden_layers=draw(st.integers(1, 2)),
    num_attention_heads=heads,
    num_key_value_heads=groups,
    head_dim=draw(st.sampled_from([4, 8])),
    rope_parameters=draw(st.sampled_from(ROPES)),
    tie_word_embeddings=family == 'Qwen3',
    attention_bias=draw(st.booleans()),
    rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
  )
  if family == 'Llama':
    config['mlp_bias'] = draw(st.booleans())
  return config


@pytest.mark.parametrize('kind', ['classification', 'lm', 'span'])
@pytest.mark.parametrize('family', ['Qwen3', 'Llama'])
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


@pytest.mark.parametrize('options', [{'scan': True, 'remat': True}, {'fused': True}])
def test_ways_to_compute_equal_torch_too(options):
  pair = make_pair(torch_config(), Head('lm'), **options)
  parity.assert_same(pair, parity.draw_batch(3, [30, 11], 30, 300))


@pytest.mark.parametrize('rope', ROPES)
def test_frequencies_equal_torchs_at_the_released_sizes(rope):
  from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

  rope = rope | {'rope_theta': 500000.0}
  if rope['rope_type'] == 'llama3':
    rope |= {'factor': 8.0, 'high_freq_factor': 4.0}
    rope['original_max_position_embeddings'] = 8192
  config = torch_config('Llama', head_dim=128, rope_parameters=rope)
  model_class = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
  plain = model_class.compute_default_rope_parameters
  reference, factor = ROPE_INIT_FUNCTIONS.get(rope['rope_type'], plain)(config)
  ours = rotary.read_rotary({'rope_parameters': rope}).frequencies(128)
  assert factor == 1.0
  np.testing.assert_allclose(ours, reference.numpy(), rtol=2e-6)


def test_older_layouts_of_the_rotary_fields_mean_the_same():
  old = {'rope_theta': 1000.0, 'rope_scaling': {'type': 'linear', 'factor': 2.0}}
  new = {'rope_type': 'linear', 'rope_theta': 1000.0, 'factor': 2.0}
  assert rotary.read_rotary(old) == rotary.read_rotary({'rope_parameters': new})
  assert rotary.read_rotary({'rope_theta': 5e5, 'rope_scaling': None}).rope_theta == 5e5


@pytest.mark.parametrize(
  'changes,match',
  [
    ({'rope_parameters': {'rope_type': 'yarn', 'factor': 2.0}}, "rope_type 'yarn'"),
    ({'rope_scaling': {'rope_type': 'llama3', 'factor': 2.0}}, 'lacks.*low_freq'),
    ({'rope_parameters': {'partial_rotary_factor': 0.5}}, 'partial_rotary_factor 0.5'),
    ({'use_sliding_window': True}, 'sliding-window'),
    ({'layer_types': ['sliding_attention']}, 'sliding-window'),
  ],
)
def test_variants_that_are_not_implemented_are_refused_by_name(changes, match):
  raw = torch_config().to_dict()
  raw.pop('rope_parameters')
  with pytest.raises(ValueError, match=match):
    decoder.QWEN3.read_config(raw | changes)


@pytest.fixture(scope='module', params=['Qwen3', 'Llama'])
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
