"""The weights that a model's files hold, where its own kernels are packed."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from flax import nnx

from adapad_jax.models import stack, weights
from adapad_jax.models.checkpoint_files import open_tensors
from adapad_jax.models.families import family_of
from adapad_jax.models.loading import Pretrained, load


def form_of(base: Pretrained) -> str:
  """What a model's kernels are packed as; '' if they are not."""
  packings = (slot.packing for slot in weights.slots_of(base.model))
  return next((packing.form for packing in packings if packing is not None), '')


def require_originals(base: Pretrained) -> None:
  """Refuses a model whose packed kernels were drawn: no file has what they were.

  Raises:
    ValueError: if there is such a kernel.
  """
  packed = [slot for slot in weights.slots_of(base.model) if slot.packing is not None]
  drawn = {name for slot in packed for name in slot.names} & set(base.initialised)
  if drawn:
    raise ValueError(
      f'the original of {min(drawn)}, held as {packed[0].packing.form}, is nowhere:'
      f" it was drawn and not read from {base.source_dir}. Use model.weights=''"
    )


def with_originals(base: Pretrained) -> Pretrained:
  """The same model with the kernels of its files in float32; itself if none is packed.

  Raises:
    ValueError: as `require_originals`, or if the files are not there any more.
  """
  if not form_of(base):
    return base
  require_originals(base)
  slots = weights.slots_of(base.model)
  scanned = any(stack.STACKED in slot.path for slot in slots)
  plain = load(base.source, base.head, scan=scanned)
  # What the files lack was drawn, by the seed of the run.
  drawn = [slot.path for slot in slots if set(slot.names) & set(base.initialised)]
  theirs = dict(nnx.to_flat_state(nnx.state(base.model, nnx.Param)))
  graph, state = nnx.split(plain.model)
  flat = dict(nnx.to_flat_state(state)) | {path: theirs[path] for path in drawn}
  model = nnx.merge(graph, nnx.from_flat_state(flat))
  return dataclasses.replace(plain, model=model, initialised=base.initialised)


def original_kernels(
  base: Pretrained, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
  """Kernels (I, O) as the files have them, one after the other.

  Raises:
    ValueError: if the files are not there any more.
  """
  family = family_of(base.family)
  wanted = weights.wanted_shapes(weights.slots_of(base.model), family)
  with open_tensors(base.source_dir) as stored:
    found = weights.by_canonical_name(stored, family, wanted)
    for name in names:
      yield name, found[f'{name}.weight'].read().T
