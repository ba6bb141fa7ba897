"""DeBERTa-v2/v3 against torch on random configurations, and its invariances."""

import dataclasses

import hypothesis
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from adapad_jax.models import Head, deberta, distances
from tests.models import parity

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')

TORCH_CLASS = {
  'classification': 'DebertaV2ForSequenceClassification',
  'regression': 'DebertaV2ForSequenceClassification',
  'span': 'DebertaV2ForQuestionAnswering',
}


def torch_config(**changes):
  fields = dict(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
    relative_attention=True,
    position_buckets=8,
    max_relative_positions=-1,
    pos_att_type='p2c|c2p',
    share_att_key=True,
    norm_rel_ebd='layer_norm',
    position_biased_input=False,
    type_vocab_size=0,
    pad_token_id=0,
  )
  return transformers.DebertaV2Config(**fields | changes)


def make_pair(config, head, seed=0, **options):
  config.num_labels = head.outputs
  torch_class = getattr(transformers, TORCH_CLASS[head.kind])
  return parity.make_pair(torch_class, config, head, seed, **options)


@st.composite
def sizes(draw, version):
  """What checkpoints of a version may differ in; those of v3 have the defaults."""
  heads = draw(st.sampled_from([2, 1, 3]))
  size = draw(st.sampled_from([4, 8]))
  config = dict(
    hidden_size=heads * size,
    num_attention_heads=heads,
    num_hidden_layers=draw(st.integers(1, 2)),
    intermediate_size=draw(st.sampled_from([8, 20])),
    position_buckets=draw(st.sampled_from([8, 4, 6, 16])),
    pos_att_type=draw(st.sampled_from(['p2c|c2p', 'c2p|p2c'])),
  )
  if version == 'v3':
    return config
  return config | dict(
    relative_attention=draw(st.sampled_from([True, True, True, False])),
    position_buckets=draw(st.sampled_from([8, -1, 4, 16])),
    max_relative_positions=draw(st.sampled_from([-1, 17, 30])),
    pos_att_type=draw(st.sampled_from(['c2p', 'p2c', 'p2c|c2p'])),
    share_att_key=draw(st.booleans()),
    norm_rel_ebd=draw(st.sampled_from(['none', 'layer_norm'])),
    position_biased_input=draw(st.sampled_from([True, False])),
    type_vocab_size=draw(st.sampled_from([2, 0])),
    embedding_size=draw(st.sampled_from([12, heads * size])),
    conv_kernel_size=draw(st.sampled_from([3, 0, 5])),
    conv_groups=draw(st.sampled_from([heads, 1])),
    conv_act=draw(st.sampled_from(['tanh', 'gelu'])),
  )


@pytest.mark.parametrize('kind', ['classification', 'span'])
@pytest.mark.parametrize('version', ['v2', 'v3'])
@hypothesis.settings(deadline=None, max_examples=2, derandomize=True)
@hypothesis.given(data=st.data())
def test_outputs_and_gradients_equal_torchs(version, kind, data):
  changes = data.draw(sizes(version))
  seed = data.draw(st.integers(0, 99))
  pair = make_pair(torch_config(**changes), Head(kind, num_labels=3), seed)
  batch = parity.draw_batch(seed, *data.draw(parity.shapes()), 300)
  if changes.get('type_vocab_size'):
    rng = np.random.default_rng(seed)
    batch['types_BL'] = rng.integers(0, 2, batch['ids_BL'].shape, np.int32)
  parity.assert_same(pair, batch)


def test_regression_equals_torchs():
  pair = make_pair(torch_config(), Head('regression'))
  parity.assert_same(pair, parity.draw_batch(3, [12, 5], 12, 300))


@pytest.mark.parametrize('options', [{'scan': True, 'remat': True}, {'fused': True}])
def test_ways_to_compute_equal_torch_too(options):
  pair = make_pair(torch_config(conv_kernel_size=3), Head('span'), **options)
  parity.assert_same(pair, parity.draw_batch(3, [30, 11], 30, 300))


@pytest.mark.parametrize('buckets,max_distance', [(256, 512), (-1, 512), (32, 128)])
def test_rows_of_the_released_sizes_equal_torchs(buckets, max_distance):
  torch = pytest.importorskip('torch')
  from transformers.models.deberta_v2 import modeling_deberta_v2 as torch_deberta

  length = 512
  ones = torch.zeros(1, length, 1)
  square = torch_deberta.build_relative_position(ones, ones, buckets, max_distance)
  span = buckets if buckets > 0 else max_distance
  reference = np.clip(square[0].numpy() + span, 0, 2 * span - 1)
  rows_R = distances.rows(length, buckets, max_distance)
  place = np.arange(length)
  np.testing.assert_array_equal(
    rows_R[place[:, None] - place[None] + length - 1], reference
  )


def test_skew_equals_indexing():
  x = np.random.default_rng(0).standard_normal((2, 3, 5, 9))
  reference = np.empty((2, 3, 5, 5))
  for i in range(5):
    for j in range(5):
      reference[..., i, j] = x[..., i, j - i + 4]
  np.testing.assert_allclose(distances.skew(x), reference, rtol=1e-6)


@pytest.fixture(scope='module', params=[0, 3], ids=['v3', 'convolution'])
def model(request):
  config = torch_config(conv_kernel_size=request.param)
  return make_pair(config, Head('span')).ours.model


def test_padding_does_not_matter(model):
  batch = parity.draw_batch(1, [7, 4], 7, 300)
  padded = {name: np.pad(x, ((0, 0), (0, 6))) for name, x in batch.items()}
  padded['ids_BL'][:, 7:] = 11
  real = batch['mask_BL'] > 0
  longer = parity.run(model, padded)
  for name, own in parity.run(model, batch).items():
    np.testing.assert_allclose(own[real], longer[name][:, :7][real], atol=1e-5)


def test_batch_order_does_not_matter(model):
  batch = parity.draw_batch(2, [9, 3, 6], 9, 300)
  keys_B = jax.random.split(jax.random.key(0), 3)
  order = np.array([2, 0, 1])
  shuffled_batch = {name: x[order] for name, x in batch.items()}
  for keys in (None, keys_B):
    straight = parity.run(model, batch, keys)
    shuffled = parity.run(model, shuffled_batch, None if keys is None else keys[order])
    for name in straight:
      np.testing.assert_allclose(straight[name][order], shuffled[name], atol=1e-5)


class PerRow(nnx.Module):
  """A projection that adds row b's own low-rank term."""

  def __init__(self, inner, a_BI, b_BO):
    self.inner, self.a_BI, self.b_BO = inner, nnx.Param(a_BI), nnx.Param(b_BO)

  def __call__(self, x_BLI):
    low_BL = jax.numpy.einsum('BLI,BI->BL', x_BLI, self.a_BI[...])
    return self.inner(x_BLI) + low_BL[..., None] * self.b_BO[...][:, None]


class Broadcasting(PerRow):
  """The same, with a path of its own for what rows share."""

  def broadcast(self, table_RI):
    low_BR = jax.numpy.einsum('RI,BI->BR', table_RI, self.a_BI[...])
    return self.inner(table_RI)[None] + low_BR[..., None] * self.b_BO[...][:, None]


@pytest.mark.parametrize('wrapper', [PerRow, Broadcasting])
def test_adapted_projections_act_on_positions_row_by_row(wrapper):
  batch = parity.draw_batch(4, [9, 9], 9, 300)
  rng = np.random.default_rng(0)
  deltas = [rng.standard_normal((2, 2, 32)).astype(np.float32) for _ in range(2)]
  separate = []
  for row in range(2):
    merged = make_pair(torch_config(), Head('span')).ours.model
    for name, (a, b) in zip(('query_proj', 'key_proj'), deltas, strict=True):
      linear = getattr(merged.deberta.encoder.layer[1].attention.self, name)
      linear.kernel[...] += np.outer(a[row], b[row])
    separate.append(parity.run(merged, batch)['start_BL'][row])
  adapted = make_pair(torch_config(), Head('span')).ours.model
  attention = adapted.deberta.encoder.layer[1].attention.self
  for name, (a, b) in zip(('query_proj', 'key_proj'), deltas, strict=True):
    setattr(attention, name, wrapper(getattr(attention, name), a, b))
  together = parity.run(adapted, batch)['start_BL']
  np.testing.assert_allclose(together, np.stack(separate), atol=1e-4)


@pytest.mark.parametrize(
  'field,value',
  [('conv_kernel_size', 4), ('pos_att_type', 'p2p'), ('attention_head_size', 5)],
)
def test_variants_that_are_not_implemented_are_refused_by_name(field, value):
  raw = torch_config().to_dict() | {field: value}
  with pytest.raises(ValueError, match=f'{field}.*{value}'):
    deberta.read_config(raw)


def test_the_convolution_of_the_v2_models_equals_torchs():
  changes = dict(conv_kernel_size=5, conv_groups=2, conv_act='gelu')
  pair = make_pair(torch_config(**changes), Head('classification'))
  parity.assert_same(pair, parity.draw_batch(3, [20, 11, 2], 20, 300))


def test_base_size_has_the_72_targets_of_the_paper():
  from adapad_jax.models.family import Runtime

  raw = torch_config(num_hidden_layers=12).to_dict()
  config = deberta.read_config(raw)
  build = lambda: deberta.DebertaModel(
    config, Head('classification'), Runtime(), nnx.Rngs(0)
  )
  import re

  paths = [
    '.'.join(map(str, path))
    for path, module in nnx.iter_modules(nnx.eval_shape(build))
    if isinstance(module, nnx.Linear)
  ]
  counts = {
    short: sum(bool(re.fullmatch(pattern, path)) for path in paths)
    for short, pattern in deberta.TARGETS.items()
  }
  assert counts == dict.fromkeys(deberta.TARGETS, 12)
  assert dataclasses.is_dataclass(config) and config.max_length == 40
