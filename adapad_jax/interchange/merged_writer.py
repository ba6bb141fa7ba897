"""Writes W + Delta W and the head as a complete Hugging Face checkpoint."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from adapad_jax.files import write_json
from adapad_jax.interchange.beside import copy_beside
from adapad_jax.interchange.card import write_card
from adapad_jax.interchange.notes import write_notes
from adapad_jax.interchange.release import Release
from adapad_jax.interchange.staging import new_folder
from adapad_jax.interchange.verify import (
  Report,
  largest_gap,
  outputs,
  plain_outputs,
)
from adapad_jax.models import Pretrained, load, load_tokenizer, stack, weights
from adapad_jax.models.checkpoint_files import open_tensors
from adapad_jax.models.decoder_families import DECODERS
from adapad_jax.models.families import family_of
from adapad_jax.models.originals import with_originals
from adapad_jax.tasks.task import Batch

_WEIGHTS = 'model.safetensors'
_CLASS = {
  'bert': 'Bert',
  'deberta-v2': 'DebertaV2',
  'gemma3_text': 'Gemma3Text',
  'llama': 'Llama',
  'mistral': 'Mistral',
  'modernbert': 'ModernBert',
  'qwen2': 'Qwen2',
  'qwen3': 'Qwen3',
  'roberta': 'Roberta',
  'smollm3': 'SmolLM3',
}
# Where transformers' name is not made of the two parts.
_ODD_CLASS = {('gemma3_text', 'lm'): 'Gemma3ForCausalLM'}
# A model of text and images is written as the model of text that was adapted.
_TEXT_OF = {'gemma3': 'gemma3_text'}
_SUFFIX = {
  'classification': 'ForSequenceClassification',
  'regression': 'ForSequenceClassification',
  'span': 'ForQuestionAnswering',
  'lm': 'ForCausalLM',
}
_PROBLEM = {
  'classification': 'single_label_classification',
  'regression': 'regression',
}
_DECODERS = tuple(family.name for family in DECODERS)
# Of the base, and not true of the model any more.
_DROPPED = (
  '_name_or_path',
  'dtype',
  'finetuning_task',
  'num_labels',
  'quantization_config',
  'transformers_version',
)
Tensors = dict[str, np.ndarray]


def write_merged(release: Release, out: str | pathlib.Path, batch: Batch) -> Report:
  """Writes the model, loads it back, and keeps the folder only if both agree.

  The sum is taken in float32 from the base model's own files and cast back to the
  dtype that they have, so that it does not depend on how the base was loaded: a base
  with packed kernels is read again for the comparison.

  Args:
    release: what to write.
    out: a folder that does not exist yet.
    batch: real inputs on which the loaded model is compared with the adapter on the
      fly. Where the checkpoint is of 16 bits, the rounded sum gives other logits; the
      report says how far they are apart.

  Raises:
    ValueError: if `out` exists or cannot be written, what is on disk differs, or the
      base has packed kernels of which no file has the original.
  """
  base = with_originals(release.base)
  with new_folder(out) as folder:
    whole = dataclasses.replace(release, base=base)
    tensors = _of_text(base.family, merged_tensors(whole))
    save_file(tensors, folder / _WEIGHTS, {'format': 'pt'})
    write_json(folder / 'config.json', _config(release, _dtype(tensors)))
    copy_beside(release, folder)
    write_notes(release, folder)
    write_card(release, folder, 'merged')
    error = _weight_error(folder, tensors)
    # Scanned, because that compiles faster.
    written = load(str(folder), base.head, scan=True)
    theirs = plain_outputs(written.model, batch)
    gap = largest_gap(outputs(base, release.adapter, batch), theirs, batch)
    report = Report(pathlib.Path(out), error, gap, release.adapter.parameters())
    sizes = {t.dtype.itemsize for t in tensors.values()} | _sizes(base)
    report.check(delta=1e-6, logits=1e-4 if min(sizes) >= 4 else 0.1)
  return report


def merged_tensors(release: Release) -> Tensors:
  """Every tensor of the model under torch's name, contiguous."""
  found = _base_tensors(release.base)
  dtype = _dtype(found)
  for name, update in release.adapter.modules.items():
    weight_OI = found[f'{name}.weight']
    wide_OI = weight_OI.astype(np.float32) + update.weight().T
    found[f'{name}.weight'] = wide_OI.astype(weight_OI.dtype)
  for name, params in release.adapter.head.items():
    for kind, value in params.items():
      leaf = 'bias' if kind == 'bias' else 'weight'
      found[f'{name}.{leaf}'] = value.T.astype(dtype)
  return {name: np.ascontiguousarray(t) for name, t in found.items()}


def _of_text(family: str, tensors: Tensors) -> Tensors:
  """The same under the names that the model of text alone has."""
  if family not in _TEXT_OF:
    return tensors
  return {n.replace('model.language_model.', 'model.'): t for n, t in tensors.items()}


def _base_tensors(base: Pretrained) -> Tensors:
  """The base model's tensors: from its files, and from memory what was drawn."""
  slots, family = weights.slots_of(base.model), family_of(base.family)
  wanted = weights.wanted_shapes(slots, family)
  state = dict(nnx.to_flat_state(nnx.state(base.model, nnx.Param)))
  found: Tensors = {}
  for slot in slots:
    leaf = np.asarray(state[slot.path][...])
    parts = leaf if stack.STACKED in slot.path else [leaf]
    for name, part in zip(slot.names, parts, strict=True):
      # What the family's checkpoints never have is not wanted.
      if name in base.initialised and name in wanted:
        found[name] = part.T if slot.kind == 'kernel' else part
  if len(found) < len(wanted):
    with open_tensors(base.source_dir) as stored:
      for name, tensor in weights.by_canonical_name(stored, family, wanted).items():
        if name in wanted and name not in found:
          found[name] = tensor.read()
  return found


def _dtype(tensors: Tensors) -> np.dtype:
  """The dtype of the largest tensor stands for that of the checkpoint."""
  return max(tensors.values(), key=lambda t: t.size).dtype


def _sizes(base: Pretrained) -> set[int]:
  leaves = jax.tree.leaves(nnx.state(base.model, nnx.Param))
  return {leaf.dtype.itemsize for leaf in leaves}


def _config(release: Release, dtype: np.dtype) -> dict[str, Any]:
  """config.json of the base, made to say what the model has become."""
  base, head = release.base, release.base.head
  config = {k: v for k, v in _text_config(base).items() if k not in _DROPPED}
  family = config['model_type']
  name = _ODD_CLASS.get((family, head.kind), _CLASS[family] + _SUFFIX[head.kind])
  config['architectures'] = [name]
  config['torch_dtype'] = dtype.name
  if release.labels:
    config['id2label'] = {str(i): name for i, name in enumerate(release.labels)}
    config['label2id'] = {name: i for i, name in enumerate(release.labels)}
    config['problem_type'] = _PROBLEM[head.kind]
    config['pad_token_id'] = _padding(base, config.get('pad_token_id'))
  return config


def _padding(base: Pretrained, there: int | None) -> int | None:
  """The token that a classifier of a decoder takes for padding; `there` of others.

  It looks for the last token that is another, so it has to be the tokenizer's.
  """
  if there is not None and base.family not in _DECODERS:
    return there
  try:
    pad = load_tokenizer(str(base.source_dir)).pad_token_id
  except ValueError:  # A folder without a tokenizer has what config.json says alone.
    if there is None:
      raise
    return there
  return there if pad is None else pad


def _text_config(base: Pretrained) -> dict[str, Any]:
  """config.json, of the text's part where there are others."""
  if base.family not in _TEXT_OF:
    return dict(base.hf_config)
  # The part's own file leaves these to the whole, or to what transformers implies.
  names = ('vocab_size', 'num_attention_heads', 'tie_word_embeddings')
  kept = {name: getattr(base.config, name) for name in names}
  tokens = ('bos_token_id', 'eos_token_id', 'pad_token_id')
  kept |= {n: base.hf_config[n] for n in tokens if base.hf_config.get(n) is not None}
  part = base.hf_config['text_config']
  return kept | part | {'model_type': _TEXT_OF[base.family]}


def _weight_error(folder: pathlib.Path, tensors: Tensors) -> float:
  """max |W on disk - W| over all tensors; inf if one lacks or has another dtype."""
  with open_tensors(folder) as stored:
    if stored.keys() != tensors.keys():
      return float('inf')
    pairs = ((stored[name].read(), tensor) for name, tensor in tensors.items())
    return max(_difference(found, expected) for found, expected in pairs)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
  if found.dtype != expected.dtype or found.shape != expected.shape:
    return float('inf')
  gap = np.abs(found.astype(np.float32) - expected.astype(np.float32))
  return float(np.max(gap, initial=0.0))
