"""Losses and predictions against plain numpy, row by row."""

import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.tasks import text_task

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]], np.float32)


def batch(label, weight):
  return {'label_B': jnp.asarray(label), 'weight_B': jnp.asarray(weight, jnp.float32)}


def test_cross_entropy_by_hand():
  def model(rows, keys_B):
    return jnp.asarray(LOGITS, jnp.bfloat16)

  loss_B, weight_B = text_task.cross_entropy(model, batch([2, 1, 0], [1, 1, 0]), None)
  for row, label in enumerate([2, 1]):
    logits = LOGITS[row].astype(np.float64)
    expected = np.log(sum(np.exp(x) for x in logits)) - logits[label]
    assert float(loss_B[row]) == pytest.approx(expected, abs=1e-6)
  np.testing.assert_array_equal(weight_B, [1, 1, 0])
  assert float(loss_B[2]) == 0 and loss_B.dtype == jnp.float32


def test_squared_error_by_hand():
  def model(rows, keys_B):
    return jnp.asarray([[2.5], [-1.0], [7.0]])

  labels = np.float32([5, 1, 0])
  loss_B, weight_B = text_task.squared_error(model, batch(labels, [1, 1, 0]), None)
  np.testing.assert_allclose(loss_B, [6.25, 4.0, 0.0])
  np.testing.assert_array_equal(weight_B, [1, 1, 0])


def test_predictions_are_float32_and_read_as_classes_or_values():
  logits = text_task.predict_logits(lambda b: jnp.asarray(LOGITS, jnp.bfloat16), {})
  assert logits['logits_BC'].dtype == jnp.float32
  np.testing.assert_array_equal(text_task.predictions(logits), [0, 1, 0])
  values = text_task.predict_values(lambda b: jnp.asarray([[1.5], [2.0]]), {})
  np.testing.assert_array_equal(text_task.predictions(values), [1.5, 2.0])
