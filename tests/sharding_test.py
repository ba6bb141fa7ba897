"""Tests ../adapad_jax/sharding.py and the choice of a mesh."""

import jax
import numpy as np
import pytest

from adapad_jax.sharding import automatic, fetch, make_mesh, put
from adapad_jax.training.config import MeshConfig
from adapad_jax.training.plan import choose_mesh, devices_of_model


def test_a_mesh_that_does_not_fit_lists_what_does():
  with pytest.raises(ValueError, match=r'worker=3 x data=2 does not fit 4 .* \(2, 2\)'):
    make_mesh(3, 2)


@pytest.mark.parametrize(
  'config, batch, want',
  [((0, 0), 32, (1, 4, 1)), ((2, 0), 6, (2, 2, 1)), ((1, 0, 2), 32, (1, 2, 2))],
)
def test_open_axes_take_the_devices_that_divide_the_batch(config, batch, want):
  config = MeshConfig(*config)
  mesh = choose_mesh(config, batch, devices_of_model(config, batch, 0))
  assert tuple(mesh.shape.values()) == want


def test_an_open_axis_takes_fewer_devices_where_more_do_not_do():
  def check(mesh):
    if mesh.shape['data'] > 1:
      raise ValueError(f'not {mesh.shape["data"]}')

  assert choose_mesh(MeshConfig(), 32, check=check).shape['data'] == 1
  with pytest.raises(ValueError, match='not 2'):
    choose_mesh(MeshConfig(data=2), 32, check=check)


def test_arrays_come_back_as_they_were_put():
  with jax.set_mesh(make_mesh(2, 2)):
    tree = {'x': np.arange(8.0).reshape(4, 2)}
    there = put(tree, jax.P('data'))
    assert there['x'].sharding.spec == jax.P('data')
    np.testing.assert_array_equal(fetch(there)['x'], tree['x'])


def test_a_plain_program_takes_divided_arrays_that_are_made_automatic():
  x = np.arange(8.0, dtype=np.float32).reshape(4, 2)
  with jax.set_mesh(make_mesh(1, 1, 2)):
    there = put({'x': x}, jax.P('model'))
  laid = automatic(there)['x']
  assert laid.sharding.spec == jax.P('model') and len(laid.devices()) == 2
  # A contraction over the divided axis, which explicit layouts refuse.
  product = jax.jit(lambda x: x.T @ x)
  with pytest.raises(Exception, match='ambiguous|sharding'):
    product(there['x'])
  np.testing.assert_array_equal(product(laid), x.T @ x)
