"""A workdir becomes the folder of one fine-tuning run, and stays that."""

import dataclasses
import pathlib
from typing import Any

from adapad_jax.models import sources
from adapad_jax.processes import first_does
from adapad_jax.settings import as_dict
from adapad_jax.tasks.hub import is_on_hub
from adapad_jax.tasks.sft.template import PLAIN
from adapad_jax.training.config import FinetuneConfig, stored_config
from adapad_jax.training.plan import Plan
from adapad_jax.training.record import (
  FORMAT,
  Record,
  model_record,
  read_record,
  require_same_record,
)
from adapad_jax.workdir import (
  CONFIG,
  absolute,
  begin,
  config_of,
  is_regression,
  require_same_config,
  versions,
)

# Fields that may change while a run is on.
_FREE = ('mesh.', 'data.cache', 'train.wandb', 'train.profile', 'train.watchdog')
_DATA_FILES = ('train', 'validation', 'test')


def make_record(plan: Plan) -> Record:
  """The record of a run that begins now; reads every file of the base model once."""
  source, commit = plan.outlined.source, plan.commits.model
  return Record(
    format=FORMAT,
    train_rows=plan.train_rows,
    data=plan.task.facts,
    model=model_record(plan.config.model, source, commit),
    versions=versions(),
    begins=plan.begins,
  )


def claim_workdir(
  workdir: pathlib.Path, config: FinetuneConfig, record: Record
) -> None:
  """Writes config and record into a new workdir, or checks that they are those there.

  Paths are written such that the run can be opened from another folder. The mesh, where
  logs go and what is traced may change from one start to the next, nothing else.

  Raises:
    ValueError: naming what differs.
  """
  first_does(lambda: _claim(workdir, config, record))


def _claim(workdir: pathlib.Path, config: FinetuneConfig, record: Record) -> None:
  if (workdir / CONFIG).is_file():
    require_same_run(workdir, config)
    then = read_record(workdir)
    if then is not None:
      require_same_record(workdir, then, record)
    return
  begin(workdir, as_dict(record), as_dict(settled(config)))


def as_begun(workdir: pathlib.Path, config: FinetuneConfig) -> FinetuneConfig:
  """The config with what it leaves open as the run in the workdir has it, if any.

  A run that goes on elsewhere thus keeps the form of its model.
  """
  if config.model.scan is not None or not (workdir / CONFIG).is_file():
    return config
  model = dataclasses.replace(config.model, scan=read_workdir(workdir).model.scan)
  return dataclasses.replace(config, model=model)


def require_same_run(workdir: pathlib.Path, config: FinetuneConfig) -> None:
  """Refuses a workdir that holds a run with another config; reads no data.

  Raises:
    ValueError: naming the fields that differ.
  """
  if not (workdir / CONFIG).is_file():
    return
  # Read through the settings, so that a field which is newer than the run has its
  # default there.
  mine, there = settled(as_begun(workdir, config)), settled(read_workdir(workdir))
  # Settings of two methods have nothing in common.
  differ = (
    (f'{mine.method}.', f'{there.method}.') if mine.method != there.method else ()
  )
  require_same_config(workdir, _named(mine), _named(there), (*_FREE, *differ))


def _named(config: FinetuneConfig) -> dict[str, Any]:
  """The config as users write it, the settings of its method under that name."""
  values = as_dict(config)
  settings = values.pop('settings')
  return values | {config.method: settings}


def read_workdir(workdir: pathlib.Path) -> FinetuneConfig:
  """The config of the run in a workdir.

  Raises:
    ValueError: if there is none.
  """
  values = config_of(workdir)
  if is_regression(workdir):
    raise ValueError(
      f"{workdir} holds a run of program 'regression', which knows --mode=eval, report"
      ' and info, and goes on by --mode=train with its --config'
    )
  if not {'method', 'settings'} <= values.keys():
    raise ValueError(
      f'{workdir / CONFIG} is not the config of a run: it has {sorted(values)}'
    )
  return stored_config(values, workdir / CONFIG)


def settled(config: FinetuneConfig) -> FinetuneConfig:
  """The config with absolute paths; names of packages and of the hub stay."""
  paths = {name: _absolute_files(getattr(config.data, name)) for name in _DATA_FILES}
  paths['cache'] = absolute(config.data.cache)
  if not is_on_hub(config.data.path):
    paths['path'] = absolute(config.data.path)
  chat = config.data.chat
  template = chat.template if chat.template == PLAIN else absolute(chat.template)
  paths['chat'] = dataclasses.replace(chat, template=template)
  source = config.model.source
  if sources.is_folder(source):
    source = absolute(source)
  return dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, **paths),
    model=dataclasses.replace(config.model, source=source),
  )


def _absolute_files(names: str) -> str:
  """Of a file, or of several with commas between."""
  if pathlib.Path(names).expanduser().exists():
    return absolute(names)
  return ','.join(absolute(name.strip()) for name in names.split(','))
