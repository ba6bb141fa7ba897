"""Tests ../../adapad_jax/interchange/verify.py."""

import jax
import numpy as np
from flax import nnx

from adapad_jax.interchange.verify import plain_outputs


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
