"""Updates of fully fine-tuned checkpoints, and the shared tables of DeBERTa."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx

from adapad_jax import sharding
from adapad_jax.adapters import linear_shapes, merge
from adapad_jax.interchange import Release, write_merged
from adapad_jax.interchange.release import kernel_of
from adapad_jax.lowrank import Adapter
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


@pytest.fixture(scope='module')
def on_disk(shared, tmp_path_factory):
  """A fine-tuned language model in float32, of a small update of one layer."""
  base = load(str(shared / 'models/stories260k'), Head('lm'))
  name = 'model.layers.1.self_attn.q_proj'
  update = kit.draw_adapter(base, ranks=(1, 1), size=0.005).modules[name]
  release = Release(Adapter({name: update}, {}), base, 'stories')
  folder = tmp_path_factory.mktemp('tuned') / 'out'
  write_merged(release, folder, kit.random_batch(300))
  return folder, name, update.weight()


@pytest.mark.parametrize('scan', [False, True])
def test_files_are_compared_where_rounded_weights_are_held(shared, on_disk, scan):
  """Small updates are lost in bfloat16, and its rounding is no update."""
  folder, changed, delta_IO = on_disk
  source = str(shared / 'models/stories260k')
  base, tuned = (
    load(str(own), Head('lm'), dtype='bfloat16', scan=scan) for own in (source, folder)
  )
  modules = [name for name in linear_shapes(base.model) if '.layers.' in name]
  update = from_tuned(base, tuned, modules, stored=True)
  assert list(update.deltas) == [changed] and not update.beside
  np.testing.assert_allclose(update.deltas[changed], delta_IO, atol=1e-7)
  assert update.teacher is tuned.model
  held = from_tuned(base, tuned, modules)
  assert np.abs(held.deltas[changed] - delta_IO).max() > 0.1 * np.abs(delta_IO).max()


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


@pytest.mark.parametrize(
  'before, after, message',
  [
    (
      {'attention_bias': True},
      {},
      r"it lacks \['model.layers.0.self_attn.k_proj.bias'.* and has \[\] .*20 and 0",
    ),
    (
      {},
      {'attention_bias': True},
      r"and has \['model.layers.0.self_attn.k_proj.bias'.*0 and 20 tensors",
    ),
    (
      {},
      {'rope_parameters': {'rope_theta': 5e5}, 'rms_norm_eps': 1e-3},
      r'rope_theta is 500000.0, not 10000.0, rms_norm_eps is 0.001, not 1e-05;',
    ),
    ({}, {'attention_dropout': 0.1, 'max_position_embeddings': 1024}, None),
  ],
)
def test_another_variant_of_the_base_is_named(shared, tmp_path, before, after, message):
  raw = json.loads((shared / 'models/stories260k/config.json').read_text())
  both = []
  for number, changes in enumerate((before, after)):
    folder = tmp_path / str(number)
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(raw | changes))
    drawn = load(str(folder), Head('lm'), random_weights=True, seed=number)
    both.append(dataclasses.replace(drawn, initialised=()))
  compare = lambda: from_tuned(*both, ['model.layers.0.self_attn.q_proj'])
  if message is None:
    assert compare().deltas
    return
  with pytest.raises(ValueError, match=message):
    compare()


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
