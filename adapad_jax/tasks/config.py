"""What to read and how to cut it into rows of fixed length."""

import dataclasses
import re
from typing import Annotated

from adapad_jax.ranges import (
  Count,
  Fraction,
  Free,
  Natural,
  NonNegative,
  OneOf,
  Range,
  Real,
  Text,
)
from adapad_jax.settings import check, did_you_mean

MIN_LENGTH = 8

ANSWERS = ('span', 'generate')
# What instruction tuning learns of a row, see `sft.masks.mark`.
LOSSES = ('assistant', 'completion', 'last', 'all')
TOO_LONG = ('cut', 'drop', 'refuse')
STRINGS = ('plain', 'turns')
BAD_ROWS = ('refuse', 'drop')
# Final answers that are known by name, see `sft.final.FinalAnswer`.
FINAL_ANSWERS = ('hashes', 'choice', 'boolean')


@dataclasses.dataclass(frozen=True)
class QaConfig:
  """How questions about passages are laid out and answered.

  Attributes:
    answer: 'span' marks the answer in the passage, 'generate' lets a decoder generate
      it.
    overlap: tokens that neighbouring windows of a long passage share; 128 is
      run_qa.py's.
    max_question: tokens kept of a question.
    max_answer: longest answer in tokens; 30 is run_qa.py's.
    n_best: candidate answers that are kept for each question; 20 is run_qa.py's.
    null_threshold: v2.0 gives no answer where the no-answer score is above this.
    no_answer: what a decoder generates, in v2.0, where the passage has no answer.

  Raises:
    ValueError: for an unknown way to answer, a size below one, or a blank reply.
  """

  answer: Annotated[str, OneOf(ANSWERS)] = 'span'
  overlap: Natural = 128
  max_question: Count = 64
  max_answer: Count = 30
  n_best: Count = 20
  null_threshold: Real = 0.0
  no_answer: Annotated[str, Free(blank=False)] = 'unanswerable'

  def __post_init__(self) -> None:
    check(self, 'data.qa')


@dataclasses.dataclass(frozen=True)
class ChatConfig:
  """How rows of instruction tuning become tokens, and which of them are learned.

  Attributes:
    template: file of a chat template, or 'plain'; '' takes the model's own or, without
      one, 'plain'.
    loss: 'assistant' learns every turn of the assistant with the token that ends it,
      'last' the last turn alone, 'completion' what follows the prompt, 'all'
      everything.
    too_long: rows above `data.max_length` are 'cut', or left out ('drop'), or an error
      ('refuse').
    strings: a prompt and a completion that are strings stand 'plain' behind each other,
      or become 'turns' of the chat template.

  Raises:
    ValueError: for an unknown choice.
  """

  template: Text = ''
  loss: Annotated[str, OneOf(LOSSES)] = 'assistant'
  too_long: Annotated[str, OneOf(TOO_LONG)] = 'cut'
  strings: Annotated[str, OneOf(STRINGS)] = 'plain'

  def __post_init__(self) -> None:
    check(self, 'data.chat')


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
  """What a decoder says of rows of 'sft': at evaluations the likeliest tokens, in
  `--mode=predict` and `--mode=chat` by temperature, top_k and top_p.

  Attributes:
    samples: validation rows that are answered at each evaluation, to be read.
    answer: the final answer that is scored by exact match: 'hashes' is what follows
      the last `####`, as in GSM8K, 'choice' the last `answer2` or letter A to J,
      'boolean' the last true, false, yes or no; or a regular expression with one
      group, of which the last match counts. '' scores none.
    scored: validation rows that are answered and scored at each evaluation, if there
      is an `answer`; 0 means all.
    max_new_tokens: longest answer in tokens.
    temperature: divides the logits; 0 takes the likeliest token.
    top_k: only the k likeliest tokens; 0 means all.
    top_p: only the likeliest tokens that together reach this probability.
    stop: texts that end an answer, beside the end of a turn.

  Raises:
    ValueError: for a number out of range, or an answer that is neither a known name
      nor a regular expression with one group.
  """

  samples: Natural = 4
  answer: Text = ''
  scored: Natural = 64
  max_new_tokens: Count = 128
  temperature: NonNegative = 0.0
  top_k: Natural = 0
  top_p: Annotated[float, Range(above=0, most=1)] = 1.0
  stop: tuple[Text, ...] = ()

  def __post_init__(self) -> None:
    check(self, 'data.generation')
    if not self.answer or self.answer in FINAL_ANSWERS:
      return
    hint = did_you_mean(self.answer, FINAL_ANSWERS)
    wrong = f'data.generation.answer={self.answer!r}: not a name{hint}'
    try:
      groups = re.compile(self.answer).groups
    except re.error as error:
      raise ValueError(f'{wrong}, and no regular expression: {error}') from None
    if groups != 1:
      raise ValueError(
        f'{wrong}, or give a regular expression with one group; this has {groups}'
      )


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Names a task and the data it reads.

  Attributes:
    task: a GLUE task ('cola', 'sst2', ...), 'squad', 'squad_v2', 'rotten_tomatoes',
      'classification' or 'regression' for one's own files, or 'sft' for prompts and
      chats of one's own.
    path: a folder to read: official GLUE .tsv or SQuAD .json files, a saved
      `datasets` folder, or files named after splits (train.csv, ...). Or the id of a
      data set on the hub, OWNER/NAME or OWNER/NAME@REVISION; a folder of that name
      wins. '' means the task's own data set on the hub, where it has one.
    revision: branch, tag or commit of the data set on the hub; '' means its main
      branch.
    subset: of a data set on the hub ('config' in its card; a folder, where that lists
      none); '' means the default, for GLUE the task's name.
    train: one's own training file (.csv, .tsv, .jsonl, .json or .parquet). For 'sft'
      also a folder of them, or several with commas between.
    validation: one's own validation file.
    test: one's own test file; labels may be missing.
    text: the one or two text columns of one's own files.
    label: the label column of one's own files.
    labels: the label set, in order; empty means what the training data holds.
    max_length: tokens per row; longer rows are cut, shorter ones padded.
    max_train_rows: rows (SQuAD: questions) to train on, drawn once with a fixed
      seed; 0 means all.
    max_eval_rows: rows of every validation split, drawn likewise; 0 means all.
    holdout: fraction of the training data to validate on instead, for tuning. The
      validation split proper is then called 'dev', or 'source_validation' beside a
      'dev' of the source.
    prompt, completion: columns of 'sft' with other names than prompt and completion.
    messages: the column of 'sft' that holds messages, if it has another name.
    weights: how often an epoch of 'sft' sees the rows of each training file: 2 is
      twice, 0.5 a half of them, drawn once. Empty: once.
    bad_rows: rows of 'sft' that cannot be learned are an error ('refuse'), or are left
      out and counted ('drop').
    cache: folder that keeps tokenised rows between starts; '' is the user's cache.
    qa: how SQuAD's questions are laid out and answered.
    chat: how rows of 'sft' become tokens.
    generation: what is generated and scored of rows of 'sft'.

  Raises:
    ValueError: for a size, fraction or weight out of range, an unknown choice, or other
      than one or two text columns.
  """

  task: Text = 'rotten_tomatoes'
  path: Text = ''
  revision: Text = ''
  subset: Text = ''
  train: Text = ''
  validation: Text = ''
  test: Text = ''
  text: tuple[Text, ...] = ('text',)
  label: Text = 'label'
  labels: tuple[Text, ...] = ()
  max_length: Annotated[int, Range(least=MIN_LENGTH)] = 128
  max_train_rows: Natural = 0
  max_eval_rows: Natural = 0
  holdout: Fraction = 0.0
  prompt: Text = ''
  completion: Text = ''
  messages: Text = ''
  weights: tuple[NonNegative, ...] = ()
  bad_rows: Annotated[str, OneOf(BAD_ROWS)] = 'refuse'
  cache: Text = ''
  qa: QaConfig = QaConfig()
  chat: ChatConfig = ChatConfig()
  generation: GenerationConfig = GenerationConfig()

  def __post_init__(self) -> None:
    if not isinstance(self.text, str):  # which is no list of names
      check(self, 'data')
    if isinstance(self.text, str) or len(self.text) not in (1, 2):
      raise ValueError(f'data.text takes one or two column names, got {self.text!r}')
    if self.weights and not any(self.weights):
      raise ValueError(f'data.weights must not be all zero, got {self.weights}')
