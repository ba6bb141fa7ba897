"""What a text task is before its text becomes tokens: tables, columns and labels."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from adapad_jax.tasks.labels import Classes
from adapad_jax.tasks.metrics import Metric
from adapad_jax.tasks.reader import Read
from adapad_jax.tasks.table import Table


@dataclasses.dataclass(frozen=True)
class Source:
  """A classification or regression task, text and labels still in tables.

  Attributes:
    name: the task's name.
    tables: readers by split; 'train' and 'validation' are always there. A `Reader`
      says which files it reads, and a run then knows when one has changed.
    text: the one or two text columns.
    label: the label column.
    classes: the label set; None means regression.
    metrics: computes the metrics of a split.
    metric: the one that counts.
    read: reads a user's own file into a table with the same columns.
    group: the column whose values never occur both in training and in held-out
      rows; None where rows stand alone.
    blank_ok: whether empty text is accepted, as official data has it.
    missing: spellings of 'no label' beside empty cells.
  """

  name: str
  tables: Mapping[str, Read]
  text: Sequence[str]
  label: str
  classes: Classes | None
  metrics: Metric
  metric: str
  read: Callable[[pathlib.Path], Table]
  group: str | None = None
  blank_ok: bool = False
  missing: tuple[str, ...] = ()
