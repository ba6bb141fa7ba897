"""Tests ../../adapad_jax/adapters/loss.py against the loss of a merged model."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters import adapted_problem, choose, merge, split_model
from adapad_jax.adapters.targets import Targets
from adapad_jax.lowrank import Adapter, Delta, LowRank
from adapad_jax.optim import Optimizer
from tests.adapters.net import Net


def weighted(model, batch, keys_B):
  """Squared outputs; a row weighs what the batch says."""
  loss_B = jnp.sum(jnp.square(model(batch)), axis=1)
  return loss_B * batch['weight'], batch['weight']


def test_the_problem_is_that_of_the_merged_model():
  rng, net = np.random.default_rng(0), Net()
  shapes = choose(net, Targets(('up', 'down')), head_modules=('classifier',))
  attachment, params, head = split_model(net, ('classifier',))
  problem = adapted_problem(
    attachment,
    net,
    shapes,
    weighted,
    optimizer=Optimizer(warmup=0.25),
    head_optimizer=Optimizer(),
    steps=40,
    batch=5,
  )
  assert problem.optimizer.warmup == 10 and problem.head_optimizer.warmup == 0
  assert problem.modules == tuple(shapes)
  draw = lambda *size: rng.normal(size=size).astype('f4')
  updates = {name: LowRank(draw(2, i), draw(2, o)) for name, (i, o) in shapes.items()}
  ones = jnp.ones((5, 2))
  deltas = {
    n: Delta(jnp.asarray(u.a_RI), u.b_RO, ones, ones) for n, u in updates.items()
  }
  batch = {'x': draw(5, 2, 4), 'weight': np.array([1, 0, 2, 1, 1], 'f4')}
  keys_B = jax.random.split(jax.random.key(0), 5)
  got = problem.loss(params, head, deltas, None, batch, keys_B)
  merged = merge(nnx.clone(net), Adapter(updates, jax.tree.map(np.asarray, head)))
  want = weighted(merged, batch, keys_B)
  np.testing.assert_allclose(got[0], want[0], rtol=1e-4)
  np.testing.assert_array_equal(got[1], batch['weight'])
  assert not np.allclose(got[0], weighted(net, batch, keys_B)[0], rtol=1e-2)
