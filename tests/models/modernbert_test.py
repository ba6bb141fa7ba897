"""ModernBERT against torch on random configurations, and its invariances."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from adapad_jax.models import Head
from tests.models import parity
from tests.models.encoder_test import HEADS, make_pair

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')


def torch_config(**changes):
  fields = dict(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=44,
    local_attention=6,
    layer_types=['full_attention', 'sliding_attention', 'full_attention'],
    pad_token_id=0,
  )
  tokens = ('bos_token_id', 'cls_token_id', 'eos_token_id', 'sep_token_id')
  fields |= dict.fromkeys(tokens, 1)
  return transformers.ModernBertConfig(**fields | changes)


@st.composite
def sizes(draw):
  heads = draw(st.sampled_from([2, 1, 3]))
  return dict(
    hidden_size=heads * draw(st.sampled_from([4, 8])),
    num_attention_heads=heads,
    num_hidden_layers=2,
    layer_types=draw(st.sampled_from([['full_attention', 'sliding_attention'], None])),
    local_attention=draw(st.sampled_from([6, 2, 20])),
    hidden_activation=draw(st.sampled_from(['gelu', 'silu'])),
    classifier_pooling=draw(st.sampled_from(['mean', 'cls'])),
    norm_bias=draw(st.booleans()),
    attention_bias=draw(st.booleans()),
    mlp_bias=draw(st.booleans()),
    classifier_bias=draw(st.booleans()),
  )


@pytest.mark.parametrize('kind', HEADS)
@hypothesis.settings(deadline=None, max_examples=2, derandomize=True)
@hypothesis.given(data=st.data())
def test_outputs_and_gradients_equal_torchs(kind, data):
  seed = data.draw(st.integers(0, 99))
  config = torch_config(**data.draw(sizes()))
  pair = make_pair(config, Head(kind, num_labels=3), seed)
  left = data.draw(st.booleans()) and config.classifier_pooling == 'mean'
  batch = parity.draw_batch(seed, *data.draw(parity.shapes()), 300, left)
  parity.assert_same(pair, batch)


@pytest.mark.parametrize(
  'options', [{'scan': True, 'remat': True}, {'scan': True, 'fused': True}]
)
def test_ways_to_compute_equal_torch_too(options):
  pair = make_pair(torch_config(), Head('span'), **options)
  left = 'fused' in options  # where rows are moved
  parity.assert_same(pair, parity.draw_batch(3, [30, 11], 30, 300, left))


def test_the_first_layers_norm_is_in_no_file(tmp_path):
  """Nor among what was drawn; a checkpoint without the head's norm draws that."""
  from safetensors.numpy import load_file

  from adapad_jax.models import load

  transformers.ModernBertForSequenceClassification(torch_config()).save_pretrained(
    tmp_path
  )
  stored = load_file(tmp_path / 'model.safetensors')
  assert 'model.layers.1.attn_norm.weight' in stored
  assert 'model.layers.0.attn_norm.weight' not in stored
  whole = load(str(tmp_path), Head('classification'))
  assert whole.initialised == ()
  transformers.ModernBertModel(torch_config()).save_pretrained(tmp_path)
  bare = load(str(tmp_path), Head('classification'))
  head = ('classifier.bias', 'classifier.weight', 'head.dense.weight')
  assert bare.initialised == (*head, 'head.norm.weight')


def test_padding_and_batch_order_do_not_matter():
  config = torch_config(attention_dropout=0.3, mlp_dropout=0.2, embedding_dropout=0.1)
  model = make_pair(config, Head('classification', dropout=0.3)).ours.model
  batch = parity.draw_batch(1, [7, 4, 5], 7, 300)
  keys_B = jax.random.split(jax.random.key(0), 3)
  order = np.array([2, 0, 1])
  shuffled = {name: x[order] for name, x in batch.items()}
  longer = {name: np.pad(x, ((0, 0), (0, 6))) for name, x in batch.items()}
  plain = parity.run(model, batch)
  np.testing.assert_allclose(plain, parity.run(model, longer), atol=1e-5)
  noisy = parity.run(model, batch, keys_B)
  assert np.abs(noisy - plain).max() > 1e-3
  np.testing.assert_allclose(
    noisy[order], parity.run(model, shuffled, keys_B[order]), atol=1e-5
  )
