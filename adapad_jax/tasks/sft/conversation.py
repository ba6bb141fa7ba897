"""The one form that rows of every layout take, and what makes a row unusable."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapad_jax.tasks.cells import is_unicode

ROLES = ('system', 'user', 'assistant', 'tool')
# What other formats call these roles.
ALIASES = {
  'developer': 'system',
  'human': 'user',
  'gpt': 'assistant',
  'model': 'assistant',
  'function': 'tool',
  'ipython': 'tool',
  'observation': 'tool',
}
# Fields by which formats leave a message out of the loss: axolotl's, OpenAI's and
# LLaMA-Factory's.
_FLAGS = ('train', 'weight', 'loss_weight')


class BadRow(ValueError):
  """A row that cannot be trained on; the message says why, but not where it is."""


@dataclasses.dataclass(frozen=True)
class Conversation:
  """A row before it becomes text.

  Attributes:
    messages: what a chat template renders: dicts of 'role' and 'content', and
      'tool_calls' or whatever else the row has.
    learned: whether each message may be learned; only the assistant's are.
    prompt: number of messages in front of the completion, where the row says so.
    tools: functions that may be called, as JSON schemas.
    options: further arguments of the template, e.g. enable_thinking.
    strings: plain text instead of messages: (text,) or (prompt, completion).
  """

  messages: tuple[Mapping[str, Any], ...] = ()
  learned: tuple[bool, ...] = ()
  prompt: int = 0
  tools: Sequence[Mapping[str, Any]] | None = None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  strings: tuple[str, ...] = ()

  @property
  def turns(self) -> list[int]:
    """Places of the assistant's messages behind the prompt."""
    places = range(self.prompt, len(self.messages))
    return [i for i in places if self.messages[i]['role'] == 'assistant']


def conversation(
  messages: Sequence[Mapping[str, Any]],
  *,
  prompt: int = 0,
  tools: Any = None,
  options: Any = None,
) -> Conversation:
  """Checks messages in the OpenAI spelling and brings them into one form.

  Raises:
    BadRow: for an unknown role, roles in a wrong order, content that is no text, or
      an assistant's turn without any.
  """
  made = [_message(message, i) for i, message in enumerate(messages)]
  learned = tuple(_is_learned(m, i) for i, m in enumerate(messages))
  found = Conversation(
    messages=tuple(made),
    learned=tuple(flag and i >= prompt for i, flag in enumerate(learned)),
    prompt=prompt,
    tools=tools_of(tools),
    options=_options(options),
  )
  check_order([message['role'] for message in made])
  return found


def role_of(name: Any, place: int) -> str:
  """The role that a name stands for.

  Raises:
    BadRow: for a name that stands for none.
  """
  role = ALIASES.get(name, name) if isinstance(name, str) else name
  if role not in ROLES:
    raise BadRow(
      f'message {place} has the unknown role {name!r}; choose from'
      f' {sorted((*ROLES, *ALIASES))}'
    )
  return role


def check_order(roles: Sequence[str]) -> None:
  """Checks that turns alternate: [system], then user or tool, assistant, ...

  Several tools may answer one turn.

  Raises:
    BadRow: if they do not, or the assistant does not have the last word.
  """
  shown = ', '.join(roles)
  said = roles[1:] if roles[:1] == ['system'] else roles
  if not said:
    raise BadRow(f'there is no turn to learn from: the roles are [{shown}]')
  before = {'user': (None, 'assistant'), 'tool': ('assistant', 'tool')}
  before['assistant'] = ('user', 'tool')
  last = None
  for place, role in enumerate(said, start=len(roles) - len(said)):
    if role not in before or last not in before[role]:
      behind = f'behind {last!r}' if last else 'first'
      raise BadRow(f'message {place}: {role!r} cannot come {behind} in [{shown}]')
    last = role
  if last != 'assistant':
    raise BadRow(
      f"the last turn must be the assistant's, it is of {last!r} in [{shown}]"
    )


def text_of(content: Any, what: str) -> str:
  """Content as text: a string, or parts of type 'text' put together.

  Raises:
    BadRow: for anything else.
  """
  if isinstance(content, str):
    return content
  if content is None:
    return ''
  if not isinstance(content, list):
    raise BadRow(f'{what} must be text or a list of parts, got {content!r:.60}')
  return ''.join(_part(part, what) for part in content)


def _part(part: Any, what: str) -> str:
  if isinstance(part, str):
    return part
  kind = part.get('type') if isinstance(part, Mapping) else type(part).__name__
  if kind != 'text':
    raise BadRow(f'{what} has a part of type {kind!r}; only text can be learned')
  text = part.get('text', part.get('value'))
  if not isinstance(text, str):
    raise BadRow(f'{what} has a text part without text: {part!r:.60}')
  return text


def _message(message: Any, place: int) -> dict[str, Any]:
  if not isinstance(message, Mapping):
    raise BadRow(f'message {place} is no object: {message!r:.60}')
  for name in ('role', 'content'):
    if name not in message and not (name == 'content' and message.get('tool_calls')):
      raise BadRow(f'message {place} has no {name!r}; it has {sorted(message)}')
  made = {k: v for k, v in message.items() if v is not None and k not in _FLAGS}
  made['role'] = role_of(message['role'], place)
  made['content'] = text_of(message.get('content'), f'content of message {place}')
  if calls := message.get('tool_calls'):
    made['tool_calls'] = [call_of(call, place) for call in calls]
  role = made['role']
  # What a model said itself, and is not to learn, may be nothing.
  said = role == 'assistant' and any(message.get(flag) == 0 for flag in _FLAGS)
  is_needed = role in ('user', 'assistant') and not calls and not said
  if is_needed and not made['content'].strip():
    raise BadRow(f'message {place}, of the {role}, is empty')
  return made


def call_of(call: Any, place: int) -> dict[str, Any]:
  """A call as templates want it, with arguments as an object and not as text.

  Raises:
    BadRow: if it names no function.
  """
  inner = call.get('function', call) if isinstance(call, Mapping) else None
  if not isinstance(inner, Mapping) or not isinstance(inner.get('name'), str):
    raise BadRow(f'message {place}: a tool call needs a name, got {call!r:.80}')
  arguments = inner.get('arguments', {})
  if isinstance(arguments, str):
    arguments = parse(arguments, f'the arguments of a call in message {place}')
  function = {'name': inner['name'], 'arguments': arguments}
  kept = {'id': call['id']} if call.get('id') else {}
  return {**kept, 'type': 'function', 'function': function}


def require_unicode(one: Conversation) -> None:
  """Checks that a template and a tokenizer can take every text of a conversation.

  Raises:
    BadRow: naming the text that holds half of a surrogate pair, and the place in it.
  """
  left = [one.strings, one.messages, one.tools, one.options]
  while left:  # No recursion: what a row holds may be nested deeply.
    value = left.pop()
    if isinstance(value, str):
      if not is_unicode(value):
        at = next(i for i, c in enumerate(value) if '\ud800' <= c <= '\udfff')
        raise BadRow(
          f'the text {value[max(at - 20, 0) : at + 20]!r} holds half of a surrogate'
          f' pair, U+{ord(value[at]):04X}, at character {at} (counted from 0): it was'
          ' cut or decoded wrongly'
        )
    elif isinstance(value, Mapping):
      left += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
      left += value


def parse(text: Any, what: str) -> Any:
  """JSON that a dataset stores as a string.

  Raises:
    BadRow: if it is not JSON.
  """
  try:
    return json.loads(text)
  except (ValueError, TypeError, RecursionError) as error:
    raise BadRow(f'{what} must be JSON, got {text!r:.80} ({error})') from None


def tools_of(tools: Any) -> list[dict[str, Any]] | None:
  """Schemas in the form that templates render; some rows have them as text.

  Raises:
    BadRow: if they are no list of objects.
  """
  if isinstance(tools, str):
    tools = parse(tools, "'tools'") if tools.strip() else None
  if not tools:
    return None
  if not isinstance(tools, list) or not all(isinstance(t, Mapping) for t in tools):
    raise BadRow(f"'tools' must be a list of objects, got {tools!r:.80}")
  bare = lambda tool: {'type': 'function', 'function': dict(tool)}
  return [dict(tool) if 'function' in tool else bare(tool) for tool in tools]


def _is_learned(message: Mapping[str, Any], place: int) -> bool:
  """Whether the loss may count a message, by its role and its own flag."""
  given = {name: message[name] for name in _FLAGS if message.get(name) is not None}
  for name, value in given.items():
    if value not in (0, 1):
      raise BadRow(f'message {place}: {name!r} must be 0 or 1, got {value!r}')
  is_assistant = ALIASES.get(message['role'], message['role']) == 'assistant'
  if not is_assistant and any(given.values()):
    raise BadRow(
      f'message {place} of role {message["role"]!r} asks to be learned; only turns of'
      ' the assistant can be, or everything by data.chat.loss=all'
    )
  return is_assistant and all(given.values())


def _options(options: Any) -> dict[str, Any]:
  if not options:
    return {}
  if not isinstance(options, Mapping):
    raise BadRow(f"'chat_template_kwargs' must be an object, got {options!r:.60}")
  return dict(options)
