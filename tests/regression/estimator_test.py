"""The estimators against scikit-learn's own checks and its PCA."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from adapad_jax.regression.estimator import (
  ParallelDeflationPCA,
  ParallelDeflationRegressor,
)


@pytest.mark.slow
@parametrize_with_checks(
  [
    ParallelDeflationRegressor(n_components=2, max_rounds=60),
    ParallelDeflationPCA(n_components=2, max_rounds=60),
  ]
)
def test_scikit_learn_checks(estimator, check):
  check(estimator)
