"""How the components of an update relate to its singular vectors, and their norms."""

import dataclasses

import numpy as np

from adapad_jax.lowrank.svd import svd
from adapad_jax.lowrank.update import LowRank


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
  """The spectrum of an update on the host, in float64."""
  wide = LowRank(update.a_RI.astype(np.float64), update.b_RO.astype(np.float64))
  cosine_RR = np.abs(_cosines(wide.a_RI) * _cosines(wide.b_RO))
  angle_RR = np.degrees(np.arccos(np.clip(cosine_RR, 0.0, 1.0)))
  return Spectrum(importances(update), svd(wide)[1], angle_RR)


def importances(update: LowRank) -> np.ndarray:
  """Frobenius norm of each term a_k^T b_k, (R,): ||a_k|| ||b_k||, nothing formed."""
  norm = lambda x_RX: np.linalg.norm(x_RX.astype(np.float64), axis=1)
  return norm(update.a_RI) * norm(update.b_RO)


def _cosines(x_RX: np.ndarray) -> np.ndarray:
  norm_R = np.linalg.norm(x_RX, axis=1)
  unit_RX = x_RX / np.where(norm_R > 0, norm_R, 1.0)[:, None]
  return unit_RX @ unit_RX.T
