"""The whole of re-ranking, in as many passes over the text as memory asks for."""

import dataclasses
import importlib

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.models import Head, load
from adapad_jax.reranking import fit, from_adapter
from tests.interchange import kit

rerank = importlib.import_module('adapad_jax.reranking.rerank')


@pytest.fixture(scope='module')
def update(shared):
  base = load(str(shared / 'models/stories260k'), Head('regression'))
  update = from_adapter(base, kit.draw_adapter(base, ranks=(2, 3)))
  few = {name: update.deltas[name] for name in list(update.deltas)[:6]}
  return base, dataclasses.replace(update, deltas=few)


@pytest.mark.parametrize('room', [1, 2, 100])
def test_moments_of_some_modules_at_a_time_give_the_same(update, room, monkeypatch):
  """Room for so many of the largest; one alone may have more than there is."""
  base, update = update
  columns, mesh = kit.encode(base, kit.TEXTS), sharding.make_mesh()
  whole = fit(update, columns, 2, mesh)
  sizes = {n: 4 * sum(side**2 for side in d.shape) for n, d in update.deltas.items()}
  memory = max(sizes.values()) * room - (room == 1)
  seen, look = [], rerank.kronecker_factors

  def looked(model, names, columns, mesh, **kind):
    seen.append(names)
    return look(model, names, columns, mesh, **kind)

  monkeypatch.setattr(rerank, 'kronecker_factors', looked)
  found = fit(update, columns, 2, mesh, memory=memory)
  assert [name for names in seen for name in names] == list(found) == list(whole)
  assert (len(seen) > 1) == (room < 100)
  for names in seen:
    assert len(names) == 1 or sum(sizes[name] for name in names) <= memory
  for name, one in whole.items():
    np.testing.assert_allclose(found[name].gains, one.gains, rtol=1e-3)
    ours, theirs = found[name].update.weight(), one.update.weight()
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
