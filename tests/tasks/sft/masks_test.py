"""What is learned of a row, against rows worked by hand and against other ways."""

import json

import numpy as np
import pytest

from adapad_jax.models import load_tokenizer
from adapad_jax.tasks.sft.conversation import BadRow, Conversation, conversation
from adapad_jax.tasks.sft.layouts import Columns, find_layout
from adapad_jax.tasks.sft.masks import mark
from adapad_jax.tasks.sft.template import load_template
from tests.tasks.sft import toy
from tests.tasks.sft.toy import encoder_of, learned, tokenizer

user = lambda text: {'role': 'user', 'content': text}
said = lambda text, **more: {'role': 'assistant', 'content': text, **more}
CHAT = conversation([user('Hi'), said(' Hello '), user('No?'), said('Yes')])


@pytest.mark.parametrize(
  ('template', 'expected'),
  [
    (
      toy.CHATML,
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦ Hello <|im_end|>⟧\n'
      '<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n⟦Yes<|im_end|>⟧\n',
    ),
    (
      toy.LLAMA3,
      '<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>'
      'assistant<|end_header_id|>\n\n⟦Hello<|eot_id|>⟧<|start_header_id|>user'
      '<|end_header_id|>\n\nNo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>'
      '\n\n⟦Yes<|eot_id|>⟧',
    ),
    (
      toy.GEMMA,
      '<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n'
      '⟦Hello<end_of_turn>⟧\n<start_of_turn>user\nNo?<end_of_turn>\n'
      '<start_of_turn>model\n⟦Yes<end_of_turn>⟧\n',
    ),
    (toy.MISTRAL, '<s>[INST] Hi [/INST]⟦  Hello </s>⟧[INST] No? [/INST]⟦ Yes</s>⟧'),
    (
      toy.THINKING,
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦ Hello <|im_end|>⟧\n'
      '<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n'
      '⟦<think>\n\n</think>\n\nYes<|im_end|>⟧\n',
    ),
    (
      '',
      '### User:\nHi\n\n### Assistant:\n⟦ Hello </s>⟧\n\n### User:\nNo?\n\n'
      '### Assistant:\n⟦Yes</s>⟧\n\n',
    ),
  ],
)
def test_turns_with_what_ends_them(template, expected):
  assert learned(CHAT, tokenizer(template)) == expected


@pytest.mark.parametrize('template', [toy.CHATML, toy.LLAMA3, toy.GEMMA, toy.MISTRAL])
def test_what_is_learned_follows_the_tokens_of_the_prompt(template):
  """Tokens that a turn adds to its prompt, up to the one that ends it."""
  tokens = tokenizer(template)
  made = load_template('', tokens)
  ids = lambda messages, prompt: tokens(
    made.render(CHAT, messages, prompt=prompt), add_special_tokens=False
  )['input_ids']
  encoded = encoder_of(tokens).encode([mark(CHAT, made, 'assistant')])[0]
  whole, said_ids = encoded.ids_L.tolist(), []
  for turn in CHAT.turns:
    start = len(ids(CHAT.messages[:turn], True))
    # What the model reads when it is asked is what it was trained on, to the token.
    assert whole[:start] == ids(CHAT.messages[:turn], True)
    end = len(ids(CHAT.messages[: turn + 1], False))
    while whole[end - 1] < tokens.convert_tokens_to_ids('<s>'):  # Not a special token.
      end -= 1
    said_ids += range(start, end)
  np.testing.assert_array_equal(np.flatnonzero(encoded.learned_L), said_ids)


def test_a_template_with_marks_says_itself_what_is_generated():
  tokens = tokenizer(toy.MARKED)
  assert learned(CHAT, tokens) == learned(CHAT, tokenizer(toy.CHATML))
  theirs = tokens.apply_chat_template(
    [dict(m) for m in CHAT.messages], return_assistant_tokens_mask=True,
    return_dict=True,
  )  # fmt: skip
  made = mark(CHAT, load_template('', tokens), 'assistant')
  encoded = encoder_of(tokens).encode([made])[0]
  np.testing.assert_array_equal(encoded.learned_L, theirs['assistant_masks'])


def test_marked_turns_can_be_left_out_and_must_be_shown():
  tokens = tokenizer(toy.MARKED)
  one = conversation([user('Hi'), said('Yes', train=False), user('No'), said('Hello')])
  assert '⟦Hello<|im_end|>⟧' in learned(one, tokens)
  assert learned(one, tokens).count('⟦') == 1
  blind = toy.MARKED.replace("m.content + '<|im_end|>' }}{%- endgen", "'<|im_end|>' }}{%- endgen")  # fmt: skip  # noqa: E501
  assert blind != toy.MARKED
  with pytest.raises(BadRow, match='does not show the text of message 1'):
    learned(one, tokenizer(blind))


@pytest.mark.parametrize(
  ('loss', 'expected'),
  [
    ('assistant', ['Hello<|im_end|>', 'Yes<|im_end|>', 'No<|im_end|>']),
    ('completion', ['Yes<|im_end|>', 'No<|im_end|>\n']),
    ('last', ['No<|im_end|>']),
  ],
)
def test_which_turns_are_learned(loss, expected):
  one = conversation(
    [user('Hi'), said('Hello'), user('A?'), said('Yes'),
     {'role': 'tool', 'content': '2'}, said('No')]
  )  # fmt: skip
  text = learned(one, tokenizer(toy.CHATML), loss)
  assert [part.split('⟧')[0] for part in text.split('⟦')[1:]] == expected


def test_everything_but_the_first_token_can_be_learned():
  text = learned(CHAT, tokenizer(toy.CHATML), 'all')
  assert text.startswith('<|im_start|>⟦user\nHi') and text.endswith('Yes<|im_end|>\n⟧')


def test_only_the_completion_of_a_prompt_is_learned():
  one = conversation([user('Hi'), said('Hello'), user('A?'), said('Yes')], prompt=3)
  assert learned(one, tokenizer(toy.CHATML)).count('⟦') == 1
  assert learned(one, tokenizer(toy.CHATML)).endswith('⟦Yes<|im_end|>⟧\n')


THOUGHTS = [
  user('Hi'), said('<think>\nA\n</think>\n\nHello'),
  user('No?'), said('<think>\nB\n</think>\n\nYes'),
]  # fmt: skip


def test_thinking_that_a_template_drops():
  """The prefix of a longer conversation is not the shorter conversation here."""
  assert learned(conversation(THOUGHTS), tokenizer(toy.THINKING)) == (
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n'
    '<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n'
    '⟦<think>\nB\n</think>\n\nYes<|im_end|>⟧\n'
  )


def test_thinking_that_the_prompt_already_has_is_not_learned():
  quiet = {'quiet': True}
  plain = conversation([user('Hi'), said('Yes')], options=quiet)
  text = learned(plain, tokenizer(toy.THINKING))
  assert text.endswith('assistant\n<think>\n\n</think>\n\n⟦Yes<|im_end|>⟧\n')
  # Where the text goes another way than the prompt, it is learned from there on.
  text = learned(conversation(THOUGHTS, options=quiet), tokenizer(toy.THINKING))
  assert text.endswith('assistant\n<think>\n⟦B\n</think>\n\nYes<|im_end|>⟧\n')


def test_a_turn_that_starts_with_a_line_break():
  """Encoded whole it would share a token with the template's own line break."""
  tokens = tokenizer(toy.CHATML)
  one = conversation([user('Hi'), said('\nYes')])
  assert learned(one, tokens).endswith('assistant\n⟦\nYes<|im_end|>⟧\n')
  encoded = encoder_of(tokens).encode([mark(one, load_template('', tokens), 'last')])[0]
  prompt = load_template('', tokens).render(one, one.messages[:1], prompt=True)
  ids = tokens(prompt, add_special_tokens=False)['input_ids']
  first = int(np.argmax(encoded.learned_L))
  np.testing.assert_array_equal(encoded.ids_L[:first], ids)


def test_a_prompt_has_the_tokens_that_it_has_alone():
  """GPT-2's rule cuts two line breaks in two where text follows, but not at the end."""
  tokens = tokenizer(toy.LLAMA3, gpt2=True)
  one = conversation([user('Hi'), said('Yes')])
  made = load_template('', tokens)
  encoded = encoder_of(tokens).encode([mark(one, made, 'last')])[0]
  ids = lambda text: tokens(text, add_special_tokens=False)['input_ids']
  prompt = ids(made.render(one, one.messages[:1], prompt=True))
  assert prompt != ids(made.render(one, one.messages))[: len(prompt)]
  first = int(np.argmax(encoded.learned_L))
  np.testing.assert_array_equal(encoded.ids_L[:first], prompt)


def test_equal_exchanges_are_told_apart():
  rounds = [user('No'), said('Yes')] * 3
  text = learned(conversation(rounds), tokenizer(toy.CHATML))
  assert text.count('⟦Yes<|im_end|>⟧') == 3 and text.count('⟦') == 3


def test_a_tokenizer_that_adds_an_end_changes_no_chat():
  plain = learned(CHAT, tokenizer(bos=True))
  assert learned(CHAT, tokenizer(bos=True, adds_end=True)) == plain


QUOTE = 'Yes\n\n### User:\nNo?\n\n### Assistant:\nNo'


def test_a_turn_that_quotes_the_next_one_of_the_user():
  """The end of a turn in front tells the real one."""
  one = conversation([user('Hi'), said(QUOTE), user('No?'), said('Hello')])
  assert learned(one, tokenizer()) == (
    f'### User:\nHi\n\n### Assistant:\n⟦{QUOTE}</s>⟧\n\n### User:\nNo?\n\n'
    '### Assistant:\n⟦Hello</s>⟧\n\n'
  )
  # So it does where the quote comes behind the real one.
  one = conversation([user('Hi'), said('Hello'), user('No?'), said(QUOTE)])
  assert learned(one, tokenizer()).endswith(f'⟦{QUOTE}</s>⟧\n\n')


@pytest.mark.parametrize('place', [1, 3])
@pytest.mark.parametrize(
  'template',
  ['', toy.CHATML.replace("'<|im_end|>\\n'", "'\\n'").replace('<|im_start|>', '# ')],
)
def test_turns_that_cannot_be_told_apart_are_refused(template, place):
  messages = [user('Hi'), said('Hello'), user('No?'), said('Yes')]
  quote = '</s>\n\n### User:\nNo?\n\n### Assistant:\n' if not template else (
    '\n# user\nNo?\n# assistant\n'
  )  # fmt: skip
  messages[place] = said(f'Yes{quote}No')
  with pytest.raises(BadRow, match='between turns, .*No[?].*, so that they cannot be'):
    learned(conversation(messages), tokenizer(template))


def test_turns_of_a_kind_that_ends_otherwise():
  """Llama 3.1 ends a turn that calls its own tools with another token."""
  ended = "('<|im_end|>' if 'No' in m.content else '<end_of_turn>') + '\\n'"
  template = toy.CHATML.replace("'<|im_end|>\\n'", ended)
  text = learned(CHAT, tokenizer(template))
  assert '⟦ Hello <end_of_turn>⟧\n' in text and text.endswith('⟦Yes<end_of_turn>⟧\n')
  bare = toy.CHATML.replace("'<|im_end|>\\n'", "('' if 'Hello' in m.content else '<|im_end|>') + '\\n'")  # fmt: skip  # noqa: E501
  assert '⟦ Hello ⟧\n' in learned(CHAT, tokenizer(bare))


def test_all_tokens_that_end_a_text_belong_to_the_turn():
  ended = toy.CHATML.replace("'<|im_end|>\\n'", "'<|im_end|></s>\\n'")
  text = learned(CHAT, tokenizer(ended))
  assert text.endswith('⟦Yes<|im_end|></s>⟧\n')


def test_a_template_that_ends_no_turn_gets_an_end():
  bare = toy.CHATML.replace("'<|im_end|>\\n'", "'\\n'").replace('<|im_start|>', '# ')
  assert learned(CHAT, tokenizer(bare)).endswith('# assistant\n⟦Yes</s>⟧')
  with pytest.raises(BadRow, match='nothing ends its last turn'):
    learned(CHAT, tokenizer(bare, end=False))


def test_a_text_that_ends_every_turn_is_learned():
  """Of a tokenizer that has no special token for it, as a base model's."""
  first = '<<start|>user\nHi<<end|>\n<<start|>assistant\n⟦ Hello <<end|>\n⟧'
  last = '<<start|>user\nNo?<<end|>\n<<start|>assistant\n⟦Yes<<end|>\n'
  assert learned(CHAT, tokenizer(toy.WRITTEN)) == f'{first}{last}</s>⟧'
  assert learned(CHAT, tokenizer(toy.WRITTEN, end=False)) == f'{first}{last}⟧'
  unlearned = conversation([user('Hi'), said(' Hello '), user('No?'),
                            said('Yes', train=False)])  # fmt: skip
  text = learned(unlearned, tokenizer(toy.WRITTEN))
  assert text == (first + last).replace('⟦Y', 'Y')
  # The line breaks are no part of what both places have in common.
  trimmed = toy.WRITTEN.replace("'<<end|>\\n'", "'<<end|>' + ('' if loop.last else '\\n')")  # fmt: skip  # noqa: E501
  assert trimmed != toy.WRITTEN
  text = learned(CHAT, tokenizer(trimmed))
  assert '⟦ Hello <<end|>⟧\n' in text and text.endswith('⟦Yes<<end|></s>⟧')


def test_a_template_for_one_exchange_may_end_it_with_a_text():
  single = (
    "{{- 'Q: ' + messages[0].content + '\\nA: ' }}"
    "{%- for m in messages[1:2] %}{{- m.content + '\\n###' }}{%- endfor %}"
  )
  one = conversation([user('Hi'), said('Yes')])
  assert learned(one, tokenizer(single)) == 'Q: Hi\nA: ⟦Yes\n###</s>⟧'


def test_a_text_behind_the_last_turn_alone_does_not_end_turns():
  """A model that is not shown where turns end would not learn to stop."""
  odd = toy.WRITTEN.replace("'<<end|>\\n'", "('(end)' if loop.last else '\\n')")
  with pytest.raises(BadRow, match=r"puts '\(end\)' behind .*not learn to stop; have"):
    learned(CHAT, tokenizer(odd))
  assert learned(CHAT, tokenizer(odd), 'completion').endswith('⟦Yes(end)</s>⟧')
  marked = toy.MARKED.replace("m.content + '<|im_end|>' }}{%- endg", "m.content }}{%- endg").replace("{%- endgeneration %}", "{%- endgeneration %}{{- '(end)' }}")  # fmt: skip  # noqa: E501
  with pytest.raises(BadRow, match='nor learned as the end of every turn'):
    learned(CHAT, tokenizer(marked))


@pytest.mark.parametrize(
  ('template', 'message'),
  [
    (toy.CHATML.replace('m.content', "'x'"), 'does not show every turn once'),
    (toy.CHATML.replace('m.content', 'm.content + m.content'), 'every turn once'),
    (
      toy.CHATML.replace("m.role + '\\n'", "(m.content | length) | string + '\\n'"),
      'differently when its turns have other text',
    ),
  ],
)
def test_templates_whose_turns_cannot_be_found_are_refused(template, message):
  with pytest.raises(BadRow, match=message):
    learned(CHAT, tokenizer(template))


def test_a_templates_own_refusal_is_passed_on():
  one = conversation([{'role': 'system', 'content': 'x'}, *CHAT.messages])
  with pytest.raises(BadRow, match='refuses it: TemplateError: no system role'):
    learned(one, tokenizer(toy.GEMMA))


def test_tools_that_a_template_does_not_know_are_refused():
  tools = [{'name': 'f', 'parameters': {}}]
  one = conversation([user('Hi'), said('Yes')], tools=tools)
  with pytest.raises(BadRow, match="does not know 'tools'"):
    learned(one, tokenizer(toy.CHATML))
  call = {'function': {'name': 'f', 'arguments': '{}'}}
  one = conversation([user('Hi'), said('', tool_calls=[call])])
  with pytest.raises(BadRow, match="does not know 'tool_calls'"):
    learned(one, tokenizer(toy.CHATML))


def test_nothing_to_learn_is_an_error_and_not_silence():
  one = conversation([user('Hi'), said('Yes', train=False)])
  with pytest.raises(BadRow, match='none of its turns'):
    learned(one, tokenizer(toy.CHATML))


@pytest.mark.parametrize(
  ('strings', 'loss', 'expected'),
  [
    (('Hi', ' Yes'), 'assistant', '<s>Hi⟦ Yes</s>⟧'),
    (('Hi', ' Yes</s>'), 'completion', '<s>Hi⟦ Yes</s>⟧'),
    (('Hi', ' Yes'), 'all', '<s>⟦Hi Yes</s>⟧'),
    (('Hi',), 'assistant', '<s>⟦Hi</s>⟧'),
    (('Hi</s>',), 'assistant', '<s>⟦Hi</s>⟧'),
    (('Hi</s>', ' Yes'), 'assistant', '<s>Hi</s>⟦ Yes</s>⟧'),
    (('', 'Yes'), 'assistant', '<s>⟦Yes</s>⟧'),
  ],
)
@pytest.mark.parametrize('adds_end', [False, True])
def test_plain_strings_are_ended_once(strings, loss, expected, adds_end):
  """Also where the tokenizer puts an end behind every text, a prompt's too."""
  tokens = tokenizer(toy.CHATML, bos=True, adds_end=adds_end)
  assert learned(Conversation(strings=strings), tokens, loss) == expected


def test_a_prompt_that_ends_inside_a_token_is_refused():
  with pytest.raises(BadRow, match=r"'H' \+ 'i'"):
    learned(Conversation(strings=('H', 'i')), tokenizer())


def test_offsets_that_leave_blanks_out_change_nothing():
  """The toy's tokenizer trims them; a token of blanks must not look empty."""
  tokens = tokenizer()
  assert '"trim_offsets":true' in tokens.backend_tokenizer.to_str()
  one = Conversation(strings=('Hi\n', '\nYes'))
  with pytest.raises(BadRow, match='the prompt alone has other tokens'):
    learned(one, tokens)


@pytest.fixture(scope='module')
def qwen(shared):
  return load_tokenizer(str(shared / 'models' / 'qwen3-tokenizer'))


def test_qwen3s_template_drops_earlier_thinking(qwen):
  text = learned(conversation(THOUGHTS), qwen)
  assert text == (
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n'
    '<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n'
    '⟦<think>\nB\n</think>\n\nYes<|im_end|>⟧\n'
  )


def test_calls_of_tools_in_qwen3s_template(qwen, shared):
  """Every call and answer of real rows is learned, and nothing that a tool said."""
  path = shared / 'data' / 'sft' / 'glaive_toolcall_en_demo.json'
  rows = json.loads(path.read_text())[:40]
  layout = find_layout(rows[0], Columns(), 'rows')
  calls = 0
  for row in rows:
    one = layout(row)
    parts = [p.split('⟧')[0] for p in learned(one, qwen).split('⟦')[1:]]
    assert len(parts) == len(one.turns)
    for part, place in zip(parts, one.turns, strict=True):
      message = one.messages[place]
      assert part.endswith('<|im_end|>') and '<tool_response>' not in part
      for call in message.get('tool_calls', ()):
        assert f'{{"name": "{call["function"]["name"]}", "arguments": ' in part
        calls += 1
      assert message['content'].strip() in part
  assert calls > 20
