"""A task: data, a loss and a metric, and nothing about how it is trained."""

import dataclasses
import difflib
import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from adapad_jax.models.head import Head
from adapad_jax.tasks import collector
from adapad_jax.tasks.facts import Baseline, Facts
from adapad_jax.tasks.ragged import Ragged, take

if TYPE_CHECKING:
  from adapad_jax.tasks.sft.chat import Chat

Outputs = dict[str, np.ndarray]
Batch = dict[str, jax.Array]


def validation_names(splits: Iterable[str]) -> list[str]:
  """The splits that training is validated on, in their order."""
  return [name for name in splits if name.startswith('validation')]


def metric_suffix(split: str) -> str:
  """What tells the metrics of one split from another's: '_mm' of 'validation_mm'."""
  return split.removeprefix(split.partition('_')[0])


@dataclasses.dataclass(frozen=True)
class Split:
  """Rows of one split as arrays of fixed shapes, in the order of the source.

  Attributes:
    name: what the task calls it, e.g. 'validation_mm'.
    columns: (N, ...) arrays, or `Ragged` rows in place of one: int32 ids_NL and
      mask_NL (1 = token), types_NL where the tokenizer has segments, and what the loss
      reads, under the names that a batch has: 'ids_BL', 'mask_BL', 'types_BL',
      'label_B', 'weight_B'. Axis L of a name is cut together with the mask. A row of
      zeros in every column has weight zero: that is how a batch is padded.
    truncated: number of rows that were longer than the maximum length.
    host: what evaluation needs beside the columns; never sent to a device.
  """

  name: str
  columns: dict[str, np.ndarray | Ragged]
  truncated: int = 0
  host: Any = None

  def __len__(self) -> int:
    return len(self.columns['ids_BL'])


def sample_rows(split: Split, count: int, seed: int) -> tuple[np.ndarray, Split]:
  """So many rows of a split, drawn without replacement and in their order.

  They come without what is kept on the host beside the columns.

  Returns:
    The rows' numbers, and a split of them.
  """
  drawn_N = np.random.default_rng(seed).permutation(len(split))
  rows_M = np.sort(drawn_N[:count])
  columns = {name: take(x, rows_M) for name, x in split.columns.items()}
  return rows_M, dataclasses.replace(split, columns=columns, host=None)


class Splits(Mapping[str, Split]):
  """Splits by name, each made when it is first asked for and kept.

  A test split of hundreds of thousands of rows so costs nothing in training.

  Raises:
    ValueError: on a name that is not there; lists the ones that are.
  """

  def __init__(self, makers: Mapping[str, Callable[[], Split]]) -> None:
    self._makers = {name: functools.cache(maker) for name, maker in makers.items()}

  def __getitem__(self, name: str) -> Split:
    if name not in self._makers:
      near = difflib.get_close_matches(str(name), self._makers, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(
        f'unknown split {name!r}; this task has {sorted(self._makers)}{hint}'
      )
    with collector.paused():
      return self._makers[name]()

  def __contains__(self, name: object) -> bool:
    return name in self._makers

  def __iter__(self) -> Iterator[str]:
    return iter(self._makers)

  def __len__(self) -> int:
    return len(self._makers)


@dataclasses.dataclass(frozen=True)
class Generated:
  """What a model generates where a task is validated, beside the task's outputs.

  Attributes:
    prompts: rows to answer by split, with columns 'ids_BL' and 'mask_BL'; made when
      first asked for, and possibly none.
    ask: (split that the task's `read` made) -> rows to answer of it for its metrics,
      possibly none.
    generate: (model, batch) -> arrays with one row per row of the batch.
    evaluate: (split, outputs of generate) -> metrics; of no rows they are NaN.
    samples: (split, outputs of generate) -> a few rows to be read: 'prompt',
      'reference', 'answer' and, where that is known, whether it is 'right'.
    most: rows of a split that are answered at most; 0 where all are.
  """

  prompts: Splits
  ask: Callable[[Split], Split]
  generate: Callable[[Any, Batch], dict[str, jax.Array]]
  evaluate: Callable[[Split, Outputs], dict[str, float]]
  samples: Callable[[Split, Outputs], Sequence[dict[str, Any]]]
  most: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
  """Data, loss and metric of one task.

  Attributes:
    name: the name it was loaded by.
    head: the model head that the loss reads.
    label_names: class names by index; None where there are no classes.
    splits: 'train', 'validation' and what else the source has.
    loss: (model, batch, keys_B) -> (loss_B, weight_B): each row's summed loss and
      the weight to divide by, both summed over all rows first. keys_B None: no
      dropout.
    predict: (model, batch) -> arrays with one row per row of the batch.
    evaluate: (split, outputs of predict, in the split's order and without padding
      rows) -> metrics; a metric that does not exist for them is NaN. Names end in
      the `metric_suffix` of the split.
    metric: the metric that tells the best checkpoint.
    baseline: the text-blind baseline.
    read: (path) -> a split 'input' of a user's own file; with `labelled=True` every
      row needs a label, else none is looked at.
    write_predictions: (split, outputs, path) writes them; the suffix of the path
      tells the format.
    example: (text) -> a row of a user's own file that says it, without a label.
    facts: what its data are; None for a task that cannot be used without them.
    lower_is_better: of the metric, as for a loss.
    about: lines that a plan shows of the data.
    by_row: (split, outputs) -> each row's own value of the metrics that are means over
      rows, or over questions: arrays by the metric's name.
    sample: (split, count, seed) -> numbers of about so many rows that can be scored
      without the others, and a split of them; see `sample_rows`.
    pack: the same task with several documents in a training row; None if its rows
      cannot share one.
    generated: what is generated at evaluations; None for nothing.
    chat: how its decoder is asked for text; None for tasks that do not.
  """

  name: str
  head: Head
  label_names: tuple[str, ...] | None
  splits: Splits
  loss: Callable[..., tuple[jax.Array, jax.Array]]
  predict: Callable[[Any, Batch], dict[str, jax.Array]]
  evaluate: Callable[[Split, Outputs], dict[str, float]]
  metric: str
  baseline: Baseline
  read: Callable[..., Split]
  write_predictions: Callable[[Split, Outputs, str | pathlib.Path], None]
  example: Callable[[str], Mapping[str, Any]] = lambda text: {'text': text}
  facts: Facts | None = None
  lower_is_better: bool = False
  about: Callable[[], Sequence[str]] = tuple
  by_row: Callable[[Split, Outputs], Mapping[str, np.ndarray]] = lambda *_: {}
  sample: Callable[[Split, int, int], tuple[np.ndarray, Split]] = sample_rows
  pack: 'Callable[[], Task] | None' = None
  generated: Generated | None = None
  chat: 'Chat | None' = None

  def score(self, metrics: Mapping[str, float | None]) -> float:
    """The metric that counts, as a number that is better if it is higher.

    One that does not exist is below all others.
    """
    value = metrics[self.metric]
    if value is None or math.isnan(value):
      return -math.inf
    return -value if self.lower_is_better else value

  def packed(self) -> 'Task':
    """The task with several documents in a training row.

    Raises:
      ValueError: if its rows cannot share one.
    """
    if self.pack is None:
      raise ValueError(
        f'train.packing: the rows of task {self.name!r} cannot share one; only those of'
        " task 'sft' can"
      )
    return self.pack()
