"""Backbones in bfloat16 beside the same ones in float32."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.models import Head
from tests.models import deberta_test, decoder_test, parity

FAMILIES = {
  'deberta': (deberta_test, Head('span')),
  'qwen3': (decoder_test, Head('lm')),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_bfloat16_is_close_to_float32(family):
  module, head = FAMILIES[family]
  make = lambda **options: module.make_pair(module.torch_config(), head, **options)
  wide, narrow = make().ours.model, make(dtype='bfloat16').ours.model
  batch = parity.draw_batch(3, [30, 11], 30, 300)
  real = batch['mask_BL'] > 0
  outputs = [parity.outputs_of_ours(model, batch) for model in (wide, narrow)]
  for name, expected in outputs[0].items():
    found = np.asarray(outputs[1][name])
    assert found.dtype == np.float32
    error = np.abs(found - expected)[real].max()
    # A bfloat16 has eight bits: one part in 256, times a few roundings in a row.
    assert 0 < error < 0.04 * np.abs(np.asarray(expected)[real]).max()
  dtypes_of = lambda kind: {
    param.dtype
    for path, param in nnx.to_flat_state(nnx.state(narrow))
    if path[-1] == kind and {'layer', 'layers'} & set(path)
  }
  assert dtypes_of('kernel') == {jnp.dtype('bfloat16')}
  assert dtypes_of('scale') == {jnp.dtype('float32')}
