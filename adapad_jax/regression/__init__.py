"""Low-rank linear regression and PCA by parallel deflation (arXiv:2505.22602 and
arXiv:2605.10741): find W = sum_k b_k a_k^T that minimises 1/2 ||Y - W X||_F^2.

Examples are rows here, so X^T and Y^T of the papers are `x_NI` and `y_NO`. Axis
letters beside those of `adapad_jax.lowrank`: N examples, T estimates
that a worker may read (all workers, times the versions kept), L rounds.

Imports jax, optax, numpy, scipy and threadpoolctl alone; `estimator` adds
scikit-learn, whose ConvergenceWarning `fit` and its baselines give if the limit of
rounds ended them.
"""

from adapad_jax.regression.baselines import (
  compute_schedule,
  exact_fit,
  joint_fit,
  sequential_fit,
)
from adapad_jax.regression.discovery import discover
from adapad_jax.regression.fit import Fit, fit
from adapad_jax.regression.moments import Moments, gather_moments
from adapad_jax.regression.pca import Eigen
from adapad_jax.regression.schedule import (
  Schedule,
  Traffic,
  absent_traffic,
  late_traffic,
)
from adapad_jax.regression.solvers import Alternating, Gradient, Power
from adapad_jax.regression.stream import Stream, partial_fit

__all__ = [
  'Alternating',
  'Eigen',
  'Fit',
  'Gradient',
  'Moments',
  'Power',
  'Schedule',
  'Stream',
  'Traffic',
  'absent_traffic',
  'compute_schedule',
  'discover',
  'exact_fit',
  'fit',
  'gather_moments',
  'joint_fit',
  'late_traffic',
  'partial_fit',
  'sequential_fit',
]
