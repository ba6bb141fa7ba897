"""Re-ranking of a language model from the command line: adapters, whole models."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapad_jax.commands import rerank
from adapad_jax.interchange import Release, gguf_writer, write_merged
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Head, load
from adapad_jax.training import finetune_config, train
from tests import tiny_chat
from tests.commands.exchange import call
from tests.interchange import kit


@pytest.fixture(scope='module')
def values(chat_folder, tmp_path_factory):
  """The tiny chat model with weights that lie on disk."""
  base = load(str(chat_folder / 'model'), Head('lm'), random_weights=True)
  folder = tmp_path_factory.mktemp('rerank') / 'model'
  write_merged(Release(Adapter({}, {}), base, 'tiny'), folder, kit.random_batch(300))
  model = {'source': str(folder), 'random_weights': False, 'scan': True}
  return tiny_chat.values(chat_folder, **tiny_chat.LEARNS | {'model': model})


def trained(values, workdir, **changes):
  """What the run of a method says of its last state."""
  return train(finetune_config(values | changes), workdir)['best']['metrics']


def test_an_adapter_is_cut_to_half_of_its_components(values, capsys, tmp_path):
  lora = {'method': 'lora', 'lora': {'rank': 4}}
  best = trained(values, tmp_path / 'run', **lora)
  call('export', capsys, tmp_path / 'run', out=tmp_path / 'lora')
  options = {'adapter': tmp_path / 'lora', 'budget': 28, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, values, **options)
  assert found['components'] == 28 and 0.5 < found['explained'] < 1
  assert found['exact_match'] >= best['exact_match'] - 0.25
  assert found['loss'] < best['loss'] + 0.5
  whole = options | {'budget': 56, 'out': tmp_path / 'same'}
  found = call('rerank', capsys, None, values, **whole)
  assert found['explained'] == pytest.approx(1, abs=1e-3)
  assert found['loss'] == pytest.approx(best['loss'], abs=2e-3)


def test_a_fully_tuned_model_becomes_an_adapter(values, capsys, tmp_path):
  slow = {'method': 'full', 'optimizer': {'learning_rate': 5e-3, 'warmup': 0.0}}
  best = trained(values, tmp_path / 'run', **slow)
  whole = tmp_path / 'whole'
  call('export', capsys, tmp_path / 'run', out=whole, format='merged')
  options = {'tuned': whole, 'budget': 56, 'max_rank': 8, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, values, **options)
  assert found['components'] == 56 and 0 < found['explained'] < 1
  assert np.isfinite(found['loss']) and best['loss'] < found['loss']


def changed(folder, out, change):
  """A copy of a checkpoint with other tensors; of the vocabulary's size too."""
  shutil.copytree(folder, out)
  tensors = load_file(out / 'model.safetensors')
  change(tensors)
  save_file(tensors, out / 'model.safetensors')
  config = json.loads((out / 'config.json').read_text())
  config['vocab_size'] = len(tensors['model.embed_tokens.weight'])
  (out / 'config.json').write_text(json.dumps(config))
  return out


def longer(tensors):
  """With four tokens more."""
  name = 'model.embed_tokens.weight'
  tensors[name] = np.concatenate([tensors[name], tensors[name][:4]])


def broken(tensors):
  """With one number that is none."""
  tensors['model.layers.1.mlp.up_proj.weight'][2, 3] = np.nan


@pytest.mark.parametrize(
  'change, message',
  [
    (
      longer,
      r'embed_tokens.weight is \(304, 16\) in .* and \(300, 16\) in .*equal shapes',
    ),
    (broken, r'layers.1.mlp.up_proj.weight in .* has values that are not finite'),
  ],
)
def test_what_is_no_other_state_of_the_base_is_named(
  values, capsys, tmp_path, change, message
):
  tuned = changed(values['model']['source'], tmp_path / 'tuned', change)
  options = {'tuned': tuned, 'budget': 8, 'out': tmp_path / 'small'}
  with pytest.raises(ValueError, match=message):
    call('rerank', capsys, None, values, **options)


def test_rounding_of_the_config_is_no_update(values, capsys, tmp_path, monkeypatch):
  """The files are compared, and the text passes through what the config asks for."""
  name = 'model.layers.0.self_attn.q_proj'
  tuned = changed(
    values['model']['source'],
    tmp_path / 'tuned',
    lambda tensors: tensors[f'{name}.weight'].__imul__(1.5),
  )
  seen, compare = [], rerank.from_tuned
  noted = lambda base, tuned, *rest, **more: (
    seen.append(tuned) or compare(base, tuned, *rest, **more)
  )
  monkeypatch.setattr(rerank, 'from_tuned', noted)
  model = values['model'] | {'dtype': 'bfloat16', 'fused': True, 'remat': True}
  options = {'tuned': tuned, 'order': 'svd', 'max_rank': 1, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, values | {'model': model}, **options)
  assert found['components'] == 1
  runtime = seen[0].model.model.runtime
  assert runtime.fused and runtime.remat and runtime.dtype is jnp.bfloat16


def test_settings_of_training_are_not_asked_for(values, capsys, tmp_path):
  """A budget of the config that its few modules cannot hold."""
  tuned = changed(
    values['model']['source'],
    tmp_path / 'tuned',
    lambda tensors: tensors['model.layers.0.self_attn.q_proj.weight'].__imul__(1.5),
  )
  few = values | {
    'adapter': values.get('adapter', {}) | {'targets': ('q_proj',)},
    'adapad': {'budget': 20, 'r_max': 2},
  }
  options = {'tuned': tuned, 'order': 'svd', 'max_rank': 1, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, few, **options)
  assert found['components'] == 1


def test_singular_values_give_every_module_its_best_cut(values, capsys, tmp_path):
  lora = {'method': 'lora', 'lora': {'rank': 4}}
  trained(values, tmp_path / 'run', **lora)
  call('export', capsys, tmp_path / 'run', out=tmp_path / 'lora')
  cut = {'max_rank': 2, 'out': tmp_path / 'cut'}
  wanted = call('export', capsys, tmp_path / 'run', **cut)
  options = {'adapter': tmp_path / 'lora', 'order': 'svd', 'max_rank': 2}
  found = call('rerank', capsys, None, values, **options, out=tmp_path / 'svd')
  # LoRA's own cut is by singular values too.
  assert found['components'] == wanted['components'] == 28
  assert found['loss'] == pytest.approx(wanted['loss'], abs=1e-4)
  assert 0.5 < found['explained'] < 1
  found = call(
    'rerank', capsys, None, values, **options | {'budget': 20}, out=tmp_path / 'few'
  )
  assert found['components'] == 20
  with pytest.raises(ValueError, match='reads no text; leave out --input=mine.jsonl'):
    call('rerank', capsys, None, values, **options, input='mine.jsonl')


def test_a_base_that_gguf_does_not_know_is_refused_before_all_work(
  values, capsys, tmp_path, monkeypatch
):
  """Before the weights are read, not when the adapter is to be written."""
  pytest.importorskip('gguf')
  known = gguf_writer._ARCHITECTURES
  monkeypatch.setattr(gguf_writer, '_ARCHITECTURES', {'other': next(iter(known))})
  monkeypatch.setattr(rerank, 'open_session', lambda plan: pytest.fail('opened'))
  options = {'tuned': values['model']['source'], 'budget': 8, 'out': tmp_path / 'small'}
  with pytest.raises(ValueError, match=r"knows the layout of \['other'\], the base is"):
    call('rerank', capsys, None, values, **options, format='gguf')


def test_a_large_text_is_drawn_from_and_a_small_one_is_taken_whole():
  rng = np.random.default_rng(0)
  length_N = rng.integers(1, 9, 500)
  mask_BL = (np.arange(8)[None] < length_N[:, None]).astype(np.int32)
  columns = {'ids_BL': np.arange(500)[:, None] * mask_BL, 'mask_BL': mask_BL}
  assert rerank.some_rows(columns, int(length_N.sum())) is columns
  few = rerank.some_rows(columns, 600)
  assert 590 < few['mask_BL'].sum() <= 600
  at_B = few['ids_BL'][:, 0]
  assert (np.diff(at_B) > 0).all() and at_B.max() > 450
  np.testing.assert_array_equal(few['mask_BL'], mask_BL[at_B])
  assert len(rerank.some_rows(columns, 0)['ids_BL']) == 1
