"""Tests ../adapad_jax/optim.py: rates by age, and what is clipped."""

import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.optim import Optimizer


def test_rates_warm_up_with_age_and_end_together():
  o = Optimizer(learning_rate=2.0, warmup=4)
  rate = lambda age, step: float(o.rate_at(jnp.int32(age), jnp.int32(step), 20))
  assert rate(0, 0) == pytest.approx(0.5) and rate(3, 3) == pytest.approx(2.0)
  assert rate(0, 10) == pytest.approx(0.5)  # born late: warms up afresh
  assert rate(5, 15) == pytest.approx(2.0 * 5 / 6)
  assert rate(12, 12) == pytest.approx(2.0 * 8 / 16)
  assert rate(20, 20) == 0
  flat = Optimizer(learning_rate=2.0, warmup=4, decay='constant')
  assert float(flat.rate_at(jnp.int32(9), jnp.int32(19), 20)) == 2.0
  cosine = Optimizer(learning_rate=2.0, decay='cosine')
  assert float(cosine.rate_at(jnp.int32(10), jnp.int32(10), 20)) == pytest.approx(1.0)
  with pytest.raises(
    ValueError, match="unknown optimizer.rule 'adamw'; did you mean 'adam'"
  ):
    Optimizer(rule='adamw')


def test_the_cosine_falls_from_the_peak_to_zero():
  o = Optimizer(learning_rate=2.0, decay='cosine')
  rate = lambda step: float(o.rate_at(jnp.int32(step), jnp.int32(step), 20))
  for step in (1, 5, 15, 19):
    want = 2.0 * (1 + np.cos(np.pi * step / 20)) / 2
    assert rate(step) == pytest.approx(want, rel=1e-5)
  assert rate(0) == pytest.approx(2.0) and rate(20) == pytest.approx(0, abs=1e-6)


def test_a_warm_up_below_one_is_a_fraction_of_the_run():
  assert Optimizer(warmup=0.06).resolve(100).warmup == 6
  assert Optimizer(warmup=0.06).resolve(4).warmup == 0
  assert Optimizer(warmup=1).resolve(100).warmup == 1
  once = Optimizer(learning_rate=2.0, warmup=0.5, decay='cosine').resolve(10)
  assert (
    once == Optimizer(learning_rate=2.0, warmup=5, decay='cosine') == once.resolve(10)
  )
