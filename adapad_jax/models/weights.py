"""Fills a module with the tensors of a checkpoint, or with random ones."""

import dataclasses
import logging
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping

import jax
import numpy as np
from flax import nnx

from adapad_jax.models import stack
from adapad_jax.models.checkpoint_files import StoredTensor
from adapad_jax.models.family import Family
from adapad_jax.models.quantised import Packing
from adapad_jax.models.split import dotted

# Last part of a module path -> what torch calls the tensor.
_TORCH_LEAF = dict.fromkeys(
  ('kernel', 'codes', 'scale', 'excess', 'embedding'), 'weight'
)
_ALIGNMENT = 64  # bytes, as XLA wants it
_SHOWN = 12  # names in a warning

# Puts a parameter, by its dotted path, on the devices that are to have it.
Place = Callable[[str, np.ndarray], jax.Array]


@dataclasses.dataclass(frozen=True)
class Slot:
  """One leaf of a module and the torch tensors that fill it.

  Attributes:
    path: of the leaf in the module's state.
    names: torch's names; several if the leaf stacks several layers.
    shape: torch's shape of each tensor.
    leaf: shape and dtype of the leaf.
    kind: last part of the path: 'kernel', 'codes', 'bias', 'scale', 'excess',
      'embedding' or other.
    packing: of codes, whose scales lie beside them; else None.
  """

  path: tuple
  names: tuple[str, ...]
  shape: tuple[int, ...]
  leaf: jax.ShapeDtypeStruct
  kind: str
  packing: Packing | None = None

  @property
  def beside(self) -> tuple:
    """Path of the scales that go with codes."""
    return (*self.path[:-1], 'scales')


def slots_of(module: nnx.Module) -> list[Slot]:
  """Lists the leaves of an abstract or filled module, the largest first.

  The scales of packed kernels have no slot of their own.
  """
  state = nnx.to_flat_state(nnx.state(module, nnx.Param))
  slots = [_slot(path, param) for path, param in state if path[-1] != 'scales']
  return sorted(slots, key=lambda s: -s.leaf.size * s.leaf.dtype.itemsize)


def _slot(path: tuple, param: nnx.Param) -> Slot:
  parts = [str(part) for part in path]
  kind = parts[-1]
  parts[-1] = _TORCH_LEAF.get(kind, kind)
  shape = param.shape[1:] if stack.STACKED in parts else param.shape
  shape = shape[::-1] if kind == 'kernel' else shape
  packing = param.get_metadata().get('packing')
  if packing is not None:
    shape = (shape[0], packing.features)
  names = tuple(stack.unrolled_paths(parts, param.shape))
  leaf = jax.ShapeDtypeStruct(param.shape, param.dtype)
  return Slot(path, names, tuple(shape), leaf, kind, packing)


def match(
  slots: Iterable[Slot],
  stored: Mapping[str, StoredTensor],
  family: Family,
  head_modules: tuple[str, ...],
  fresh_head: bool,
) -> dict[str, StoredTensor]:
  """Finds the stored tensor of every slot.

  Tensors of anything but the backbone and the head, such as what pretraining put on
  top, are named in a warning; one that the backbone has no place for is an error,
  because the checkpoint computes something else then.

  Returns:
    torch name in the module -> tensor. Names of head modules may be absent.

  Raises:
    ValueError: one error with every missing, unexpected and mis-shaped tensor.
  """
  wanted = wanted_shapes(slots, family)
  found = by_canonical_name(stored, family, wanted)
  of_head = lambda name: name.startswith(tuple(f'{m}.' for m in head_modules))
  if fresh_head:
    found = {name: t for name, t in found.items() if not of_head(name)}
  ignorable = matcher(family.ignorable)
  may_lack = matcher(family.optional)
  missing = sorted(
    n for n in wanted if n not in found and not of_head(n) and not may_lack(n)
  )
  others = sorted(n for n in found if n not in wanted and not ignorable(n))
  parts = {_part(n, family) for n in wanted if not of_head(n)}
  unexpected = [n for n in others if _part(n, family) in parts]
  _tell_left_out([n for n in others if n not in unexpected])
  misshaped = sorted(
    f'{n} is {found[n].shape}, the model needs {wanted[n]}'
    for n in wanted
    if n in found and found[n].shape != wanted[n]
  )
  _refuse(missing, unexpected, misshaped, head_modules)
  return {name: found[name] for name in wanted if name in found}


def wanted_shapes(slots: Iterable[Slot], family: Family) -> dict[str, tuple[int, ...]]:
  """The tensors that fill a module, by torch's names, with their shapes."""
  absent = matcher(family.absent)
  return {n: slot.shape for slot in slots for n in slot.names if not absent(n)}


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
  """Whether one of the patterns matches a whole name."""
  compiled = re.compile('|'.join(patterns) or r'(?!)')
  return lambda name: compiled.fullmatch(name) is not None


def by_canonical_name(
  stored: Mapping[str, StoredTensor], family: Family, wanted: Collection[str]
) -> dict[str, StoredTensor]:
  """The tensors of a checkpoint under the names that the module has for them.

  Where an older name of a tensor stands beside its proper one, the proper one counts.
  """
  found: dict[str, StoredTensor] = {}
  for name, tensor in stored.items():
    own = canonical(name, family, wanted)
    proper = all(not re.search(pattern, name) for pattern, _ in family.old_names)
    if own not in found or proper:
      found[own] = tensor
  return found


def require_tied(
  slots: Iterable[Slot], stored: Mapping[str, StoredTensor], family: Family
) -> None:
  """Refuses a head of its own beside a config.json that ties it to the embeddings.

  A tied model whose head was trained and stored is one: transformers leaves the two
  apart where they differ, whatever config.json says.

  Raises:
    ValueError: if the files hold both, and they differ.
  """
  found = by_canonical_name(stored, family, wanted_shapes(slots, family))
  of_kind = lambda end: next((t for n, t in found.items() if n.endswith(end)), None)
  head, table = of_kind('lm_head.weight'), of_kind('embed_tokens.weight')
  if head is None or table is None or _equal(head, table):
    return
  raise ValueError(
    'the files hold an lm_head.weight that is not the embedding table, and config.json'
    ' ties the two (tie_word_embeddings), so that it would be left out: set'
    ' tie_word_embeddings to false there, as it is for this model'
  )


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
  if one.shape != other.shape:
    return False
  # One may be kept in more bits than the other.
  kind = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
  return all(
    np.array_equal(piece.astype(kind), other.rows(rows.start, rows.stop).astype(kind))
    for rows, piece in one.pieces()
  )


def _part(name: str, family: Family) -> str:
  """Which part of a model a tensor is of: 'encoder', 'layers', 'lm_predictions', ..."""
  for prefix in family.prefixes:
    name = name.removeprefix(f'{prefix}.')
  return name.partition('.')[0]


def _tell_left_out(names: list[str]) -> None:
  if names:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    logging.getLogger(__name__).warning(
      'left out, because they are not of the backbone: %s%s',
      ', '.join(names[:_SHOWN]),
      more,
    )


def canonical(name: str, family: Family, wanted: Collection[str]) -> str:
  """The one of `wanted` that a checkpoint's name means, or the name renamed.

  Checkpoints of a bare backbone lack its prefix, old ones have older names.
  """
  for pattern, replacement in (*family.old_names, *family.renames):
    name = re.sub(pattern, replacement, name)
  candidates = [name, *(f'{prefix}.{name}' for prefix in family.prefixes)]
  return next((n for n in candidates if n in wanted), name)


def _refuse(
  missing: list[str],
  unexpected: list[str],
  misshaped: list[str],
  head_modules: tuple[str, ...],
) -> None:
  problems = {'missing': missing, 'unexpected': unexpected, 'mis-shaped': misshaped}
  lines = [
    f'  {kind} ({len(names)}): ' + '; '.join(names)
    for kind, names in problems.items()
    if names
  ]
  if any(line.startswith(head_modules) for line in misshaped):
    lines.append('  fresh_head=True starts the head anew instead of reading it')
  if lines:
    raise ValueError('the checkpoint does not fit the model:\n' + '\n'.join(lines))


def fill(
  module: nnx.Module,
  slots: Iterable[Slot],
  stored: Mapping[str, StoredTensor],
  seed: int,
  std: float,
  place: Place,
) -> nnx.Module:
  """Gives an abstract module its arrays; what is not stored is drawn.

  Drawn tensors are N(0, std^2), biases zero, scales one. A draw depends on the seed
  and the tensor's name alone. Stored tensors go piece by piece to where they stay.
  """
  graph, state = nnx.split(module)
  flat = dict(nnx.to_flat_state(state))
  for slot in slots:
    draw = lambda name, slot=slot: _draw(name, slot, seed, std)
    if slot.packing is None:
      hosts = {slot.path: _read(slot, stored, draw)}
    else:
      hosts = _read_packed(slot, stored, draw)
    for path, host in hosts.items():
      array = jax.block_until_ready(place(dotted(path), host))
      flat[path] = flat[path].replace(array)
  return nnx.merge(graph, nnx.from_flat_state(flat))


def _read(
  slot: Slot, stored: Mapping[str, StoredTensor], draw: Callable[[str], np.ndarray]
) -> np.ndarray:
  """The array of a leaf."""
  host = _aligned(slot.leaf.shape, slot.leaf.dtype)
  for name, part in zip(slot.names, _parts(slot, host), strict=True):
    out = part.T if slot.kind == 'kernel' else part
    if name in stored:
      stored[name].read_into(out)
    else:
      out[...] = draw(name)
  return host


def _read_packed(
  slot: Slot, stored: Mapping[str, StoredTensor], draw: Callable[[str], np.ndarray]
) -> dict[tuple, np.ndarray]:
  """The arrays of codes and scales, by path; a tensor is packed as it is read."""
  packing = slot.packing
  codes = _aligned(slot.leaf.shape, slot.leaf.dtype)
  scales = _aligned((*codes.shape[:-1], packing.blocks), np.dtype('float32'))
  parts = zip(slot.names, _parts(slot, codes), _parts(slot, scales), strict=True)
  for name, codes_part, scales_part in parts:
    whole = lambda name=name: [(slice(None), draw(name))]
    for rows, piece in stored[name].pieces() if name in stored else whole():
      codes_part[rows], found = packing.pack(piece)
      if packing.scaled:
        scales_part[rows] = found
  return {slot.path: codes} | ({slot.beside: scales} if packing.scaled else {})


def _parts(slot: Slot, host: np.ndarray) -> Iterable[np.ndarray]:
  """The part of every torch tensor in an array."""
  return host if stack.STACKED in slot.path else [host]


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """An array at an address that JAX on the CPU takes over without a copy."""
  size = math.prod(shape) * dtype.itemsize
  raw = np.empty(size + _ALIGNMENT, np.uint8)
  start = -raw.ctypes.data % _ALIGNMENT
  return raw[start : start + size].view(dtype).reshape(shape)


def _draw(name: str, slot: Slot, seed: int, std: float) -> np.ndarray:
  if slot.kind == 'scale':
    return np.ones(slot.shape, np.float32)
  if slot.kind in ('bias', 'excess'):
    return np.zeros(slot.shape, np.float32)
  rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
  return rng.standard_normal(slot.shape, np.float32) * np.float32(std)
