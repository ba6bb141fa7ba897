"""README.md of an exported folder: what it is, what it reaches, how to load it."""

import math
import pathlib
import re
from collections.abc import Mapping

from flax import nnx

from adapad_jax.adapters.targets import layer_of
from adapad_jax.files import write_atomically
from adapad_jax.interchange.release import Release
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Pretrained
from adapad_jax.models.decoder_families import DECODERS
from adapad_jax.models.originals import form_of

_AUTO = {
  'classification': 'AutoModelForSequenceClassification',
  'regression': 'AutoModelForSequenceClassification',
  'span': 'AutoModelForQuestionAnswering',
  'lm': 'AutoModelForCausalLM',
}
_DECODERS = tuple(family.name for family in DECODERS)


def write_card(release: Release, folder: pathlib.Path, kind: str) -> None:
  """Writes README.md for a folder of one of the formats."""
  merged = kind == 'merged'
  parts = [
    _front_matter(release, kind),
    f'# {_title(release, merged)}\n',
    _about(release, kind),
    _form(release.base, merged),
    _metrics(release.metrics),
    _labels(release.labels if release.base.head.kind != 'regression' else ()),
    _loading(release, kind),
    _ranks(release.adapter),
  ]
  text = '\n'.join(part for part in parts if part)
  write_atomically(folder / 'README.md', lambda file: file.write(text))


def _loading(release: Release, kind: str) -> str:
  if kind == 'gguf':
    line = 'llama-cli -m BASE.gguf --lora path/to/this/folder/adapter.gguf'
    return (
      f'## Loading\n\n```sh\n{line}\n```\n\nBASE.gguf is {release.base_name} as'
      ' llama.cpp converts it.\n'
    )
  return f'## Loading\n\n```python\n{snippet(release, kind == "merged")}```\n'


def _front_matter(release: Release, kind: str) -> str:
  library = {'merged': 'transformers', 'gguf': 'gguf'}.get(kind, 'peft')
  low_rank = '- lora\n- adaptive-rank\n' * any(release.adapter.ranks.values())
  return (
    f'---\nbase_model: {release.base_name}\nlibrary_name: {library}\n'
    f'tags:\n{low_rank}- adapad_jax\n---\n'
  )


def _title(release: Release, merged: bool) -> str:
  what = 'Merged model' if merged else 'Adapter'
  return f'{what} for {release.task}' if release.task else what


def _about(release: Release, kind: str) -> str:
  ranks = release.adapter.ranks.values()
  at = f' at commit `{release.revision}`' if release.revision else ''
  if not ranks:
    return f'All weights of `{release.base_name}`{at} were trained.\n'
  if not any(ranks):
    return f'The head alone was trained, on `{release.base_name}`{at} as it is.\n'
  used = sum(rank > 0 for rank in ranks)
  length = f' Rows were cut to {release.max_length} tokens.' * bool(release.max_length)
  form = {
    'peft': 'Ranks differ by module; all scaling is inside lora_B.',
    'peft-uniform': 'All modules are padded with zeros to one rank, lora_alpha = r.',
    'gguf': 'Ranks differ by module; adapter.gguf is for llama.cpp.',
    'merged': 'The update is added to the weights; nothing else is needed.',
  }[kind]
  beside = ' beside the head' if release.base.head_modules else ''
  return (
    f'A low-rank update of `{release.base_name}`{at}: {sum(ranks)} rank-one'
    f' components in {used} of {len(ranks)} modules,'
    f' {release.adapter.parameters():,} parameters{beside}. {form}{length}\n'
  )


def _metrics(metrics: Mapping[str, float]) -> str:
  if not metrics:
    return ''
  is_there = lambda x: x is not None and math.isfinite(x)
  shown = lambda x: f'{x:.6g}' if is_there(x) else 'n/a'
  rows = ''.join(f'| {name} | {shown(value)} |\n' for name, value in metrics.items())
  return f'## Validation metrics\n\n| metric | value |\n|---|---|\n{rows}'


def _form(base: Pretrained, merged: bool) -> str:
  """What the kernels of the base were held in, where its files have more."""
  form = form_of(base)
  if not form:
    return ''
  if merged:
    return (
      f'Trained with the kernels in {form}; here they are as the base has them, in more'
      ' bits, so results are not quite those of training.\n'
    )
  return (
    f'Trained, and measured, with the kernels in {form} that the base has in more'
    ' bits; on the base as it is, results are a little different.\n'
  )


def _labels(labels: tuple[str, ...]) -> str:
  if not labels:
    return ''
  rows = ''.join(f'| {i} | {name} |\n' for i, name in enumerate(labels))
  return f'## Labels\n\n| id | label |\n|---|---|\n{rows}'


def snippet(release: Release, merged: bool) -> str:
  """Python that loads the model and its tokenizer with torch.

  In the dtype that the metrics are of: checkpoints have another, and set the default.
  """
  head, dtype = release.base.head, f'dtype={dtype_of(release.base)!r}'
  auto = _AUTO[head.kind]
  source = "'path/to/this/folder'" if merged else repr(release.base_name)
  at = f', revision={release.revision!r}' if release.revision and not merged else ''
  # An adapter that was trained on chats has its tokenizer beside it.
  own = merged or release.chat_template
  tokenizer = "'path/to/this/folder'" if own else f'{source}{at}'
  lines = [
    *([] if merged else ['from peft import PeftModel']),
    f'from transformers import {auto}, AutoTokenizer\n',
    f'tokenizer = AutoTokenizer.from_pretrained({tokenizer})',
  ]
  if merged:
    load = f'model = {auto}.from_pretrained({source}, {dtype}).eval()\n'
    return '\n'.join([*lines, load])
  decoder = release.base.family in _DECODERS
  options = [f'{source}{at}', dtype]
  if release.labels:
    id2label = dict(enumerate(release.labels))
    options += [f'num_labels={len(id2label)}', f'id2label={id2label!r}']
  if decoder and hasattr(release.base.model, 'transformer'):
    # transformers may have another name for the backbone under this head alone.
    options.append("key_mapping={r'^model\\.': 'transformer.'}")
  inside = ''.join(f'  {option},\n' for option in options)
  lines.append(f'base = {auto}.from_pretrained(\n{inside})')
  if decoder and release.labels:
    # Without it a decoder cannot tell the last token of a padded row.
    lines.append('base.config.pad_token_id = tokenizer.pad_token_id')
  load = "model = PeftModel.from_pretrained(base, 'path/to/this/folder').eval()\n"
  return '\n'.join([*lines, load])


def dtype_of(base: Pretrained) -> str:
  """The dtype that a model computes in: that of its largest parameter.

  Packed kernels do not count, as they are widened first.
  """
  state = nnx.to_flat_state(nnx.state(base.model, nnx.Param))
  leaves = [param for path, param in state if path[-1] not in ('codes', 'scales')]
  return max(leaves, key=lambda leaf: leaf.size).dtype.name


def _ranks(adapter: Adapter) -> str:
  """A table of ranks, one row a layer; nothing where no module has a component."""
  if not any(adapter.ranks.values()):
    return ''
  cells: dict[str, dict[str, int]] = {}
  for name, rank in adapter.ranks.items():
    layer = layer_of(name)
    row = '-' if layer is None else str(layer)
    cells.setdefault(row, {})[re.sub(r'^.*?\.\d+\.', '', name)] = rank
  columns = list(dict.fromkeys(column for row in cells.values() for column in row))
  line = lambda items: '| ' + ' | '.join(items) + ' |\n'
  table = line(['layer', *columns]) + line(['---'] * (len(columns) + 1))
  for row, ranks in cells.items():
    table += line([row, *(str(ranks.get(column, '')) for column in columns)])
  return f'## Ranks\n\n{table}'
