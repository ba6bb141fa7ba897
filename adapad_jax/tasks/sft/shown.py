"""What a plan says of rows: layouts, counts, and one of them with what is learned."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.sft.conversation import BadRow
from adapad_jax.tasks.sft.layouts import Columns, find_layout
from adapad_jax.tasks.sft.reading import Rows
from adapad_jax.tasks.sft.rows import Documents, padding_of
from adapad_jax.tasks.sft.template import end_left_out
from adapad_jax.tasks.sft.tokenise import first_bad

if TYPE_CHECKING:
  from adapad_jax.tasks.sft.source import Source

OPEN, CLOSE = '⟦', '⟧'
# Characters that are shown of a row, half of them from its start.
_SHOWN = 1600


def describe(source: 'Source') -> list[str]:
  """Lines on what is read, what is left of it, and what is learned of a row."""
  found = {name: source.documents(name) for name in ('train', 'validation')}
  train = found['train']
  files, names = source.files['train'], train.store.about['layouts']
  lines = [
    f'rows of {rows.source}: layout {name}'
    for rows, name in zip(files, names, strict=True)
  ]
  how = source.tokenisation
  lines += [f'chat template: {how.template.name}; loss on {how.loss}']
  lines += [
    f'note: rows of {rows.source} are plain strings, which no template is put around; a'
    ' chat with the model, and questions to it, would be in another form'
    for rows in files
    if _is_plain(rows, how.columns)
  ]
  if how.loss in ('assistant', 'last') and (end := end_left_out(how.template)):
    lines += [
      f'note: the {{% generation %}} marks of this template leave out {end!r}, which'
      ' ends a turn: a model does not learn to stop by what they mark'
    ]
  lines += [f'{name}: {counts(rows)}' for name, rows in found.items()]
  for name, rows in found.items():
    if rows.counts.bad:
      bad = first_bad(rows.store, rows.files)
      lines += [f'left out of the {name} files, for instance:']
      lines += [f'  {one}' for one in bad]
  lines += [f'the first training row, what is learned of it in {OPEN} {CLOSE}:']
  shown = marked(source.chat.tokenizer, *tokens_of(train, 0))
  return [*lines, *(f'  {line}' for line in shortened(shown).splitlines())]


def _is_plain(rows: Rows, columns: Columns) -> bool:
  """Whether the first row that can be read has no turns."""
  for _, row in rows.read():
    with contextlib.suppress(BadRow):
      return bool(find_layout(row, columns, rows.source)(row).strings)
  return False


def counts(rows: Documents) -> str:
  """'90 rows, 4,211 tokens, 1,203 of them learned, 2 cut, 10 dropped (10 bad)'."""
  all_of = rows.counts
  reasons = {
    'bad': all_of.bad,
    'too long': all_of.long,
    'nothing learned within data.max_length': all_of.silent,
  }
  why = ', '.join(f'{n:,} {reason}' for reason, n in reasons.items() if n)
  dropped = sum(reasons.values())
  return (
    f'{all_of.rows:,} rows, {all_of.tokens:,} tokens, {all_of.learned:,} of them'
    f' learned, {all_of.cut:,} cut, {dropped:,} dropped' + (f' ({why})' if why else '')
  )


def describe_packing(before: Mapping[str, Ragged], after: Mapping[str, Ragged]) -> str:
  """How many rows packing makes of how many, and what is padding in both."""
  rows = lambda columns: f'{len(columns["mask_BL"]):,}'
  share = lambda columns: f'{100 * padding_of(columns):.1f} %'
  return (
    f'packing: {rows(before)} documents in {rows(after)} rows of'
    f' {after["mask_BL"].shape[1]:,} tokens; padding {share(before)} before,'
    f' {share(after)} after'
  )


def tokens_of(rows: Documents, number: int) -> tuple[np.ndarray, np.ndarray]:
  """Ids of a row, and which of them are learned."""
  start = int(rows.start_N[number])
  place = slice(start, start + int(rows.length_N[number]))
  return rows.store.ids[place], rows.store.learned[place]


def marked(tokenizer: Any, ids_L: Sequence[int], learned_L: Sequence[int]) -> str:
  """The text of tokens, with brackets around what is learned."""
  texts = []
  for is_learned, ids in _runs(ids_L, learned_L):
    text = tokenizer.decode(ids)
    texts.append(f'{OPEN}{text}{CLOSE}' if is_learned else text)
  return ''.join(texts)


def _runs(
  ids_L: Sequence[int], learned_L: Sequence[int]
) -> Iterator[tuple[int, list[int]]]:
  pairs = zip(learned_L, ids_L, strict=True)
  for is_learned, run in itertools.groupby(pairs, key=lambda pair: pair[0]):
    yield is_learned, [int(token) for _, token in run]


def shortened(text: str) -> str:
  """A long text without its middle."""
  if len(text) <= _SHOWN:
    return text
  half = _SHOWN // 2
  return f'{text[:half]} ... {text[-half:]}'
