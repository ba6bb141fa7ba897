"""What every family reads from config.json, and what it refuses there."""

import pytest

from adapad_jax.models.families import FAMILIES

SIZES = {
  'vocab_size': 30,
  'hidden_size': 8,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'intermediate_size': 16,
  'max_position_embeddings': 20,
  'type_vocab_size': 2,
}
NEEDED = sorted(set(SIZES) - {'type_vocab_size', 'max_position_embeddings'})


def read(family, **changes):
  raw = {'model_type': family} | SIZES | changes
  return FAMILIES[family].read_config(raw)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', NEEDED)
def test_a_size_that_is_missing_is_named(family, name):
  match = f"config.json of model_type '{family}' lacks \\['{name}'\\]"
  raw = {k: v for k, v in SIZES.items() if k != name}
  with pytest.raises(ValueError, match=match):
    FAMILIES[family].read_config({'model_type': family} | raw)
  with pytest.raises(ValueError, match=match):
    read(family, **{name: None})


def test_all_that_is_missing_is_named_at_once():
  with pytest.raises(ValueError, match="'vocab_size', 'hidden_size'"):
    FAMILIES['bert'].read_config({'model_type': 'bert'})


@pytest.mark.parametrize('family', FAMILIES)
def test_an_unknown_activation_is_refused_when_it_is_read(family):
  with pytest.raises(ValueError, match="hidden_act 'mish' in config.json; choose"):
    read(family, hidden_act='mish')


@pytest.mark.parametrize(
  ('family', 'name', 'default'),
  [
    ('deberta-v2', 'conv_kernel_size', 0),
    ('deberta-v2', 'position_buckets', -1),
    ('deberta-v2', 'embedding_size', None),
    ('bert', 'hidden_dropout_prob', 0.1),
    ('roberta', 'pad_token_id', 1),
    ('llama', 'tie_word_embeddings', False),
    ('llama', 'num_key_value_heads', 2),
  ],
)
def test_null_means_the_default(family, name, default):
  assert getattr(read(family, **{name: None}), name) == default


@pytest.mark.parametrize('name', ['head_dim', 'num_key_value_heads'])
def test_a_decoder_has_the_sizes_that_transformers_gives_it(name):
  transformers = pytest.importorskip('transformers')
  sizes = {k: v for k, v in SIZES.items() if k != 'type_vocab_size'}
  for family, torch_class in (('qwen3', 'Qwen3Config'), ('llama', 'LlamaConfig')):
    reference = getattr(transformers, torch_class)(**sizes)
    assert getattr(read(family), name) == getattr(reference, name)
