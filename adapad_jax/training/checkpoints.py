"""Saved states: the newest two, the best two, and the way back from a damaged one."""

import itertools
import logging
import os
import pathlib
import shutil
import types
from typing import Any

import jax

from adapad_jax.errors import doing
from adapad_jax.processes import are_several

KINDS = ('best', 'latest')
# A run that ends between the saves of `best` and `latest` goes on from before both, and
# `best` then is the one before.
_KEEP = {'best': 2, 'latest': 2}
# Arrays that states of earlier versions held, and that nothing reads any more.
_RETIRED = frozenset({'ranks.top', 'ranks.weak', 'ranks.stopped'})


# Where an entry of a path in a tree has its name, and how many entries an error shows.
_KEYS, _SHOWN = ('name', 'key', 'idx'), 5


class OtherShapes(ValueError):
  """A saved state that is whole, and not of this run's model and data."""


class Checkpoints:
  """The folders `best` and `latest` under one root, each an orbax checkpoint manager.

  States are portable: the same shapes on every mesh, replicated. A save is complete
  or absent, since orbax renames it into place. Several processes share the folder:
  all of them save and restore together, the first one writes.

  Args:
    root: the folder.
    read_only: whether the run is only looked at: no folder is made, nothing is moved.
  """

  def __init__(self, root: pathlib.Path, *, read_only: bool = False) -> None:
    self._root, self._read_only = root.absolute(), read_only
    self._managers: dict[str, Any] = {}

  def _manager(self, kind: str) -> Any:
    """Opened when something is first saved, which is after the first rounds."""
    if kind not in self._managers:
      self._managers[kind] = _saves().manager(self._root / kind, _KEEP[kind])
    return self._managers[kind]

  def save(self, kind: str, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves in the background; a step that is there already stays as it is."""
    manager = self._manager(kind)
    if step in manager.all_steps():
      return
    # One save at a time, in the order in which they were asked for: what a run goes on
    # from names the best state, which must be on disk before, and is not older than the
    # best one before that. And several processes meet at barriers that orbax names by
    # the step alone.
    self.wait()
    with doing(f'saving round {step} in {self._root / kind}'):
      _saves().write(manager, step, state, meta)

  def forget(self, kind: str, after: int) -> None:
    """Deletes saves of later steps, which a run that fell back will write anew."""
    manager = self._manager(kind)
    for step in manager.all_steps():
      if step > after:
        manager.delete(step)

  def wait(self) -> None:
    """Returns when every save is on disk."""
    for kind, manager in self._managers.items():
      with doing(f'saving in {self._root / kind}'):
        manager.wait_until_finished()

  def close(self) -> None:
    """Waits and frees the managers."""
    for kind, manager in self._managers.items():
      with doing(f'saving in {self._root / kind}'):
        manager.close()

  def read(self, kind: str, target: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """The newest readable save: rounds done, portable state, meta; None if none is.

    The save before a damaged one is read instead, with a warning; training moves the
    damaged one aside. Damaged is one whose bytes cannot be read: a state of another
    shape is of another run, and a device or a disk that fails says nothing about a save
    either. With several processes a damaged save stays as well: one alone moves it.

    Args:
      kind: 'latest' or 'best'.
      target: the state's shapes, dtypes and shardings.

    Raises:
      ValueError: if a save has other shapes; if there are saves but none can be read,
        or with several processes not the newest; or the kind is unknown.
    """
    if kind not in KINDS:
      raise ValueError(f'unknown checkpoint {kind!r}; choose from {list(KINDS)}')
    steps = self._steps(kind)
    for step in steps:
      try:
        return (step, *self._read(kind, step, target))
      except OtherShapes:
        raise
      except Exception as error:  # orbax and its stores raise many kinds
        if _is_passing(error):
          raise
        if are_several():  # Others may have read it, and would go another way.
          raise ValueError(
            f'checkpoint {self._root / kind / str(step)} cannot be read'
            f' ({_reason(error)}); the same command in one process moves it aside, if'
            ' it is damaged, and goes on from the one before it'
          ) from error
        if _saves().is_whole(self._root / kind / str(step)):
          raise
        self._set_aside(kind, step, error)
    if steps:
      where = f'were moved to {self._root / "damaged"}'
      raise ValueError(
        f'none of the checkpoints {steps} in {self._root / kind} can be read; they'
        f' {"are damaged" if self._read_only else where}'
      )
    return None

  def _steps(self, kind: str) -> list[int]:
    """Steps of the saves of a kind, the newest first."""
    folder = self._root / kind
    # What is not whole yet has a longer name.
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

  def _read(self, kind: str, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
    folder = self._root / kind / str(step)
    saves = _saves()
    stored = saves.outline(folder)
    _require_shapes(folder, stored, target)
    partly = not _RETIRED.isdisjoint(_shapes(stored))
    return saves.read(folder, target, partly=partly)

  def _set_aside(self, kind: str, step: int, error: Exception) -> None:
    """Says that a save is damaged; moves it, unless the run is only looked at."""
    logging.getLogger(__name__).warning(
      'checkpoint %s of step %d is damaged (%s); falling back to the one before it',
      self._root / kind / str(step),
      step,
      _reason(error),
    )
    if self._read_only:
      return
    shutil.move(self._root / kind / str(step), self._free_place(f'{kind}-{step}'))
    if kind in self._managers:  # It has listed what lay there.
      self._managers.pop(kind).close()

  def _free_place(self, name: str) -> pathlib.Path:
    """A path in `damaged` where nothing lies yet."""
    folder = self._root / 'damaged'
    folder.mkdir(exist_ok=True)
    numbered = (folder / f'{name}-{number}' for number in itertools.count(2))
    choices = itertools.chain([folder / name], numbered)
    return next(path for path in choices if not path.exists())


def _saves() -> types.ModuleType:
  """What talks to orbax, which takes a while to import; a new run begins before."""
  from adapad_jax.training import saves

  return saves


def _require_shapes(folder: pathlib.Path, stored: Any, target: Any) -> None:
  """Refuses a state of other shapes than the target's.

  Raises:
    OtherShapes: naming the arrays that differ.
  """
  there, wanted = _shapes(stored), _shapes(target)
  there = {name: shape for name, shape in there.items() if name not in _RETIRED}
  shown = lambda shape: 'absent' if shape is None else f'{list(shape)}'
  differ = [
    f'{name} is {shown(there.get(name))}, it should be {shown(wanted.get(name))}'
    for name in sorted(there | wanted)
    if there.get(name) != wanted.get(name)
  ]
  if differ:
    more = f'; and {len(differ) - _SHOWN} more' if len(differ) > _SHOWN else ''
    raise OtherShapes(
      f'{folder} holds a state of another model or other data: '
      f'{"; ".join(differ[:_SHOWN])}{more}. It was left as it is; put back what the run'
      ' was begun with'
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Shapes by dotted path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  name = lambda key: next(
    str(getattr(key, field)) for field in _KEYS if hasattr(key, field)
  )
  return {'.'.join(map(name, path)): tuple(leaf.shape) for path, leaf in leaves}


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


def target_of(state: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shapes and dtypes of a portable state, replicated on the mesh at hand."""
  whole = jax.NamedSharding(mesh, jax.P())
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state
  )
