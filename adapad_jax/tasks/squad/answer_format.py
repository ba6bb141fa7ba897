"""What the two ways of answering, by marked span and by generation, have to give."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adapad_jax.models.head import Head
from adapad_jax.tasks.squad.answers import Answers
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.windows import Windows
from adapad_jax.tasks.task import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class EncodedQuestions:
  """Questions encoded as rows of tokens.

  Attributes:
    columns: what a `Split` holds.
    windows: where the rows came from.
    held_N: whether the row has its question's whole answer.
    cut: number of questions that lost tokens.
  """

  columns: dict[str, np.ndarray]
  windows: Windows
  held_N: np.ndarray
  cut: int


@dataclasses.dataclass(frozen=True)
class AnswerFormat:
  """One way of answering.

  Attributes:
    head: the model head it reads.
    trains_no_answer: whether rows without their answer train it to give none.
    encode: questions -> rows.
    loss: as in `Task`.
    predict: as in `Task`.
    answers: (questions, windows, outputs of predict) -> answers.
  """

  head: Head
  trains_no_answer: bool
  encode: Callable[[Questions], EncodedQuestions]
  loss: Callable[..., tuple[jax.Array, jax.Array]]
  predict: Callable[[Any, Batch], dict[str, jax.Array]]
  answers: Callable[[Questions, Windows, Outputs], Answers]
