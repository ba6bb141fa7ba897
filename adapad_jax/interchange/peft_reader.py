"""Reads a PEFT LoRA adapter, ours or anybody's, into components."""

import dataclasses
import difflib
import math
import pathlib
import re
from collections.abc import Collection

import numpy as np
from flax import nnx

from adapad_jax.adapters import linear_shapes
from adapad_jax.adapters.locate import parent_of
from adapad_jax.adapters.targets import OUTPUT_LAYERS
from adapad_jax.interchange.found import BIN
from adapad_jax.interchange.notes import NOTES, read_notes
from adapad_jax.interchange.peft_config import PeftConfig, read_config
from adapad_jax.interchange.peft_format import PREFIX, TENSORS
from adapad_jax.interchange.release import Release, digest, head_names
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.lowrank.update import unpadded
from adapad_jax.models import Head, Pretrained
from adapad_jax.models.checkpoint_files import open_safetensors
from adapad_jax.models.families import family_of
from adapad_jax.models.torch_bin import open_bin
from adapad_jax.models.weights import canonical
from adapad_jax.origins import HubCommit

_FACTOR = re.compile(r'(?P<module>.+)\.lora_(?P<factor>[AB])(\.default)?\.weight')
_SAVED = re.compile(
  r'(?P<module>.+?)(\.modules_to_save(\.default)?)?\.(?P<leaf>weight|bias)'
)
_HEADS = {'QUESTION_ANS': Head('span'), 'CAUSAL_LM': Head('lm')}
_CLASSIFIER = re.compile(r'.*(classifier|score|out_proj)(\.default)?\.weight')

Tensors = dict[str, np.ndarray]
HeadParams = dict[str, Tensors]


@dataclasses.dataclass(frozen=True)
class Description:
  """What a folder says of the adapter in it, before there is a model.

  Attributes:
    base_name: the base model as its author named it; '' if not stated.
    head: the head that it was trained with; None if it does not tell.
    task: name of the task, '' if unknown.
    label_names: class names, None if unknown.
  """

  base_name: str
  head: Head | None
  task: str
  label_names: tuple[str, ...] | None


def describe(folder: str | pathlib.Path) -> Description:
  """Reads what is needed to load the base model of an adapter.

  Raises:
    ValueError: as `read_peft` does for a damaged folder.
  """
  folder = pathlib.Path(folder).expanduser()
  config, notes = read_config(folder), read_notes(folder)
  names = notes.get('label_names')
  return Description(
    base_name=config.base_name,
    head=_head(config, _tensors(folder), notes.get('head')),
    task=notes.get('task', ''),
    label_names=tuple(names) if names else None,
  )


def _head(config: PeftConfig, tensors: Tensors, noted: str | None) -> Head | None:
  if config.task_type != 'SEQ_CLS':
    return _HEADS.get(config.task_type or '')
  rows = [len(t) for name, t in tensors.items() if _CLASSIFIER.fullmatch(name)]
  if len(rows) != 1:
    return None
  if noted == 'regression' or rows[0] == 1:
    return Head('regression')
  return Head('classification', rows[0])


def read_peft(folder: str | pathlib.Path, base: Pretrained) -> Release:
  """Reads an adapter for a base model; the scale alpha / r goes into b.

  Components come in the order of their rows. Zero components at the end of a module,
  with which a uniform layout is padded, are dropped. Head layers that the adapter
  does not hold are the base model's own.

  Args:
    folder: with adapter_config.json and adapter_model.safetensors or .bin.
    base: the model, loaded with the head that the adapter was trained with.

  Raises:
    ValueError: if the folder is damaged, uses a feature that is not implemented, its
      tensors disagree with its configuration, or it belongs to another model.
  """
  folder = pathlib.Path(folder).expanduser()
  config, notes = read_config(folder), read_notes(folder)
  factors, saved = _sort(_tensors(folder), config)
  names = _names(factors, base, config)
  found = {
    names[module]: _update(module, pair, config) for module, pair in factors.items()
  }
  head = _head_params(saved, base, config)
  for name in head.keys() & found.keys():  # a suffix such as 'dense' hits the pooler
    head[name]['kernel'] += found.pop(name).weight()
  if not any(unpadded(update).rank for update in found.values()):
    raise ValueError(
      f'{folder} adapts no layer beside the head {sorted(head)}, or only by zeros'
    )
  modules = _in_order(found, notes.get('ranks'), base, folder)
  if notes.get('base_digest', '') not in ('', digest(base, list(modules))):
    raise ValueError(
      f'{folder} was made for other weights than {base.source_dir}: the layers that it'
      f' adapts differ from those of its base, {config.base_name!r}'
    )
  return Release(
    adapter=Adapter(modules, head),
    base=base,
    base_name=config.base_name,
    task=notes.get('task', ''),
    label_names=tuple(notes['label_names']) if notes.get('label_names') else None,
    # JSON has no NaN, which a metric is that does not exist.
    metrics={
      k: math.nan if x is None else x for k, x in notes.get('metrics', {}).items()
    },
    max_length=notes.get('max_length'),
    base_commit=_commit(config),
  )


def _commit(config: PeftConfig) -> HubCommit | None:
  if not config.revision:
    return None
  return HubCommit(config.base_name, config.revision, config.revision)


def _tensors(folder: pathlib.Path) -> Tensors:
  path = folder / TENSORS
  if path.is_file():
    with open_safetensors(path) as stored:
      return {name: tensor.read() for name, tensor in stored.items()}
  if (folder / BIN).is_file():
    with open_bin(folder / BIN) as (views, _):
      return {name: np.array(view) for name, view in views.items()}
  raise ValueError(f'{folder} has neither {TENSORS} nor {BIN}')


def _sort(tensors: Tensors, config: PeftConfig) -> tuple[dict[str, Tensors], Tensors]:
  """Splits tensors into factors by module, and what is stored whole."""
  factors: dict[str, Tensors] = {}
  saved, odd = {}, []
  for name, tensor in tensors.items():
    inner = name.removeprefix(PREFIX)
    if '.original_module.' in inner:
      continue  # the untrained copy that early versions stored too
    if factor := _FACTOR.fullmatch(inner):
      factors.setdefault(factor['module'], {})[factor['factor']] = tensor
    elif 'lora_' not in inner and (whole := _SAVED.fullmatch(inner)):
      saved[f'{whole["module"]}.{whole["leaf"]}'] = tensor
    else:
      odd.append(name)
    if not np.isfinite(np.asarray(tensor, np.float32)).all():
      raise ValueError(f'{config.path.parent}: tensor {name} is not finite')
  _refuse('holds tensors that plain LoRA has not', odd, config)
  halves = [module for module, pair in factors.items() if len(pair) != 2]
  _refuse('lacks lora_A or lora_B of', halves, config)
  if not factors:
    raise ValueError(f'{config.path.parent} holds no LoRA tensors')
  return factors, saved


def _refuse(what: str, names: Collection[str], config: PeftConfig) -> None:
  if names:
    raise ValueError(f'{config.path.parent} {what}: {sorted(names)}')


def _names(
  factors: Collection[str], base: Pretrained, config: PeftConfig
) -> dict[str, str]:
  """Module name in the file -> in our model; every stated target must be there."""
  shapes, family = linear_shapes(base.model), family_of(base.family)
  names = {module: canonical(module, family, shapes) for module in factors}
  unknown = [module for module, name in names.items() if name not in shapes]
  if unknown:
    near = difflib.get_close_matches(unknown[0], shapes, n=1, cutoff=0)
    raise ValueError(
      f'{config.path.parent} does not belong to {base.source_dir}: the model has no'
      f' linear layers {sorted(unknown)}; nearest to the first: {near}'
    )
  outputs = set(names.values()) & set(OUTPUT_LAYERS)
  _refuse('adapts an output layer, which is not implemented', outputs, config)
  stated = {canonical(t, family, shapes) for t in (*config.targets, *names)}
  expected = {n for n in shapes if any(n == t or n.endswith(f'.{t}') for t in stated)}
  whole = head_names(base) if config.modules_to_save else []
  missing = expected - set(names.values()) - set(whole)
  _refuse('adapts modules whose tensors it lacks', missing, config)
  return names


def _update(module: str, pair: Tensors, config: PeftConfig) -> LowRank:
  a_RI, b_OR = pair['A'].astype(np.float32), pair['B'].astype(np.float32)
  rank = config.rank_of(module)
  if a_RI.ndim != 2 or b_OR.ndim != 2 or not len(a_RI) == b_OR.shape[1] == rank:
    raise ValueError(
      f'{config.path.parent}: {module} has lora_A {a_RI.shape} and lora_B {b_OR.shape},'
      f' but {config.path.name} says rank {rank}'
    )
  scale = config.scale_of(module)
  with np.errstate(over='ignore'):
    b_RO = np.ascontiguousarray(b_OR.T) * np.float32(scale)
  if not np.isfinite(b_RO).all():
    raise ValueError(
      f'{config.path}: the scale {scale:g} by lora_alpha is too large for lora_B of'
      f' {module}'
    )
  return LowRank(np.ascontiguousarray(a_RI), b_RO)


def _in_order(
  found: dict[str, LowRank],
  noted: dict[str, int] | None,
  base: Pretrained,
  folder: pathlib.Path,
) -> dict[str, LowRank]:
  """The modules and ranks that our notes list; without notes, what is not padding.

  Raises:
    ValueError: if the notes were written for other tensors.
  """
  shapes = linear_shapes(base.model)
  if not noted:
    return {name: unpadded(found[name]) for name in shapes if name in found}
  # A component may be zero without being padding.
  fits = {n: range(unpadded(u).rank, u.rank + 1) for n, u in found.items()}
  differ = {
    'modules that the model has not': sorted(noted.keys() - shapes.keys()),
    'not all modules, lacking': sorted(found.keys() - noted.keys()),
    'other ranks than the tensors have, for': sorted(
      name
      for name, rank in noted.items()
      if name in shapes and rank not in fits.get(name, (0,))
    ),
  }
  problems = [f'{what} {names}' for what, names in differ.items() if names]
  if problems:
    raise ValueError(
      f'{folder / NOTES} lists {"; ".join(problems)}; it was written for another'
      ' adapter: remove it to read the tensors alone'
    )
  return {
    name: found[name].cut(rank) if name in found else _empty(*shapes[name])
    for name, rank in noted.items()
  }


def _empty(inputs: int, outputs: int) -> LowRank:
  return LowRank(np.zeros((0, inputs), np.float32), np.zeros((0, outputs), np.float32))


def _head_params(saved: Tensors, base: Pretrained, config: PeftConfig) -> HeadParams:
  """Parameters of every head layer, from the adapter or else from the base."""
  wanted, family = head_names(base), family_of(base.family)
  named = {}
  for key, tensor in saved.items():
    module, leaf = key.rsplit('.', 1)
    named[f'{canonical(module, family, wanted)}.{leaf}'] = tensor
  odd = {key for key in named if key.rsplit('.', 1)[0] not in wanted}
  _refuse(f'stores modules that are not part of the head {wanted}', odd, config)
  stated = [n for n in wanted if set(n.split('.')) & set(config.modules_to_save)]
  missing = [n for n in stated if f'{n}.weight' not in named]
  _refuse('lists modules_to_save whose tensors it lacks', missing, config)
  head: HeadParams = {}
  for name in wanted:
    parent, attribute, _ = parent_of(base.model, name)
    linear = getattr(parent, attribute)
    own = {f'{name}.weight': linear.kernel, f'{name}.bias': linear.bias}
    head[name] = {
      'bias' if key.endswith('bias') else 'kernel': _param(key, param, named, base)
      for key, param in own.items()
      if param is not None
    }
  return head


def _param(key: str, own: nnx.Param, named: Tensors, base: Pretrained) -> np.ndarray:
  """One parameter of the head: (in, out), or (out,) for a bias."""
  if key in named:
    value = np.ascontiguousarray(named[key].T, np.float32)
    if value.shape != own.shape:
      raise ValueError(
        f'{key} of the adapter is {named[key].shape}, the head of {base.source_dir}'
        f' needs {own.shape[::-1]}'
      )
    return value
  if key in base.initialised:
    raise ValueError(
      f'{key} is missing: neither the adapter nor {base.source_dir} holds it'
    )
  return np.array(own[...], np.float32)
