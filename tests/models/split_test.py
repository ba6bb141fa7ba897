"""Tests ../../adapad_jax/models/split.py on a single layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.models.families import FAMILIES
from adapad_jax.models.split import agreed, division, forgetful, gather_on_use

PATH = 'encoder.layer.0.intermediate.dense.kernel'


def params_of(shape):
  params = {'encoder': {'layer': {0: {'intermediate': {'dense': {}}}}}}
  dense = params['encoder']['layer'][0]['intermediate']['dense']
  dense['kernel'] = nnx.Param(jnp.zeros(shape))
  dense['bias'] = nnx.Param(jnp.zeros(shape[-1:]))
  return nnx.State(params)


@pytest.mark.parametrize(
  'shape, parts, want',
  [
    ((6, 8), 4, ((PATH, -1),)),
    ((8, 6), 4, ((PATH, -2),)),  # outputs cannot be divided by four, inputs can
    ((2, 6, 8), 4, ((PATH, -1),)),  # with a layer axis
    ((6, 6), 4, ()),
    ((8, 8), 1, ()),
  ],
)
def test_the_axis_is_that_of_the_table_or_else_the_other(shape, parts, want):
  assert division(FAMILIES['bert'], params_of(shape), parts) == want


@pytest.mark.parametrize('name', sorted(FAMILIES))
def test_no_family_divides_its_head(name):
  head = {
    'classifier': {'dense': {'kernel': nnx.Param(jnp.zeros((8, 8)))}},
    'pooler': {'dense': {'kernel': nnx.Param(jnp.zeros((8, 8)))}},
    'score': {'kernel': nnx.Param(jnp.zeros((8, 8)))},
    'qa_outputs': {'kernel': nnx.Param(jnp.zeros((8, 8)))},
  }
  assert FAMILIES[name].splits
  assert division(FAMILIES[name], nnx.State(head), 2) == ()


def divided_linear(body):
  """Runs body(layer, x, index) on four devices that divide a layer's kernel."""
  layer = nnx.Linear(8, 12, rngs=nnx.Rngs(0))
  graph, params = nnx.split(layer)
  mesh = jax.make_mesh((4,), ('model',))
  divided = (('kernel', -1),)
  place = lambda spec, x: jax.device_put(np.array(x), jax.NamedSharding(mesh, spec))
  whole = {'kernel': jax.P(None, 'model'), 'bias': jax.P(None)}
  specs = nnx.State({k: params[k].replace(spec) for k, spec in whole.items()})
  placed = nnx.State(
    {k: params[k].replace(place(spec, params[k][...])) for k, spec in whole.items()}
  )
  x_BI = np.random.default_rng(0).normal(size=(16, 8)).astype('f4')

  def device(params, x_BI):
    made = nnx.merge(graph, gather_on_use(params, divided, 'model'))
    return body(made, x_BI, jax.lax.axis_index('model'))

  run = jax.shard_map(
    device,
    mesh=mesh,
    in_specs=(specs, jax.P('model')),
    out_specs=jax.P('model'),
    check_vma=False,
  )
  with jax.set_mesh(mesh):
    traced = jax.jit(run).trace(placed, place(jax.P('model'), x_BI))
    found = traced.lower().compile()(placed, place(jax.P('model'), x_BI))
  return np.asarray(found), traced, layer, x_BI


def test_a_divided_kernel_is_whole_where_it_is_read():
  found, _, layer, x_BI = divided_linear(lambda layer, x_BI, _: layer(x_BI))
  np.testing.assert_allclose(found, layer(x_BI), rtol=1e-6)


@pytest.mark.parametrize('wrap, gathers', [(forgetful, 2), (lambda f: f, 1)])
def test_the_backward_pass_gathers_again(wrap, gathers):
  def gradient(layer, x_BI, _):
    graph, params = nnx.split(layer)
    total = lambda params, x: jnp.sum(jnp.tanh(nnx.merge(graph, params)(x)))
    return jax.grad(functools.partial(wrap(total), params))(x_BI)

  found, traced, layer, x_BI = divided_linear(gradient)
  want = jax.grad(lambda x: jnp.sum(jnp.tanh(layer(x))))(x_BI)
  np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
  assert str(traced.jaxpr).count('all_gather[') == gathers


def test_no_device_leaves_a_loop_before_those_that_share_its_weights():
  first = lambda layer, x_BI, index: agreed(layer, index == 0)[None]
  assert divided_linear(first)[0].tolist() == [False] * 4
  every = lambda layer, x_BI, index: agreed(layer, index >= 0)[None]
  assert divided_linear(every)[0].tolist() == [True] * 4
  alone = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
  assert bool(agreed(alone, jnp.array(True)))
