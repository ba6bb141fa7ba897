"""What a run was begun with, kept in its workdir: `run.json`.

Opening a run reads this instead of today's data, and going on with it compares the two.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from adapad_jax.files import finite, read_json
from adapad_jax.models.checkpoint_files import weight_files
from adapad_jax.models.loading import read_hf_config
from adapad_jax.models.sources import Source, find
from adapad_jax.models.tokenizer import is_tokenizer_file
from adapad_jax.origins import FileOrigin, HubCommit, file_origin
from adapad_jax.ranges import Natural, Size, Text
from adapad_jax.settings import build
from adapad_jax.tasks import Task
from adapad_jax.tasks.facts import Facts, SourceFacts
from adapad_jax.training.config import ModelConfig
from adapad_jax.workdir import RECORD

FORMAT = 1
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class ModelRecord:
  """The base model and its tokenizer.

  Attributes:
    source: as the config has it.
    folder: where that was.
    config: config.json.
    weights: weight files by name; none if the weights are drawn.
    tokenizer: files of the tokenizer by name.
    hub: the model's repository, if it came from a hub.
  """

  source: Text
  folder: Text
  config: dict[Text, Any]
  weights: tuple[FileOrigin, ...]
  tokenizer: tuple[FileOrigin, ...]
  hub: HubCommit | None = None


@dataclasses.dataclass(frozen=True)
class Record:
  """A run at its beginning.

  Attributes:
    format: of the file.
    train_rows: rows of the training split as it is trained on, which tells how many
      steps there are; for questions, windows of their passages.
    data: the task and its data; None if the task does not say.
    model: the base.
    versions: of Python and packages.
    begins: components that it began with, if they were imported; otherwise 0.
  """

  format: Natural
  train_rows: Size
  data: Facts | None
  model: ModelRecord
  versions: dict[Text, Text]
  begins: Natural = 0


def model_record(
  model: ModelConfig, source: Source, commit: HubCommit | None
) -> ModelRecord:
  """The base model as it is now; reads every file of it once."""
  folder = source.folder
  if not model.random_weights:
    source.fetch_weights()
  weights = [] if model.random_weights else weight_files(folder)
  tokenizer = sorted(path for path in folder.iterdir() if is_tokenizer_file(path))
  return ModelRecord(
    source=model.source,
    folder=str(folder.absolute()),
    config=finite(read_hf_config(folder)),
    weights=_by_name(weights),
    tokenizer=_by_name(tokenizer),
    hub=commit,
  )


def _by_name(paths: list[pathlib.Path]) -> tuple[FileOrigin, ...]:
  return tuple(dataclasses.replace(file_origin(path), path=path.name) for path in paths)


def known_record(workdir: pathlib.Path) -> Record | None:
  """The record in a workdir; None where there is none.

  Raises:
    ValueError: if it cannot be read, or a newer version of this program wrote it.
  """
  path = workdir / RECORD
  if not path.is_file():
    return None
  values = read_json(path)
  if not isinstance(values, Mapping) or values.get('format') != FORMAT:
    found = values.get('format') if isinstance(values, Mapping) else values
    raise ValueError(
      f'{path} has format {found!r:.40}, this version reads format {FORMAT}; open the'
      ' run with the version that began it'
    )
  try:
    return build(Record, values, str(path))
  except TypeError as error:  # a field is not there
    raise ValueError(f'{path} is damaged: {error}') from error


def read_record(workdir: pathlib.Path) -> Record | None:
  """The record in a workdir; None in one that was begun before there were any.

  Raises:
    ValueError: if it cannot be read, or a newer version of this program wrote it.
  """
  record = known_record(workdir)
  if record is None:
    logging.getLogger(__name__).warning(
      '%s has no %s: an older version began this run, and did not write down what its'
      ' data and its model were. They are read as they are now, and taken to be the'
      ' same.',
      workdir,
      RECORD,
    )
  return record


def require_same_record(workdir: pathlib.Path, then: Record, now: Record) -> None:
  """Refuses to go on with a run on other data, another tokenizer or another base.

  Raises:
    ValueError: naming what has changed.
  """
  changes = [
    *_data_changes(then.data, now.data),
    *_model_changes(then.model, now.model),
  ]
  if then.train_rows != now.train_rows and not changes:
    changes.append(f'{then.train_rows} training rows then, {now.train_rows} now')
  _refuse(workdir, changes)


def require_same_data(workdir: pathlib.Path, then: Record | None, task: Task) -> None:
  """Refuses to go on with a run on other data; without a record nothing is known.

  Raises:
    ValueError: naming what has changed.
  """
  if then is not None:
    _refuse(workdir, list(_data_changes(then.data, task.facts)))


def require_same_model(workdir: pathlib.Path, then: Record, model: ModelConfig) -> None:
  """Refuses to open a run on another base or with another tokenizer.

  Args:
    workdir: where the run is.
    then: what it was begun with.
    model: what would be read now; of the hub, at the commit of the record.

  Raises:
    ValueError: naming what has changed.
  """
  source = find(model.source, model.revision)
  now = model_record(model, source, then.model.hub)
  _refuse(workdir, list(_model_changes(then.model, now)))


def _refuse(workdir: pathlib.Path, changes: list[str]) -> None:
  if not changes:
    return
  shown = changes[:_SHOWN] + ['...'] * (len(changes) > _SHOWN)
  raise ValueError(
    f'the run in {workdir} was begun with something else: {"; ".join(shown)}; put it'
    ' back, or begin another run in another --workdir. Nothing was changed'
  )


def _data_changes(then: Facts | None, now: Facts | None) -> Iterator[str]:
  if then is None or now is None:
    return
  for name, what in (
    ('classes', 'classes'),
    ('text', 'text columns'),
    ('label', 'label column'),
  ):
    was, is_now = (getattr(facts, name) for facts in (then, now))
    if was != is_now:
      yield f'{what}: {_listed(was)} then, {_listed(is_now)} now'
  state = lambda hub: hub and (hub.repo, hub.commit)
  if state(then.hub) != state(now.hub):
    yield f'data of the hub: {then.hub} then, {now.hub} now'
  # Test data are no part of training.
  for name in sorted(then.sources.keys() | now.sources.keys()):
    if not name.startswith('test'):
      yield from _source_changes(name, then.sources.get(name), now.sources.get(name))


def _source_changes(
  name: str, then: SourceFacts | None, now: SourceFacts | None
) -> Iterator[str]:
  if then is None or now is None:
    there = lambda facts: 'some' if facts else 'none'
    yield f'{name} data: {there(then)} then, {there(now)} now'
    return
  yield from _file_changes(f'the {name} data', then.files, now.files)
  if then.rows != now.rows:
    yield f'rows of the {name} data: {then.rows} then, {now.rows} now'


def _model_changes(then: ModelRecord, now: ModelRecord) -> Iterator[str]:
  for name in sorted(then.config.keys() | now.config.keys()):
    was, is_now = then.config.get(name), now.config.get(name)
    if was != is_now:
      yield (
        f"{name} in the model's config.json: {_listed(was)} then, {_listed(is_now)} now"
        f' ({now.folder})'
      )
  yield from _file_changes(f'weights in {now.folder}', then.weights, now.weights)
  yield from _file_changes(
    f'the tokenizer in {now.folder}', then.tokenizer, now.tokenizer
  )
  if then.hub and now.hub and then.hub.commit != now.hub.commit:
    yield f'commit of {now.hub.repo}: {then.hub.commit} then, {now.hub.commit} now'


def _file_changes(
  what: str, then: tuple[FileOrigin, ...], now: tuple[FileOrigin, ...]
) -> Iterator[str]:
  was, is_now = ({file.path: file for file in files} for files in (then, now))
  for path in sorted(was.keys() | is_now.keys()):
    if path not in is_now:
      yield f'{what}: {path} is gone'
    elif path not in was:
      yield f'{what}: {path} is new'
    elif was[path] != is_now[path]:
      yield (
        f'{what}: {path} has changed ({was[path].bytes} bytes then,'
        f' {is_now[path].bytes} now; {was[path].digest[:20]} then,'
        f' {is_now[path].digest[:20]} now)'
      )


def _listed(value: Any) -> str:
  return f'{list(value) if isinstance(value, tuple) else value!r}'[:120]
