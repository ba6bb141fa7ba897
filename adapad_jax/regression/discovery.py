"""How many components the data support: growth that stops at the noise."""

import dataclasses

import jax
import numpy as np
import scipy.special

from adapad_jax import sharding
from adapad_jax.regression.convergence import warn_unless
from adapad_jax.regression.fit import Fit, fit_moments, latent, precision, sums
from adapad_jax.regression.frame import make_frame
from adapad_jax.regression.moments import Moments
from adapad_jax.regression.schedule import Schedule
from adapad_jax.regression.solvers import Alternating, Power


def discover(
  x_NI: np.ndarray,
  y_NO: np.ndarray,
  max_rank: int,
  *,
  noise: float | None = None,
  level: float = 0.01,
  centred: bool = False,
  solver: Power | Alternating | None = None,
  schedule: Schedule | None = None,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = 'float32',
  seed: int = 0,
) -> Fit:
  """Fits as many components as explain more than noise would.

  A component trains privately until its energy ||b_k a_k^T X||_F^2 passes
  `noise_floor`, then it joins and the next one starts to compete. The rank found is
  the `active` of the fit, and its components are the leading ones.

  Args:
    x_NI: inputs, one example a row.
    y_NO: outputs.
    max_rank: components at most.
    noise: standard deviation of the noise in every output; None estimates it from
      what full-rank regression leaves over, for which n must exceed the rank of X,
      and by two if `centred`.
    level: chance of finding a component in noise alone.
    centred: whether the data have had their means subtracted, which takes one degree
      of freedom from what is left over.
    solver: local steps.
    schedule: the rounds; its activation and `advance` are not used.
    mesh: devices.
    dtype: 'float32' or 'float64'.
    seed: of the random start.

  Raises:
    ValueError: for data or settings that cannot be fitted, or if the noise is not
      given and cannot be estimated.

  Warns:
    sklearn.exceptions.ConvergenceWarning: if the limit of rounds ended the fit.
  """
  if not 0 < level < 1:
    raise ValueError(f'level={level} must lie between 0 and 1')
  if noise is not None and not 0 <= noise < np.inf:
    raise ValueError(f'noise={noise} must not be negative and must be finite')
  schedule = dataclasses.replace(
    schedule or Schedule(rounds=300, tolerance=1e-5),
    activation='above_noise',
    advance=True,
  )
  with precision(dtype):
    moments = sums(x_NI, y_NO, max_rank, dtype)
    inputs, left = _residual(moments, dtype)
    count, outputs = float(moments.count), moments.c_OI.shape[0]
    if noise is None:
      noise = _noise_left(left, count - inputs - centred, outputs)
    floor = noise_floor(noise, inputs, outputs, level)
    # Rounding leaves some energy even where there is no noise.
    floor = max(floor, outputs * float(np.finfo(dtype).eps) * float(moments.yy))
    mesh = mesh or sharding.make_mesh()
    result = fit_moments(
      moments, max_rank, solver, schedule, mesh, seed, floor=floor, dtype=dtype
    )
  warn_unless(
    result.converged,
    rounds=len(result.moved_LR),
    movement=result.movement,
    tolerance=schedule.tolerance,
  )
  return dataclasses.replace(result, active=_above(result, x_NI, floor))


def noise_floor(noise: float, inputs: float, outputs: int, level: float) -> float:
  """The energy that the largest component of pure noise exceeds with chance `level`.

  The fitted outputs of noise are a Gaussian matrix of `outputs` x `inputs` entries
  with deviation `noise`, whose largest squared singular value follows the
  Tracy-Widom law of order 1 after centring and scaling (Johnstone 2001, theorem
  1.1), here through the gamma law that matches its three moments (Chiani 2014).

  Args:
    noise: standard deviation of the noise.
    inputs: rank of X.
    outputs: number of outputs.
    level: chance.
  """
  if inputs == 0:
    return 0.0
  tall, wide = max(inputs, outputs), min(inputs, outputs)
  root = np.sqrt(max(tall - 1, 0.5)) + np.sqrt(wide)
  spread = root * (1 / np.sqrt(max(tall - 1, 0.5)) + 1 / np.sqrt(wide)) ** (1 / 3)
  quantile = 0.186054 * scipy.special.gammaincinv(46.446, 1 - level) - 9.84801
  return float(noise**2 * (root**2 + spread * quantile))


def _residual(moments: Moments, dtype: str) -> tuple[int, float]:
  """The rank of X, and ||Y||_F^2 less what full-rank regression explains."""
  frame = make_frame(np.asarray(moments.s_II), dtype)
  explained = np.sum(np.square(frame.whiten(np.asarray(moments.c_OI))))
  return frame.rank, max(float(moments.yy) - float(explained), 0.0)


def _noise_left(left: float, freedom: float, outputs: int) -> float:
  """The deviation estimated from the residual.

  Raises:
    ValueError: if there are not more examples than independent inputs and means.
  """
  if freedom < 1:
    raise ValueError(
      'the noise cannot be estimated from as many examples as independent inputs, or'
      ' fewer: pass noise=...'
    )
  return float(np.sqrt(left / (freedom * outputs)))


def _above(result: Fit, x_NI: np.ndarray, floor: float) -> int:
  """How many leading components have energy above the floor in the end."""
  scores_NR = latent(x_NI, result.a_RI[: result.active])
  energy_R = np.sum(scores_NR**2, 0) * np.sum(result.b_RO[: result.active] ** 2, 1)
  above_R = np.append(energy_R > floor, False)
  return int(np.argmin(above_R))
