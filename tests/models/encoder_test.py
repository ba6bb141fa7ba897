"""BERT and RoBERTa against torch on random configurations, and their invariances."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from adapad_jax.models import Head, encoder
from tests.models import parity

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')

HEADS = {
  'classification': 'ForSequenceClassification',
  'regression': 'ForSequenceClassification',
  'span': 'ForQuestionAnswering',
}


def torch_config(family='Bert', **changes):
  fields = dict(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=44,
    type_vocab_size=2,
    pad_token_id=0 if family == 'Bert' else 1,
  )
  return getattr(transformers, family + 'Config')(**fields | changes)


def make_pair(config, head, seed=0, **options):
  config.num_labels = head.outputs
  family = type(config).__name__.removesuffix('Config')
  torch_class = getattr(transformers, family + HEADS[head.kind])
  return parity.make_pair(torch_class, config, head, seed, **options)


@st.composite
def sizes(draw):
  heads = draw(st.sampled_from([2, 1, 3]))
  return dict(
    hidden_size=heads * draw(st.sampled_from([4, 8])),
    num_attention_heads=heads,
    num_hidden_layers=draw(st.integers(1, 2)),
    intermediate_size=draw(st.sampled_from([8, 20])),
    hidden_act=draw(st.sampled_from(['gelu', 'gelu_new', 'relu', 'silu'])),
    layer_norm_eps=draw(st.sampled_from([1e-12, 1e-5])),
    type_vocab_size=draw(st.sampled_from([2, 1])),
  )


@pytest.mark.parametrize('kind', HEADS)
@pytest.mark.parametrize('family', ['Bert', 'Roberta'])
@hypothesis.settings(deadline=None, max_examples=2, derandomize=True)
@hypothesis.given(changes=sizes(), shape=parity.shapes(), seed=st.integers(0, 99))
def test_outputs_and_gradients_equal_torchs(family, kind, changes, shape, seed):
  config = torch_config(family, **changes)
  pair = make_pair(config, Head(kind, num_labels=3), seed)
  batch = parity.draw_batch(seed, *shape, 300, pad=config.pad_token_id)
  if changes['type_vocab_size'] > 1:
    rng = np.random.default_rng(seed)
    batch['types_BL'] = rng.integers(0, 2, batch['ids_BL'].shape, np.int32)
  parity.assert_same(pair, batch)


@pytest.mark.parametrize('options', [{'scan': True}, {'remat': True}, {'fused': True}])
def test_ways_to_compute_equal_torch_too(options):
  pair = make_pair(torch_config(), Head('span'), **options)
  left = 'fused' in options  # where rows are moved
  parity.assert_same(pair, parity.draw_batch(3, [30, 11], 30, 300, left))


@pytest.fixture(scope='module', params=['Bert', 'Roberta'])
def classifier(request):
  """A model and the id that its padding has."""
  config = torch_config(request.param)
  return make_pair(config, Head('classification')).ours.model, config.pad_token_id


def test_padding_and_batch_order_do_not_matter(classifier):
  model, fill = classifier
  batch = parity.draw_batch(1, [7, 4, 5], 7, 300, pad=fill)
  keys_B = jax.random.split(jax.random.key(0), 3)
  order = np.array([2, 0, 1])
  shuffled = {name: x[order] for name, x in batch.items()}
  pad = ((0, 0), (0, 6))
  longer = {
    'ids_BL': np.pad(batch['ids_BL'], pad, constant_values=fill),
    'mask_BL': np.pad(batch['mask_BL'], pad),
  }
  plain = parity.run(model, batch)
  np.testing.assert_allclose(plain, parity.run(model, longer), atol=1e-5)
  noisy = parity.run(model, batch, keys_B)
  assert np.abs(noisy - plain).max() > 1e-3
  np.testing.assert_allclose(
    noisy[order], parity.run(model, shuffled, keys_B[order]), atol=1e-5
  )


def test_dropout_is_the_same_however_the_layers_are_run():
  batch = parity.draw_batch(2, [9, 6], 9, 300)
  keys_B = jax.random.split(jax.random.key(0), 2)
  run = lambda **options: parity.run(
    make_pair(torch_config(), Head('classification'), **options).ours.model,
    batch,
    keys_B,
  )
  plain = run()
  np.testing.assert_allclose(plain, run(scan=True), atol=1e-5)
  np.testing.assert_allclose(plain, run(remat=True), atol=1e-5)
  np.testing.assert_allclose(plain, run(fused=True), atol=1e-5)


@pytest.mark.parametrize(
  'changes,match',
  [
    ({'position_embedding_type': 'relative_key'}, "position_.*'relative_key'"),
    ({'is_decoder': True}, 'is_decoder'),
  ],
)
def test_variants_that_are_not_implemented_are_refused_by_name(changes, match):
  with pytest.raises(ValueError, match=match):
    encoder.read_config(torch_config().to_dict() | changes)
