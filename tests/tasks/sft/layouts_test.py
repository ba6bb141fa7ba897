"""Layouts: found by their keys, brought into one form, refused by what is wrong."""

import json

import pytest

from adapad_jax.tasks.sft.conversation import BadRow
from adapad_jax.tasks.sft.layouts import Columns, find_layout, read_prompt

ASK, SAY = {'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'A'}
HUMAN, GPT = {'from': 'human', 'value': 'Q'}, {'from': 'gpt', 'value': 'A'}
CALL = {'name': 'f', 'arguments': {'x': 1}}


def read(row, **columns):
  layout = find_layout(row, Columns(**columns), 'f.jsonl')
  one = layout(row)
  return layout.name, [(m['role'], m['content']) for m in one.messages], one


PAIR = [('user', 'Q'), ('assistant', 'A')]


@pytest.mark.parametrize(
  ('row', 'name', 'messages'),
  [
    ({'messages': [ASK, SAY]}, 'messages', PAIR),
    ({'messages': json.dumps([ASK, SAY])}, 'messages', PAIR),
    ({'conversations': [HUMAN, GPT]}, 'sharegpt', PAIR),
    ({'conversations': [ASK, SAY]}, 'sharegpt', PAIR),
    (
      {'conversations': [HUMAN, GPT], 'system': 'S'},
      'sharegpt',
      [('system', 'S'), *PAIR],
    ),
    ({'prompt': [ASK], 'completion': [SAY]}, 'prompt-completion', PAIR),
    ({'question': 'Q', 'answer': 'A'}, 'question-answer', PAIR),
    ({'instruction': 'Q', 'input': '', 'output': 'A'}, 'alpaca', PAIR),
    (
      {'instruction': 'Q', 'input': 'I', 'output': 'A', 'system': 'S',
       'history': [['1', '2'], ['3', '4']]},
      'alpaca',
      [('system', 'S'), ('user', '1'), ('assistant', '2'), ('user', '3'),
       ('assistant', '4'), ('user', 'Q\nI'), ('assistant', 'A')],
    ),
    (
      {'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'Q'}]},
                    {'role': 'assistant',
                     'content': [{'type': 'text', 'value': 'A'}, {'type': 'text',
                                                                  'text': 'B'}]}]},
      'messages',
      [('user', 'Q'), ('assistant', 'AB')],
    ),
    ({'messages': [ASK, SAY], 'text': 'x', 'answer': 'x', 'question': 'x'},
     'messages', PAIR),
  ],
)  # fmt: skip
def test_layouts_are_found_by_their_keys(row, name, messages):
  assert read(row)[:2] == (name, messages)


def test_cells_of_a_csv_hold_messages_and_history_as_json():
  pair = {'prompt': [ASK, SAY, ASK], 'completion': [SAY]}
  for strings in ('plain', 'turns'):
    cells = {name: ' ' + json.dumps(value) for name, value in pair.items()}
    found = read(cells, strings=strings)
    assert found == read(pair) and found[2].prompt == 3
  row = {'instruction': 'Q', 'output': 'A', 'history': [['1', '2']]}
  assert read(row | {'history': '[["1", "2"]]'}) == read(row)
  assert read(row | {'history': ' '})[1] == PAIR
  # What is no list of messages is text.
  for text in ('[1, 2]', '[{"content": "Q"}]', '[Q', '[]', '{"role": "user"}'):
    assert read({'prompt': text, 'completion': text})[2].strings == (text, text)


def test_a_prompt_in_a_cell_of_a_csv():
  one, has_last = read_prompt({'prompt': json.dumps([ASK])}, Columns())
  assert not has_last and one.messages[0] == ASK


TOOLS = [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]


@pytest.mark.parametrize(
  'row',
  [
    {'instruction': 'Q', 'output': 'A'},
    {'question': 'Q', 'answer': 'A'},
    {'prompt': [ASK], 'completion': [SAY]},
    {'messages': [ASK, SAY]},
    {'conversations': [HUMAN, GPT]},
  ],
)
def test_every_layout_of_chats_has_a_system_message_tools_and_options(row):
  more = {'system': 'S', 'tools': json.dumps(TOOLS), 'chat_template_kwargs': {'x': 1}}
  _, messages, one = read(row | more)
  assert messages == [('system', 'S'), *PAIR]
  assert (one.tools, one.options) == (TOOLS, {'x': 1})


def test_an_answer_that_is_not_learned_may_be_empty():
  nothing = {**SAY, 'content': ' ', 'weight': 0}
  _, messages, _ = read({'messages': [ASK, nothing, ASK, SAY]})
  assert messages == [('user', 'Q'), ('assistant', ' '), *PAIR]
  with pytest.raises(BadRow, match='message 1, of the assistant, is empty'):
    read({'messages': [ASK, {**nothing, 'weight': 1}, ASK, SAY]})


@pytest.mark.parametrize('more', [{'system': 'S'}, {'tools': TOOLS}])
def test_plain_strings_have_no_place_for_a_system_message_nor_for_tools(more):
  row = {'prompt': 'Q', 'completion': 'A', **more}
  with pytest.raises(BadRow, match=r'has no place .*strings=turns') as told:
    read(row)
  assert str(told.value).startswith(str([*more]))
  assert read(row, strings='turns')[1][-2:] == PAIR
  empty = {'prompt': 'Q', 'completion': 'A', 'system': ' ', 'tools': '[]'}
  assert read(empty)[2].strings == ('Q', 'A')


def test_strings_stay_plain_or_become_turns():
  row = {'prompt': 'Q', 'completion': 'A'}
  assert read(row)[2].strings == ('Q', 'A')
  _, messages, one = read(row, strings='turns')
  assert messages == PAIR and one.prompt == 1 and one.turns == [1]
  assert read({'text': 'T'})[2].strings == ('T',)


def test_columns_of_other_names():
  assert read({'q': 'Q', 'a': 'A'}, prompt='q', completion='a')[2].strings == ('Q', 'A')
  assert read({'chat': [HUMAN, GPT]}, messages='chat')[:2] == ('messages', PAIR)
  with pytest.raises(ValueError, match=r"f.jsonl has no column \('q', 'completion'\)"):
    read({'q': 'Q', 'a': 'A'}, prompt='q')


def test_history_and_the_prompts_turns():
  row = {'instruction': 'Q', 'output': 'A', 'history': [['1', '2']]}
  assert read(row)[2].learned == (False, True, False, True)
  row = {'prompt': [ASK, SAY, ASK], 'completion': [SAY]}
  assert read(row)[2].learned == (False, False, False, True)


@pytest.mark.parametrize(
  ('flag', 'learned'),
  [
    ({'train': False}, False),
    ({'train': True}, True),
    ({'weight': 0}, False),
    ({'loss_weight': 0.0}, False),
    ({'loss_weight': 1.0}, True),
    ({'train': None}, True),
  ],
)
def test_messages_that_are_left_out(flag, learned):
  one = read({'messages': [ASK, SAY, ASK, SAY | flag]})[2]
  assert one.learned == (False, True, False, learned)
  assert not set(flag) & set(one.messages[3])


def test_calls_of_tools_in_both_spellings():
  tools = [{'name': 'f', 'parameters': {}}]
  theirs = read(
    {'conversations': [HUMAN, {'from': 'function_call', 'value': json.dumps(CALL)},
                       {'from': 'observation', 'value': '2'}, GPT],
     'tools': json.dumps(tools)}
  )[2]  # fmt: skip
  call = {'id': 'c1', 'type': 'function',
          'function': CALL | {'arguments': '{"x": 1}'}}  # fmt: skip
  openai = read(
    {'messages': [ASK, {'role': 'assistant', 'content': None, 'tool_calls': [call]},
                  {'role': 'tool', 'content': '2', 'tool_call_id': 'c1'}, SAY],
     'tools': [{'type': 'function', 'function': tools[0]}]}
  )[2]  # fmt: skip
  assert theirs.tools == openai.tools == [{'type': 'function', 'function': tools[0]}]
  for one in (theirs, openai):
    assert [m['role'] for m in one.messages] == [
      'user',
      'assistant',
      'tool',
      'assistant',
    ]
    assert one.messages[1]['tool_calls'][0]['function'] == CALL
    assert one.turns == [1, 3] and one.messages[1]['content'] == ''
  assert openai.messages[2]['tool_call_id'] == 'c1'


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'messages': [ASK, ASK, SAY]}, r"message 1: 'user' cannot come behind 'user'"),
    ({'messages': [SAY, ASK]}, "message 0: 'assistant' cannot come first"),
    ({'messages': [ASK, SAY, {'role': 'system', 'content': 'S'}]}, "'system' cannot"),
    ({'messages': [ASK]}, "must be the assistant's, it is of 'user'"),
    ({'messages': []}, 'no turn to learn from'),
    ({'messages': [ASK, {'role': 'bot', 'content': 'A'}]}, "unknown role 'bot'"),
    ({'messages': [ASK, {'role': 'assistant', 'content': ' '}]}, 'message 1.*is empty'),
    ({'messages': [ASK, {'role': 'assistant'}]}, "message 1 has no 'content'"),
    ({'messages': [ASK, {'content': 'A'}]}, "message 1 has no 'role'"),
    ({'messages': 'Q'}, "'messages' must be JSON"),
    ({'messages': [ASK, 'A']}, 'must be a list of messages'),
    (
      {'messages': [{'role': 'user', 'content': [{'type': 'image'}]}, SAY]},
      "part of type 'image'",
    ),
    ({'messages': [ASK | {'train': True}, SAY]}, 'asks to be learned'),
    ({'messages': [ASK, SAY | {'weight': 0.5}]}, "'weight' must be 0 or 1, got 0.5"),
    ({'prompt': 'Q', 'completion': ' '}, 'is empty'),
    ({'prompt': [ASK], 'completion': []}, 'is empty'),
    ({'prompt': 'Q', 'completion': [SAY]}, 'both be strings or both lists'),
    ({'instruction': 'Q', 'output': ''}, 'is empty'),
    ({'instruction': 'Q', 'output': 'A', 'history': ['x']}, 'a list of pairs'),
    (
      {'instruction': 'Q', 'output': 'A', 'history': 'x'},
      "'history' must be JSON, got 'x'",
    ),
    ({'prompt': json.dumps([ASK]), 'completion': 'A'}, 'both lists .* list and str'),
    ({'text': ' '}, "'text' is empty"),
    ({'messages': [{**ASK, 'content': None}, SAY]}, 'message 0, of the user, is empty'),
    ({'question': ' ', 'answer': 'A'}, 'message 0, of the user, is empty'),
    (
      {'question': 'Q', 'answer': 4},
      "^'answer' must be text or a list of parts, got 4",
    ),
    ({'instruction': 'Q', 'output': True}, "^'output' must be text .* got True"),
    (
      {'conversations': [HUMAN, {'from': 'function_call', 'value': '{'}]},
      'must be JSON',
    ),
    ({'messages': [ASK, SAY], 'tools': {'a': 1}}, "'tools' must be a list"),
  ],
)
def test_rows_that_cannot_be_learned(row, message):
  with pytest.raises(BadRow, match=message):
    read(row)


@pytest.mark.parametrize(
  'row',
  [
    {'question': 'Q\ud800', 'answer': 'A'},
    {'text': 'T\udc00'},
    {'messages': json.dumps([ASK, {**SAY, 'content': '\ud800'}])},
    {'messages': [ASK, SAY], 'tools': [{'name': 'f', 'parameters': {'\ud800': 1}}]},
    {'messages': [ASK, SAY], 'chat_template_kwargs': {'x': ['\ud800']}},
  ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(row):
  with pytest.raises(
    BadRow, match='holds half of a surrogate pair, U[+]D[8C]00'
  ) as told:
    read(row)
  str(told.value).encode()


@pytest.mark.parametrize('inner', ['[' * 100_000, '1' * 5000])
def test_text_that_no_json_parser_takes(inner):
  with pytest.raises(BadRow, match="'messages' must be JSON, got "):
    read({'messages': inner})


def test_a_key_that_a_later_row_lacks():
  layout = find_layout({'question': 'Q', 'answer': 'A'}, Columns(), 'f.jsonl')
  with pytest.raises(BadRow, match=r"\['answer'\] missing for layout 'question"):
    layout({'question': 'Q'})
  with pytest.raises(
    BadRow, match=r"^\['answer'\] is null, or the row ends before it; .*needs"
  ):
    layout({'question': 'Q', 'answer': None})
  with pytest.raises(BadRow, match='not an object'):
    layout([1])


def test_keys_of_no_layout():
  with pytest.raises(ValueError, match=r"f.jsonl: rows with the keys \['a', 'b'\]"):
    read({'a': 1, 'b': 2})


@pytest.mark.parametrize(
  'columns',
  [
    {},
    {'messages': 'chat'},
    {'prompt': 'q'},
    {'completion': 'a'},
    {'prompt': 'q', 'completion': 'a', 'strings': 'turns'},
  ],
)
def test_an_example_is_read_by_the_columns_that_it_was_made_for(columns):
  _, messages, one = read(Columns(**columns).example('T'), **columns)
  assert [text for _, text in messages] + [*one.strings] == ['T', 'T']
