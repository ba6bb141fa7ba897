"""Adapters for llama.cpp: read by the gguf package, and turned as llama.cpp turns."""

import json
import re

import numpy as np
import pytest

from adapad_jax.interchange import Release, write_gguf
from adapad_jax.interchange.gguf_writer import read_gguf, require_gguf
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.models import Head, load
from tests.interchange import kit

gguf = pytest.importorskip('gguf')

SIZES = {
  'vocab_size': 40,
  'hidden_size': 16,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 8,
  'intermediate_size': 24,
  'max_position_embeddings': 32,
  'initializer_range': 0.3,
  'rms_norm_eps': 1e-5,
  'rope_theta': 10000.0,
}
BATCH = kit.random_batch(40)


def base_of(folder, family, head='lm'):
  (folder / 'config.json').write_text(json.dumps(SIZES | {'model_type': family}))
  return load(str(folder), Head(head), random_weights=True)


def written(folder, family):
  base = base_of(folder, family)
  release = Release(kit.draw_adapter(base, ranks=(0, 1, 3, 4)), base, 'tiny')
  report = write_gguf(release, folder / 'out', BATCH)
  assert report.delta_error < 1e-6 and report.logit_gap < 1e-5
  return release, gguf.GGUFReader(folder / 'out' / 'adapter.gguf')


@pytest.mark.parametrize('family', ['llama', 'qwen3'])
def test_names_shapes_and_fields_are_those_that_llama_cpp_asks_for(tmp_path, family):
  release, reader = written(tmp_path, family)
  field = lambda name: reader.fields[name].contents()
  assert field('general.type') == 'adapter' and field('adapter.type') == 'lora'
  assert field('general.architecture') == family and field('adapter.lora.alpha') == 1.0
  found = {one.name: one.data.shape for one in reader.tensors}
  names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], 2)
  expected = {}
  for module, update in release.adapter.modules.items():
    if update.rank:
      name = f'{names.get_name(module)}.weight'
      expected[f'{name}.lora_a'] = update.a_RI.shape
      expected[f'{name}.lora_b'] = update.b_RO.T.shape
  assert found == expected and len(set(release.adapter.ranks.values())) == 4
  card = (tmp_path / 'out' / 'README.md').read_text()
  assert (
    '--lora path/to/this/folder/adapter.gguf' in card and 'library_name: gguf' in card
  )


def rotated(x_LNH, pairs):
  """Rotary positions of L tokens; `pairs` are the features that turn together."""
  length, size = len(x_LNH), x_LNH.shape[-1]
  angle_LF = np.arange(length)[:, None] * 1e4 ** (-np.arange(size // 2) * 2 / size)
  cos, sin = np.cos(angle_LF)[:, None], np.sin(angle_LF)[:, None]
  first, second = (x_LNH[..., place] for place in pairs)
  out = np.empty_like(x_LNH)
  out[..., pairs[0]] = first * cos - second * sin
  out[..., pairs[1]] = second * cos + first * sin
  return out


def scores(updates, x_LD, pairs):
  """q k of every head under the updates alone."""
  q_LNH, k_LGH = (
    rotated((x_LD @ a_RI.T @ b_OR.T).reshape(len(x_LD), -1, 8), pairs)
    for a_RI, b_OR in updates
  )
  return np.einsum('lnh,mnh->nlm', q_LNH, np.repeat(k_LGH, 2, axis=1))


def test_attention_of_llama_is_the_same_with_neighbouring_features_turned(tmp_path):
  """Ours turns halves of a head, llama.cpp turns neighbours."""
  release, reader = written(tmp_path, 'llama')
  tensors = {one.name: np.array(one.data) for one in reader.tensors}
  layer = next(
    layer for layer in range(2)
    if all(f'blk.{layer}.attn_{x}.weight.lora_a' in tensors for x in 'qk')
  )  # fmt: skip
  theirs = []
  for kind in 'qk':
    a_RI, b_OR = (tensors[f'blk.{layer}.attn_{kind}.weight.lora_{x}'] for x in 'ab')
    theirs.append((a_RI, b_OR / len(a_RI)))
  modules = release.adapter.modules
  name = f'model.layers.{layer}.self_attn.{{}}_proj'
  ours = [(u.a_RI, u.b_RO.T) for u in (modules[name.format(x)] for x in 'qk')]
  x_LD = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
  halves = [np.arange(4), np.arange(4, 8)]
  neighbours = [np.arange(0, 8, 2), np.arange(1, 8, 2)]
  want = scores(ours, x_LD, halves)
  np.testing.assert_allclose(
    scores(theirs, x_LD, neighbours), want, rtol=1e-4, atol=1e-5
  )
  assert not np.allclose(scores(ours, x_LD, neighbours), want, rtol=1e-2)


def test_what_is_read_back_is_what_was_written(tmp_path):
  release, _ = written(tmp_path, 'qwen3')
  found = read_gguf(tmp_path / 'out' / 'adapter.gguf', release.base)
  for name, update in found.modules.items():
    np.testing.assert_allclose(
      update.weight(), release.adapter.modules[name].weight(), atol=1e-6
    )


def test_other_families_heads_and_modules_are_refused_by_name(tmp_path, monkeypatch):
  base = base_of(tmp_path, 'llama', 'classification')
  with pytest.raises(ValueError, match="a head of kind 'classification'"):
    require_gguf(base)
  (tmp_path / 'roberta').mkdir()
  roberta = load(
    str(kit.make_random('roberta', tmp_path / 'roberta')), Head('classification')
  )
  with pytest.raises(
    ValueError, match="knows the layout of .'llama', 'qwen3'., .*'rob"
  ):
    require_gguf(roberta)
  base = base_of(tmp_path, 'llama')
  head = LowRank(np.ones((1, 16), np.float32), np.ones((1, 40), np.float32))
  release = Release(Adapter({'lm_head': head}, {}), base, 'tiny')
  place = re.escape('no place for an update of lm_head; it has for')
  with pytest.raises(ValueError, match=place):
    write_gguf(release, tmp_path / 'out', BATCH)
  assert not (tmp_path / 'out').exists()
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'adapad-jax\[llamacpp\]'"):
    require_gguf()
