"""Classification and regression metrics under the names that GLUE users know.

Every function takes labels and predictions of a whole split, (N,) each, in any
order that is the same for both, and returns metrics by name. None warns: constant
predictions give a Matthews correlation of 0 and a Pearson correlation of NaN. They are
worked out here, from counts: a run scores its baseline before it begins, and should not
wait for scikit-learn to be imported.
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
  right_C, label_C, predicted_C = _counts(label_N, predicted_N)
  rows = label_C.sum()
  together = right_C.sum() * rows - label_C @ predicted_C
  spread = (rows**2 - predicted_C @ predicted_C) * (rows**2 - label_C @ label_C)
  return {'matthews_correlation': float(together / np.sqrt(spread))}


def accuracy_f1(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Accuracy, F1 of class 1 and their mean, as for MRPC and QQP."""
  right = accuracy(label_N, predicted_N)['accuracy']
  label, predicted = label_N == 1, predicted_N == 1
  f1 = float(_f1(np.sum(label & predicted), np.sum(label), np.sum(predicted)))
  return {'accuracy': right, 'f1': f1, 'combined_score': (right + f1) / 2}


def pearson_spearman(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Pearson and Spearman correlation and their mean, as for STS-B."""
  pearson = correlation(label_N, predicted_N)
  spearman = correlation(_places(label_N), _places(predicted_N))
  if not np.isfinite(predicted_N).all():
    spearman = float('nan')
  return {
    'pearson': pearson,
    'spearmanr': spearman,
    'combined_score': (pearson + spearman) / 2,
  }


def classification(label_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
  """Accuracy, mean F1 over the classes and Matthews correlation."""
  f1_C = _f1(*_counts(label_N, predicted_N))
  return {
    **accuracy(label_N, predicted_N),
    'f1_macro': float(f1_C.mean()),
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


def _counts(
  label_N: np.ndarray, predicted_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Rows of every class that are predicted right, labelled so and predicted so, (C,).

  Classes are what is a label or a prediction. Counts are float64.
  """
  class_C, number_N = np.unique(
    np.concatenate([label_N, predicted_N]), return_inverse=True
  )
  label_N, predicted_N = np.split(number_N, [len(label_N)])
  count = lambda rows_N: np.bincount(rows_N, minlength=len(class_C)).astype(np.float64)
  right_N = label_N[label_N == predicted_N]
  return count(right_N), count(label_N), count(predicted_N)


def _f1(right: np.ndarray, label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """F1 of classes from their counts; 0 where there is nothing of one."""
  return 2 * right / np.maximum(label + predicted, 1)


def _places(x_N: np.ndarray) -> np.ndarray:
  """Places in increasing order, from one; equal values share the mean of theirs."""
  _, group_N, size_G = np.unique(x_N, return_inverse=True, return_counts=True)
  last_G = np.cumsum(size_G)
  return (last_G - (size_G - 1) / 2)[group_N]
