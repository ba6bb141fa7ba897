"""What a saved run's decoder says to prompts: batched, with a key-value cache."""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.models.generation import GREEDY, Budget, Sampling
from adapad_jax.tasks.config import GenerationConfig
from adapad_jax.tasks.sft.chat import Chat, Prompt, count_of, until
from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.sft.final import FinalAnswer
from adapad_jax.tasks.sft.generated import generate, prompt_columns
from adapad_jax.tasks.sft.rows import columns_of, documents
from adapad_jax.tasks.sft.store import in_memory
from adapad_jax.tasks.task import Outputs, Split
from adapad_jax.training.evaluate import Program, make_program
from adapad_jax.training.plan import Plan
from adapad_jax.training.session import Session

# Prompts are padded to a power of two, at least this: few programs are compiled.
_SHORTEST = 32
Cells = dict[str, list[Any]]


class Answering(Protocol):
  """What is asked: `saved.SavedRun` is one.

  Attributes:
    plan, session: of the run.
    programs: compiled programs that answer prompts, by what they were compiled for.
  """

  plan: Plan
  session: Session
  programs: dict[Any, Program]

  def cut(self, max_rank: int, budget: int) -> tuple[Deployed, int]:
    """The update and how much of every module to use of it, on the current mesh."""

  def outputs(self, split: Split, max_rank: int = 0, budget: int = 0) -> Outputs:
    """What the task's `predict` gives for each row of a split."""


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers are drawn and when they end.

  Attributes:
    sampling: how the next token is chosen.
    max_new_tokens: longest answer.
    stop: texts that end one, beside the end of a turn.
    seed: of the draws; what a row says depends on its number besides.

  Raises:
    ValueError: for fewer than one token.
  """

  sampling: Sampling = Sampling()
  max_new_tokens: int = 128
  stop: tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self) -> None:
    if self.max_new_tokens < 1:
      raise ValueError(
        f'--max_new_tokens must be at least 1, got {self.max_new_tokens}'
      )

  @classmethod
  def of(cls, config: GenerationConfig, options: Mapping[str, Any]) -> 'Decoding':
    """What a config says, and in place of it the flags that were given.

    Raises:
      ValueError: for a flag that is of no use with the others.
    """
    chosen = lambda name: (
      getattr(config, name) if options.get(name) is None else options[name]
    )
    sampling = Sampling(chosen('temperature'), chosen('top_k'), chosen('top_p'))
    of_all = lambda name: options.get(name) in (None, getattr(GREEDY, name))
    unused = [name for name in ('top_k', 'top_p') if not of_all(name)]
    if unused and not sampling.temperature:
      raise ValueError(
        f'--{unused[0]} says what answers are drawn from, and they are drawn with'
        ' --temperature above 0 only'
      )
    stop = tuple(chosen('stop'))
    return cls(sampling, chosen('max_new_tokens'), stop, options.get('seed') or 0)


def complete(
  run: Answering,
  rows: Iterable[tuple[str, Any]],
  decoding: Decoding,
  max_rank: int = 0,
  budget: int = 0,
) -> Cells:
  """Answers to rows in any layout of 'sft', with or without their last turn.

  Args:
    run: whose update is used.
    rows: (where it is, for messages, the row), ...
    decoding: how.
    max_rank, budget: how the update is cut, see `SavedRun.evaluate`.

  Returns:
    Columns with one cell a row: 'prediction', the answer; 'tokens', how many it has;
    'finish', 'stop' or 'length'; with `data.generation.answer` its 'final' answer and,
    where that is known, whether it is 'right'; and of rows with a last turn of their
    own its 'loss' in nats a token and 'token_accuracy'.

  Raises:
    ValueError: for a row that is wrong, has no prompt, or is too long for the model.
  """
  chat = run.plan.task.chat
  prompts, wholes = _read(run, chat, rows, decoding)
  with jax.set_mesh(run.plan.mesh):
    tokens_NT = _tokens(run, chat, prompts, decoding, max_rank, budget)
  cells = _cells(run, chat, prompts, tokens_NT, decoding)
  if any(one is not None for one in wholes):
    cells |= _losses(run, chat, wholes, max_rank, budget)
  return cells


def _read(
  run: Answering, chat: Chat, rows: Iterable[tuple[str, Any]], decoding: Decoding
) -> tuple[list[Prompt], list[Conversation | None]]:
  prompts, wholes = [], []
  most = run.session.pretrained.config.max_length
  for place, row in rows:
    try:
      prompt, whole = chat.prompt_of_row(row)
    except BadRow as bad:
      raise ValueError(f'{place}: {bad}') from None
    if not prompt.ids:
      raise ValueError(f'{place}: its prompt is empty')
    if len(prompt.ids) + decoding.max_new_tokens > most:
      raise ValueError(
        f'{place}: its prompt has {len(prompt.ids)} tokens, and with'
        f' {decoding.max_new_tokens} new ones that is more than the {most} that the'
        ' model takes; lower --max_new_tokens, or shorten it'
      )
    prompts.append(prompt)
    wholes.append(whole)
  if not prompts:
    raise ValueError('there is no row to answer')
  return prompts, wholes


def _tokens(
  run: Answering,
  chat: Chat,
  prompts: Sequence[Prompt],
  decoding: Decoding,
  max_rank: int,
  budget: int,
) -> np.ndarray:
  """New tokens (N, T), padded behind the one that ends an answer."""
  plan = run.plan
  columns = prompt_columns(prompts, chat.fill)
  longest = columns['ids_BL'].shape[1]
  rows = min(plan.config.train.eval_batch, len(prompts))
  doubles = range(_SHORTEST.bit_length() - 1, longest.bit_length())
  program = _program(run, dataclasses.replace(decoding, stop=()), rows)
  program = dataclasses.replace(program, buckets=tuple(2**n for n in doubles))
  deployed, prefix = run.cut(max_rank, budget)
  split = Split('input', columns)
  return program.outputs(run.session.params, deployed, split, prefix)['tokens_BT']


def _program(run: Answering, decoding: Decoding, rows: int) -> Program:
  """What answers so many rows at once, kept for the next prompts."""
  plan, chat = run.plan, run.plan.task.chat
  if (decoding, rows) not in run.programs:
    end = Budget(decoding.max_new_tokens, chat.stop_ids, chat.fill)
    run.programs[decoding, rows] = make_program(
      functools.partial(generate, end, decoding.sampling, decoding.seed),
      plan.attachment,
      plan.modules,
      plan.mesh,
      rows,
      watchdog=plan.config.train.watchdog,
    )
  return run.programs[decoding, rows]


def _said(chat: Chat, ids: np.ndarray, text: str) -> int:
  """Tokens of an answer whose text may end before they do."""
  if chat.text_of(ids.tolist()) == text:
    return len(ids)
  # A text that a stop ends is there as soon as its last token is.
  is_there = lambda count: len(chat.text_of(ids[:count].tolist())) >= len(text)
  return bisect.bisect_left(range(len(ids) + 1), True, key=is_there)


def _cells(
  run: Answering,
  chat: Chat,
  prompts: Sequence[Prompt],
  tokens_NT: np.ndarray,
  decoding: Decoding,
) -> Cells:
  ends = np.isin(tokens_NT, chat.stop_ids).any(axis=1)
  whole = [chat.text_of(row) for row in tokens_NT.tolist()]
  stop = chat.ends(decoding.stop)
  texts = [until(text, stop) for text in whole]
  cells: Cells = {
    'prediction': texts,
    'tokens': [
      _said(chat, row[: count_of(row, chat.stop_ids)], text)
      for row, text in zip(tokens_NT, texts, strict=True)
    ],
    'finish': [
      'stop' if end or text != before else 'length'
      for end, text, before in zip(ends, texts, whole, strict=True)
    ],
  }
  kind = run.plan.config.data.generation.answer
  if kind:
    final = FinalAnswer(kind)
    known = [p.reference and final(p.reference) for p in prompts]
    cells['final'] = [final(text) for text in texts]
    if any(known):
      pairs = zip(cells['final'], known, strict=True)
      cells['right'] = [one and said == one for said, one in pairs]
  return cells


def _losses(
  run: Answering,
  chat: Chat,
  wholes: Sequence[Conversation | None],
  max_rank: int,
  budget: int,
) -> Cells:
  """Loss and accuracy on the last turns of rows; None where that is nothing."""
  there = [i for i, one in enumerate(wholes) if one is not None]
  encoded = chat.encoded([wholes[i] for i in there])
  kept = [(i, row) for i, row in zip(there, encoded, strict=True) if row is not None]
  most = run.plan.config.data.max_length
  kept = [(i, row) for i, row in kept if row.learned_L[:most].any()]
  cells: Cells = {name: [None] * len(wholes) for name in ('loss', 'token_accuracy')}
  if not kept:
    return cells
  store = in_memory([row.ids_L for _, row in kept], [row.learned_L for _, row in kept])
  rows = documents(store, np.arange(len(kept)), most, 'cut', ())
  split = Split('input', columns_of(rows, chat.fill), host=rows)
  found = run.outputs(split, max_rank, budget)
  for k, (i, _) in enumerate(kept):
    cells['loss'][i] = float(found['loss_B'][k] / found['tokens_B'][k])
    cells['token_accuracy'][i] = float(found['right_B'][k] / found['tokens_B'][k])
  return cells
