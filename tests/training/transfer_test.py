"""Adapters that a run begins with."""

import jax
import numpy as np
import pytest

from adapad_jax.commands.import_adapter import fitted
from adapad_jax.lowrank import Adapter, LowRank, init_updates
from adapad_jax.methods.adapad import ledger
from adapad_jax.training import finetune_config
from adapad_jax.training.transfer import adopt
from tests import tiny
from tests.deflation import toy

RANKS = {'up': 0, 'mid': 1, 'down': 1}


@pytest.fixture(scope='module')
def adapter():
  rng = np.random.default_rng(4)
  draw = lambda rank, size: 0.1 * rng.normal(size=(rank, size)).astype('f4')
  modules = {
    name: LowRank(draw(RANKS[name], i), draw(RANKS[name], o))
    for name, (i, o) in toy.SHAPES.items()
  }
  return Adapter(modules, {'w': draw(5, 3), 'b': np.zeros(3, 'f4')})


def test_a_module_without_a_component_stays_as_it_is_and_may_grow(adapter, monkeypatch):
  m = toy.method(settings=dict(budget=9, r_max=3, start=2, interval=1), workers=3)

  def start(m, seed, width):
    fresh = init_updates(jax.random.key(seed), toy.SHAPES, width, 'kaiming')
    state = m.init(m.packing.pack(fresh), adapter.head)
    return toy.network(np.random.default_rng(seed)), adopt(state, adapter, 2.0)

  _, begun = start(m, 0, 3)
  assert begun.ranks.rank_M.tolist() == [0, 1, 1]
  for name, own in toy.components(begun).items():
    first = 2.0 * np.outer(own.a_RI[0], own.b_RO[0])
    np.testing.assert_allclose(first, adapter.modules[name].weight(), atol=1e-6)
  monkeypatch.setattr(toy, 'start', start)
  batches = toy.data(np.random.default_rng(1), 6, 1, 24)
  early, _, _ = toy.run(m, (1, 1), jax.tree.map(lambda x: x[:2], batches))
  assert early.ranks.rank_M.tolist() == [0, 1, 1]
  assert np.isfinite(early.ranks.importance_M).all()
  assert (early.ranks.importance_M > 0).all(), 'that of what learns in advance'
  state, _, _ = toy.run(m, (1, 1), batches)
  assert state.ranks.rank_M[0] > 0 and state.ranks.rank_M.sum() == 9
  # The ledger has what was granted here, a first component too, and nothing else.
  assert ledger_of(begun) == ()
  grants = ledger_of(state)
  assert len(grants) == 9 - 2 and min(one['round'] for one in grants) > 2
  got = [one['component'] for one in grants if one['module'] == 'up']
  assert got == list(range(1, state.ranks.rank_M[0] + 1))


def ledger_of(state):
  granted_MR, score_MR = jax.device_get((state.ranks.granted_MR, state.ranks.score_MR))
  return ledger(tuple(toy.SHAPES), granted_MR, score_MR)


def test_the_budget_has_room_for_modules_without_a_component(adapter, data):
  config = finetune_config(tiny.values(data, adapad={'budget': 1, 'r_max': 1}))
  assert fitted(config, adapter).settings.budget == 3
