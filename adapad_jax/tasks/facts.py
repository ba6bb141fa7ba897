"""What a task's data said when a run began: enough to use the run without them."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from adapad_jax.origins import FileOrigin, HubCommit, digest, file_origin
from adapad_jax.ranges import Size, Text
from adapad_jax.tasks.reader import Read, Reader, files_of
from adapad_jax.tasks.table import Table


@dataclasses.dataclass(frozen=True)
class Baseline:
  """What a predictor that never reads the text reaches on the validation splits.

  Attributes:
    name: how it predicts, e.g. 'majority class'.
    metrics: the task's metrics of its predictions, under the names that `evaluate`
      gives them. Some may be missing, NaN or None: not every metric has a baseline.
  """

  name: Text
  metrics: dict[Text, Any]


@dataclasses.dataclass(frozen=True)
class SourceFacts:
  """What was read for one split, before anything was held out or left out.

  Attributes:
    files: absolute paths and digests; none for what comes from a hub.
    rows: of all of them; None for test data, which training does not read.
  """

  files: tuple[FileOrigin, ...]
  rows: Size | None


@dataclasses.dataclass(frozen=True)
class Facts:
  """A task's data as they were.

  Attributes:
    task: the task's name.
    kind: the kind of head, which tells classes from values and spans.
    classes: class names by class number; None where there are none.
    codes: other spellings of a name, by spelling.
    text: the text columns.
    label: the label column.
    sources: by split of the source.
    splits: rows by split of the task, holdout and limits applied; None if not read.
    baseline: the text-blind baseline.
    hub: where the data came from, if from a hub.
  """

  task: Text
  kind: Text
  classes: tuple[Text, ...] | None
  codes: dict[Text, Text]
  text: tuple[Text, ...]
  label: Text
  sources: dict[Text, SourceFacts]
  splits: dict[Text, Size | None]
  baseline: Baseline
  hub: HubCommit | None = None


class Unavailable(ValueError):
  """Data of a run that are gone, or are not what they were when it began."""


def source_facts(read: Read, rows: int | None) -> SourceFacts:
  """What a reader has read."""
  return SourceFacts(tuple(file_origin(path) for path in files_of(read)), rows)


def recalled(
  readers: Mapping[str, Read], sources: Mapping[str, SourceFacts]
) -> dict[str, Read]:
  """Readers of the same splits that refuse what is not as it was."""
  return {
    name: Reader(lambda name=name, then=then: _read_again(readers, name, then))
    for name, then in sources.items()
  }


def _read_again(readers: Mapping[str, Read], name: str, then: SourceFacts) -> Table:
  """The table of a split, from the same files with the same bytes.

  Raises:
    Unavailable: naming the file that is gone or has changed.
  """
  require_same_files(name, then)
  try:
    read = readers[name]
    table = read()
  except (ValueError, KeyError, OSError) as error:
    raise Unavailable(
      f'the {name} data of this run cannot be read any more: {error}'
    ) from error
  now = {str(path.absolute()) for path in files_of(read)}
  if then.files and now != {file.path for file in then.files}:
    raise Unavailable(
      f'the {name} data of this run were {[file.path for file in then.files]}, now'
      f' {sorted(now)} would be read'
    )
  if then.rows not in (None, len(table)):
    raise Unavailable(
      f'the {name} data of this run had {then.rows} rows, {table.source} now has'
      f' {len(table)}'
    )
  return table


def require_same_files(name: str, then: SourceFacts) -> None:
  """Refuses files of a split that are not what they were.

  Raises:
    Unavailable: naming the first that is gone or has changed.
  """
  another, same = ', or name another file by --input=FILE', ', or ask for what it holds'
  for file in then.files:
    whose = f'the {name} data of this run'
    require_same(whose, file, another, f'{same} now by --input={file.path}')


def require_same(whose: str, then: FileOrigin, gone: str = '', other: str = '') -> None:
  """Refuses a file that is not what it was.

  Args:
    whose: what it is of the run.
    then: the file as it was.
    gone, other: what may be done beside putting it back, if it is not there or has
      changed.

  Raises:
    Unavailable: if it is gone or has changed.
  """
  path = pathlib.Path(then.path)
  if not path.is_file():
    raise Unavailable(f'{path}, {whose}, is not there any more; put it back{gone}')
  if path.stat().st_size != then.bytes or digest(path) != then.digest:
    raise Unavailable(
      f'{path}, {whose}, has changed since the run began'
      f' ({then.bytes} bytes then, {path.stat().st_size} now; {then.digest} then,'
      f' {digest(path)} now); put it back{other}'
    )
