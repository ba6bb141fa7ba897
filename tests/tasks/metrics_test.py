"""GLUE metrics against scipy, scikit-learn and hand-worked cases."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from adapad_jax.tasks import metrics


def test_matthews_by_hand():
  # tp 2, tn 1, fp 1, fn 2: (2 * 1 - 1 * 2) / sqrt(3 * 4 * 2 * 3) = 0
  label = np.array([1, 1, 1, 1, 0, 0])
  assert metrics.matthews(label, np.array([1, 1, 0, 0, 1, 0])) == {
    'matthews_correlation': pytest.approx(0.0)
  }
  # tp 3, tn 2, fp 0, fn 1: 6 / sqrt(3 * 4 * 2 * 3)
  found = metrics.matthews(label, np.array([1, 1, 1, 0, 0, 0]))
  assert found['matthews_correlation'] == pytest.approx(6 / 72**0.5)


def test_constant_predictions_do_not_warn():
  label, same = np.array([0, 1, 1, 0]), np.ones(4)
  assert metrics.matthews(label, same)['matthews_correlation'] == 0.0
  for value in metrics.pearson_spearman(label, np.full(4, 0.1, np.float32)).values():
    assert np.isnan(value)
  assert metrics.accuracy_f1(label, 0 * label)['f1'] == 0.0


def test_f1_of_a_class_that_is_nowhere_is_zero():
  """As run_glue has it, not one: no row of class 1, and none predicted."""
  nothing = np.zeros(4, int)
  want = {'accuracy': 1.0, 'f1': 0.0, 'combined_score': 0.5}
  assert metrics.accuracy_f1(nothing, nothing) == want


def test_accuracy_f1_by_hand():
  found = metrics.accuracy_f1(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1]))
  assert found['accuracy'] == pytest.approx(3 / 5)
  assert found['f1'] == pytest.approx(2 / 3)
  assert found['combined_score'] == pytest.approx((3 / 5 + 2 / 3) / 2)


def test_correlations_equal_scipy():
  rng = np.random.default_rng(3)
  label = np.round(rng.uniform(0, 5, 200), 1).astype(np.float32)
  predicted = (label + rng.normal(size=200)).astype(np.float32)
  found = metrics.pearson_spearman(label, predicted)
  pearson = scipy.stats.pearsonr(label, predicted).statistic
  spearman = scipy.stats.spearmanr(label, predicted).statistic
  assert found['pearson'] == pytest.approx(pearson, abs=1e-6)
  assert found['spearmanr'] == pytest.approx(spearman, abs=1e-6)
  assert found['combined_score'] == pytest.approx((pearson + spearman) / 2, abs=1e-6)


def test_not_finite_predictions_give_nan():
  found = metrics.pearson_spearman(np.arange(3.0), np.array([0, np.nan, 2]))
  assert all(np.isnan(value) for value in found.values())
  found = metrics.regression(np.arange(3.0), np.array([0, np.inf, 2]))
  assert not any(np.isfinite(value) for value in found.values())


def test_regression_and_classification_equal_sklearn():
  rng = np.random.default_rng(4)
  label, predicted = rng.normal(size=50), rng.normal(size=50)
  found = metrics.regression(label, predicted)
  assert found['r2'] == pytest.approx(sklearn.metrics.r2_score(label, predicted))
  assert found['mse'] == pytest.approx(
    sklearn.metrics.mean_squared_error(label, predicted)
  )
  label, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
  found = metrics.classification(label, predicted)
  f1 = np.mean(sklearn.metrics.f1_score(label, predicted, average=None))
  assert found['f1_macro'] == pytest.approx(f1)
  assert found['accuracy'] == pytest.approx(np.mean(label == predicted))


def test_counts_give_the_very_numbers_of_the_libraries():
  rng = np.random.default_rng(5)
  for size in (*range(1, 40), 300):
    label = rng.integers(0, 4, size)
    predicted = np.where(rng.random(size) < 0.5, label, rng.integers(0, 5, size))
    found = metrics.classification(label, predicted)
    f1 = sklearn.metrics.f1_score(label, predicted, average='macro', zero_division=0)
    assert found['f1_macro'] == f1
    if np.ptp(label) and np.ptp(predicted):
      together = sklearn.metrics.matthews_corrcoef(label, predicted)
      assert found['matthews_correlation'] == together
    two = label % 2, predicted % 2
    f1 = sklearn.metrics.f1_score(*two, zero_division=0)
    assert metrics.accuracy_f1(*two)['f1'] == f1
    values = rng.integers(0, 9, size), np.round(rng.normal(size=size), 1)
    places = [scipy.stats.rankdata(one) for one in values]
    found = metrics.pearson_spearman(*values)['spearmanr']
    np.testing.assert_equal(found, metrics.correlation(*places))
