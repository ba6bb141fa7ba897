"""White coordinates of the inputs, in float64 on the host.

Everything that depends on how the inputs are conditioned happens here, once before
and once after the rounds, which then see S = 1 whatever the data were.
"""

import contextlib
import dataclasses

import numpy as np
import scipy.linalg
import threadpoolctl

# Up to this size a second thread of the BLAS gains nothing on an idle machine, and on
# a busy one every step waits for it.
_ONE_THREAD = 1024
_BLAS = threadpoolctl.ThreadpoolController()


@dataclasses.dataclass(frozen=True)
class Frame:
  """Coordinates w of inputs, a = T w, in which S = X X^T is 1: T T^T = S^+.

  T = D L^-T from D S D = L L^T, which is applied and never formed; where S is
  singular T itself, with a column of zeros for every direction that is missing.

  Attributes:
    s_II: S.
    scale_I: D; one over the lengths of the inputs.
    lower_II: L; None where S is singular.
    t_II: T; None where it is not.
    rank: directions that the data have.
  """

  s_II: np.ndarray
  scale_I: np.ndarray
  lower_II: np.ndarray | None
  t_II: np.ndarray | None
  rank: int

  def whiten(self, c_OI: np.ndarray) -> np.ndarray:
    """C T."""
    c_OI = np.asarray(c_OI, np.float64)
    with _threads(len(self.s_II)):
      if self.lower_II is None:
        return c_OI @ self.t_II
      return _solve(self.lower_II, (c_OI * self.scale_I).T).T

  def restore(self, w_RI: np.ndarray) -> np.ndarray:
    """T w for every row w."""
    w_RI = np.asarray(w_RI, np.float64)
    with _threads(len(self.s_II)):
      if self.lower_II is None:
        return w_RI @ self.t_II.T
      return self.scale_I * _solve(self.lower_II, w_RI.T, trans='T').T

  def enter(self, a_RI: np.ndarray) -> np.ndarray:
    """T^+ a for every row a; what the data do not show of a is lost."""
    a_RI = np.asarray(a_RI, np.float64)
    with _threads(len(self.s_II)):
      if self.lower_II is None:
        return (a_RI @ self.s_II) @ self.t_II
      return (a_RI / self.scale_I) @ self.lower_II


def _solve(lower_II: np.ndarray, x_IX: np.ndarray, trans: str = 'N') -> np.ndarray:
  """L^-1 x, or L^-T x."""
  return scipy.linalg.solve_triangular(
    lower_II, x_IX, lower=True, trans=trans, check_finite=False
  )


def _threads(size: int) -> contextlib.AbstractContextManager:
  """One thread of the BLAS for small matrices."""
  small = size <= _ONE_THREAD
  return _BLAS.limit(limits=1) if small else contextlib.nullcontext()


def make_frame(s_II: np.ndarray, dtype: str) -> Frame:
  """The frame of a matrix S of second moments.

  By Cholesky after every input is scaled to length one, which is close to the best
  scaling of all (van der Sluis 1969). Where that is singular, by eigenvectors, of
  which those below the precision of the data count as absent.

  Args:
    s_II: S.
    dtype: of the data that were summed; their last digit is taken for noise.
  """
  s_II = np.asarray(s_II, np.float64)
  size, power_I = len(s_II), np.diag(s_II)
  scale_I = 1 / np.sqrt(np.where(power_I > 0, power_I, 1))
  scaled_II = scale_I[:, None] * s_II * scale_I
  least = max(size * np.finfo(np.float64).eps, float(2 * np.finfo(dtype).eps) ** 2)
  with _threads(size):
    lower_II = _cholesky(scaled_II)
    if lower_II is not None and np.diag(lower_II).min() ** 2 > 10 * least:
      return Frame(s_II, scale_I, lower_II, None, size)
    value_I, vector_II = np.linalg.eigh(scaled_II)
    kept_I = value_I > least * value_I[-1]
    vector_IK = vector_II[:, kept_I]
    t_IK = scale_I[:, None] * vector_IK / np.sqrt(value_I[kept_I])
    # Scaled back, T T^T still is a generalised inverse of S: S^+ is what is left of it
    # without what lies in the null space.
    null_IK = scale_I[:, None] * vector_II[:, ~kept_I]
    t_IK -= null_IK @ np.linalg.lstsq(null_IK, t_IK, rcond=None)[0]
  rank = t_IK.shape[1]
  t_II = np.pad(t_IK, ((0, 0), (0, size - rank)))
  return Frame(s_II, scale_I, None, t_II, rank)


def _cholesky(s_II: np.ndarray) -> np.ndarray | None:
  """L with L L^T = S; None where S has none."""
  try:
    return np.linalg.cholesky(s_II)
  except np.linalg.LinAlgError:
    return None


def reciprocal_condition(s_II: np.ndarray) -> float:
  """1 / (||G||_1 ||G^-1||_1) of D S D = G, every input scaled to length one.

  Inputs that are zero throughout are left out; zero where G is singular. In float32,
  which tells apart what matters here.
  """
  s_II = np.asarray(s_II, np.float64)
  power_I = np.diag(s_II)
  there_I = power_I > 0
  if not there_I.any():
    return 1.0
  scale_I = 1 / np.sqrt(power_I[there_I])
  scaled_II = scale_I[:, None] * s_II[np.ix_(there_I, there_I)] * scale_I
  scaled_II = scaled_II.astype(np.float32)
  with _threads(len(scaled_II)):
    lower_II = _cholesky(scaled_II)
  if lower_II is None:
    return 0.0
  norm = float(np.abs(scaled_II).sum(0).max())
  return float(scipy.linalg.lapack.spocon(lower_II, norm, uplo='L')[0])
