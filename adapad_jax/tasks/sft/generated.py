"""What is generated at evaluations, shown, and scored where a final answer is known."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adapad_jax.models.generation import (
  GREEDY,
  Budget,
  Sampling,
  extend,
  read,
  row_keys,
)
from adapad_jax.tasks.sft.chat import Chat, Prompt, until
from adapad_jax.tasks.sft.conversation import BadRow
from adapad_jax.tasks.sft.final import FinalAnswer
from adapad_jax.tasks.sft.rows import Documents, drawn
from adapad_jax.tasks.sft.source import Source
from adapad_jax.tasks.task import Batch, Generated, Outputs, Split, Splits
from adapad_jax.tasks.tokenise import pad_rows


@dataclasses.dataclass(frozen=True)
class Asked:
  """Prompts of a split, kept on the host.

  Attributes:
    prompts: in the order of its rows.
    out: rows that were drawn and left out, by reason.
  """

  prompts: tuple[Prompt, ...]
  out: Mapping[str, int]


def generate(
  budget: Budget, sampling: Sampling, seed: int, model: Any, batch: Batch
) -> dict[str, jax.Array]:
  """New tokens 'tokens_BT' of prompts; a row's draws follow from 'number_B' alone."""
  reading = read(model, batch, budget.tokens - 1)
  keys_B = row_keys(seed, batch['number_B']) if sampling.temperature > 0 else None
  return {'tokens_BT': extend(model, reading, budget, sampling, keys_B)[0]}


def prompt_columns(prompts: Sequence[Prompt], fill: int) -> dict[str, np.ndarray]:
  """Prompts as rows of a batch, padded on the right."""
  width = max((len(one.ids) for one in prompts), default=1)
  return {
    'ids_BL': pad_rows([one.ids for one in prompts], width, fill),
    'mask_BL': pad_rows([(1,) * len(one.ids) for one in prompts], width, 0),
    'number_B': np.arange(len(prompts), dtype=np.int32),
  }


def make_generated(
  source: Source, names: Sequence[str], most_positions: int | None
) -> Generated | None:
  """What is generated for a split; None where that is nothing.

  Args:
    source: makes documents of a split.
    names: of the splits.
    most_positions: that the model has.
  """
  config = source.config.generation
  if not (config.samples or config.answer):
    return None
  room = None if most_positions is None else most_positions - config.max_new_tokens
  make = lambda name: _split(source, name, room)
  budget = Budget(config.max_new_tokens, source.chat.stop_ids, source.chat.fill)
  return Generated(
    prompts=Splits({name: functools.partial(make, name) for name in names}),
    ask=functools.partial(_of_input, source, room),
    generate=functools.partial(generate, budget, GREEDY, 0),
    evaluate=functools.partial(_evaluate, source),
    samples=functools.partial(_samples, source),
    most=_wanted(source),
  )


def _wanted(source: Source) -> int:
  """Rows that are answered; 0 for all."""
  config = source.config.generation
  if not config.answer:
    return config.samples
  return config.scored and max(config.samples, config.scored)


def _split(source: Source, name: str, room: int | None) -> Split:
  """Prompts of a few rows of a split, the same ones every time.

  Raises:
    ValueError: if rows are to be scored, and none has a final answer.
  """
  split, final = _asked(source, name, source.documents(name), room), _final(source)
  if final and not len(split):
    out = split.host.out
    raise ValueError(
      f'data.generation.answer={final.kind!r}: no row of {sum(out.values())} of split'
      f' {name!r} can be scored: {out}'
    )
  return split


def _of_input(source: Source, room: int | None, split: Split) -> Split:
  """Prompts of a few rows of a user's own file; none where no answer is scored."""
  if _final(source) is None:
    return Split(split.name, prompt_columns((), source.chat.fill), host=Asked((), {}))
  return _asked(source, split.name, split.host, room)


def _asked(source: Source, name: str, rows: Documents, room: int | None) -> Split:
  """Prompts of a few rows, as far as they can be used."""
  chosen_N, final = drawn(np.arange(len(rows)), _wanted(source)), _final(source)
  prompts, out = [], {}
  for row in rows.raw(chosen_N):
    reason, prompt = _usable(source.chat, row, room, final)
    if reason:
      out[reason] = out.get(reason, 0) + 1
    else:
      prompts.append(prompt)
  columns = prompt_columns(prompts, source.chat.fill)
  return Split(name, columns, host=Asked(tuple(prompts), out))


def _usable(
  chat: Chat, row: Any, room: int | None, final: FinalAnswer | None
) -> tuple[str, Prompt | None]:
  """The prompt of a row, or why it has none."""
  try:
    prompt, _ = chat.prompt_of_row(row)
  except BadRow:
    return 'no prompt', None
  if prompt.reference is None or not prompt.ids:
    return 'no prompt', None
  if room is not None and len(prompt.ids) > room:
    return 'longer than the model takes with an answer', None
  if final and final(prompt.reference) is None:
    return 'no final answer', None
  return '', prompt


def _final(source: Source) -> FinalAnswer | None:
  kind = source.config.generation.answer
  return FinalAnswer(kind) if kind else None


def answers_of(chat: Chat, tokens_NT: np.ndarray, stop: Sequence[str]) -> list[str]:
  """The texts of answers, ended by the template's ends or any text in `stop`."""
  ends = chat.ends(stop)
  return [until(chat.text_of(row), ends) for row in tokens_NT.tolist()]


def _answers(source: Source, split: Split, outputs: Outputs) -> list[str]:
  stop = source.config.generation.stop
  return answers_of(source.chat, outputs['tokens_BT'], stop)


def _evaluate(source: Source, split: Split, outputs: Outputs) -> dict[str, float]:
  """Share of final answers that are right; nothing where none is scored.

  NaN of rows that have none.
  """
  final = _final(source)
  if final is None:
    return {}
  if not split.host.prompts:
    return {'exact_match': math.nan}
  said = _answers(source, split, outputs)
  right = [
    final(text) == final(prompt.reference)
    for text, prompt in zip(said, split.host.prompts, strict=True)
  ]
  return {'exact_match': float(np.mean(right))}


def _samples(source: Source, split: Split, outputs: Outputs) -> list[dict[str, Any]]:
  """The first rows: prompt, reference, answer and, if that is known, whether right."""
  final, count = _final(source), source.config.generation.samples
  first = {name: column[:count] for name, column in outputs.items()}
  found = []
  said = _answers(source, split, first)
  for prompt, text in zip(split.host.prompts[:count], said, strict=True):
    row = {'prompt': prompt.text, 'reference': prompt.reference, 'answer': text}
    if final is not None:
      row['right'] = final(text) == final(prompt.reference)
    found.append(row)
  return found


def describe(generated: Generated, source: Source) -> str:
  """'at each evaluation 64 validation rows are answered, ...'."""
  config = source.config.generation
  asked: Asked = generated.prompts['validation'].host
  scored = f', scored by exact match of {config.answer!r}' if config.answer else ''
  why = ', '.join(f'{count} {reason}' for reason, count in asked.out.items())
  return (
    f'at each evaluation {len(asked.prompts)} validation rows are answered by up to'
    f' {config.max_new_tokens} tokens{scored}' + (f'; left out: {why}' if why else '')
  )
