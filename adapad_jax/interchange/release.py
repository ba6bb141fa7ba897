"""What an export holds: an adapter and all that its reader has to know."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

from adapad_jax.adapters import linear_shapes
from adapad_jax.adapters.locate import parent_of
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Pretrained
from adapad_jax.models.originals import form_of, original_kernels
from adapad_jax.models.quantised import widened_kernel
from adapad_jax.origins import HubCommit


@dataclasses.dataclass(frozen=True)
class Release:
  """A trained adapter, its base model, and what the model card says of them.

  Attributes:
    adapter: the updates and the head.
    base: the model that they belong to.
    base_name: what readers load as the base, a hub id or a folder.
    task: name of the task, '' if unknown.
    label_names: class names by index; None where there are no classes.
    metrics: what the adapter reaches on the validation split.
    max_length: tokens per row in training; None if unknown.
    base_commit: the commit of a base on the hub; None if unknown.
    chat_template: that it was trained with; '' for none.
    stop_ids: tokens that end an answer; empty if unknown.
  """

  adapter: Adapter
  base: Pretrained
  base_name: str
  task: str = ''
  label_names: tuple[str, ...] | None = None
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  max_length: int | None = None
  base_commit: HubCommit | None = None
  chat_template: str = ''
  stop_ids: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    check_fits(self.adapter, self.base)
    head, names = self.base.head, self.label_names
    if names is not None and head.kind != 'classification':
      raise ValueError(f'label names {names} for a head of kind {head.kind!r}')
    if names is not None and len(names) != head.num_labels:
      raise ValueError(f'{len(names)} label names for a head of {head.num_labels}')

  @property
  def revision(self) -> str | None:
    """What has to be asked of the hub to get the same base."""
    return self.base_commit and self.base_commit.commit

  @property
  def labels(self) -> tuple[str, ...]:
    """Names of the outputs as config.json has them; empty without classes."""
    head = self.base.head
    if head.kind == 'regression':
      return ('LABEL_0',)
    if head.kind != 'classification':
      return ()
    return self.label_names or tuple(f'LABEL_{i}' for i in range(head.num_labels))


def check_fits(adapter: Adapter, base: Pretrained) -> None:
  """Checks an adapter against its base model.

  Raises:
    ValueError: one error with every module that is unknown or has another shape,
      every head layer that is missing, and every array that is not finite.
  """
  shapes = linear_shapes(base.model)
  problems = []
  for name, update in adapter.modules.items():
    problems += _problems_of(name, update.a_RI, update.b_RO, shapes)
  for name in head_names(base):
    kernel = adapter.head.get(name, {}).get('kernel')
    if kernel is None:
      problems.append(f'{name}: the head layer is missing')
    elif kernel.shape != shapes[name]:
      problems.append(f'{name}: the head is {kernel.shape}, not {shapes[name]}')
  for name, params in adapter.head.items():
    if name not in head_names(base):
      problems.append(f'{name}: not a layer of the head')
    if not all(np.isfinite(value).all() for value in params.values()):
      problems.append(f'{name}: the head is not finite')
  if problems:
    raise ValueError(
      f'the adapter does not fit {base.source_dir}:\n  ' + '\n  '.join(problems)
    )


def _problems_of(
  name: str,
  a_RI: np.ndarray,
  b_RO: np.ndarray,
  shapes: Mapping[str, tuple[int, int]],
) -> list[str]:
  if name not in shapes:
    return [f'{name}: the model has no such linear layer']
  shape = (a_RI.shape[1], b_RO.shape[1])
  if shape != shapes[name] or len(a_RI) != len(b_RO):
    return [f'{name}: the update is {a_RI.shape} and {b_RO.shape} for {shapes[name]}']
  finite = np.isfinite(a_RI).all() and np.isfinite(b_RO).all()
  return [] if finite else [f'{name}: the update is not finite']


def head_names(base: Pretrained) -> list[str]:
  """Names of the linear layers of the head."""
  inside = tuple(f'{module}.' for module in base.head_modules)
  return [
    name
    for name in linear_shapes(base.model)
    if name in base.head_modules or name.startswith(inside)
  ]


def kernel_of(base: Pretrained, name: str) -> np.ndarray:
  """The kernel (I, O) of a linear layer, scanned or not, in its own dtype.

  In float32, if it is packed.
  """
  parent, leaf, layer = parent_of(base.model, name)
  kernel = widened_kernel(getattr(parent, leaf))
  return np.asarray(kernel if layer is None else kernel[layer])


def _kernels(base: Pretrained, modules: list[str]) -> Iterable[tuple[str, np.ndarray]]:
  """The kernels by name; of packed ones those of the files, unless they were drawn."""
  drawn = {f'{name}.weight' for name in modules} & set(base.initialised)
  if form_of(base) and not drawn:
    return original_kernels(base, modules)
  return ((name, kernel_of(base, name)) for name in modules)


def digest(base: Pretrained, modules: list[str]) -> str:
  """A fingerprint of the layers under an adapter, whatever they are held in."""
  hasher = hashlib.blake2b(digest_size=16)
  for name, kernel_IO in _kernels(base, modules):
    rounded = kernel_IO.astype(ml_dtypes.bfloat16)
    hasher.update(name.encode())
    hasher.update(np.ascontiguousarray(rounded).view(np.uint16))
  return hasher.hexdigest()
