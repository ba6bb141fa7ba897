"""Tensor names that public checkpoints carry, beside those that a model needs."""

import json
import logging
import re

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from adapad_jax.models import Head, load, weights
from adapad_jax.models.deberta import DEBERTA
from tests.hub.repositories import draw

SIZES = {
  'vocab_size': 12,
  'hidden_size': 8,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'intermediate_size': 12,
  'max_position_embeddings': 16,
}
CONFIGS = {
  'bert': {'type_vocab_size': 2},
  'roberta': {'type_vocab_size': 1, 'pad_token_id': 1},
  'deberta-v2': {
    'relative_attention': True,
    'pos_att_type': 'p2c|c2p',
    'share_att_key': True,
    'norm_rel_ebd': 'layer_norm',
    'position_buckets': 4,
    'position_biased_input': False,
  },
  'qwen3': {'num_key_value_heads': 1, 'head_dim': 4, 'rope_theta': 10000.0},
  'llama': {'num_key_value_heads': 1, 'rope_theta': 10000.0},
  'qwen2': {'num_key_value_heads': 1},
  'mistral': {'num_key_value_heads': 1, 'sliding_window': 4},
  'smollm3': {'num_key_value_heads': 1},
  'gemma3_text': {'num_key_value_heads': 1, 'head_dim': 4, 'sliding_window': 4},
  'gemma3': {'text_config': SIZES | {'num_key_value_heads': 1, 'head_dim': 4}},
  'modernbert': {},
}
# A part of the backbone's first layer.
INSIDE = {
  'bert': 'bert.encoder.layer.0',
  'roberta': 'roberta.encoder.layer.0',
  'deberta-v2': 'deberta.encoder.layer.0',
  'gemma3': 'model.language_model.layers.0.self_attn',
  'modernbert': 'model.layers.0.attn',
}
DECODER = 'model.layers.0.self_attn'
BACKBONE = r'^(bert|roberta|deberta|model\.language_model|model)\.'
HEADS = dict.fromkeys(('gemma3', 'gemma3_text'), Head('classification'))


def bare(name):
  return re.sub(BACKBONE, '', name)


def within_whole(name):
  """Gemma 3 with images, as transformers 4.50 wrote it."""
  return name.replace('model.language_model.', 'language_model.model.')


def aged(name):
  """LayerNorm as TensorFlow called its parts."""
  name = re.sub(r'LayerNorm\.weight$', 'LayerNorm.gamma', name)
  return re.sub(r'LayerNorm\.bias$', 'LayerNorm.beta', name)


def underscored(name):
  return name.replace('word_embeddings.weight', 'word_embeddings._weight')


def same(name):
  return name


# What stands beside the backbone, as of the checkpoints named; *: one per layer.
BERT_TOPS = (
  'cls.predictions.bias',
  'cls.predictions.transform.dense.weight',
  'cls.predictions.transform.LayerNorm.gamma',
  'cls.predictions.decoder.weight',
  'cls.seq_relationship.weight',
)
V3_TOPS = (
  'lm_predictions.lm_head.bias',
  'lm_predictions.lm_head.dense.weight',
  'lm_predictions.lm_head.LayerNorm.weight',
  'mask_predictions.dense.weight',
  'mask_predictions.LayerNorm.bias',
  'mask_predictions.classifier.weight',
  'deberta.embeddings.position_embeddings.weight',
)
ROBERTA_TOPS = (
  'lm_head.bias',
  'lm_head.dense.weight',
  'lm_head.layer_norm.weight',
  'lm_head.decoder.weight',
  'roberta.embeddings.position_ids',
  'roberta.pooler.dense.weight',
)
IMAGES = (
  'vision_tower.vision_model.post_layernorm.weight',
  'multi_modal_projector.mm_input_projection_weight',
)
ROTARY = tuple(f'model.layers.{i}.self_attn.rotary_emb.inv_freq' for i in range(2))
LAYOUTS = {
  'bert-base-uncased': ('bert', aged, (*BERT_TOPS, 'bert.pooler.dense.weight')),
  'bert, saved by transformers 4.30': ('bert', same, ('bert.embeddings.position_ids',)),
  'all-MiniLM-L6-v2': ('bert', bare, ('pooler.dense.weight', 'pooler.dense.bias')),
  'bert without its pooler': ('bert', bare, ()),
  'roberta-base': ('roberta', same, ROBERTA_TOPS),
  'roberta, bare': ('roberta', bare, ('embeddings.position_ids',)),
  'deberta-v3-base': ('deberta-v2', same, V3_TOPS),
  'deberta-v2-xlarge': ('deberta-v2', same, ('cls.predictions.bias',)),
  'mdeberta-v3-base': (
    'deberta-v2',
    same,
    (*V3_TOPS, 'deberta.embeddings.word_embeddings._weight'),
  ),
  'ViDeBERTa': ('deberta-v2', underscored, V3_TOPS),
  'deberta, bare': ('deberta-v2', bare, ('embeddings.position_ids',)),
  'Qwen3-0.6B': ('qwen3', same, ('lm_head.weight',)),
  'Qwen3-Embedding': ('qwen3', bare, ()),
  'a Llama of 2023': ('llama', same, ('lm_head.weight', *ROTARY)),
  'a Llama classifier': ('llama', same, ('score.weight',)),
  'Qwen2.5-0.5B': ('qwen2', same, ('lm_head.weight',)),
  'Mistral-7B-v0.1': ('mistral', same, ('lm_head.weight',)),
  'e5-mistral-7b': ('mistral', bare, ()),
  'SmolLM3-3B': ('smollm3', same, ()),
  'gemma-3-1b-it': ('gemma3_text', same, ('lm_head.weight',)),
  'gemma-3-4b-it': (
    'gemma3',
    within_whole,
    ('language_model.lm_head.weight', *IMAGES),
  ),
  'gemma 3, saved by transformers 5': (
    'gemma3',
    same,
    ('lm_head.weight', *(f'model.{n}' for n in IMAGES)),
  ),
  'ModernBERT-base': ('modernbert', same, ('decoder.weight', 'decoder.bias')),
  'gte-modernbert-base': ('modernbert', bare, ()),
}


def write(folder, family, tensors):
  folder.mkdir(exist_ok=True)
  config = {'model_type': family} | SIZES | CONFIGS[family]
  (folder / 'config.json').write_text(json.dumps(config))
  if tensors:
    save_file(
      {n: np.ascontiguousarray(t) for n, t in tensors.items()},
      folder / 'model.safetensors',
    )
  return folder


def parameters(folder):
  family = json.loads((folder / 'config.json').read_text())['model_type']
  model = load(str(folder), HEADS.get(family, Head('span'))).model
  flat = jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Param))
  return {
    jax.tree_util.keystr(path): np.asarray(x)
    for path, x in flat
    if not re.search('qa_outputs|score|classifier', jax.tree_util.keystr(path))
  }


@pytest.fixture(scope='module', params=CONFIGS)
def family(request, tmp_path_factory):
  """A family, its tensors under their own names, and its parameters as loaded."""
  folder = tmp_path_factory.mktemp(request.param) / 'own'
  tensors = draw(write(folder, request.param, {}), HEADS.get(request.param))
  return request.param, tensors, parameters(write(folder, request.param, tensors))


def test_every_public_layout_is_read_without_a_word(family, tmp_path, caplog):
  name, tensors, expected = family
  layouts = {n: rest for n, (kind, *rest) in LAYOUTS.items() if kind == name}
  assert layouts
  for title, (rename, beside) in layouts.items():
    stored = {rename(n): tensor for n, tensor in tensors.items()}
    # Were one of these taken for something else, the parameters would differ.
    stored |= dict.fromkeys(beside, np.full((3,), 7, np.float32))
    found = parameters(write(tmp_path / str(len(title)), name, stored))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
      np.testing.assert_array_equal(found[path], value, err_msg=f'{title}: {path}')
  assert not caplog.records


def test_what_is_beside_the_backbone_is_named_and_what_is_inside_refused(
  family, tmp_path, caplog
):
  name, tensors, expected = family
  odd = {f'v_head.{i}.weight': np.zeros(2, np.float32) for i in range(14)}
  with caplog.at_level(logging.WARNING, 'adapad_jax'):
    found = parameters(write(tmp_path / 'beside', name, tensors | odd))
  assert found.keys() == expected.keys()
  (record,) = caplog.records
  assert 'v_head.0.weight, v_head.1.weight' in record.getMessage()
  assert record.getMessage().endswith('and 2 more')
  part = INSIDE.get(name, DECODER)
  for path in (part, bare(part)):
    extra = {f'{path}.gate.weight': np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=r'unexpected \(1\): .*gate.weight'):
      folder = str(write(tmp_path / 'inside', name, tensors | extra))
      load(folder, HEADS.get(name, Head('span')))


@pytest.mark.parametrize('old_first', [True, False])
def test_a_proper_name_counts_before_an_old_one_in_any_order(old_first):
  stem = 'deberta.embeddings.word_embeddings'
  stored = {f'{stem}._weight': 'old', f'{stem}.weight': 'proper'}
  stored = dict(sorted(stored.items(), reverse=not old_first))
  found = weights.by_canonical_name(stored, DEBERTA, [f'{stem}.weight'])
  assert found == {f'{stem}.weight': 'proper'}
