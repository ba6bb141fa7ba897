"""Updates to be re-ranked: of an adapter, or of a whole fine-tuned checkpoint."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from adapad_jax.adapters import linear_shapes, merge
from adapad_jax.interchange.release import head_names, kernel_of
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Pretrained, weights


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


def from_tuned(base: Pretrained, tuned: Pretrained, modules: list[str]) -> Update:
  """The difference of a fully fine-tuned model and its base.

  Args:
    base: the model before.
    tuned: the model after, with its own head.
    modules: names of the linear layers whose difference is to be kept.

  Raises:
    ValueError: if the two are not of one shape, the tuned model lacks tensors, such as
      those of its head, has values that are not finite, or none of the modules differs.
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
  before, after = _tensors(base), _tensors(tuned)
  _require_alike(base, before, tuned, after)
  deltas = {
    name: kernel_of(tuned, name).astype(np.float32)
    - kernel_of(base, name).astype(np.float32)
    for name in modules
  }
  deltas = {name: delta_IO for name, delta_IO in deltas.items() if delta_IO.any()}
  if not deltas:
    raise ValueError(f'{tuned.source_dir} and {base.source_dir} have equal weights')
  head = {name: _head_layer(tuned, name) for name in head_names(tuned)}
  covered = {f'{name}.weight' for name in deltas}
  covered |= {f'{name}.{leaf}' for name in head for leaf in ('weight', 'bias')}
  beside = {n: x for n, x in _changes(before, after).items() if n not in covered}
  return Update(tuned.model, base.head.kind, deltas, head, beside=beside)


def _head_layer(model: Pretrained, name: str) -> dict[str, np.ndarray]:
  linear = model.model
  for part in name.split('.'):
    linear = getattr(linear, part)
  params = {'kernel': linear.kernel, 'bias': linear.bias}
  return {k: np.array(p[...], np.float32) for k, p in params.items() if p is not None}


def _tensors(model: Pretrained) -> dict[str, np.ndarray]:
  """Every tensor by torch's name."""
  state = dict(nnx.to_flat_state(nnx.state(model.model, nnx.Param)))
  slots = weights.slots_of(model.model)
  return {slot.names[0]: np.asarray(state[slot.path][...]) for slot in slots}


def _require_alike(
  base: Pretrained,
  before: Mapping[str, np.ndarray],
  tuned: Pretrained,
  after: Mapping[str, np.ndarray],
) -> None:
  """Refuses a model that is no other state of its base.

  Raises:
    ValueError: naming the first tensor that does not fit.
  """
  for name, old in before.items():
    new = after[name]
    if new.shape != old.shape:
      raise ValueError(
        f'{name} is {new.shape} in {tuned.source_dir} and {old.shape} in'
        f' {base.source_dir}; a difference needs equal shapes. If tokens were added,'
        ' give the base as many rows, or cut those of the tuned model'
      )
    if not np.isfinite(new.astype(np.float32)).all():
      raise ValueError(f'{name} in {tuned.source_dir} has values that are not finite')


def _changes(
  before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """||W' - W|| / ||W|| of every tensor that changed."""
  found = {}
  for name, old in before.items():
    old, new = old.astype(np.float32), after[name].astype(np.float32)
    change = float(np.linalg.norm(new - old))
    if change:
      found[name] = change / max(float(np.linalg.norm(old)), 1e-30)
  return found
