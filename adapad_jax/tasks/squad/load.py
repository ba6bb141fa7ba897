"""The tasks 'squad' and 'squad_v2'."""

import collections
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.cuts import Cuts, cut_tables
from adapad_jax.tasks.facts import Facts, recalled, source_facts
from adapad_jax.tasks.files import existing
from adapad_jax.tasks.ragged import take
from adapad_jax.tasks.reader import Read, Readers, files_of, hub_of
from adapad_jax.tasks.squad import generate, span
from adapad_jax.tasks.squad.answer_format import AnswerFormat
from adapad_jax.tasks.squad.answers import Answers, write_answers
from adapad_jax.tasks.squad.questions import Questions, check_questions
from adapad_jax.tasks.squad.reading import find_tables, read_questions
from adapad_jax.tasks.squad.scoring import normalise, raw_scores, score_v1, score_v2
from adapad_jax.tasks.squad.windows import Windows
from adapad_jax.tasks.task import (
  Baseline,
  Outputs,
  Split,
  Splits,
  Task,
  metric_suffix,
  validation_names,
)

TASKS = ('squad', 'squad_v2')
ANSWER_FORMATS: dict[str, Callable[..., AnswerFormat]] = {
  'span': span.answer_format,
  'generate': generate.answer_format,
}


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is kept of a split on the host: the questions and where rows came from."""

  questions: Questions
  windows: Windows


def build(config: DataConfig, tokenizer: Any, facts: Facts | None = None) -> Task:
  """Makes a task: checks every question now, tokenises on demand.

  With the facts of a run, nothing is read before it is asked for.

  Raises:
    ValueError: for data that is missing or cannot be used, see `check_questions`.
  """
  unanswerable = config.task == 'squad_v2'
  check = functools.partial(check_questions, unanswerable=unanswerable)
  readers: Mapping[str, Read] = Readers(functools.partial(find_tables, config))
  if facts is None:
    cuts = cut_tables(config.task, readers, 'title', config)
    asked = {name: check(table) for name, table in cuts.items()}
    baseline = _baseline(asked, unanswerable=unanswerable)
    facts, questions = _facts(config, readers, cuts, baseline), asked.__getitem__
  else:
    readers = recalled(readers, facts.sources)
    cuts = Cuts(readers, 'title', config)
    questions = lambda name: check(cuts[name])
  answer_format = ANSWER_FORMATS[config.qa.answer](
    config, tokenizer, unanswerable=unanswerable
  )
  answers = functools.partial(_answers, answer_format)

  def made(name: str) -> Split:
    if name.startswith('test'):
      return _split(answer_format, name, check(readers[name](), required=False))
    return _split(answer_format, name, questions(name))

  def read(path: str | pathlib.Path, *, labelled: bool = False) -> Split:
    table = read_questions(path, required=labelled)
    return _split(answer_format, 'input', check(table, required=labelled))

  return Task(
    name=config.task,
    head=answer_format.head,
    label_names=None,
    splits=Splits({name: functools.partial(made, name) for name in facts.splits}),
    loss=answer_format.loss,
    predict=answer_format.predict,
    evaluate=functools.partial(_evaluate, answers),
    metric='f1',
    by_row=functools.partial(_by_question, answers),
    sample=_sample,
    baseline=facts.baseline,
    read=read,
    write_predictions=lambda split, outputs, path: write_answers(
      answers(split, outputs), pathlib.Path(path)
    ),
    example=functools.partial(dict.fromkeys, facts.text),
    facts=facts,
  )


def _facts(
  config: DataConfig,
  readers: Mapping[str, Read],
  cuts: Cuts,
  baseline: Baseline,
) -> Facts:
  """What a run has to know of its data later on; test files must be there."""
  for path in (path for read in readers.values() for path in files_of(read)):
    existing(path)
  tests = [name for name in readers if name.startswith('test')]
  return Facts(
    task=config.task,
    kind=config.qa.answer,
    classes=None,
    codes={},
    text=('question', 'context'),
    label='answers',
    sources={
      name: source_facts(read, cuts.rows(name)) for name, read in readers.items()
    },
    splits={name: len(table) for name, table in cuts.items()}
    | dict.fromkeys(tests, None),
    baseline=baseline,
    hub=hub_of(readers.values()),
  )


def _split(answer_format: AnswerFormat, name: str, questions: Questions) -> Split:
  encoded = answer_format.encode(questions)
  if encoded.cut:
    logging.getLogger(__name__).warning(
      '%d of %d questions in %r are longer than data.qa.max_question and were cut',
      encoded.cut,
      len(questions),
      name,
    )
  columns, windows = encoded.columns, encoded.windows
  if name == 'train' and not answer_format.trains_no_answer:
    kept = np.flatnonzero(encoded.held_N)
    columns = {key: take(x, kept) for key, x in columns.items()}
    windows = windows.take(kept)
  return Split(name, columns, host=Asked(questions, windows))


def _answers(answer_format: AnswerFormat, split: Split, outputs: Outputs) -> Answers:
  rows = len(next(iter(outputs.values())))
  if rows != len(split):
    raise ValueError(
      f'split {split.name!r} has {len(split)} rows, but there are {rows} outputs'
    )
  return answer_format.answers(split.host.questions, split.host.windows, outputs)


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
    scores = score_v1(golds, found.texts)
  else:
    scores = score_v2(golds, found.texts, found.spans, found.odds_Q)
  return _named(split.name, scores)


def _by_question(
  answers: Callable[[Split, Outputs], Answers], split: Split, outputs: Outputs
) -> dict[str, np.ndarray]:
  """Exact match and F1 of every question in percent, (Q,)."""
  found = answers(split, outputs)
  is_v2 = found.odds_Q is not None
  golds = split.host.questions.golds
  exact_Q, f1_Q = raw_scores(golds, found.texts, unanswerable=is_v2)
  both = {'exact' if is_v2 else 'exact_match': 100 * exact_Q, 'f1': 100 * f1_Q}
  return _named(split.name, both)


def _sample(split: Split, count: int, seed: int) -> tuple[np.ndarray, Split]:
  """Questions drawn at random, as many as have `count` windows, with all windows."""
  questions, windows = split.host.questions, split.host.windows
  drawn_Q = np.random.default_rng(seed).permutation(len(questions))
  size_Q = np.bincount(windows.question_N, minlength=len(questions))
  fits = int(np.searchsorted(np.cumsum(size_Q[drawn_Q]), count, side='right'))
  kept_Q = np.sort(drawn_Q[: max(fits, 1)])
  rows_M = np.flatnonzero(np.isin(windows.question_N, kept_Q))
  host = Asked(
    questions.take(kept_Q),
    dataclasses.replace(
      windows.take(rows_M),
      question_N=np.searchsorted(kept_Q, windows.question_N[rows_M]),
    ),
  )
  columns = {name: take(x, rows_M) for name, x in split.columns.items()}
  return rows_M, dataclasses.replace(split, columns=columns, host=host)


def _named(split: str, scores: dict[str, Any]) -> dict[str, Any]:
  return {name + metric_suffix(split): value for name, value in scores.items()}


def _baseline(asked: Mapping[str, Questions], *, unanswerable: bool) -> Baseline:
  """Scores the commonest answer of the training data, which may be none."""
  golds = asked['train'].golds
  said: Sequence[str] = [texts[0] if texts else '' for texts in golds]
  common = collections.Counter(normalise(text) for text in said).most_common(1)[0][0]
  metrics: dict[str, float] = {}
  for split in validation_names(asked):
    held = asked[split].golds
    answers = [common] * len(held)
    if unanswerable:
      # One score for all questions: no answer, or else the one answer, everywhere.
      scores = score_v2(held, answers, answers, np.zeros(len(held)))
    else:
      scores = score_v1(held, answers)
    metrics |= _named(split, scores)
  return Baseline('commonest answer', metrics)
