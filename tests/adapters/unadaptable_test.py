"""Tests ../../adapad_jax/adapters/unadaptable.py with layers that share weights."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.adapters import Targets, choose, linear_shapes, merge, split_model
from adapad_jax.adapters.locate import stacks
from adapad_jax.adapters.unadaptable import unadaptable
from adapad_jax.lowrank import Adapter, Delta, LowRank
from tests.adapters.net import Block, Net


def dense(inputs=4, outputs=4, **fields):
  return nnx.Linear(inputs, outputs, rngs=nnx.Rngs(0), **fields)


class Model(nnx.Module):
  """What it is given, and a plain layer."""

  def __init__(self, **parts):
    self.plain = dense()
    for name, part in parts.items():
      setattr(self, name, part)


def same_layer():
  layer = dense()
  return Model(a=layer, c=layer)


def listed():
  return Model(a=nnx.List([dense()] * 3))


def same_kernel():
  model = Model(a=dense(), c=dense())
  model.c.kernel = model.a.kernel
  return model


def used_by_the_model():
  model = Model(a=dense())
  model.c = model.a.kernel
  return model


SHARED = {
  same_layer: 'a (shared: at a, c)',
  listed: 'a.0 (shared: at a.0, a.1, a.2)',
  same_kernel: 'a (shared: at a.kernel, c.kernel)',
  used_by_the_model: 'a (shared: at a.kernel, c)',
}


@pytest.mark.parametrize('make', SHARED, ids=lambda make: make.__name__)
def test_shared_layers_are_refused_with_all_their_places(make):
  told = re.escape(SHARED[make])
  for model in (make(), nnx.eval_shape(make)):
    assert list(linear_shapes(model)) == ['plain']
    with pytest.raises(ValueError, match=f'cannot be adapted .*: {told}'):
      choose(model, Targets())
    others = Targets(exclude=(r'[ac](\.0)?',))
    assert list(choose(model, others)) == ['plain']
  with pytest.raises(ValueError, match=f'cannot be trained whole: {told}'):
    split_model(make(), ('a',))
  name = SHARED[make].split()[0]
  update = LowRank(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))
  with pytest.raises(ValueError, match=f'cannot be adapted .*: {told}'):
    merge(make(), Adapter({name: update}, {}))


def test_a_head_is_refused_under_each_of_its_names():
  with pytest.raises(ValueError, match='cannot be trained whole: a .* at a, c'):
    split_model(same_layer(), ('c',))
  model = Model(a=dense(), c=dense())
  model.c.bias = model.a.bias
  assert list(choose(model, Targets())) == ['a', 'c', 'plain']
  with pytest.raises(
    ValueError, match='cannot be trained whole: .*c .shared: at a.bias, c.b'
  ):
    split_model(model, ('c',))


class Twice(nnx.Module):
  """One block, used twice."""

  def __init__(self):
    self.first = Block(4, nnx.Rngs(0))
    self.second = self.first

  def __call__(self, x):
    """second(first(x))."""
    return self.second(self.first(x))


def test_layers_of_a_shared_block_are_adapted_wherever_it_is():
  model, rng = Twice(), np.random.default_rng(0)
  assert list(choose(model, Targets())) == ['first.down', 'first.up']
  draw = lambda size: rng.standard_normal((1, size)).astype(np.float32)
  update, ones = LowRank(draw(4), draw(8)), jnp.ones((3, 1))
  attachment, params, _ = split_model(model)
  delta = Delta(jnp.asarray(update.a_RI), jnp.asarray(update.b_RO), ones, ones)
  x = jnp.asarray(rng.standard_normal((3, 2, 4)), jnp.float32)
  got = attachment(params, {'first.up': delta}, {})(x)
  merged = merge(nnx.clone(model), Adapter({'first.up': update}, {}))
  np.testing.assert_allclose(got, merged(x), atol=1e-5)
  assert np.abs(got - model(x)).max() > 0.1


@pytest.mark.parametrize('scan', [False, True])
def test_nothing_is_wrong_with_listed_and_scanned_layers(scan):
  assert not unadaptable(Net(scan=scan), whole=True)


class Scaled(nnx.Linear):
  """A subclass with a call of its own."""

  def __call__(self, x):
    """3 tanh(x W + c)."""
    return 3 * jnp.tanh(super().__call__(x))


class Named(nnx.Linear):
  """A subclass that is called like any linear layer."""


class Several(nnx.Module):
  """Three layers made as one, which a scan runs."""

  def __init__(self):
    self.plain = dense()
    make = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs)))
    self.many = make(nnx.Rngs(0))


def test_many_layers_in_one_are_refused():
  model = Several()
  assert list(linear_shapes(model)) == ['plain']
  told = r'many .many layers in one: its kernel is \(3, 4, 4\)'
  with pytest.raises(ValueError, match=f'cannot be adapted .*: {told}'):
    choose(model, Targets())
  with pytest.raises(ValueError, match=f'cannot be trained whole: {told}'):
    split_model(model, ('many',))


@pytest.mark.parametrize(
  ('model', 'told'),
  [
    (dense(), ': .the model itself, which has no name'),
    (nnx.Dict({'q.w': dense()}), ': q.w .in no attribute of that name'),
    (nnx.Dict({'0': Model()}), ': 0.plain .in no attribute'),
    (Model(a=nnx.data([dense()])), ': a.0 .in no attribute'),
    (Model(a=nnx.data({'q': dense()})), ': a.q .in no attribute'),
  ],
)
def test_layers_without_a_name_to_reach_them_are_refused(model, told):
  assert list(linear_shapes(model)) in ([], ['plain'])
  with pytest.raises(ValueError, match=f'cannot be adapted .*{told}'):
    choose(model, Targets())


def test_an_attribute_may_be_called_like_that_of_a_scanned_stack():
  model = Model(stacked=Model(up=dense(4, 8)))
  shapes = {'plain': (4, 4), 'stacked.plain': (4, 4), 'stacked.up': (4, 8)}
  assert choose(model, Targets()) == shapes and not stacks(model, shapes)


def test_layers_with_a_call_of_their_own_are_refused():
  make = lambda kind, **fields: kind(4, 4, rngs=nnx.Rngs(0), **fields)
  model = Model(
    own=make(Scaled), lora=make(nnx.LoRALinear, lora_rank=1), named=make(Named)
  )
  assert list(linear_shapes(model)) == ['named', 'plain']
  told = 'lora .a LoRALinear, whose call is .*, own .a Scaled, whose call is not that'
  with pytest.raises(ValueError, match=f'cannot be adapted .*: {told}'):
    choose(model, Targets())
  assert list(choose(model, Targets(exclude=('own', 'lora')))) == ['named', 'plain']
  with pytest.raises(ValueError, match='cannot be trained whole: own .a Scaled'):
    split_model(model, ('own',))
