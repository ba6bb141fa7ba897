"""Classification and regression metrics under the names that GLUE users know.

Every function takes labels and predictions of a whole split, (N,) each, in any
order that is the same for both, and returns metrics by name. None warns: constant
predictions give a Matthews correlation of 0 and a Pearson correlation of NaN. The
libraries take seconds to import, so whoever needs one imports it.
"""

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def accuracy(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Share of rows predicted right."""
  return {'accuracy': float(np.mean(label_N == predicted_N))}


def matthews(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Matthews correlation, the metric of CoLA."""
  if not np.ptp(label_N) or not np.ptp(predicted_N):
    return {'matthews_correlation': 0.0}
  import sklearn.metrics

  value = sklearn.metrics.matthews_corrcoef(label_N, predicted_N)
  return {'matthews_correlation': float(value)}


def accuracy_f1(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Accuracy, F1 of class 1 and their mean, as for MRPC and QQP."""
  import sklearn.metrics

  right = accuracy(label_N, predicted_N)['accuracy']
  f1 = float(sklearn.metrics.f1_score(label_N, predicted_N, zero_division=0))
  return {'accuracy': right, 'f1': f1, 'combined_score': (right + f1) / 2}


def pearson_spearman(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Pearson and Spearman correlation and their mean, as for STS-B."""
  import scipy.stats

  pearson = correlation(label_N, predicted_N)
  spearman = correlation(
    scipy.stats.rankdata(label_N), scipy.stats.rankdata(predicted_N)
  )
  if not np.isfinite(predicted_N).all():
    spearman = float('nan')
  return {
    'pearson': pearson,
    'spearmanr': spearman,
    'combined_score': (pearson + spearman) / 2,
  }


def classification(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Accuracy, mean F1 over the classes and Matthews correlation."""
  import sklearn.metrics

  f1 = sklearn.metrics.f1_score(label_N, predicted_N, average='macro', zero_division=0)
  return {
    **accuracy(label_N, predicted_N),
    'f1_macro': float(f1),
    **matthews(label_N, predicted_N),
  }


def regression(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Coefficient of determination, mean squared error and both correlations."""
  label_N = label_N.astype(np.float64)
  error = float(np.mean((label_N - predicted_N) ** 2))
  spread = float(np.var(label_N))
  both = pearson_spearman(label_N, predicted_N)
  return {
    'r2': 1 - error / spread if spread else float('nan'),
    'mse': error,
    'pearson': both['pearson'],
    'spearmanr': both['spearmanr'],
  }


def correlation(x_N: np.ndarray, y_N: np.ndarray) -> float:
  """Pearson correlation in float64; NaN where either side is constant or not finite."""
  x_N = np.asarray(x_N, np.float64)
  y_N = np.asarray(y_N, np.float64)
  if len(x_N) < 2 or not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
    return float('nan')
  # A constant in float32 has a spread of rounding size in float64 after a mean.
  if not np.ptp(x_N) or not np.ptp(y_N):
    return float('nan')
  dx_N = x_N - x_N.mean()
  dy_N = y_N - y_N.mean()
  scale = np.linalg.norm(dx_N) * np.linalg.norm(dy_N)
  if not scale:
    return float('nan')
  return float(np.clip(dx_N @ dy_N / scale, -1, 1))
