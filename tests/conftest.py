"""Strict settings for every test: four devices, no silent rank promotion."""

import os

# Read when jax is first imported, also by the processes that tests start.
os.environ.setdefault('HF_HUB_OFFLINE', '1')

import pathlib  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')

SHARED = pathlib.Path(__file__).parents[2] / 'shared'


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of real data and models beside the checkout; skips without it."""
  if not SHARED.exists():
    pytest.skip(f'needs the real data and models in {SHARED.name}/')
  return SHARED
