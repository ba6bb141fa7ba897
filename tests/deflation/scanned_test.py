"""Tests rounds of many layers, scanned or not: the same, and no more to compile."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.adapters import adapted_problem, choose, split_model
from adapad_jax.adapters.targets import Targets
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.methods import adapad
from adapad_jax.optim import Optimizer
from adapad_jax.sharding import make_mesh, put
from experiments.hlo import computations
from tests.adapters.loss_test import weighted
from tests.adapters.net import Net

BATCH = 8
SETTINGS = {'r_max': 2, 'start': 1, 'interval': 1, 'grants_per_event': 7}


def scanned(plain):
  """The same network with its layers as one."""
  net = Net(layers=len(plain.layer), scan=True)
  layers = [nnx.state(block) for block in plain.layer]
  nnx.update(net.layer.stacked, jax.tree.map(lambda *x: jnp.stack(x), *layers))
  nnx.update(net.classifier, nnx.state(plain.classifier))
  return net


def begun(layers, scan, few=False):
  """A method, its first state, and the model's parameters; all or a part adapted."""
  net = scanned(Net(layers=layers)) if scan else Net(layers=layers)
  shapes = choose(net, Targets(('up', 'down')), head_modules=('classifier',))
  if few:
    del shapes['layer.1.down']
  attachment, params, head = split_model(net, ('classifier',))
  problem = adapted_problem(
    attachment,
    net,
    shapes,
    weighted,
    optimizer=Optimizer(learning_rate=0.05),
    head_optimizer=Optimizer(),
    steps=6,
    batch=BATCH,
  )
  method = adapad.build(AdaPaDSettings(**SETTINGS), problem)
  return method, method.init(head), params


def placed(method, state, params, mesh):
  """All that a round takes."""
  x = np.random.default_rng(1).normal(size=(1, BATCH, 2, 4)).astype('f4')
  rows = {'x': x, 'weight': np.ones((1, BATCH), 'f4')}
  return method.place(state, mesh), put(params), put(rows, jax.P(None, 'data'))


def lowered(layers, scan):
  """The program of a round, as it is given to the compiler."""
  method, state, params = begun(layers, scan)
  mesh = make_mesh(1, 1)
  with jax.set_mesh(mesh):
    return method.make_round(mesh).lower(*placed(method, state, params, mesh))


def kernels(program):
  """Fusions of a compiled program, those that differ in names alone once."""
  found = set()
  for name, body in computations(program.compile().as_text()).items():
    if 'fused' in name:
      names = {}
      number = lambda one, names=names: f'%{names.setdefault(one[0], len(names))}'
      bare = re.sub(r', metadata=\{[^}]*\}', '', body)
      found.add(re.sub(r'(%|param_)[\w.-]+', number, bare))
  return found


def test_a_round_of_many_scanned_layers_is_no_longer_than_of_few():
  few, many = (lowered(layers, scan=True).as_text() for layers in (3, 7))
  assert few.count('\n') == many.count('\n')


def test_a_round_of_many_layers_has_few_kernels_of_its_own():
  few, many = (len(kernels(lowered(layers, scan=False))) for layers in (3, 7))
  assert many <= few + 1  # What a program has at its ends differs by chance.


@pytest.mark.parametrize('few', [False, True], ids=['all', 'a part'])
def test_scanned_layers_learn_as_they_do_one_by_one(few):
  mesh, found = make_mesh(1, 1), {}
  for scan in (False, True):
    method, state, params = begun(2, scan, few)
    stacks = method.deflation.packing.stacks
    assert len(stacks) == scan * (1 if few else 2)
    with jax.set_mesh(mesh):
      state, params, rows = placed(method, state, params, mesh)
      round_, losses = method.make_round(mesh), []
      for _ in range(5):
        state, metrics = round_(state, params, rows)
        losses.append(metrics['loss'])
      found[scan] = jax.device_get((state.stack_RMP, jnp.stack(losses)))
  for one_by_one, scanned in zip(*found.values(), strict=True):
    np.testing.assert_allclose(scanned, one_by_one, rtol=2e-4, atol=2e-5)
