"""Large problems given by their moments, with known exact solutions."""

import dataclasses

import numpy as np

from adapad_jax.regression import Fit, planted
from adapad_jax.regression.moments import Moments


@dataclasses.dataclass(frozen=True)
class Known:
  """Moments (float32) and the exact fit in white inputs: K_r = U_r diag(sigma_r) V_r^T.

  S^{1/2} is a diagonal between two reflections, so that nothing of cubic cost is
  needed to know the answer.
  """

  moments: Moments
  left_OR: np.ndarray
  right_IR: np.ndarray
  mirror_I: np.ndarray
  root_I: np.ndarray

  def white(self, a_RI: np.ndarray) -> np.ndarray:
    """A S^{1/2} in float64."""
    mirrored_RI = _mirror(a_RI.astype(np.float64), self.mirror_I) * self.root_I
    return _mirror(mirrored_RI, self.mirror_I)

  def error(self, a_RI: np.ndarray, b_RO: np.ndarray) -> float:
    """||(B A - W*) X||_F / ||W* X||_F, W* the best of this rank."""
    left_OS = np.concatenate([b_RO.T.astype(np.float64), -self.left_OR], 1)
    right_SI = np.concatenate([self.white(a_RI), self.right_IR.T])
    # Triangular factors keep digits that Gram matrices would square away.
    small = np.linalg.qr(left_OS, 'r') @ np.linalg.qr(right_SI.T, 'r').T
    return float(np.linalg.norm(small) / np.linalg.norm(self.right_IR))

  def error_of(self, fitted: Fit) -> float:
    """The error of a fit."""
    return self.error(fitted.a_RI, fitted.b_RO)


def _mirror(rows_RI: np.ndarray, mirror_I: np.ndarray) -> np.ndarray:
  return rows_RI - 2 * np.outer(rows_RI @ mirror_I, mirror_I)


def known(size: int, rank: int, gap: float, seed: int = 0) -> Known:
  """d = m = size, `rank` + 16 components of one relative gap, condition of X 10."""
  draw = np.random.default_rng(seed)
  sigma_T = planted.exponential(min(rank + 16, size), gap)
  left_OT = planted.orthonormal(draw, size, len(sigma_T))
  right_IT = planted.orthonormal(draw, size, len(sigma_T)) * sigma_T
  mirror_I = draw.normal(size=size)
  mirror_I /= np.linalg.norm(mirror_I)
  root_I = np.geomspace(1, 0.1, size)
  mirrored = lambda rows_RI, scale_I: _mirror(
    _mirror(rows_RI, mirror_I) * scale_I, mirror_I
  )
  c_OI = (left_OT @ mirrored(right_IT.T, root_I)).astype(np.float32)
  s_II = mirrored(np.eye(size), root_I**2).astype(np.float32)
  zero = np.zeros(size, np.float32)
  yy = np.float32(np.sum(sigma_T**2))
  moments = Moments(c_OI, s_II, yy, np.float32(size), zero, zero)
  return Known(moments, left_OT[:, :rank], right_IT[:, :rank], mirror_I, root_I)
