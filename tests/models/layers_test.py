"""Which kernel attention is left to."""

import jax.numpy as jnp
import pytest

from adapad_jax.models import layers


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({}, 'cudnn'),
    ({'backend': 'cpu'}, 'xla'),
    ({'dtype': jnp.float32}, 'xla'),
    ({'lengths': (1, 64)}, 'xla'),  # One new token and a cache.
    ({'lengths': (64, 33)}, 'xla'),
    ({'size': 12}, 'xla'),
    ({'size': 128}, 'cudnn'),
    ({'size': 136}, 'xla'),
  ],
)
def test_the_flash_kernel_is_asked_for_what_it_takes_alone(changes, expected):
  fits = {'backend': 'gpu', 'dtype': jnp.bfloat16, 'lengths': (64, 32), 'size': 64}
  assert layers.implementation(**fits | changes) == expected
