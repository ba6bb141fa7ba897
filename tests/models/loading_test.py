"""Weights from every layout, and every way in which they can fail to fit."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapad_jax.models import Head, load, weights
from tests.hub import repositories
from tests.models import parity
from tests.models.encoder_test import torch_config

transformers = pytest.importorskip('transformers')
torch = pytest.importorskip('torch')

HEAD = Head('classification')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A tiny BERT with a head, as one safetensors file."""
  out = tmp_path_factory.mktemp('bert')
  torch.manual_seed(0)
  config = torch_config(vocab_size=40)
  transformers.BertForSequenceClassification(config).save_pretrained(out)
  return out


def rewrite(folder, out, change):
  """Writes the folder's model to `out` with its dict of tensors changed."""
  tensors = load_file(folder / 'model.safetensors')
  change(tensors)
  save_file(tensors, out / 'model.safetensors')
  (out / 'config.json').write_text((folder / 'config.json').read_text())
  return str(out)


def arrays(model):
  """Every parameter by torch's name, as torch stores it."""
  found = {}
  for slot in weights.slots_of(model):
    leaf = model
    for part in slot.path:
      leaf = leaf[part] if isinstance(part, int) else getattr(leaf, part)
    value = np.asarray(leaf[...])
    found[slot.names[0]] = value.T if slot.kind == 'kernel' else value
  return found


def assert_read(pretrained, folder):
  assert pretrained.initialised == ()
  reference = load_file(folder / 'model.safetensors')
  ours = arrays(pretrained.model)
  assert ours.keys() == reference.keys()
  for name, value in ours.items():
    np.testing.assert_array_equal(value, reference[name], err_msg=name)


def test_one_safetensors_file(folder):
  assert_read(load(str(folder), HEAD), folder)


def test_sharded_safetensors(folder, tmp_path):
  model = transformers.BertForSequenceClassification.from_pretrained(folder)
  model.save_pretrained(tmp_path, max_shard_size='20KB')
  assert len(list(tmp_path.glob('model-*.safetensors'))) > 2
  assert_read(load(str(tmp_path), HEAD), folder)
  first = sorted(tmp_path.glob('model-*.safetensors'))[0]
  first.unlink()
  with pytest.raises(ValueError, match=f'shards that are not.*{first.name}'):
    load(str(tmp_path), HEAD)


@pytest.mark.parametrize('shards', [1, 2])
def test_torchs_own_files(folder, tmp_path, shards):
  state = transformers.BertForSequenceClassification.from_pretrained(
    folder
  ).state_dict()
  (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
  if shards == 1:
    torch.save(state, tmp_path / 'pytorch_model.bin')
  else:
    names = sorted(state)
    files = {n: f'pytorch_model-{i % 2}.bin' for i, n in enumerate(names)}
    for file in set(files.values()):
      torch.save({n: state[n] for n in names if files[n] == file}, tmp_path / file)
    index = json.dumps({'weight_map': files})
    (tmp_path / 'pytorch_model.bin.index.json').write_text(index)
  assert_read(load(str(tmp_path), HEAD), folder)


def test_a_stack_of_layers_is_read_layer_by_layer(folder):
  plain, scanned = (load(str(folder), HEAD, scan=scan).model for scan in (False, True))
  stacked = scanned.bert.encoder.layer.stacked.attention.self.key.kernel
  for index, layer in enumerate(plain.bert.encoder.layer):
    np.testing.assert_array_equal(stacked[index], layer.attention.self.key.kernel[...])


def test_all_misfits_are_told_in_one_error(folder, tmp_path):
  def change(tensors):
    del tensors['bert.embeddings.LayerNorm.bias']
    del tensors['bert.encoder.layer.1.output.dense.weight']
    tensors['bert.encoder.layer.0.gate.weight'] = np.zeros(3, np.float32)
    tensors['bert.encoder.layer.0.intermediate.dense.bias'] = np.zeros(7, np.float32)

  source = rewrite(folder, tmp_path, change)
  with pytest.raises(ValueError) as caught:
    load(source, HEAD)
  lines = str(caught.value).splitlines()
  assert lines[1:] == [
    '  missing (2): bert.embeddings.LayerNorm.bias;'
    ' bert.encoder.layer.1.output.dense.weight',
    '  unexpected (1): bert.encoder.layer.0.gate.weight',
    '  mis-shaped (1): bert.encoder.layer.0.intermediate.dense.bias is (7,), the'
    ' model needs (48,)',
  ]


def test_the_head_is_drawn_where_it_is_missing_or_not_wanted(folder, tmp_path):
  def drop_head(tensors):
    del tensors['classifier.weight'], tensors['classifier.bias']

  bare = load(rewrite(folder, tmp_path, drop_head), HEAD, seed=1)
  assert bare.initialised == ('classifier.bias', 'classifier.weight')
  fresh = load(str(folder), HEAD, fresh_head=True, seed=1)
  head = {'classifier', 'bert.pooler.dense'}
  assert {name.rpartition('.')[0] for name in fresh.initialised} == head
  same, other = (arrays(m)['classifier.weight'] for m in (bare.model, fresh.model))
  np.testing.assert_array_equal(same, other)
  again = load(str(folder), HEAD, fresh_head=True, seed=2).model
  assert np.abs(arrays(again)['classifier.weight'] - other).max() > 1e-3
  stored = load_file(folder / 'model.safetensors')['classifier.weight']
  assert np.abs(other - stored).max() > 1e-3


def test_a_head_of_another_size_is_refused_with_the_way_out(folder):
  three = Head('classification', num_labels=3)
  with pytest.raises(ValueError, match=r'(?s)classifier.*\(2, 32\).*fresh_head=True'):
    load(str(folder), three)
  model = load(str(folder), three, fresh_head=True).model
  assert model.classifier.kernel.shape == (32, 3)


def test_bfloat16_rounds_the_backbone_and_not_the_head(folder):
  rounded = load(str(folder), HEAD, dtype='bfloat16').model
  kernel = rounded.bert.encoder.layer[0].output.dense.kernel[...]
  stored = load_file(folder / 'model.safetensors')
  assert kernel.dtype == jnp.bfloat16
  expected = jnp.asarray(stored['bert.encoder.layer.0.output.dense.weight'].T)
  np.testing.assert_array_equal(kernel, expected.astype(jnp.bfloat16))
  np.testing.assert_array_equal(
    rounded.classifier.kernel[...].T, stored['classifier.weight']
  )


def test_random_weights_need_no_file_and_depend_on_the_seed_alone(folder, tmp_path):
  (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
  draw = lambda **options: arrays(
    load(str(tmp_path), HEAD, random_weights=True, **options).model
  )
  one, same, other = draw(seed=0), draw(seed=0), draw(seed=1)
  name = 'bert.encoder.layer.1.attention.self.query.weight'
  np.testing.assert_array_equal(one[name], same[name])
  assert abs(np.corrcoef(one[name].ravel(), other[name].ravel())[0, 1]) < 0.2
  assert 0.015 < one[name].std() < 0.025


@pytest.mark.parametrize(
  'options,match',
  [
    ({'dtype': 'float64'}, "dtype 'float64'; choose from"),
    ({'hidden_dropout': 1.0}, r'hidden_dropout_prob must be in \[0, 1\), got 1.0'),
    ({'head': Head('lm')}, "bert has no 'lm' head; choose from"),
  ],
)
def test_impossible_options_are_refused_by_name(folder, options, match):
  head = options.pop('head', HEAD)
  with pytest.raises(ValueError, match=match):
    load(str(folder), head, **options)


@pytest.mark.parametrize(
  'config,match',
  [
    (None, 'no config.json'),
    ('{', 'is not JSON'),
    ('[1]', r'config.json must be a JSON object, got \[1\]'),
    ('{"model_type": "robert"}', "'robert' is not implemented.*did you mean 'roberta'"),
  ],
)
def test_folders_that_are_no_model_are_refused_by_name(tmp_path, config, match):
  if config is not None:
    (tmp_path / 'config.json').write_text(config)
  with pytest.raises(ValueError, match=match):
    load(str(tmp_path), HEAD)


def test_a_folder_without_or_with_damaged_weights_is_refused(folder, tmp_path):
  (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
  with pytest.raises(ValueError, match='holds no weights; expected one of'):
    load(str(tmp_path), HEAD)
  whole = (folder / 'model.safetensors').read_bytes()
  (tmp_path / 'model.safetensors').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match='not a readable safetensors file'):
    load(str(tmp_path), HEAD)


def test_older_names_and_bare_backbones_are_understood(folder, tmp_path):
  def age(tensors):
    for name in list(tensors):
      old = re.sub(r'LayerNorm\.weight$', 'LayerNorm.gamma', name)
      old = re.sub(r'LayerNorm\.bias$', 'LayerNorm.beta', old).removeprefix('bert.')
      tensors[old] = tensors.pop(name)
    tensors['embeddings.position_ids'] = np.arange(44)[None]

  source = rewrite(folder, tmp_path, age)
  batch = parity.draw_batch(0, [5, 3], 5, 40)
  np.testing.assert_array_equal(
    parity.run(load(source, HEAD).model, batch),
    parity.run(load(str(folder), HEAD).model, batch),
  )


@pytest.mark.parametrize('stored', ['nothing', 'the same', 'another'])
def test_a_head_of_its_own_beside_a_tied_config_is_refused(stored, tmp_path):
  config = {
    'model_type': 'llama', 'vocab_size': 40, 'hidden_size': 16, 'intermediate_size': 24,
    'num_hidden_layers': 1, 'num_attention_heads': 2, 'max_position_embeddings': 16,
    'tie_word_embeddings': True,
  }  # fmt: skip
  (tmp_path / 'config.json').write_text(json.dumps(config))
  tensors = repositories.draw(tmp_path, Head('lm'))
  table = next(x for name, x in tensors.items() if 'embed_tokens' in name)
  if stored != 'nothing':
    tensors['lm_head.weight'] = table + (stored == 'another')
  save_file(tensors, tmp_path / 'model.safetensors')
  if stored == 'another':
    with pytest.raises(ValueError, match='set tie_word_embeddings to false there'):
      load(str(tmp_path), Head('lm'))
  else:
    assert load(str(tmp_path), Head('lm')).initialised == ()
  # Other heads do not need it.
  assert load(str(tmp_path), Head('span')).initialised
  # A head that config.json does not tie is read.
  (tmp_path / 'config.json').write_text(
    json.dumps(config | {'tie_word_embeddings': False})
  )
  if stored == 'another':
    kernel = load(str(tmp_path), Head('lm')).model.lm_head.kernel[...]
    np.testing.assert_array_equal(kernel.T, table + 1)


def test_forms_of_weights_that_are_not_read_are_told(folder, tmp_path, caplog):
  (tmp_path / 'model.safetensors').write_bytes(
    (folder / 'model.safetensors').read_bytes()
  )
  config = json.loads((folder / 'config.json').read_text())
  config['quantization_config'] = {'quant_method': 'bitsandbytes'}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert_read(load(str(tmp_path), HEAD), folder)
  assert 'quantization_config in config.json is not read' in caplog.text
