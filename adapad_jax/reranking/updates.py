"""Updates to be re-ranked: of an adapter, or of a whole fine-tuned checkpoint."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from adapad_jax.adapters import linear_shapes, merge
from adapad_jax.interchange.release import head_names, kernel_of
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Pretrained, family_of, stack, weights
from adapad_jax.models.checkpoint_files import open_tensors

# Fields of a config that do not change what a model computes from a text, or, as the
# size of the vocabulary, show in the tensors that there are.
_FREE = 'initializer_range', 'max_position_embeddings'
_FREE += 'vocab_size', 'tie_word_embeddings'


@dataclasses.dataclass(frozen=True)
class Update:
  """What fine-tuning did to a model.

  Attributes:
    teacher: the fine-tuned model, whose activations count.
    kind: of its head, see `models.Head`.
    deltas: Delta W (I, O) by module name.
    head: the trained head, as an `Adapter` has it.
    ranks: of the updates of modules, where they are known.
    beside: names of tensors that changed but are not among the modules, with the
      norm of their change relative to theirs; a low-rank update leaves them out.
  """

  teacher: nnx.Module
  kind: str
  deltas: dict[str, np.ndarray]
  head: dict[str, dict[str, np.ndarray]]
  ranks: dict[str, int] = dataclasses.field(default_factory=dict)
  beside: dict[str, float] = dataclasses.field(default_factory=dict)


def from_adapter(base: Pretrained, adapter: Adapter) -> Update:
  """The update of an adapter; its modules without a component are left out."""
  # Other variables around the same arrays; split and merge would share variables.
  copy = jax.tree.map(lambda x: x, base.model)
  deltas = {name: u.weight() for name, u in adapter.modules.items() if u.rank}
  ranks = {name: adapter.ranks[name] for name in deltas}
  return Update(merge(copy, adapter), base.head.kind, deltas, adapter.head, ranks)


def from_tuned(
  base: Pretrained, tuned: Pretrained, modules: list[str], *, stored: bool = False
) -> Update:
  """The difference of a fully fine-tuned model and its base.

  One tensor after another is compared, in float32.

  Args:
    base: the model before.
    tuned: the model after, with its own head.
    modules: names of the linear layers whose difference is to be kept.
    stored: compare what the files of both hold, not the rounded weights in memory;
      tensors that were drawn are in no file.

  Raises:
    ValueError: if the two are not of one shape and config, the tuned model lacks
      tensors, such as those of its head, has values that are not finite, or none of
      the modules differs.
  """
  if linear_shapes(base.model) != linear_shapes(tuned.model):
    raise ValueError(
      f'{tuned.source_dir} is not a fine-tuned {base.source_dir}: their layers differ'
    )
  if tuned.initialised:
    raise ValueError(
      f'{tuned.source_dir} lacks {list(tuned.initialised)}; a fine-tuned model has a'
      ' trained head, and random weights in its place would be exported'
    )
  _require_alike(base, tuned)
  _require_one_config(base, tuned)
  deltas, changes = _differences(base, tuned, modules, stored)
  if not deltas:
    raise ValueError(f'{tuned.source_dir} and {base.source_dir} have equal weights')
  head = {name: _head_layer(tuned, name) for name in head_names(tuned)}
  covered = {f'{name}.{leaf}' for name in head for leaf in ('weight', 'bias')}
  beside = {name: x for name, x in changes.items() if name not in covered}
  return Update(tuned.model, base.head.kind, deltas, head, beside=beside)


def _head_layer(model: Pretrained, name: str) -> dict[str, np.ndarray]:
  linear = model.model
  for part in name.split('.'):
    linear = getattr(linear, part)
  params = {'kernel': linear.kernel, 'bias': linear.bias}
  return {k: np.array(p[...], np.float32) for k, p in params.items() if p is not None}


def _require_alike(base: Pretrained, tuned: Pretrained) -> None:
  """Refuses a model that is no other state of its base.

  Raises:
    ValueError: naming what does not fit.
  """
  before, after = (
    {name: slot.shape for slot in weights.slots_of(own.model) for name in slot.names}
    for own in (base, tuned)
  )
  if before.keys() != after.keys():
    lacks, adds = sorted(before.keys() - after), sorted(after.keys() - before)
    raise ValueError(
      f'{tuned.source_dir} is not a fine-tuned {base.source_dir}: it lacks {lacks[:4]}'
      f' and has {adds[:4]} beside ({len(lacks)} and {len(adds)} tensors)'
    )
  for name, old in before.items():
    if after[name] != old:
      raise ValueError(
        f'{name} is {after[name]} in {tuned.source_dir} and {old} in'
        f' {base.source_dir}; a difference needs equal shapes. If tokens were added,'
        ' give the base as many rows, or cut those of the tuned model'
      )


def _require_one_config(base: Pretrained, tuned: Pretrained) -> None:
  """Refuses a model that computes something else from equal weights.

  Raises:
    ValueError: naming all that differs.
  """
  if type(base.config) is not type(tuned.config):
    found = [f'its family is {tuned.family!r}, not {base.family!r}']
  else:
    found = [
      f'{field} is {new!r}, not {old!r}'
      for field, old, new in _unequal(base.config, tuned.config)
    ]
  if found:
    raise ValueError(
      f'{tuned.source_dir} is not a fine-tuned {base.source_dir}: by its config'
      f' {", ".join(found)}; an adapter changes weights alone'
    )


def _unequal(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
  """Fields of two configs that differ, with both values; dropout may."""
  for field in dataclasses.fields(old):
    name = field.name
    before, after = getattr(old, name), getattr(new, name)
    if name in _FREE or 'dropout' in name or before == after:
      continue
    if dataclasses.is_dataclass(before) and type(before) is type(after):
      yield from _unequal(before, after)
    else:
      yield name, before, after


def _differences(
  base: Pretrained, tuned: Pretrained, modules: list[str], stored: bool
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """Delta W of the modules, and ||W' - W|| / ||W|| of others; of what changed alone.

  Raises:
    ValueError: naming a tensor with values that are not finite.
  """
  deltas: dict[str, np.ndarray] = {}
  changes: dict[str, float] = {}
  kernels = {f'{name}.weight': name for name in modules}
  names = [name for slot in weights.slots_of(base.model) for name in slot.names]
  with _reader(base, stored) as before, _reader(tuned, stored) as after:
    for name in names:
      old, new = before(name), after(name)
      if not np.isfinite(new).all():
        raise ValueError(f'{name} in {tuned.source_dir} has values that are not finite')
      if name in kernels:
        delta_IO = np.subtract(new.T, old.T, order='C')
        if delta_IO.any():
          deltas[kernels[name]] = delta_IO
      elif change := float(np.linalg.norm(new - old)):
        changes[name] = change / max(float(np.linalg.norm(old)), 1e-30)
  return {name: deltas[name] for name in modules if name in deltas}, changes


@contextlib.contextmanager
def _reader(model: Pretrained, stored: bool) -> Iterator[Callable[[str], np.ndarray]]:
  """Gives a tensor by torch's name, as torch lays it out, in float32."""
  slots = weights.slots_of(model.model)
  slot_of = {name: slot for slot in slots for name in slot.names}
  state = dict(nnx.to_flat_state(nnx.state(model.model, nnx.Param)))
  family = family_of(model.family)
  wanted = weights.wanted_shapes(slots, family)
  read = set(wanted) - set(model.initialised) if stored else set()

  def held(name: str) -> np.ndarray:
    slot = slot_of[name]
    if slot.packing is not None:
      return kernel_of(model, name.removesuffix('.weight')).T
    array = state[slot.path][...]
    if stack.STACKED in slot.path:
      array = array[slot.names.index(name)]
    array = np.asarray(array).astype(np.float32, copy=False)
    return array.T if slot.kind == 'kernel' else array

  with open_tensors(model.source_dir) if read else contextlib.nullcontext({}) as files:
    found = weights.by_canonical_name(files, family, wanted)

    def tensor(name: str) -> np.ndarray:
      if name not in read or name not in found:
        return held(name)
      out = np.empty(found[name].shape, np.float32)
      found[name].read_into(out)
      return out

    yield tensor
