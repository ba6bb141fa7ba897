"""Where an adapter is: a folder, or a repository of the hub."""

import dataclasses
import pathlib

from adapad_jax import hub
from adapad_jax.interchange.notes import NOTES
from adapad_jax.interchange.peft_format import CONFIG, TENSORS
from adapad_jax.origins import HubCommit

# Tensors as torch saved them, where there are no others.
BIN = 'adapter_model.bin'


@dataclasses.dataclass(frozen=True)
class FoundAdapter:
  """An adapter whose files are here.

  Attributes:
    folder: where they are.
    commit: the commit of the hub that it is; None for a folder.
  """

  folder: pathlib.Path
  commit: HubCommit | None = None

  def __str__(self) -> str:
    return str(self.commit or self.folder)


def find_adapter(given: str) -> FoundAdapter:
  """A folder, or else what an id, ID or ID@REVISION, means on the hub.

  Raises:
    ValueError: if there is neither.
  """
  folder = pathlib.Path(given).expanduser()
  if folder.is_dir():
    return FoundAdapter(folder)
  if not hub.is_id(given, owner=True):
    raise ValueError(
      f'there is no folder {folder}; give the folder of a PEFT adapter, or the id of'
      ' one on the Hugging Face hub, OWNER/NAME'
    )
  try:
    return hub.take(hub.parse(given, 'model'), _fetch)
  except hub.HubError as error:
    raise ValueError(
      f'adapter {given!r} is neither a folder nor to be had from the hub or its local'
      f' cache ({error.reason})'
    ) from error


def _fetch(snapshot: hub.Snapshot) -> FoundAdapter:
  there = snapshot.sizes
  tensors = [name for name in (TENSORS, BIN) if name in there][:1]
  if CONFIG not in there or not tensors:
    raise ValueError(
      f'{snapshot.repository} holds no PEFT adapter, {CONFIG} and {TENSORS} or {BIN};'
      f' it has {sorted(there)[:20]}'
    )
  notes = [NOTES] if NOTES in there else []
  folder = snapshot.fetch([CONFIG, *notes, *tensors])
  snapshot.keep()
  return FoundAdapter(folder, snapshot.origin)
