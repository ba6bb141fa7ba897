"""Tests ../../adapad_jax/adapters/attach.py and merge.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.adapters import linear_shapes, merge, split_model
from adapad_jax.adapters.locate import stacks
from adapad_jax.lowrank import Adapter, Delta, LowRank
from tests.adapters.net import Net


def update(rng, shape, rank=2):
  a_RI = rng.normal(size=(rank, shape[0])).astype('f4')
  return LowRank(a_RI, rng.normal(size=(rank, shape[1])).astype('f4'))


def delta_of(update, rows):
  ones_BS = jnp.ones((rows, update.rank))
  return Delta(jnp.asarray(update.a_RI), jnp.asarray(update.b_RO), ones_BS, ones_BS)


@pytest.fixture(params=[False, True], ids=['unrolled', 'scanned'])
def case(request):
  rng = np.random.default_rng(0)
  net = Net(scan=request.param)
  shapes = linear_shapes(net)
  names = ['layer.0.up', 'layer.1.up', 'layer.1.down']
  modules = {name: update(rng, shapes[name]) for name in names}
  head = {'classifier': {'kernel': rng.normal(size=(4, 3)), 'bias': rng.normal(size=3)}}
  head = jax.tree.map(lambda x: x.astype('f4'), head)
  return net, Adapter(modules, head), {'x': rng.normal(size=(5, 2, 4)).astype('f4')}


def test_attached_model_equals_merged_model(case):
  net, adapter, batch = case
  attachment, params, _ = split_model(net, ('classifier',))
  deltas = {name: delta_of(u, 5) for name, u in adapter.modules.items()}
  attached = jax.jit(
    lambda params, deltas, head: attachment(params, deltas, head)(batch)
  )
  got = attached(params, deltas, adapter.head)
  merged = merge(nnx.clone(net), adapter)(batch)
  np.testing.assert_allclose(got, merged, atol=2e-5, rtol=2e-5)
  assert np.abs(merged - net(batch)).max() > 0.1


def test_an_update_of_all_layers_is_that_of_each():
  net, rng = Net(scan=True), np.random.default_rng(3)
  shapes = linear_shapes(net)
  found = stacks(net, [name for name in shapes if name != 'layer.1.down'])
  assert found == {'layer.stacked.up': ('layer.0.up', 'layer.1.up')}
  assert len(stacks(net, shapes)) == 2 and not stacks(Net(), shapes)
  layers = {name: delta_of(update(rng, shapes[name]), 5) for name in found.popitem()[1]}
  whole = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers.values())
  attachment, params, _ = split_model(net)
  batch = {'x': rng.normal(size=(5, 2, 4)).astype('f4')}
  of = lambda deltas: attachment(params, deltas, {})(batch)
  np.testing.assert_array_equal(of({'layer.stacked.up': whole}), of(layers))
  assert np.abs(of(layers) - net(batch)).max() > 0.1


def test_the_model_itself_stays_as_it_was(case):
  net, adapter, batch = case
  before = net(batch)
  attachment, params, head = split_model(net, ('classifier',))
  np.testing.assert_array_equal(attachment(params, {}, head)(batch), before)
  np.testing.assert_array_equal(net(batch), before)


def test_head_gradient_counts_weighted_rows_and_passes_all_on(case):
  net, adapter, batch = case
  attachment, params, head = split_model(net, ('classifier',))
  weight_B = jnp.asarray([1.0, 0, 0, 1, 0])

  def loss(head, x, weight_B, rows):
    model = attachment(params, {}, head, weight_B)
    return jnp.sum(jnp.square(model({'x': x}))[rows])

  every = slice(None)
  grad = jax.grad(loss, argnums=(0, 1))
  got_head, got_x = grad(head, batch['x'], weight_B, every)
  want_head, _ = grad(head, batch['x'], None, jnp.array([0, 3]))
  _, want_x = grad(head, batch['x'], None, every)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got_head, want_head
  )
  np.testing.assert_allclose(got_x, want_x, atol=1e-5)


def test_head_module_without_linears_is_refused():
  with pytest.raises(ValueError, match="'pooler' has no linear layer"):
    split_model(Net(), ('pooler',))


def test_a_cut_keeps_the_first_components():
  full = update(np.random.default_rng(1), (3, 4), rank=3)
  np.testing.assert_allclose(
    full.cut(1).weight(), np.outer(full.a_RI[0], full.b_RO[0]), rtol=1e-6
  )
  assert Adapter({'m': full.cut(2)}, {}).parameters() == 14
  assert full.cut(0).weight().shape == (3, 4)


def test_merge_refuses_another_shape():
  bad = Adapter({'layer.0.up': update(np.random.default_rng(2), (5, 8))}, {})
  with pytest.raises(ValueError, match=r'layer.0.up is \(5, 8\), its kernel \(4, 8\)'):
    merge(Net(), bad)
