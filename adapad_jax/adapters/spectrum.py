"""How the components of an update relate to its singular vectors."""

import dataclasses

import numpy as np

from adapad_jax.adapters.adapter import LowRank
from adapad_jax.adapters.prefixes import importances


@dataclasses.dataclass(frozen=True)
class Spectrum:
  """Norms, singular values and angles of one module's update.

  If deflation found the principal components, norms equal singular values and all
  angles are 90 degrees. Norms are not sorted: they are in the order of deflation.

  Attributes:
    norm_R: Frobenius norm of each component a_k^T b_k.
    singular_R: singular values of Delta W = sum_k a_k^T b_k, descending.
    angle_RR: degrees in 0..90 between components as matrices, from
      |<a_j^T b_j, a_k^T b_k>| = |<a_j, a_k>| |<b_j, b_k>|; 90 if one is zero.
  """

  norm_R: np.ndarray
  singular_R: np.ndarray
  angle_RR: np.ndarray


def spectrum(update: LowRank) -> Spectrum:
  """The spectrum of an update, in float64; Delta W itself is never formed."""
  a_RI, b_RO = (x.astype(np.float64) for x in (update.a_RI, update.b_RO))
  # Delta W = Q (P V) U^T with orthonormal columns in Q and U.
  _, p_XR = np.linalg.qr(a_RI.T)
  _, v_YR = np.linalg.qr(b_RO.T)
  singular = np.linalg.svd(p_XR @ v_YR.T, compute_uv=False)
  cosine_RR = np.abs(_cosines(a_RI) * _cosines(b_RO))
  angle_RR = np.degrees(np.arccos(np.clip(cosine_RR, 0.0, 1.0)))
  return Spectrum(importances(update), singular[: update.rank], angle_RR)


def _cosines(x_RX: np.ndarray) -> np.ndarray:
  norm_R = np.linalg.norm(x_RX, axis=1)
  unit_RX = x_RX / np.where(norm_R > 0, norm_R, 1.0)[:, None]
  return unit_RX @ unit_RX.T
