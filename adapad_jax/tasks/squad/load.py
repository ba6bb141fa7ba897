"""The tasks 'squad' and 'squad_v2'."""

import collections
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.cuts import cut_tables
from adapad_jax.tasks.squad import generate, span
from adapad_jax.tasks.squad.answers import Answers, write_answers
from adapad_jax.tasks.squad.questions import Questions, check_questions
from adapad_jax.tasks.squad.reading import find_tables, read_questions
from adapad_jax.tasks.squad.scoring import normalise, score_v1, score_v2
from adapad_jax.tasks.squad.way import Way
from adapad_jax.tasks.squad.windows import Windows
from adapad_jax.tasks.table import Table
from adapad_jax.tasks.task import Baseline, Outputs, Split, Splits, Task

TASKS = ('squad', 'squad_v2')
WAYS: dict[str, Callable[..., Way]] = {'span': span.way, 'generate': generate.way}


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is kept of a split on the host: the questions and where rows came from."""

  questions: Questions
  windows: Windows


def build(config: DataConfig, tokenizer: Any) -> Task:
  """Makes a task: checks every question now, tokenises on demand.

  Raises:
    ValueError: for data that is missing or cannot be used, see `check_questions`.
  """
  unanswerable = config.task == 'squad_v2'
  readers = find_tables(config)
  check = functools.partial(check_questions, unanswerable=unanswerable)
  tables = cut_tables(config.task, readers, 'title', config)
  asked = {name: check(table) for name, table in tables.items()}
  way = WAYS[config.qa.answer](config, tokenizer, unanswerable=unanswerable)
  makers: dict[str, Callable[[], Split]] = {
    name: functools.partial(_split, way, name, questions)
    for name, questions in asked.items()
  }

  def unlabelled(name: str, read: Callable[[], Table]) -> Split:
    return _split(way, name, check(read(), required=False))

  for name, read in readers.items():
    if name.startswith('test'):
      makers[name] = functools.partial(unlabelled, name, read)
  answers = functools.partial(_answers, way)
  return Task(
    name=config.task,
    head=way.head,
    label_names=None,
    splits=Splits(makers),
    loss=way.loss,
    predict=way.predict,
    evaluate=functools.partial(_evaluate, answers),
    metric='f1',
    baseline=_baseline(asked['train'], asked['validation'], unanswerable=unanswerable),
    read=lambda path: unlabelled('input', lambda: read_questions(path, required=False)),
    write_predictions=lambda split, outputs, path: write_answers(
      answers(split, outputs), pathlib.Path(path)
    ),
    suffix='.json',
  )


def _split(way: Way, name: str, questions: Questions) -> Split:
  laid = way.lay(questions)
  if laid.cut:
    logging.getLogger(__name__).warning(
      '%d of %d questions in %r are longer than data.qa.max_question and were cut',
      laid.cut,
      len(questions),
      name,
    )
  columns, windows = laid.columns, laid.windows
  if name == 'train' and not way.learns_silence:
    kept = np.flatnonzero(laid.held_N)
    columns = {key: x[kept] for key, x in columns.items()}
    windows = windows.take(kept)
  return Split(name, columns, host=Asked(questions, windows))


def _answers(way: Way, split: Split, outputs: Outputs) -> Answers:
  rows = len(next(iter(outputs.values())))
  if rows != len(split):
    raise ValueError(
      f'split {split.name!r} has {len(split)} rows, but there are {rows} outputs'
    )
  return way.answers(split.host.questions, split.host.windows, outputs)


def _evaluate(
  answers: Callable[[Split, Outputs], Answers], split: Split, outputs: Outputs
) -> dict[str, float]:
  """The official metrics.

  Raises:
    ValueError: if answers are not known, or there is not one output per row.
  """
  golds = split.host.questions.golds
  missing = sum(texts is None for texts in golds)
  if missing or not golds:
    raise ValueError(
      f'split {split.name!r} cannot be scored: the answers of {missing} of'
      f' {len(golds)} questions are not known; write predictions instead'
    )
  found = answers(split, outputs)
  if found.odds_Q is None:
    return score_v1(golds, found.texts)
  return score_v2(golds, found.texts, found.spans, found.odds_Q)


def _baseline(train: Questions, held: Questions, *, unanswerable: bool) -> Baseline:
  """Scores the commonest answer of the training data, which may be none."""
  said: Sequence[str] = [texts[0] if texts else '' for texts in train.golds]
  common = collections.Counter(normalise(text) for text in said).most_common(1)[0][0]
  answers = [common] * len(held)
  if not unanswerable:
    return Baseline('commonest answer', score_v1(held.golds, answers))
  # The same score for every question: silence, or else the one answer, everywhere.
  metrics = score_v2(held.golds, answers, answers, np.zeros(len(held)))
  return Baseline('commonest answer', metrics)
