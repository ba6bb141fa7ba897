"""What errors of a layer weigh, against gradients row by row and errors made."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.adapters import split_model
from adapad_jax.models import Head, load
from adapad_jax.reranking import fit, from_adapter, kronecker_factors, spend
from tests.interchange import kit


@pytest.fixture(scope='module')
def base(shared):
  """One output: its sign does not matter, so that nothing is random."""
  return load(str(shared / 'models/stories260k'), Head('regression'))


@pytest.fixture(scope='module')
def columns(base):
  return kit.encode(base, [*kit.TEXTS, 'One day, a girl named Lily went to the park.'])


@pytest.fixture(scope='module')
def update(base):
  return from_adapter(base, kit.draw_adapter(base, ranks=(2, 3)))


@dataclasses.dataclass
class Bump:
  """An addition to a layer's output that notes what goes in."""

  name: str
  bump: jax.Array
  inputs: dict

  def __call__(self, x):
    self.inputs[self.name] = x
    return self.bump


@pytest.fixture(scope='module')
def by_hand(update, columns):
  """Sums over tokens, every row by itself, without what is to be tested."""
  attachment, params, _ = split_model(update.teacher)
  totals = {}
  for row in range(len(columns['ids_BL'])):
    batch = {name: x[row : row + 1] for name, x in columns.items()}
    length = batch['ids_BL'].shape[1]

    def said(bumps, batch=batch):
      inputs = {}
      probes = {name: Bump(name, bump, inputs) for name, bump in bumps.items()}
      return attachment(params, probes, {})(batch).sum(), inputs

    zeros = {n: jnp.zeros((1, length, d.shape[1])) for n, d in update.deltas.items()}
    gradients, inputs = jax.grad(said, has_aux=True)(zeros)
    for name, g_1LO in gradients.items():
      x, g = np.float64(inputs[name][0]), np.float64(g_1LO[0])
      s = (x * np.sum(g**2, 1, keepdims=True)).T @ x
      f = (g * np.sum(x**2, 1, keepdims=True)).T @ g
      old = totals.get(name, (0, 0))
      totals[name] = (old[0] + s, old[1] + f)
  return totals


@pytest.mark.parametrize('devices', [1, 4])
def test_moments_equal_those_of_single_rows(update, columns, by_hand, devices):
  mesh, tokens = sharding.make_mesh(1, devices), np.sum(columns['mask_BL'])
  names, kind = list(update.deltas), update.kind
  found = kronecker_factors(update.teacher, names, columns, mesh, kind=kind, rows=2)
  assert found.keys() == by_hand.keys()
  for name, (s_II, f_OO) in by_hand.items():
    near = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3 * np.abs(y).max())
    near(found[name].s_II, s_II / tokens)
    near(found[name].f_OO, f_OO / np.trace(f_OO))


def test_several_outputs_count_as_often_as_they_move(shared):
  """Three outputs that are one and the same count three times as much."""
  folder = str(shared / 'models/stories260k')
  one, three = load(folder, Head('regression')), load(folder, Head('classification', 3))
  kernel = np.asarray(one.model.score.kernel[...])
  three.model.score.kernel[...] = jnp.repeat(kernel, 3, axis=1)
  columns = kit.encode(one, kit.TEXTS * 20)
  name = next(iter(kit.draw_adapter(one).modules))
  trace = lambda base: np.trace(
    kronecker_factors(
      base.model, [name], columns, sharding.make_mesh(), kind=base.head.kind
    )[name].s_II
  )
  assert trace(three) / trace(one) == pytest.approx(3, rel=0.3)


def test_reranked_adapter_keeps_what_it_claims(update, columns, by_hand):
  deltas = {n: d for n, d in update.deltas.items() if n.endswith(('q_proj', 'o_proj'))}
  update = dataclasses.replace(update, deltas=deltas)
  ordered = fit(update, columns, 3, sharding.make_mesh(), ridge=0.0)
  small = spend(ordered, update.head, 14)
  assert sum(small.adapter.ranks.values()) == 14
  for name, whole in deltas.items():
    s_II, f_OO = by_hand[name]
    left = whole - small.adapter.modules[name].weight()
    error = lambda w, s=s_II, f=f_OO: np.trace(f @ w.T @ s @ w)
    assert 1 - error(left) / error(whole) == pytest.approx(
      small.explained[name], abs=0.01
    )


def test_the_prediction_orders_real_errors(update, columns):
  """Noise of equal size in each layer: those that weigh most move the output most."""
  attachment, params, _ = split_model(update.teacher)
  factors = kronecker_factors(
    update.teacher,
    list(update.deltas),
    columns,
    sharding.make_mesh(),
    kind=update.kind,
  )
  plain = attachment(params, {}, {})(columns)
  rng, predicted, real = np.random.default_rng(0), [], []
  for name in list(factors)[::2]:
    i, o = update.deltas[name].shape
    tries = 1e-3 * rng.standard_normal((8, i, o)).astype(np.float32)
    weighs = lambda e, one=factors[name]: np.trace(one.f_OO @ e.T @ one.s_II @ e)
    predicted.append(np.mean([weighs(error) for error in tries]))
    moved = jax.jit(jax.vmap(lambda e: attachment(params, at(name, e), {})(columns)))  # noqa: B023
    real.append(np.mean(np.square(moved(tries) - plain[None])))
  ranks = [np.argsort(np.argsort(x)) for x in (predicted, real)]
  assert np.corrcoef(*ranks)[0, 1] > 0.8


def at(name, error_IO):
  """An error in one layer's weight."""
  return {name: lambda x: x @ error_IO}
