"""Re-ranking for every family: what a model is made of is its own affair."""

import json

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.models import Head, load
from adapad_jax.models.families import FAMILIES
from adapad_jax.reranking import fit, from_adapter
from tests.interchange import kit

SIZES = {
  'vocab_size': 40,
  'hidden_size': 16,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'num_key_value_heads': 1,
  'head_dim': 8,
  'intermediate_size': 24,
  'max_position_embeddings': 32,
  'type_vocab_size': 2,
  'initializer_range': 0.3,
}
CASES = [(name, FAMILIES[name].heads[-1]) for name in sorted(FAMILIES)]


@pytest.mark.parametrize('family, kind', CASES)
def test_components_of_every_family_are_ordered(tmp_path, family, kind):
  vision = {'text_config': SIZES, 'mm_tokens_per_image': 1}
  config = {'model_type': family} | (vision if family == 'gemma3' else SIZES)
  (tmp_path / 'config.json').write_text(json.dumps(config))
  base = load(str(tmp_path), Head(kind), random_weights=True)
  update = from_adapter(base, kit.draw_adapter(base, ranks=(0, 0, 0, 2)))
  assert update.kind == kind
  ordered = fit(update, kit.random_batch(40), 2, sharding.make_mesh())
  assert ordered.keys() == update.deltas.keys()
  assert all(np.isfinite(one.gains).all() for one in ordered.values())
  assert sum(one.gains.sum() for one in ordered.values()) > 0
