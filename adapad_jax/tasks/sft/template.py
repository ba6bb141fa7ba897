"""Chat templates: the model's own, a file, or a plain one for models without any."""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapad_jax.tasks.files import existing
from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.text_files import read_text

PLAIN = 'plain'
# A line says who speaks, an end token closes what the assistant said.
_PLAIN_TEMPLATE = (
  "{{- BOS }}{%- for message in messages %}{%- if message.role == 'assistant' %}"
  "{{- '### Assistant:\\n' + message.content + eos_token + '\\n\\n' }}"
  "{%- else %}{{- '### ' + message.role | capitalize + ':\\n' + message.content"
  " + '\\n\\n' }}{%- endif %}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '### Assistant:\\n' }}{%- endif %}"
)
_MARKS = re.compile(r'\{%-?\s*generation\s*-?%\}')
# Stands in a turn's place; no text has characters of the private use area.
_DUMMY = '\ue000{}\ue001'


@dataclasses.dataclass(frozen=True)
class Template:
  """A chat template and the tokenizer's names that it may use.

  Attributes:
    name: where it comes from, for messages.
    text: in Jinja, as a checkpoint carries it.
    tokens: 'eos_token' and such, as templates see them.
    ends: texts of special tokens, one of which ends a turn.
  """

  name: str
  text: str
  tokens: Mapping[str, str]
  ends: tuple[str, ...]

  @property
  def marks(self) -> bool:
    """Whether the template itself marks what the assistant generates."""
    return bool(_MARKS.search(self.text))

  def render(
    self,
    one: Conversation,
    messages: Sequence[Mapping[str, Any]],
    *,
    prompt: bool = False,
  ) -> str:
    """Text of messages, with the tools and options of a conversation.

    Raises:
      BadRow: if the template refuses them.
    """
    return self._rendered(one, messages, prompt=prompt)[0]

  def render_marked(self, one: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """A conversation's text and the parts that the template marks as generated.

    Raises:
      BadRow: if the template refuses it.
    """
    text, spans = self._rendered(one, one.messages, prompt=False, marks=True)
    return text, [tuple(span) for span in spans]

  def _rendered(
    self,
    one: Conversation,
    messages: Sequence[Mapping[str, Any]],
    *,
    prompt: bool,
    marks: bool = False,
  ) -> tuple[str, list[Any]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
      texts, spans = render_jinja_template(
        [list(messages)],
        tools=None if one.tools is None else list(one.tools),
        chat_template=self.text,
        add_generation_prompt=prompt,
        return_assistant_tokens_mask=marks,
        **{**self.tokens, **one.options},
      )
    except Exception as error:  # Templates raise what they like.
      raise BadRow(
        f'the chat template ({self.name}) refuses it: {type(error).__name__}: {error}'
      ) from None
    return texts[0], (spans[0] if marks else [])

  def check(self, one: Conversation) -> None:
    """Refuses calls of tools that the template would leave out without a word.

    Raises:
      BadRow: if it does not know what the conversation has.
    """
    has_calls = any('tool_calls' in message for message in one.messages)
    for name, used in (('tools', one.tools is not None), ('tool_calls', has_calls)):
      if used and name not in self.text:
        raise BadRow(
          f'the chat template ({self.name}) does not know {name!r}; give one that does'
          ' with data.chat.template=FILE'
        )


def with_dummies(one: Conversation) -> tuple[list[Mapping[str, Any]], list[str]]:
  """The messages with a dummy in place of every turn, and the dummies."""
  messages, dummies = list(one.messages), []
  for place in one.turns:
    dummies.append(_DUMMY.format(place))
    messages[place] = {'role': 'assistant', 'content': dummies[-1]}
  return messages, dummies


def prompts_end(template: Template, one: Conversation) -> tuple[str, str]:
  """What a template puts behind the last user's text when a turn is to be said.

  Returns:
    All of it, with the end of the user's turn, and the part that starts a turn.
  """
  options = json.dumps(one.options, sort_keys=True, default=str)
  return _prompts_end(template, options, bool(one.tools))


@functools.lru_cache(maxsize=64)
def _prompts_end(template: Template, options: str, tools: bool) -> tuple[str, str]:
  probe = _DUMMY.format('x')
  one = Conversation(options=json.loads(options), tools=[] if tools else None)
  messages = [{'role': 'user', 'content': probe}]
  asked = template.render(one, messages, prompt=True)
  bare = template.render(one, messages)
  start = asked[len(bare) :] if asked.startswith(bare) else ''
  return asked.rpartition(probe)[2], start


@functools.lru_cache(maxsize=64)
def end_of_turn(template: Template) -> str:
  """The special token that a template puts behind a turn of the model; '' for none.

  A template that refuses the shortest conversation there is has none either.
  """
  dummy = _DUMMY.format('x')
  turns = [
    {'role': 'user', 'content': 'x'},
    {'role': 'assistant', 'content': dummy},
  ]
  try:
    behind = template.render(Conversation(), turns).rpartition(dummy)[2]
  except BadRow:
    return ''
  found = [(behind.find(end), -len(end), end) for end in template.ends if end in behind]
  return min(found)[2] if found else ''


def end_left_out(template: Template) -> str:
  """The token that ends a turn, if the marks of a template leave it out; else ''."""
  end = end_of_turn(template)
  if not (template.marks and end):
    return ''
  turns = ({'role': 'user', 'content': 'x'}, {'role': 'assistant', 'content': 'x'})
  text, spans = template.render_marked(Conversation(turns))
  return '' if not spans or end in text[slice(*spans[-1])] else end


@functools.lru_cache(maxsize=64)
def text_behind_turns(template: Template) -> str:
  """The text that ends every turn of the model where no special token does.

  It is what the template puts behind the last turn, and behind those before it too; ''
  for nothing but blanks, or where the two differ.
  """
  dummies = [_DUMMY.format(i) for i in range(2)]
  turns = []
  for dummy in dummies:
    turns.append({'role': 'user', 'content': 'x'})
    turns.append({'role': 'assistant', 'content': dummy})
  # A template may be for a single exchange, which leaves others out or refuses them.
  between = _behind(template, turns, dummies) or _behind(template, turns[:2], dummies)
  if not between:
    return ''
  last = between[-1]
  if not last.strip() or any(end in last for end in template.ends):
    return ''
  same = os.path.commonprefix(between)
  return same if same.rstrip() == last.rstrip() else ''


def _behind(
  template: Template, turns: Sequence[Mapping[str, Any]], dummies: Sequence[str]
) -> list[str]:
  """What stands behind each dummy, up to the next; nothing if one is not shown once."""
  try:
    text = template.render(Conversation(), turns)
  except BadRow:
    return []
  found = []
  for dummy in dummies[: len(turns) // 2]:
    if text.count(dummy) != 1:
      return []
    front, _, text = text.partition(dummy)
    found.append(front)
  return [*found[1:], text]


def template_file(setting: str) -> pathlib.Path | None:
  """The file that a setting names; None if it names none.

  Raises:
    ValueError: if there is no such file.
  """
  return existing(setting) if setting and setting != PLAIN else None


def load_template(setting: str, tokenizer: Any) -> Template:
  """The template that a setting means.

  Args:
    setting: a file, 'plain', or '' for the tokenizer's own or, without one, 'plain'.
    tokenizer: of the model.

  Raises:
    ValueError: if there is no such file, it is not text in UTF-8, or the plain
      template has no token to end a turn with.
  """
  own = tokenizer.get_chat_template() if tokenizer.chat_template else ''
  if (path := template_file(setting)) is not None:
    name, text = str(path), read_text(path).replace('\r\n', '\n')
  elif own and not setting:
    name, text = "the model's own", own
  else:
    if not tokenizer.eos_token:
      raise ValueError(
        'the plain chat template ends turns with an end-of-text token, and this'
        ' tokenizer has none; give data.chat.template=FILE'
      )
    name, text = _plain_name(setting), _plain(tokenizer)
  return Template(name, text, _Tokens(tokenizer.special_tokens_map), _ends(tokenizer))


def _plain_name(setting: str) -> str:
  return PLAIN if setting else f'{PLAIN}, since the tokenizer has none'


def _plain(tokenizer: Any) -> str:
  """The plain template, which starts a text as the tokenizer does."""
  first = tokenizer('x')['input_ids'][:1]
  begins = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
  return _PLAIN_TEMPLATE.replace('{{- BOS }}', '{{- bos_token }}' if begins else '')


def _ends(tokenizer: Any) -> tuple[str, ...]:
  """Texts of the special tokens."""
  added = tokenizer.added_tokens_decoder.values()
  special = {token.content for token in added if token.special}
  return tuple(sorted(special | {tokenizer.eos_token or ''} - {''}))


class _Tokens(dict):
  """Names of tokens; hashable, since a template is."""

  def __hash__(self) -> int:
    return hash(tuple(sorted((k, str(v)) for k, v in self.items())))
