"""The config of the run in a workdir: written once, and compared ever after."""

import pathlib
from collections.abc import Mapping
from typing import Any

from adapad_jax.files import read_json, write_json
from adapad_jax.workdir.folder import CONFIG, RECORD, RESULT


def begin(
  workdir: pathlib.Path, record: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
  """Makes a workdir the folder of one run: writes its record and its config."""
  write_json(workdir / RECORD, record)
  # The config is what makes it a run, so it comes last.
  write_json(workdir / CONFIG, config)


def config_of(workdir: pathlib.Path) -> dict[str, Any]:
  """The config of the run in a workdir, as it was written.

  Raises:
    ValueError: if there is none.
  """
  path = workdir / CONFIG
  if not path.is_file():
    raise ValueError(f'{workdir} holds no run: there is no {CONFIG}; train one first')
  found = read_json(path)
  if not isinstance(found, dict):
    raise ValueError(f'{path} is not the config of a run: it holds {found!r:.40}')
  return found


def result_of(workdir: pathlib.Path, shape: Any) -> Any:
  """The result of the run in a workdir.

  Args:
    workdir: of the run.
    shape: what the file must hold, see `files.require_shape`.

  Raises:
    ValueError: if the run has not ended, or the file holds something else.
  """
  if not (workdir / RESULT).is_file():
    raise ValueError(
      f'the run in {workdir} has not ended: there is no {RESULT}; --mode=train with the'
      ' config that it was begun with goes on with it'
    )
  return read_json(workdir / RESULT, shape)


def is_regression(workdir: pathlib.Path) -> bool:
  """Whether a workdir holds a run of `program = 'regression'`."""
  has_config = (workdir / CONFIG).is_file()
  return has_config and config_of(workdir).get('program') == 'regression'


def require_same_config(
  workdir: pathlib.Path,
  mine: Mapping[str, Any],
  there: Mapping[str, Any],
  free: tuple[str, ...] = (),
) -> None:
  """Refuses to go on with a run under another config.

  Args:
    workdir: where the run is.
    mine: what is asked for.
    there: what the run was begun with.
    free: how names of fields begin that may differ.

  Raises:
    ValueError: naming the fields that differ.
  """
  flat_mine, flat_there = _flat(mine), _flat(there)
  differ = [
    f'{name} is {flat_mine.get(name)!r}, there it is {flat_there.get(name)!r}'
    for name in sorted(flat_mine | flat_there)
    if flat_mine.get(name) != flat_there.get(name) and not name.startswith(free)
  ]
  if differ:
    raise ValueError(
      f'{workdir} holds a run with another config: {"; ".join(differ)};'
      ' choose another --workdir, or remove that one'
    )


def _flat(value: Any, prefix: str = '') -> dict[str, Any]:
  if not isinstance(value, Mapping):
    return {prefix.rstrip('.'): value}
  merged: dict[str, Any] = {}
  for name, item in value.items():
    merged |= _flat(item, f'{prefix}{name}.')
  return merged
