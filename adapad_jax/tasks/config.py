"""What to read and how to cut it into rows of fixed length."""

import dataclasses

from adapad_jax.settings import did_you_mean

MIN_LENGTH = 8

ANSWERS = ('span', 'generate')
# What instruction tuning learns of a row, see `sft.masks.mark`.
LOSSES = ('assistant', 'completion', 'last', 'all')
TOO_LONG = ('cut', 'drop', 'refuse')
STRINGS = ('plain', 'turns')
BAD_ROWS = ('refuse', 'drop')


@dataclasses.dataclass(frozen=True)
class QaConfig:
  """How questions about passages are laid out and answered.

  Attributes:
    answer: 'span' marks the answer in the passage, 'generate' has a decoder say it.
    overlap: tokens that neighbouring windows of a long passage share.
    max_question: tokens kept of a question.
    max_answer: longest answer in tokens.
    n_best: candidate answers that are kept for each question.
    null_threshold: v2.0 gives no answer where the no-answer score is above this.
    no_answer: what a decoder says, in v2.0, where the passage has no answer.

  Raises:
    ValueError: for an unknown way to answer, a size below one, or a blank reply.
  """

  answer: str = 'span'
  overlap: int = 128
  max_question: int = 64
  max_answer: int = 30
  n_best: int = 20
  null_threshold: float = 0.0
  no_answer: str = 'unanswerable'

  def __post_init__(self) -> None:
    if self.answer not in ANSWERS:
      raise ValueError(
        f'unknown data.qa.answer={self.answer!r}{did_you_mean(self.answer, ANSWERS)}'
      )
    for name in ('max_question', 'max_answer', 'n_best'):
      if getattr(self, name) < 1:
        raise ValueError(
          f'data.qa.{name} must be at least 1, got {getattr(self, name)}'
        )
    if self.overlap < 0:
      raise ValueError(f'data.qa.overlap must not be negative, got {self.overlap}')
    if not self.no_answer.strip():
      raise ValueError('data.qa.no_answer must not be blank')


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
    cache: folder that keeps tokenised rows between starts; '' is the user's cache.

  Raises:
    ValueError: for an unknown choice.
  """

  template: str = ''
  loss: str = 'assistant'
  too_long: str = 'cut'
  strings: str = 'plain'
  cache: str = ''

  def __post_init__(self) -> None:
    for name, choices in (
      ('loss', LOSSES),
      ('too_long', TOO_LONG),
      ('strings', STRINGS),
    ):
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(
          f'unknown data.chat.{name}={value!r}{did_you_mean(value, choices)}'
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Names a task and the data it reads.

  Attributes:
    task: a GLUE task ('cola', 'sst2', ...), 'squad', 'squad_v2', 'rotten_tomatoes',
      'classification' or 'regression' for one's own files, or 'sft' for prompts and
      chats of one's own.
    path: a folder to read instead of the hub: official GLUE .tsv or SQuAD .json
      files, a saved `datasets` folder, or files named after splits (train.csv, ...).
      For 'sft' also a data set on the hub, OWNER/NAME or OWNER/NAME:CONFIGURATION.
    train: one's own training file (.csv, .tsv, .jsonl or .parquet; .json for SQuAD).
      For 'sft' a file (.json too, and .gz), a folder of them, or several with commas
      between.
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
      validation split proper is then called 'dev'.
    prompt, completion: columns of 'sft' with other names than prompt and completion.
    messages: the column of 'sft' that holds messages, if it has another name.
    weights: how often an epoch of 'sft' sees the rows of each training file: 2 is
      twice, 0.5 a half of them, drawn once. Empty: once.
    bad_rows: rows of 'sft' that cannot be learned are an error ('refuse'), or are left
      out and counted ('drop').
    qa: how SQuAD's questions are laid out and answered.
    chat: how rows of 'sft' become tokens.

  Raises:
    ValueError: for a size, fraction or weight out of range, an unknown choice, or other
      than one or two text columns.
  """

  task: str = 'rotten_tomatoes'
  path: str = ''
  train: str = ''
  validation: str = ''
  test: str = ''
  text: tuple[str, ...] = ('text',)
  label: str = 'label'
  labels: tuple[str, ...] = ()
  max_length: int = 128
  max_train_rows: int = 0
  max_eval_rows: int = 0
  holdout: float = 0.0
  prompt: str = ''
  completion: str = ''
  messages: str = ''
  weights: tuple[float, ...] = ()
  bad_rows: str = 'refuse'
  qa: QaConfig = QaConfig()
  chat: ChatConfig = ChatConfig()

  def __post_init__(self) -> None:
    if len(self.text) not in (1, 2) or isinstance(self.text, str):
      raise ValueError(f'data.text takes one or two column names, got {self.text!r}')
    if self.max_length < MIN_LENGTH:
      raise ValueError(
        f'data.max_length must be at least {MIN_LENGTH} tokens, got {self.max_length}'
      )
    for name in ('max_train_rows', 'max_eval_rows'):
      if getattr(self, name) < 0:
        raise ValueError(f'data.{name} must not be negative, got {getattr(self, name)}')
    if not 0 <= self.holdout < 1:
      raise ValueError(f'data.holdout must be in [0, 1), got {self.holdout}')
    if self.bad_rows not in BAD_ROWS:
      raise ValueError(
        f'unknown data.bad_rows={self.bad_rows!r}'
        f'{did_you_mean(self.bad_rows, BAD_ROWS)}'
      )
    if any(not weight >= 0 for weight in self.weights) or (
      self.weights and not any(self.weights)
    ):
      raise ValueError(
        f'data.weights must not be negative, nor all zero, got {self.weights}'
      )
