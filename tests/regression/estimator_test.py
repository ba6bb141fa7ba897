"""The estimators against scikit-learn's own checks and its PCA."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from adapad_jax.regression.estimator import (
  ParallelDeflationPCA,
  ParallelDeflationRegressor,
)


@pytest.mark.slow
# Sixty rounds are few, and most checks look at other things than the fit.
@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
@parametrize_with_checks(
  [
    ParallelDeflationRegressor(n_components=2, max_rounds=60),
    ParallelDeflationPCA(n_components=2, max_rounds=60),
  ]
)
def test_scikit_learn_checks(estimator, check):
  check(estimator)


@pytest.fixture(scope='module')
def data():
  draw = np.random.default_rng(0)
  x_NI = draw.normal(size=(40, 5))
  return x_NI, x_NI @ draw.normal(size=(5, 3)) + 0.1 * draw.normal(size=(40, 3))


def test_the_components_are_those_of_scikit_learn(data):
  got = ParallelDeflationPCA(2, max_rounds=800, tol=1e-10).fit(data[0])
  want = PCA(2).fit(data[0])
  overlap_R = np.abs(np.sum(got.components_ * want.components_, 1))
  np.testing.assert_allclose(overlap_R, 1, atol=1e-8)
  np.testing.assert_allclose(got.explained_variance_, want.explained_variance_)


def spread(tail, dtype=np.float64):
  """Rows of six dimensions whose last has so small a standard deviation."""
  draw = np.random.default_rng(0)
  basis_II = np.linalg.qr(draw.normal(size=(6, 6)))[0]
  x_NI = draw.normal(size=(200, 6)) * [1, 0.7, 0.4, 0.2, 0.1, tail] @ basis_II
  return x_NI.astype(dtype)


@pytest.mark.parametrize(
  'x_NI',
  [
    *(spread(10.0**-power) for power in (2, 3, 4, 5, 6)),
    spread(1e-4, np.float32),
    load_digits().data,  # Three of its 64 columns are zero.
    load_digits().data.astype(np.float32),
    np.random.default_rng(0).normal(size=(6, 8)),
    np.random.default_rng(0).normal(size=(50, 2)) @ np.ones((2, 5)),
    np.ones((20, 4)),
  ],
  ids=lambda x_NI: '{}x{} {}'.format(*x_NI.shape, x_NI.dtype),
)
def test_all_components_are_at_right_angles_whatever_the_rank(x_NI):
  """Where predecessors are off by more than what they leave, and where nothing is."""
  got = ParallelDeflationPCA().fit(x_NI)
  variance_R = np.linalg.svd(x_NI - x_NI.mean(0), compute_uv=False) ** 2 / (
    len(x_NI) - 1
  )
  total = variance_R.sum()
  np.testing.assert_allclose(
    got.explained_variance_, variance_R, rtol=2e-4, atol=1e-6 * total
  )
  gram_RR = got.components_ @ got.components_.T
  np.testing.assert_allclose(gram_RR, np.eye(len(gram_RR)), atol=1e-4)
  back_NI = got.inverse_transform(got.transform(x_NI))
  np.testing.assert_allclose(back_NI, x_NI, atol=1e-4 * (total**0.5 + 1))


@pytest.mark.parametrize(('dtype', 'scale'), [('float32', 1e-22), ('float64', 1e-165)])
def test_data_whose_squares_vanish_are_refused(data, dtype, scale):
  x_NI, y_NO = (z_NX.astype(dtype) for z_NX in data)
  tiny = np.asarray(scale, dtype)
  with pytest.raises(ValueError, match=f'the inputs are too small for {dtype}'):
    ParallelDeflationRegressor().fit(x_NI * tiny, y_NO)
  with pytest.raises(ValueError, match=f'the outputs are too small for {dtype}'):
    ParallelDeflationRegressor().fit(x_NI, y_NO * tiny)
  with pytest.raises(ValueError, match=f'the inputs are too small for {dtype}'):
    ParallelDeflationPCA().fit(x_NI * tiny)


@pytest.mark.parametrize('scale', [1e-12, 1e12])
def test_principal_components_of_small_float32_data_are_found(scale):
  draw = np.random.default_rng(0)
  x_NI = (scale * draw.normal(size=(100, 5)) * [5, 4, 3, 2, 1]).astype(np.float32)
  got = ParallelDeflationPCA(2).fit(x_NI)
  want_RI = PCA(2).fit(x_NI / np.float32(scale)).components_
  overlap_R = np.abs(np.sum(got.components_ * want_RI, 1))
  np.testing.assert_allclose(overlap_R, 1, atol=1e-4)


def test_coordinates_of_other_components_are_refused(data):
  pca = ParallelDeflationPCA(2).fit(data[0])
  for shape in ((3, 5), (2,)):
    with pytest.raises(ValueError, match=r'expected rows of 2 coordinates.*got shape'):
      pca.inverse_transform(np.ones(shape))


def test_a_grid_search_over_a_pipeline_takes_the_true_rank(data):
  steps = make_pipeline(StandardScaler(), ParallelDeflationRegressor())
  name = 'paralleldeflationregressor__n_components'
  search = GridSearchCV(steps, {name: [1, 3]}, cv=2).fit(*data)
  assert search.best_params_ == {name: 3} and search.best_score_ > 0.98


def test_prefixes_predict_and_bad_numbers_are_refused(data):
  x_NI, y_NO = data
  model = ParallelDeflationRegressor(3).fit(x_NI, y_NO)
  errors = [np.sum((y_NO - model.predict(x_NI, k)) ** 2) for k in range(4)]
  assert errors == sorted(errors, reverse=True)
  np.testing.assert_allclose(model.predict(x_NI, 0), np.tile(y_NO.mean(0), (40, 1)))
  for wrong in (-1, 2.0, '2', True):
    with pytest.raises(ValueError, match=f'n_components={wrong!r} must be a whole'):
      model.predict(x_NI, wrong)
  for kind in (ParallelDeflationRegressor, ParallelDeflationPCA):
    with pytest.raises(ValueError, match='n_components=True must be a whole'):
      kind(True).fit(x_NI, y_NO)
  with pytest.raises(ValueError, match='the outputs are a sparse csr_matrix'):
    model.fit(x_NI, scipy.sparse.csr_matrix(y_NO))
  with pytest.raises(ValueError, match='activation'):
    ParallelDeflationRegressor(activation='above_noise').fit(x_NI, y_NO)


@pytest.mark.parametrize('mean', [0.0, 1e4])
def test_the_score_is_that_of_least_squares_far_from_zero(mean):
  draw = np.random.default_rng(0)
  x_NI = draw.normal(size=(300, 5))
  y_NO = x_NI @ draw.normal(size=(5, 3)) + 0.05 * draw.normal(size=(300, 3))
  x_NI, y_NO = ((z_NX + mean).astype(np.float32) for z_NX in (x_NI, y_NO))
  want = LinearRegression().fit(x_NI.astype(np.float64), y_NO).score(x_NI, y_NO)
  model = ParallelDeflationRegressor(3).fit(x_NI, y_NO)
  assert model.predict(x_NI).dtype == np.float32
  assert model.score(x_NI, y_NO) == pytest.approx(want, abs=1e-5)
  pca = ParallelDeflationPCA(2, max_rounds=2000).fit(x_NI)
  variance_R = PCA(2).fit(x_NI.astype(np.float64)).explained_variance_
  np.testing.assert_allclose(pca.explained_variance_, variance_R, rtol=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('solver', ['power', 'alternating'])
def test_components_beyond_the_rank_are_zero(dtype, solver):
  """Few rows of many inputs, and targets without noise of a low rank."""
  draw = np.random.default_rng(0)
  wide_NI = draw.normal(size=(12, 60))
  long_NI = draw.normal(size=(100, 60))
  low_IO = draw.normal(size=(60, 3)) @ draw.normal(size=(3, 50))
  cases = (
    (wide_NI, wide_NI @ draw.normal(size=(60, 50)), 11),
    (long_NI, long_NI @ low_IO, 3),
  )
  for x_NI, y_NO, rank in cases:
    given = x_NI.astype(dtype), y_NO.astype(dtype)
    model = ParallelDeflationRegressor(solver=solver).fit(*given)
    assert model.score(*given) > 1 - 1e-5
    size_R = np.linalg.norm(model.input_components_, axis=1)
    size_R *= np.linalg.norm(model.output_components_, axis=1)
    assert size_R[:rank].all()
    # What moves by less than the tolerance may be left of targets, not of inputs.
    least = 0 if x_NI is wide_NI else 1e-5 * size_R[0]
    np.testing.assert_allclose(size_R[rank:], 0, atol=least)
