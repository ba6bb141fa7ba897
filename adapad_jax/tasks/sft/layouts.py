"""Layouts of rows, told apart by their keys, and what each means.

Their names and meanings are those of TRL, LLaMA-Factory (alpaca, sharegpt), OpenAI
(messages) and MaxText (question, answer).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from adapad_jax.tasks.sft.conversation import (
  ALIASES,
  BadRow,
  Conversation,
  call_of,
  conversation,
  parse,
  require_unicode,
  role_of,
  text_of,
  tools_of,
)

Row = Mapping[str, Any]
# What is said in a row that does not tell, so that the rest of it can be checked.
_STAND_IN = 'x'


@dataclasses.dataclass(frozen=True)
class Columns:
  """Names that a user gives to columns; '' takes those of the known layouts.

  Attributes:
    prompt, completion: of a prompt and what follows it.
    messages: of a list of messages, in either spelling.
    strings: 'plain' puts a prompt and a completion that are strings one behind the
      other, 'turns' makes turns of them.
  """

  prompt: str = ''
  completion: str = ''
  messages: str = ''
  strings: str = 'plain'

  def example(self, text: str) -> dict[str, Any]:
    """A row with these columns in which both sides say a text."""
    if self.messages:
      sides = [{'role': role, 'content': text} for role in ('user', 'assistant')]
      return {self.messages: sides}
    return dict.fromkeys(
      (self.prompt or 'prompt', self.completion or 'completion'), text
    )


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the rows of a file are read.

  Attributes:
    name: what it is called.
    keys: the columns that every row has; where there are two, the second holds what
      is said to the first.
    read: row -> conversation; raises BadRow.
  """

  name: str
  keys: tuple[str, ...]
  read: Callable[[Row], Conversation]

  def __call__(self, row: Any) -> Conversation:
    """The conversation of a row.

    Raises:
      BadRow: if a key is missing or null, or the row is not what the layout says.
    """
    if not isinstance(row, Mapping):
      raise BadRow(f'not an object with fields but {row!r:.60}')
    if missing := [key for key in self.keys if key not in row]:
      raise BadRow(
        f'{missing} missing for layout {self.name!r}; there is {sorted(row)}'
      )
    if null := [key for key in self.keys if row[key] is None]:
      raise BadRow(
        f'{null} is null, or the row ends before it; layout {self.name!r} needs it'
      )
    found = self.read(row)
    require_unicode(found)
    return found


def find_layout(row: Any, columns: Columns, source: str) -> Layout:
  """The layout of a file, from its first row.

  Raises:
    ValueError: if the keys are those of no layout, or lack a column that is named.
  """
  have = sorted(row) if isinstance(row, Mapping) else []
  known = [_named(columns)] if _named(columns) else _known(columns)
  for layout in known:
    if all(key in have for key in layout.keys):
      return layout
  if _named(columns):
    raise ValueError(f'{source} has no column {known[0].keys}; it has {have}')
  choices = '; '.join(f'{layout.name}: {", ".join(layout.keys)}' for layout in known)
  raise ValueError(
    f'{source}: rows with the keys {have} have no known layout ({choices}); name the'
    ' columns with data.prompt and data.completion, or data.messages'
  )


def read_prompt(row: Any, columns: Columns) -> tuple[Conversation, bool]:
  """A row whose last turn may be missing, as where one is asked for.

  Its layout is the one that training would read it in; of a row with the keys of none,
  the first with what goes in front of the last turn.

  Returns:
    The conversation, and whether the row has its last turn; without, a stand-in has
    its place.

  Raises:
    BadRow: if the keys are those of no layout, or the row is wrong elsewhere.
  """
  if not isinstance(row, Mapping):
    raise BadRow(f'not an object with fields but {row!r:.60}')
  named = _named(columns)
  layouts = [*([named] if named else []), *_known(columns)]
  open_ones = [one for one in layouts if row.get(one.keys[0]) is not None]
  # Columns that a user names count before all others, as they do in training.
  whole_ones = [one for one in open_ones if one is named or row.keys() >= {*one.keys}]
  for layout in (*whole_ones, *open_ones):
    whole = _completed(layout, row)
    return layout(whole or row), whole is None
  first = dict.fromkeys(layout.keys[0] for layout in layouts)
  raise BadRow(f'there is nothing to answer: none of {[*first]}, only {sorted(row)}')


def _completed(layout: Layout, row: Row) -> Row | None:
  """The row with a stand-in for its last turn; None if it has one, or needs none."""
  key, *others = layout.keys
  given = row[key]
  if others:
    if row.get(others[0]):
      return None
    given = _messages_in(given)
    said = [{'role': 'assistant', 'content': _STAND_IN}]
    return {**row, others[0]: said if isinstance(given, list) else _STAND_IN}
  if layout.name == 'text':
    return None
  if isinstance(given, str):  # As a .csv has messages.
    given = parse(given, repr(key))
  if not isinstance(given, list) or not given or not isinstance(given[-1], Mapping):
    return None  # Its layout says what is wrong.
  is_sharegpt = 'from' in given[-1] and 'role' not in given[-1]
  role = given[-1].get('from' if is_sharegpt else 'role')
  if role == 'function_call' or ALIASES.get(str(role), role) == 'assistant':
    return None
  turn = (
    {'from': 'gpt', 'value': _STAND_IN}
    if is_sharegpt
    else {'role': 'assistant', 'content': _STAND_IN}
  )
  return {**row, key: [*given, turn]}


def _named(columns: Columns) -> Layout | None:
  if columns.messages:
    return Layout('messages', (columns.messages,), _messages(columns.messages))
  if not (columns.prompt or columns.completion):
    return None
  keys = (columns.prompt or 'prompt', columns.completion or 'completion')
  return Layout('prompt-completion', keys, _pair(*keys, columns.strings))


def _known(columns: Columns) -> list[Layout]:
  """All layouts, the more telling keys first."""
  pair = ('prompt', 'completion')
  return [
    Layout('messages', ('messages',), _messages('messages')),
    Layout('sharegpt', ('conversations',), _messages('conversations')),
    Layout('prompt-completion', pair, _pair(*pair, columns.strings)),
    Layout('alpaca', ('instruction', 'output'), _alpaca),
    Layout('question-answer', ('question', 'answer'), _question),
    Layout('text', ('text',), _text),
  ]


def _messages(key: str) -> Callable[[Row], Conversation]:
  """Messages as {role, content}, or sharegpt's {from, value}."""

  def read(row: Row) -> Conversation:
    given = row[key]
    if isinstance(given, str):  # As a .csv has them.
      given = parse(given, repr(key))
    if not isinstance(given, list) or not all(isinstance(m, Mapping) for m in given):
      raise BadRow(f'{key!r} must be a list of messages, got {given!r:.60}')
    messages = [
      _turn(m, i) if 'from' in m and 'role' not in m else m for i, m in enumerate(given)
    ]
    return conversation([*_system(row), *messages], **_more(row))

  return read


def _system(row: Row) -> list[dict[str, str]]:
  """The system message that some layouts keep in a column of its own."""
  system = text_of(row.get('system'), "'system'")
  return [{'role': 'system', 'content': system}] if system.strip() else []


def _more(row: Row) -> dict[str, Any]:
  """What else a template may be given, which all layouts of chats have in columns."""
  return {'tools': row.get('tools'), 'options': row.get('chat_template_kwargs')}


def _turn(message: Row, place: int) -> dict[str, Any]:
  """A message of sharegpt, whose calls of functions are JSON in a turn of their own."""
  kept = {k: v for k, v in message.items() if k not in ('from', 'value')}
  value = message.get('value')
  if message['from'] != 'function_call':
    role = role_of(message['from'], place)
    return {**kept, 'role': role, 'content': value}
  calls = parse(value, f'the function call in message {place}')
  calls = [call_of(c, place) for c in (calls if isinstance(calls, list) else [calls])]
  return {**kept, 'role': 'assistant', 'content': '', 'tool_calls': calls}


def _pair(prompt: str, completion: str, strings: str) -> Callable[[Row], Conversation]:
  """Two strings or two lists of messages."""

  def read(row: Row) -> Conversation:
    first, second = _messages_in(row[prompt]), _messages_in(row[completion])
    if isinstance(first, str) and isinstance(second, str):
      if not second.strip():
        raise BadRow(f'the completion {completion!r} is empty')
      if strings == 'plain':
        _refuse_chat(row)
        return Conversation(strings=(first, second))
      first = [{'role': 'user', 'content': first}]
      second = [{'role': 'assistant', 'content': second}]
    if not isinstance(first, list) or not isinstance(second, list):
      raise BadRow(
        f'{prompt!r} and {completion!r} must both be strings or both lists of messages,'
        f' got {type(first).__name__} and {type(second).__name__}'
      )
    if not second:
      raise BadRow(f'the completion {completion!r} is empty')
    front = _system(row)
    turns = [*front, *first, *second]
    return conversation(turns, prompt=len(front) + len(first), **_more(row))

  return read


def _refuse_chat(row: Row) -> None:
  """Refuses what strings that stand one behind the other have no place for."""
  has = {'system': _system(row), 'tools': tools_of(row.get('tools'))}
  if named := [name for name, value in has.items() if value]:
    raise BadRow(
      f'{named} has no place beside a prompt and a completion that are plain strings;'
      ' data.chat.strings=turns makes a chat of them, which has one'
    )


def _messages_in(cell: Any) -> Any:
  """The messages that a cell of a .csv holds as JSON; any other cell as it is."""
  if not isinstance(cell, str) or not cell.lstrip().startswith('['):
    return cell
  try:
    found = parse(cell, 'a cell')
  except BadRow:
    return cell  # Text may start with a bracket.
  is_chat = isinstance(found, list) and all(
    isinstance(one, Mapping) and 'role' in one for one in found
  )
  return found if found and is_chat else cell


def _alpaca(row: Row) -> Conversation:
  """The instruction and the input on a line of its own; history goes before them."""
  messages = _system(row)
  history = row.get('history') or []
  if isinstance(history, str):  # As a .csv has it.
    history = parse(history, "'history'") if history.strip() else []
  if not isinstance(history, list):
    raise BadRow(f"'history' must be a list of pairs, got {history!r:.60}")
  for pair in history:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      raise BadRow(f"'history' must be a list of pairs, it has {pair!r:.60}")
    messages += _exchange(*pair)
  instruction = text_of(row['instruction'], "'instruction'")
  more = text_of(row.get('input'), "'input'")
  asked = f'{instruction}\n{more}' if more else instruction
  said = text_of(row['output'], "'output'")
  return conversation([*messages, *_exchange(asked, said)], **_more(row))


def _question(row: Row) -> Conversation:
  asked, said = (text_of(row[key], repr(key)) for key in ('question', 'answer'))
  messages = [*_system(row), *_exchange(asked, said)]
  return conversation(messages, prompt=len(messages) - 1, **_more(row))


def _exchange(asked: Any, said: Any) -> list[dict[str, Any]]:
  return [
    {'role': 'user', 'content': asked},
    {'role': 'assistant', 'content': said},
  ]


def _text(row: Row) -> Conversation:
  text = text_of(row['text'], "'text'")
  if not text.strip():
    raise BadRow("'text' is empty")
  return Conversation(strings=(text,))
