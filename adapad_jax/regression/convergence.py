"""Whether a fit had converged when its rounds were over, and the warning if not."""

import warnings

import numpy as np

# What may still move, as a share of ||Y||_F, where no tolerance was given.
SETTLED = 1e-5


def limit_of(tolerance: float) -> float:
  """The share of ||Y||_F by which the terms of a converged fit move at most."""
  return tolerance or SETTLED


def share_moved(moved_R: np.ndarray, yy: float) -> float:
  """The farthest movement of several terms as a share of ||Y||_F; 0 for zero data."""
  farthest = float(np.max(moved_R, initial=0.0))
  return farthest / float(np.sqrt(yy)) if yy else 0.0


def warn_unless(
  converged: bool,
  *,
  rounds: int,
  movement: float,
  tolerance: float,
  names: tuple[str, str] = ('rounds', 'tolerance'),
  depth: int = 1,
) -> None:
  """Warns of a fit that the limit of rounds has ended.

  Args:
    converged: whether all is well.
    rounds: rounds that were run.
    movement: see `share_moved`, in the last round.
    tolerance: what it may be; 0 for `SETTLED`.
    names: of the two settings, as the caller's user knows them.
    depth: how many of our functions lie between this one and the user's.

  Warns:
    sklearn.exceptions.ConvergenceWarning: with the numbers.
  """
  if converged:
    return
  from sklearn.exceptions import ConvergenceWarning  # Only a warning needs it.

  limit = limit_of(tolerance)
  reason = (
    f'a term b a^T X still moved by {movement:.2e} of ||Y|| in the last of them,'
    f' more than {names[1]}={limit:.2e}'
    if movement > limit
    else 'not all components had joined yet'
  )
  warnings.warn(
    f'the limit of {names[0]}={rounds} ended the fit before it converged: {reason}.'
    f' Allow more {names[0]}, or fewer components',
    ConvergenceWarning,
    stacklevel=2 + depth,
  )
