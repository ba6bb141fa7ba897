"""Tests ../../adapad_jax/models/stack.py: how equal layers are run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.models import Head, loading, outline, stack
from tests import tiny


@pytest.mark.parametrize(
  'platform, layers, scanned',
  [
    ('gpu', 12, True),
    ('gpu', 11, False),
    ('tpu', 28, True),
    ('cpu', 12, False),
    ('cpu', 80, False),
  ],
)
def test_many_layers_are_scanned_on_an_accelerator(platform, layers, scanned):
  assert stack.is_scanned(platform, layers) == scanned


@pytest.mark.parametrize('platform, layers', [('cpu', 12), ('gpu', 2), ('gpu', 12)])
def test_a_model_that_may_choose_goes_by_the_device(
  tmp_path, monkeypatch, platform, layers
):
  monkeypatch.setattr(tiny, 'LAYERS', layers)
  tiny.make_model(tmp_path)
  monkeypatch.setattr(loading.jax, 'default_backend', lambda: platform)
  head = Head('classification', 2)
  scanned = stack.is_scanned(platform, layers)
  for scan, want in ((None, scanned), (True, True), (False, False)):
    found = outline(str(tmp_path), head, scan=scan)
    assert found.scan == want
    assert isinstance(found.model.bert.encoder.layer, stack.Stacked) == want


@pytest.mark.parametrize('remat', [False, True])
def test_blocks_that_are_alike_are_traced_once_and_compute_the_same(remat):
  rngs = nnx.Rngs(0)
  blocks = stack.make_blocks(lambda: nnx.Linear(3, 3, rngs=rngs), 4, scan=False)
  x, traced = jnp.ones((2, 3)), []

  def run(x, alike):
    def step(block, x, index):
      traced.append(index)
      return jnp.tanh(block(x) + index)

    return stack.run_blocks(blocks, step, x, remat=remat, alike=alike).sum()

  both = {}
  for alike, times in ((True, 1), (False, 4)):
    traced.clear()
    both[alike] = jax.jit(jax.value_and_grad(run), static_argnums=1)(x, alike)
    assert len(traced) == times
  jax.tree.map(np.testing.assert_array_equal, both[True], both[False])
