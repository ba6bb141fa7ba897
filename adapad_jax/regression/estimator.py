"""Scikit-learn estimators; the one module here that needs scikit-learn."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
  BaseEstimator,
  ClassNamePrefixFeaturesOutMixin,
  MultiOutputMixin,
  RegressorMixin,
  TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from adapad_jax import sharding
from adapad_jax.regression.checks import check_count
from adapad_jax.regression.convergence import warn_unless
from adapad_jax.regression.fit import Fit, fit_moments, precision, sums
from adapad_jax.regression.pca import Eigen
from adapad_jax.regression.schedule import ACTIVATION, Schedule
from adapad_jax.regression.solvers import Alternating, Power

SOLVERS = {'power': Power(), 'alternating': Alternating()}
FLOATS = (np.float64, np.float32)

_CONSTRAINTS = {
  'n_components': [Interval(Integral, 1, None, closed='left'), None],
  'activation': [StrOptions(set(ACTIVATION) - {'above_noise'})],
  'advance': ['boolean'],
  'local_steps': [Interval(Integral, 1, None, closed='left')],
  'max_rounds': [Interval(Integral, 1, None, closed='left')],
  'tol': [Interval(Real, 0, None, closed='left')],
  'devices': [Interval(Integral, 1, None, closed='left')],
  'random_state': ['random_state'],
}


class _ParallelDeflation(BaseEstimator):
  """The settings and the fit that regression and PCA share."""

  def _validate_params(self) -> None:
    # The constraints of scikit-learn take True for 1.
    if isinstance(self.n_components, bool):
      check_count('n_components', self.n_components)
    super()._validate_params()

  def _schedule(self) -> Schedule:
    return Schedule(
      rounds=self.max_rounds,
      local_steps=self.local_steps,
      activation=self.activation,
      advance=self.advance,
      tolerance=self.tol,
    )

  def _run(
    self,
    x_NI: np.ndarray,
    y_NO: np.ndarray | None,
    rank: int,
    solver: object,
    centre: bool,
  ) -> tuple[Fit, np.ndarray, np.ndarray]:
    """The fit in the precision of the inputs; their means and those of the outputs."""
    seed = check_random_state(self.random_state).randint(2**31 - 1)
    mesh = sharding.make_mesh(self.devices)
    dtype, ridge = x_NI.dtype.name, getattr(self, 'alpha', 0.0)
    with precision(dtype):
      moments = sums(x_NI, y_NO, rank, dtype, ridge, centre)
      means = np.asarray(moments.mean_I), np.asarray(moments.mean_O)
      result = fit_moments(
        moments, rank, solver, self._schedule(), mesh, seed, dtype=dtype
      )
    warn_unless(
      result.converged,
      rounds=len(result.moved_LR),
      movement=result.movement,
      tolerance=self.tol,
      names=('max_rounds', 'tol'),
      depth=2,
    )
    self.n_rounds_ = len(result.objective_LR)
    self.objective_ = result.objective_LR
    return result, *means


class ParallelDeflationRegressor(MultiOutputMixin, RegressorMixin, _ParallelDeflation):
  """Reduced-rank linear regression by parallel deflation (arXiv:2605.10741).

  Minimises 1/2 ||Y - X W^T - 1 c^T||_F^2 + alpha/2 ||W||_F^2 over rank W <=
  n_components. Component k is fitted to what components 1..k-1 leave over, so that
  `predict(X, n_components=k)` is the fit of rank k for every k.

  Float64 inputs are fitted in float64, float32 ones in float32.

  Attributes:
    coef_: W, (n_targets, n_features), or (n_features,) for one-dimensional y.
    intercept_: c.
    input_components_: a_k as rows.
    output_components_: b_k as rows.
    objective_: value after each round (rows) of each prefix of components (columns),
      the penalty included, less what the penalty adds for private components.
    n_rounds_: rounds run.
  """

  _parameter_constraints = _CONSTRAINTS | {
    'solver': [StrOptions(set(SOLVERS))],
    'alpha': [Interval(Real, 0, None, closed='left')],
    'fit_intercept': ['boolean'],
  }

  def __init__(
    self,
    n_components: int | None = None,
    *,
    solver: str = 'power',
    alpha: float = 0.0,
    fit_intercept: bool = True,
    activation: str = 'staggered',
    advance: bool = True,
    local_steps: int = 2,
    max_rounds: int = 500,
    tol: float = 1e-6,
    devices: int = 1,
    random_state: int | np.random.RandomState | None = 0,
  ) -> None:
    self.n_components = n_components
    self.solver = solver
    self.alpha = alpha
    self.fit_intercept = fit_intercept
    self.activation = activation
    self.advance = advance
    self.local_steps = local_steps
    self.max_rounds = max_rounds
    self.tol = tol
    self.devices = devices
    self.random_state = random_state

  def fit(self, X: ArrayLike, y: ArrayLike) -> 'ParallelDeflationRegressor':
    """Fits inputs (n, d) to outputs (n, m) or (n,)."""
    self._validate_params()
    X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True)
    y_NO = y.astype(X.dtype, copy=False).reshape(len(X), -1)
    full = min(X.shape[1], y_NO.shape[1])
    rank = min(self.n_components or full, full)
    result, mean_I, mean_O = self._run(
      X, y_NO, rank, SOLVERS[self.solver], self.fit_intercept
    )
    self._input_RI, self.output_components_ = result.a_RI, result.b_RO
    self.input_components_ = result.a_RI.astype(X.dtype)
    coef_OI = result.weight(rank)
    self._mean_I, self._mean_O, self._flat = mean_I, mean_O, y.ndim == 1
    intercept_O = (mean_O - coef_OI @ mean_I).astype(X.dtype)
    coef_OI = coef_OI.astype(X.dtype)
    self.coef_ = coef_OI[0] if self._flat else coef_OI
    self.intercept_ = intercept_O[0] if self._flat else intercept_O
    return self

  def predict(self, X: ArrayLike, n_components: int | None = None) -> np.ndarray:
    """Outputs for inputs, by the first `n_components` or all of them.

    Raises:
      ValueError: for components that are no number from zero on, or inputs that do not
        fit.
    """
    check_is_fitted(self)
    if n_components is not None:
      check_count('n_components', n_components, least=0)
    X = validate_data(self, X, dtype=FLOATS, reset=False)
    keep = slice(n_components)
    latent_NR = (X - self._mean_I) @ self._input_RI[keep].T
    y_NO = latent_NR @ self.output_components_[keep] + self._mean_O
    y_NO = y_NO.astype(X.dtype)
    return y_NO[:, 0] if self._flat else y_NO


class ParallelDeflationPCA(
  ClassNamePrefixFeaturesOutMixin, TransformerMixin, _ParallelDeflation
):
  """Principal components by parallel deflation: the regression of X on itself.

  Attributes:
    components_: unit directions as rows, at right angles to each other, by descending
      variance. Beyond the rank of the data they have none.
    explained_variance_: the variance along each.
    mean_: mean of the data.
    objective_: half the squared reconstruction error after each round (rows) of each
      prefix of components (columns).
    n_rounds_: rounds run.
  """

  _parameter_constraints = _CONSTRAINTS

  def __init__(
    self,
    n_components: int | None = None,
    *,
    activation: str = 'staggered',
    advance: bool = True,
    local_steps: int = 2,
    max_rounds: int = 500,
    tol: float = 1e-6,
    devices: int = 1,
    random_state: int | np.random.RandomState | None = 0,
  ) -> None:
    self.n_components = n_components
    self.activation = activation
    self.advance = advance
    self.local_steps = local_steps
    self.max_rounds = max_rounds
    self.tol = tol
    self.devices = devices
    self.random_state = random_state

  def fit(self, X: ArrayLike, y: None = None) -> 'ParallelDeflationPCA':
    """Finds the leading directions of the rows of X."""
    del y
    self._validate_params()
    X = validate_data(self, X, dtype=FLOATS, ensure_min_samples=2)
    rank = min(self.n_components or min(X.shape), *X.shape)
    result, self._mean_I, _ = self._run(X, None, rank, Eigen(), centre=True)
    self.components_, self.mean_ = result.a_RI, self._mean_I.astype(X.dtype)
    variance_R = self._latent(X).var(axis=0, ddof=1)
    self.explained_variance_ = variance_R.astype(X.dtype)
    self.n_components_ = self._n_features_out = rank
    return self

  def transform(self, X: ArrayLike) -> np.ndarray:
    """Coordinates along the components."""
    check_is_fitted(self)
    X = validate_data(self, X, dtype=FLOATS, reset=False)
    return self._latent(X).astype(X.dtype)

  def _latent(self, X: np.ndarray) -> np.ndarray:
    """Coordinates in float64: the mean may be much larger than what varies."""
    return (X - self._mean_I) @ self.components_.T

  def inverse_transform(self, X: ArrayLike) -> np.ndarray:
    """Points with given coordinates.

    Raises:
      ValueError: if there is not one coordinate for every component.
    """
    check_is_fitted(self)
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != self.n_components_:
      raise ValueError(
        f'expected rows of {self.n_components_} coordinates, one a component, got'
        f' shape {X.shape}'
      )
    return X @ self.components_ + self.mean_
