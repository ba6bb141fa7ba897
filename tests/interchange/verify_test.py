"""Tests ../../adapad_jax/interchange/verify.py."""

import jax
import numpy as np
import pytest
from flax import nnx

from adapad_jax.interchange.verify import Report, largest_gap, plain_outputs


class Spy(nnx.Module):
  """Gives its weights, and notes the precision that it is traced under."""

  seen: list = []

  def __init__(self):
    self.kernel = nnx.Param(np.ones(2, np.float32))

  def __call__(self, batch):
    self.seen.append(jax.config.jax_default_matmul_precision)
    return self.kernel[...]


def test_outputs_are_compared_in_full_precision():
  np.testing.assert_array_equal(plain_outputs(Spy(), {})['logits'], [1, 1])
  assert Spy.seen == ['highest'] and jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize(
  'delta, logits, message',
  [
    (0.0, 2e-3, 'logits differ by 0.002, more than 0.001'),
    (0.0, np.nan, 'logits differ by nan'),
    (2e-3, 0.0, 'weights differ by 0.002, more than 0.0001'),
    (np.inf, 0.0, 'weights differ by inf'),
  ],
)
def test_a_report_refuses_either_difference(delta, logits, message):
  with pytest.raises(ValueError, match=f'out was not written: .*the {message}'):
    Report('out', delta, logits, 1).check(1e-4, 1e-3)
  Report('out', 1e-4, 1e-3, 1).check(1e-4, 1e-3)


def test_gaps_are_relative_to_large_outputs_and_taken_at_tokens_alone():
  batch = {'mask_BL': np.array([[1, 1, 0]])}
  ours = {'start_BL': np.array([[1.0, -8.0, 3.0]])}
  theirs = {'start_BL': np.array([[1.0, -6.0, 99.0]])}
  assert largest_gap(ours, theirs, batch) == 2 / 8
  small = {'logits': np.array([[0.25, 0.5]])}
  other = {'logits': np.array([[0.25, 0.75]])}
  assert largest_gap(small, other, batch) == 0.25
  odd = {'logits': np.array([[0.25, np.nan]])}
  assert largest_gap(small, odd, batch) == np.inf
