"""A saved state as orbax writes and reads it: the one place that talks to orbax."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

_STATE, _META = 'state', 'meta'


def manager(folder: pathlib.Path, keep: int) -> ocp.CheckpointManager:
  """What saves into a folder, which it makes, and keeps the newest so many there."""
  newest = ocp.checkpoint_managers.LatestN(keep)
  options = ocp.CheckpointManagerOptions(preservation_policy=newest, create=True)
  return ocp.CheckpointManager(folder, options=options)


def write(
  to: ocp.CheckpointManager, step: int, state: Any, meta: dict[str, Any]
) -> None:
  """Saves in the background."""
  both = {_STATE: ocp.args.StandardSave(state), _META: ocp.args.JsonSave(meta)}
  to.save(step, args=ocp.args.Composite(**both), force=True)


def outline(folder: pathlib.Path) -> Any:
  """The shapes and dtypes of a state that was saved in a folder."""
  return ocp.StandardCheckpointHandler().metadata(folder / _STATE).tree


def read(
  folder: pathlib.Path, target: Any, *, partly: bool
) -> tuple[Any, dict[str, Any]]:
  """State and meta.

  Args:
    folder: of the save.
    target: the state's shapes, dtypes and shardings.
    partly: whether the save has more arrays than the target, which are left out.
  """
  how = ocp.args.StandardRestore(target)
  if partly:
    how = ocp.args.PyTreeRestore(
      item=target,
      restore_args=ocp.checkpoint_utils.construct_restore_args(target),
      partial_restore=True,
    )
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
    both = ocp.args.Composite(**{_STATE: how, _META: ocp.args.JsonRestore()})
    found = reader.restore(folder, args=both)
  return jax.block_until_ready(found[_STATE]), dict(found[_META])


def is_whole(folder: pathlib.Path) -> bool:
  """Whether all that a save holds can be read, as the shapes that it has."""
  handler = ocp.PyTreeCheckpointHandler()
  try:
    stored = handler.metadata(folder / _STATE).tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
    handler.restore(folder / _STATE, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
      reader.restore(folder, args=ocp.args.Composite(**{_META: ocp.args.JsonRestore()}))
  except Exception:  # orbax and its stores raise many kinds
    return False
  return True
