"""What counts of the outputs of a span head: those that an answer may be."""

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.adapters import linear_shapes
from adapad_jax.models import Head, load
from adapad_jax.reranking import activations, kronecker_factors
from tests import tiny

ROWS, LENGTH = 6, 8


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  folder = tiny.make_model(tmp_path_factory.mktemp('span') / 'model')
  return load(folder, Head('span'), random_weights=True)


@pytest.fixture(scope='module')
def columns():
  """Full rows: a no-answer token, a question of two tokens, a passage of four."""
  rng = np.random.default_rng(0)
  shape = (ROWS, LENGTH)
  found = {'ids_BL': rng.integers(5, 14, shape), 'mask_BL': np.ones(shape)}
  found |= {'null_B': np.zeros(ROWS), 'first_B': np.full(ROWS, 3)}
  found |= {'size_B': np.full(ROWS, 4)}
  return {name: x.astype(np.int32) for name, x in found.items()}


def factors(base, columns):
  names = [name for name in linear_shapes(base.model) if 'layer.' in name]
  mesh = sharding.make_mesh(1, 1)
  return kronecker_factors(base.model, names, columns, mesh, kind='span')


@pytest.mark.parametrize('told', [True, False])
def test_padding_does_not_count(base, columns, told, monkeypatch):
  """Whether or not the text tells where the passage is."""
  if not told:
    columns = {name: columns[name] for name in ('ids_BL', 'mask_BL')}
  want = factors(base, columns)
  pad = lambda x: np.pad(x, ((0, 0), (0, 16))) if x.ndim == 2 else x
  # A longer row of another batch would keep the padding.
  monkeypatch.setattr(activations, 'trimmed', dict)
  found = factors(base, {name: pad(x) for name, x in columns.items()})
  for name, one in want.items():
    near = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4 * np.abs(y).max())
    near(found[name].s_II, one.s_II)
    near(found[name].f_OO, one.f_OO)


@pytest.mark.parametrize('size', [0, 1])
def test_only_places_of_an_answer_count(base, columns, size):
  """Behind the last attention the gradient passes from no place to another."""
  name = next(n for n in linear_shapes(base.model) if n.endswith('1.output.dense'))
  columns = columns | {'size_B': np.full(ROWS, size, np.int32)}
  s_II = factors(base, columns)[name].s_II
  assert np.linalg.matrix_rank(s_II, tol=1e-5 * np.trace(s_II)) == ROWS * (1 + size)
