"""Which characters of a rendered conversation are learned.

A turn's place is found within one rendering of the whole conversation, never from a
rendering of its beginning: templates such as Qwen3's show earlier turns differently
once there are later ones. A second rendering has dummies in the place of the turns.
What stands between the dummies stands between the turns too:

    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n  DUMMY <|im_end|> \\n ...
    |------------------------- frame ------------------------|  turn            | frame

A turn starts where the model's part starts when it is asked to answer, and ends with
the first special token behind its text. Where there is none, as in this template for a
model that does not know its tokens, it ends with the text that ends every turn.
"""

import dataclasses
import os
from collections.abc import Sequence

from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.sft.template import (
  Template,
  prompts_end,
  text_behind_turns,
  with_dummies,
)

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Marked:
  """A row as text.

  Attributes:
    text: all of it.
    spans: [start, end) of the characters that are learned, in order.
    special: whether the tokenizer adds its own special tokens.
    closed: whether an end token is to follow; it is learned with the last span.
    joined: whether a token may not lie across the start of a span.
  """

  text: str
  spans: tuple[Span, ...]
  special: bool = False
  closed: bool = False
  joined: bool = False


def mark(one: Conversation, template: Template, loss: str) -> Marked:
  """Renders a conversation and finds what is learned of it.

  Args:
    one: the conversation.
    template: what renders it, if it is no plain text.
    loss: 'assistant': all turns of the assistant behind the prompt that are not
      excluded; 'last': the last of them; 'completion': those behind the prompt or, in
      rows without one, behind the last message of the user, with all that the template
      puts behind them; 'all': everything.

  Raises:
    BadRow: if nothing is to be learned, the turns cannot be told apart, or nothing
      tells where the last of them ends.
  """
  if one.strings:
    return _mark_strings(one, template, loss)
  template.check(one)
  if loss == 'all':
    text = template.render(one, one.messages)
    return _closed(text, [(0, len(text))], template)
  text, spans = _spans_of_turns(one, template)
  chosen = _chosen(one, loss)
  kept = [span for span, is_kept in zip(spans, chosen, strict=True) if is_kept]
  if not kept:
    raise BadRow('none of its turns is to be learned')
  if loss == 'completion' and chosen[-1]:
    kept[-1] = (kept[-1][0], len(text))
  if chosen[-1]:
    _require_end(text, kept[-1][1], template)
  return _closed(text, kept, template)


def _mark_strings(one: Conversation, template: Template, loss: str) -> Marked:
  """Text that is learned whole, or a prompt and what follows it."""
  text = ''.join(one.strings)
  start = len(one.strings[0]) if len(one.strings) > 1 and loss != 'all' else 0
  closed = not text.endswith(template.ends)
  return Marked(text, ((start, len(text)),), special=True, closed=closed, joined=True)


def _closed(text: str, spans: Sequence[Span], template: Template) -> Marked:
  """Asks for an end token where the template gives the last turn none."""
  end = spans[-1][1]
  if text[end:].strip() or text.rstrip().endswith(template.ends):
    return Marked(text, tuple(spans))
  # A text that ends turns is no token at which other programs would stop, so that it
  # gets one too, if there is one.
  written = text_behind_turns(template).rstrip()
  is_ended = bool(written) and text[:end].rstrip().endswith(written)
  has_token = bool(template.tokens.get('eos_token'))
  return Marked(text[:end], tuple(spans), closed=has_token or not is_ended)


def _require_end(text: str, end: int, template: Template) -> None:
  """Refuses a last turn that would be learned without whatever ends it."""
  behind = text[end:].strip()
  if not behind or text[:end].endswith(template.ends):
    return
  if any(special in behind for special in template.ends):
    return  # The template marks turns itself, and leaves their ends out.
  written = text_behind_turns(template).rstrip()
  if not written or not text[:end].rstrip().endswith(written):
    raise BadRow(
      f'the chat template ({template.name}) puts {behind!r:.60} behind the last turn,'
      ' which is no special token of this tokenizer, nor learned as the end of every'
      ' turn: a model would not learn to stop; have data.chat.template=FILE put'
      " '{{ eos_token }}' behind what the assistant says"
    )


def _chosen(one: Conversation, loss: str) -> list[bool]:
  """Which of the turns are learned."""
  turns = one.turns
  allowed = [one.learned[place] for place in turns]
  if loss == 'last':
    return [ok and place == turns[-1] for place, ok in zip(turns, allowed, strict=True)]
  if loss == 'completion' and not one.prompt:
    users = [i for i, m in enumerate(one.messages) if m['role'] == 'user']
    return [ok and i > users[-1] for i, ok in zip(turns, allowed, strict=True)]
  return allowed


def _spans_of_turns(one: Conversation, template: Template) -> tuple[str, list[Span]]:
  """The text, and the characters of every turn behind the prompt."""
  if template.marks:
    text, spans = template.render_marked(one)
    if len(spans) == sum(message['role'] == 'assistant' for message in one.messages):
      spans = spans[len(spans) - len(one.turns) :]
      _check_shown(one, text, spans, template)
      return text, spans
    # Some templates mark parts of turns, or ends of conversations, by themselves.
  text = template.render(one, one.messages)
  messages, dummies = with_dummies(one)
  frames = _frames(template.render(one, messages), dummies, template, one)
  return text, _between(text, frames, template)


def _check_shown(
  one: Conversation, text: str, spans: Sequence[Span], template: Template
) -> None:
  """Refuses a template that marks turns but leaves their text out."""
  for place, (start, end) in zip(one.turns, spans, strict=True):
    said = one.messages[place]['content'].rpartition('</think>')[2].strip()
    if said not in text[start:end]:
      raise BadRow(
        f'the chat template ({template.name}) does not show the text of message {place}'
      )


@dataclasses.dataclass(frozen=True)
class _Frame:
  """What stands before, between or behind turns, ends of turns left out.

  Attributes:
    text: up to where the model is asked to go on.
    asked: what asks it. Some templates ask for an empty thought, and show another one
      where there is one: then only the beginning of this is in the text.
    closed: whether the end of a turn stands in front of it.
  """

  text: str
  asked: str = ''
  closed: bool = False

  def end(self, whole: str, start: int) -> int:
    """Where the frame ends in a text, if it begins there; -1 if it does not."""
    if not whole.startswith(self.text, start):
      return -1
    start += len(self.text)
    same = len(
      os.path.commonprefix([self.asked, whole[start : start + len(self.asked)]])
    )
    return start + same if 2 * same >= len(self.asked) else -1

  def fits(self, whole: str, place: int, ends: tuple[str, ...]) -> bool:
    """Whether it may stand at a place, behind one of some ends if a turn has one."""
    is_behind = not (ends and self.closed) or whole.endswith(ends, 0, place)
    return is_behind and self.end(whole, place) >= 0

  def first(self, whole: str, start: int, ends: tuple[str, ...]) -> int:
    """The first place where it may stand; -1 for none."""
    place = whole.find(self.text, start)
    while place >= 0 and not self.fits(whole, place, ends):
      place = whole.find(self.text, place + 1)
    return place

  def last(self, whole: str, stop: int, ends: tuple[str, ...]) -> int:
    """The last place where it may stand with a turn between it and another place."""
    place = whole.rfind(self.text, 0, stop)
    while place >= 0 and not (
      self.fits(whole, place, ends) and self.end(whole, place) < stop
    ):
      place = whole.rfind(self.text, 0, place + len(self.text) - 1)
    return place


def _frames(
  text: str, dummies: Sequence[str], template: Template, one: Conversation
) -> list[_Frame]:
  """Takes a rendering with dummies apart."""
  frames = []
  asked = prompts_end(template, one)
  for i, dummy in enumerate(dummies):
    frame, found, text = text.partition(dummy)
    if not found or dummy in text:
      raise BadRow(
        f'the chat template ({template.name}) does not show every turn once, so that'
        ' what is to be learned cannot be found'
      )
    behind = _behind_end(frame, template) if i else frame
    frames.append(_until_answer(behind, asked, closed=behind != frame))
  return [*frames, _Frame(_behind_end(text, template))]


def _behind_end(frame: str, template: Template) -> str:
  """A frame without the special tokens that end the turn before it.

  That is the first one, and where others follow at once, all up to the end of text.
  Without any it is the text that ends every turn.
  """
  at = lambda text: [end for end in template.ends if text.startswith(end)]
  found = [(frame.find(end), -len(end)) for end in template.ends if end in frame]
  if not found:
    return frame.removeprefix(text_behind_turns(template))
  place, size = min(found)
  rest = frame[place - size :]
  behind, eos = rest, template.tokens.get('eos_token')
  while ends := at(behind):
    longest = max(ends, key=len)
    behind = behind[len(longest) :]
    if longest == eos:
      return behind
  return rest


def _until_answer(frame: str, asked: tuple[str, str], *, closed: bool) -> _Frame:
  """A frame up to where the model is to go on, which may lie before a turn's text.

  Qwen3 puts thinking, or none, in front of the last turn's text; the model says it.
  """
  for end in asked:
    if end and (place := frame.rfind(end)) >= 0:
      return _Frame(frame[:place], end, closed)
  return _Frame(frame, closed=closed)


def _between(text: str, frames: Sequence[_Frame], template: Template) -> list[Span]:
  """The parts of a text that stand between frames."""
  first, *inner, last = frames
  start = first.end(text, 0)
  stop = len(text) - len(last.text) if text.endswith(last.text) else -1
  ends = (*template.ends, *filter(None, [text_behind_turns(template)]))
  # A turn may say what stands between turns. Only the real one has an end of a turn in
  # front, unless a template ends turns of some kind by what it ends no other with.
  for closing in (ends, ()):
    places = _places(text, inner, start, closing)
    starts = [start, *(f.end(text, p) for f, p in zip(inner, places, strict=True))]
    spans = list(zip(starts, [*places, stop], strict=True))
    if all(0 <= start < end for start, end in spans):
      _require_apart(text, inner, places, stop, closing)
      return spans
  raise BadRow(
    f'the chat template ({template.name}) shows the conversation differently when its'
    ' turns have other text, so that what is to be learned cannot be found'
  )


def _places(
  text: str, frames: Sequence[_Frame], start: int, ends: tuple[str, ...]
) -> list[int]:
  """The first places of frames one behind the other; -1 from one that is not there."""
  places = []
  for frame in frames:
    place = frame.first(text, start, ends) if start >= 0 and frame.text else -1
    start = frame.end(text, place) if place >= 0 else -1
    places.append(place)
  return places


def _require_apart(
  text: str,
  frames: Sequence[_Frame],
  places: Sequence[int],
  stop: int,
  ends: tuple[str, ...],
) -> None:
  """Refuses frames that might stand elsewhere too, as the last places tell."""
  for frame, place in zip(reversed(frames), reversed(places), strict=True):
    stop = frame.last(text, stop, ends)
    if stop != place:
      raise BadRow(
        f'a message holds what the template puts between turns, {frame.text!r:.80}, so'
        ' that they cannot be told apart'
      )
