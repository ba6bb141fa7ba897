"""Updates of fully fine-tuned checkpoints, and the shared tables of DeBERTa."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from adapad_jax import sharding
from adapad_jax.adapters import merge
from adapad_jax.interchange.release import kernel_of
from adapad_jax.models import Head, load
from adapad_jax.reranking import (
  from_adapter,
  from_tuned,
  input_moments,
  kronecker_factors,
)
from tests.interchange import kit


@pytest.fixture(scope='module')
def base(shared):
  return load(str(shared / 'models/stories260k'), Head('classification', 3))


def test_difference_of_a_tuned_model(base):
  adapter = kit.draw_adapter(base)
  tuned = merge(nnx.clone(base.model), adapter)
  norm = tuned.model.norm.scale
  norm[...] = norm[...] * 1.5
  tuned = dataclasses.replace(base, model=tuned, initialised=())
  update = from_tuned(base, tuned, list(adapter.modules))
  assert list(update.deltas) == [n for n, u in adapter.modules.items() if u.rank]
  for name, delta_IO in update.deltas.items():
    expected = adapter.modules[name].weight()
    np.testing.assert_allclose(delta_IO, expected, atol=1e-6)
  np.testing.assert_array_equal(
    update.head['score']['kernel'], adapter.head['score']['kernel']
  )
  assert update.beside == {'model.norm.weight': pytest.approx(0.5)}


def test_the_base_of_an_adapter_stays_as_it_is(base):
  adapter = kit.draw_adapter(base)
  name = next(n for n, rank in adapter.ranks.items() if rank)
  before = kernel_of(base, name)
  update = from_adapter(base, adapter)
  np.testing.assert_array_equal(kernel_of(base, name), before)
  teacher = kernel_of(dataclasses.replace(base, model=update.teacher), name)
  np.testing.assert_allclose(teacher - before, update.deltas[name], atol=1e-6)


def test_models_that_are_no_pair_are_refused(base):
  modules = ['model.layers.0.self_attn.q_proj']
  same = dataclasses.replace(base, initialised=())
  with pytest.raises(ValueError, match='have equal weights'):
    from_tuned(base, same, modules)
  with pytest.raises(ValueError, match=r"stories260k lacks \['score.weight'\]"):
    from_tuned(base, base, modules)
  other = load(str(base.source_dir), Head('classification', 2))
  with pytest.raises(ValueError, match='their layers differ'):
    from_tuned(base, other, modules)


def test_distances_of_deberta_count_once_a_row(tmp_path):
  """Its query and key projections see the table of distances beside the tokens."""
  transformers = pytest.importorskip('transformers')
  config = transformers.DebertaV2Config(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=24,
    relative_attention=True,
    pos_att_type=['p2c', 'c2p'],
    share_att_key=True,
    position_buckets=4,
    type_vocab_size=0,
    position_biased_input=False,
  )
  config.save_pretrained(tmp_path)
  model = load(str(tmp_path), Head('classification'), random_weights=True).model
  names = [
    f'deberta.encoder.layer.0.attention.self.{kind}_proj' for kind in ('query', 'value')
  ]
  batch = kit.random_batch(50)
  found = input_moments(model, names, batch, sharding.make_mesh(), rows=4)
  tokens = batch['mask_BL'].sum()
  # trimmed to a multiple of eight, no longer than the rows
  table_RD = np.asarray(model.deberta.encoder._relative(batch['ids_BL'].shape[1]))
  extra = (found[names[0]] - found[names[1]]) * tokens
  np.testing.assert_allclose(extra, 3 * table_RD.T @ table_RD, atol=1e-3)
  for one in kronecker_factors(
    model, names, batch, sharding.make_mesh(), kind='classification', rows=4
  ).values():
    assert np.trace(one.s_II) > 0 and np.trace(one.f_OO) == pytest.approx(1, rel=1e-4)
