"""Saved states: the newest two, the best two, and the way back from a damaged one."""

import dataclasses
import itertools
import logging
import os
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from adapad_jax.processes import are_several

KINDS = ('best', 'latest')
# A run that ends between the saves of `best` and `latest` goes on from before both, and
# `best` then is the one before.
_KEEP = {'best': 2, 'latest': 2}
_STATE, _META = 'state', 'meta'


@dataclasses.dataclass(frozen=True)
class Restored:
  """A saved state.

  Attributes:
    step: rounds done when it was saved.
    state: the portable state.
    meta: what was saved beside it.
  """

  step: int
  state: Any
  meta: dict[str, Any]


class Checkpoints:
  """The folders `best` and `latest` under one root, each an orbax checkpoint manager.

  States are portable: the same shapes on every mesh, replicated. A save is complete
  or absent, since orbax renames it into place. Several processes share the folder:
  all of them save and restore together, the first one writes.
  """

  def __init__(self, root: pathlib.Path) -> None:
    self._root = root.absolute()
    self._managers = {kind: self._open(kind) for kind in KINDS}

  def _open(self, kind: str) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_KEEP[kind], create=True)
    return ocp.CheckpointManager(self._root / kind, options=options)

  def save(self, kind: str, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves in the background; a step that is there already stays as it is."""
    manager = self._managers[kind]
    if step in manager.all_steps():
      return
    if kind == 'best' or are_several():
      # What a run goes on from is not older than the best state before this one. And
      # several processes meet at barriers that orbax names by the step alone: there
      # `best` and `latest` of one step must not be under way at once.
      self.wait()
    manager.save(
      step,
      args=ocp.args.Composite(
        **{_STATE: ocp.args.StandardSave(state), _META: ocp.args.JsonSave(meta)}
      ),
      force=True,
    )

  def forget(self, kind: str, after: int) -> None:
    """Deletes saves of later steps, which a run that fell back will write anew."""
    for step in self._managers[kind].all_steps():
      if step > after:
        self._managers[kind].delete(step)

  def wait(self) -> None:
    """Returns when every save is on disk."""
    for manager in self._managers.values():
      manager.wait_until_finished()

  def close(self) -> None:
    """Waits and frees the managers."""
    for manager in self._managers.values():
      manager.close()

  def restore(self, kind: str, target: Any) -> Restored | None:
    """The newest readable save, or None if there is none at all.

    A damaged save is moved aside with a warning, and the one before it is read. A
    device or a disk that fails says nothing about a save, which then stays. With
    several processes it stays as well: one alone moves it.

    Args:
      kind: 'latest' or 'best'.
      target: the state's shapes, dtypes and shardings.

    Raises:
      ValueError: if there are saves but none can be read, or with several processes
        not the newest, or the kind is unknown.
    """
    if kind not in KINDS:
      raise ValueError(f'unknown checkpoint {kind!r}; choose from {list(KINDS)}')
    steps = sorted(self._managers[kind].all_steps(), reverse=True)
    for step in steps:
      try:
        return self._read(kind, step, target)
      except Exception as error:  # orbax and its stores raise many kinds
        if _is_passing(error):
          raise
        if are_several():  # Others may have read it, and would go another way.
          raise ValueError(
            f'checkpoint {self._root / kind / str(step)} cannot be read'
            f' ({_reason(error)}); the same command in one process moves it aside, if'
            ' it is damaged, and goes on from the one before it'
          ) from error
        self._set_aside(kind, step, error)
    if steps:
      raise ValueError(
        f'none of the checkpoints {steps} in {self._root / kind} can be read; they'
        f' were moved to {self._root / "damaged"}'
      )
    return None

  def _read(self, kind: str, step: int, target: Any) -> Restored:
    found = self._managers[kind].restore(
      step,
      args=ocp.args.Composite(
        **{_STATE: ocp.args.StandardRestore(target), _META: ocp.args.JsonRestore()}
      ),
    )
    return Restored(step, jax.block_until_ready(found[_STATE]), dict(found[_META]))

  def _set_aside(self, kind: str, step: int, error: Exception) -> None:
    logging.getLogger(__name__).warning(
      'checkpoint %s of step %d is damaged (%s); falling back to the one before it',
      self._root / kind / str(step),
      step,
      _reason(error),
    )
    shutil.move(self._root / kind / str(step), self._free_place(f'{kind}-{step}'))
    self._managers[kind].close()
    self._managers[kind] = self._open(kind)

  def _free_place(self, name: str) -> pathlib.Path:
    """A path in `damaged` where nothing lies yet."""
    folder = self._root / 'damaged'
    folder.mkdir(exist_ok=True)
    numbered = (folder / f'{name}-{number}' for number in itertools.count(2))
    choices = itertools.chain([folder / name], numbered)
    return next(path for path in choices if not path.exists())


def on_disk(root: pathlib.Path) -> str:
  """Says where a run would go on from; looks at the names of files alone."""
  folder = root / 'latest'
  names = os.listdir(folder) if folder.is_dir() else []
  steps = [int(name) for name in names if name.isdecimal()]
  if not steps:
    return f'nothing is saved in {root} yet'
  return f'round {max(steps)} is saved in {root}, the same command goes on from there'


def _reason(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# tensorstore raises ValueError for all that happens, and says what by its status.
_PASSING = (
  'ABORTED',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'UNAUTHENTICATED',
  'UNAVAILABLE',
)


def _is_passing(error: Exception) -> bool:
  """Whether an error is of the machine, not of the file."""
  if isinstance(error, FileNotFoundError | NotADirectoryError):
    return False
  if isinstance(error, jax.errors.JaxRuntimeError | MemoryError | OSError):
    return True
  return any(f'{status}: ' in str(error) for status in _PASSING)


def restore_target(state: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shapes and dtypes of a portable state, replicated on the mesh at hand."""
  whole = jax.NamedSharding(mesh, jax.P())
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state
  )
