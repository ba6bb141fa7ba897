"""Checked questions of one split, with every passage stored once."""

import collections
import dataclasses
import logging

import numpy as np

from adapad_jax.tasks.table import Table, filled, texts

# In the place of a span where there is none.
_NONE = (-1, -1)


@dataclasses.dataclass(frozen=True)
class Questions:
  """Questions, their passages and what is known of their answers.

  Attributes:
    ids: one per question, all different.
    questions: the questions.
    passages: the distinct passages, in the order of their first use.
    passage_Q: index of each question's passage.
    golds: every answer an annotator gave, as written; empty: unanswerable. None
      where the answers are not known.
    span_Q2: (start, end) characters of the answer to train on: of those in the passage
      the one that most annotators gave; (-1, -1) where there is none.
    source: a file or dataset, for messages.
  """

  ids: tuple[str, ...]
  questions: tuple[str, ...]
  passages: tuple[str, ...]
  passage_Q: np.ndarray
  golds: tuple[tuple[str, ...] | None, ...]
  span_Q2: np.ndarray
  source: str = ''

  def __len__(self) -> int:
    return len(self.ids)

  def take(self, kept_Q: np.ndarray) -> 'Questions':
    """The given questions; passages stay."""
    of = lambda values: tuple(values[q] for q in kept_Q)
    return dataclasses.replace(
      self,
      ids=of(self.ids),
      questions=of(self.questions),
      passage_Q=self.passage_Q[kept_Q],
      golds=of(self.golds),
      span_Q2=self.span_Q2[kept_Q],
    )

  @property
  def weight_Q(self) -> np.ndarray:
    """float32, 1 where it is known what to train on."""
    known = [
      texts is not None and (not texts or start >= 0)
      for texts, start in zip(self.golds, self.span_Q2[:, 0], strict=True)
    ]
    return np.array(known, np.float32)

  def passage(self, question: int) -> str:
    """The passage of a question."""
    return self.passages[self.passage_Q[question]]


def check_questions(
  table: Table, *, unanswerable: bool, required: bool = True
) -> Questions:
  """Turns a table into questions.

  Args:
    table: with the columns of `reading`.
    unanswerable: whether questions may have no answer, as in v2.0.
    required: refuses questions whose answers are not known. Otherwise, where every
      question has an answer, an empty list of them means that it is not known.

  Raises:
    ValueError: for no questions at all, a blank passage, an id that occurs twice, or
      missing answers.
  """
  questions = texts(filled(table), 'question', blank_ok=True)
  contexts = texts(table, 'context')
  ids = tuple(str(name) for name in table['id'])
  repeated = [name for name, n in collections.Counter(ids).items() if n > 1]
  if repeated:
    raise ValueError(f'{table.source}: ids occur more than once, e.g. {repeated[:3]}')
  number = {text: i for i, text in enumerate(dict.fromkeys(contexts))}
  golds, spans, lost = [], [], 0
  for name, context, answers in zip(ids, contexts, table['answers'], strict=True):
    unknown = answers is None or not (answers['text'] or unanswerable)
    if unknown and required:
      why = 'has no answers'
      if answers is not None:
        why = "is unanswerable; data.task='squad_v2' has such ones"
      raise ValueError(f'{table.source}: question {name!r} {why}')
    if unknown:
      golds.append(None)
      spans.append(_NONE)
      continue
    said = answers['text']
    if unanswerable and not any(text.strip() for text in said):
      said = []  # Some files write a question without an answer as an empty text.
    golds.append(tuple(said))
    spans.append(find_span(context, said, answers['answer_start']) if said else _NONE)
    lost += bool(said) and spans[-1] == _NONE
  if lost:
    logging.getLogger(__name__).warning(
      '%s: the answers of %d questions are not in their passages', table.source, lost
    )
  return Questions(
    ids=ids,
    questions=tuple(questions),
    passages=tuple(number),
    passage_Q=np.array([number[text] for text in contexts], np.int64),
    golds=tuple(golds),
    span_Q2=np.array(spans, np.int64).reshape(-1, 2),
    source=table.source,
  )


def find_span(context: str, answers: list[str], starts: list[int]) -> tuple[int, int]:
  """Characters of the commonest answer that stands in the passage; (-1, -1) for none.

  Of answers that are as common it is the first. One that does not stand where it is
  said to stand is looked for: the occurrence nearest to that place counts.
  """
  given = collections.Counter(zip(answers, starts, strict=True))
  for (text, start), _ in given.most_common():
    if text and text in context:
      if start < 0 or not context.startswith(text, start):
        places = [i for i in range(len(context)) if context.startswith(text, i)]
        start = min(places, key=lambda place: abs(place - start))
      return start, start + len(text)
  return _NONE
