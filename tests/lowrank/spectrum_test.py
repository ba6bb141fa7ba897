"""Tests ../../adapad_jax/lowrank/spectrum.py against dense matrices."""

import numpy as np
import pytest

from adapad_jax.lowrank import LowRank
from adapad_jax.lowrank.spectrum import spectrum


def draw(rank, inputs=7, outputs=5):
  rng = np.random.default_rng(rank)
  shapes = (rank, inputs), (rank, outputs)
  return LowRank(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


@pytest.mark.parametrize('rank', [0, 1, 3, 6])
def test_spectrum_is_that_of_the_dense_update(rank):
  update = draw(rank)
  found = spectrum(update)
  terms = [np.outer(a, b) for a, b in zip(update.a_RI, update.b_RO, strict=True)]
  want = np.linalg.svd(update.weight(), compute_uv=False)[:rank]
  np.testing.assert_allclose(found.singular_R, want, rtol=1e-5, atol=1e-5)
  norms = [np.linalg.norm(term) for term in terms]
  np.testing.assert_allclose(found.norm_R, norms, rtol=1e-5)
  for k, one in enumerate(terms):
    for j, other in enumerate(terms[:k]):
      cosine = abs(np.sum(one * other)) / (norms[k] * norms[j])
      want = np.degrees(np.arccos(cosine))
      assert found.angle_RR[k, j] == pytest.approx(want, abs=1e-2)


def test_principal_components_have_their_singular_values_as_norms():
  left_IR, value_R, right_RO = np.linalg.svd(draw(3).weight(), full_matrices=False)
  found = spectrum(LowRank(left_IR.T[:3], value_R[:3, None] * right_RO[:3]))
  np.testing.assert_allclose(found.norm_R, found.singular_R, rtol=1e-5)
  off = found.angle_RR[np.tril_indices(3, -1)]
  np.testing.assert_allclose(off, 90.0, atol=1e-2)


def test_an_idle_component_has_no_direction():
  update = draw(2)
  found = spectrum(LowRank(update.a_RI, update.b_RO * np.array([[1.0], [0.0]])))
  assert found.norm_R[1] == 0 and found.angle_RR[1, 0] == 90
