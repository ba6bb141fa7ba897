"""Prompts of rows in every layout, where answers stop, and what is left of them."""

import numpy as np
import pytest

from adapad_jax.tasks.sft.chat import Chat, count_of, until
from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.sft.generated import answers_of
from adapad_jax.tasks.sft.layouts import Columns
from adapad_jax.tasks.sft.shown import marked
from adapad_jax.tasks.sft.template import end_of_turn, load_template
from tests.tasks.sft import toy

HI = {'role': 'user', 'content': 'Hi'}
ASKED = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'


def chat_of(tokens, columns=Columns(), template=''):  # noqa: B008 - it is frozen
  made = load_template(template, tokens)
  return Chat(made, toy.encoder_of(tokens), tokens, columns)


@pytest.fixture(scope='module')
def tokens():
  return toy.tokenizer(toy.CHATML, eos='<|im_end|>')


def test_a_template_file_is_text_in_utf8(tmp_path, tokens):
  path = tmp_path / 'chat.jinja'
  path.write_bytes(b'\xef\xbb\xbf' + toy.CHATML.encode() + b'\r\n')
  assert load_template(str(path), tokens).text == toy.CHATML + '\n'
  path.write_bytes(b'{{ "\xe9" }}')
  with pytest.raises(ValueError, match=f'{path}: byte 4 .*is not UTF-8'):
    load_template(str(path), tokens)


def test_a_prompt_with_half_of_a_surrogate_pair(tokens):
  with pytest.raises(
    BadRow, match='half of a surrogate pair, U[+]D800, at character 1'
  ):
    chat_of(tokens).prompt_of_row({'question': 'Q\ud800'})


OPEN = {
  'messages': ({'messages': [HI]}, ASKED),
  'sharegpt': ({'conversations': [{'from': 'human', 'value': 'Hi'}]}, ASKED),
  'alpaca': ({'instruction': 'Hi', 'input': ''}, ASKED),
  'question': ({'question': 'Hi', 'answer': ''}, ASKED),
  'lists': ({'prompt': [HI]}, ASKED),
  'strings': ({'prompt': 'Hi: '}, 'Hi: '),
  'text': ({'text': 'Hi'}, 'Hi'),
}


@pytest.mark.parametrize('name', OPEN)
def test_a_row_without_its_last_turn_is_asked_for_it(tokens, name):
  row, text = OPEN[name]
  prompt, whole = chat_of(tokens).prompt_of_row(row)
  assert prompt.text == text and prompt.reference is None
  assert (whole is None) == (name != 'text')
  expected = tokens(text, add_special_tokens=name in ('strings', 'text'))['input_ids']
  assert list(prompt.ids) == expected


CLOSED = {
  'messages': {'messages': [HI, {'role': 'assistant', 'content': 'Yes'}]},
  'sharegpt': {
    'conversations': [{'from': 'human', 'value': 'Hi'}, {'from': 'gpt', 'value': 'Yes'}]
  },
  'alpaca': {'instruction': 'Hi', 'output': 'Yes'},
  'question': {'question': 'Hi', 'answer': 'Yes'},
}


@pytest.mark.parametrize('name', CLOSED)
def test_a_whole_row_is_asked_for_its_last_turn_too(tokens, name):
  prompt, whole = chat_of(tokens).prompt_of_row(CLOSED[name])
  assert (prompt.text, prompt.reference) == (ASKED, 'Yes')
  assert whole.messages[-1]['content'] == 'Yes'


@pytest.mark.parametrize(
  ('row', 'asked'),
  [
    ({'instruction': 'Hi', 'input': '', 'output': 'Yes', 'prompt': 'No'}, ASKED),
    ({'instruction': 'Hi', 'output': None, 'prompt': 'No'}, ASKED),
    ({'question': 'Hi', 'answer': 'Yes', 'prompt': 'No', 'instruction': 'No'}, ASKED),
    ({'text': 'Hi', 'prompt': 'No'}, 'Hi'),
    ({'messages': None, 'question': 'Hi', 'answer': 'Yes'}, ASKED),
    ({'prompt': 'No', 'instruction': 'Hi'}, 'No'),
  ],
)
def test_a_row_is_asked_in_the_layout_that_it_is_trained_in(tokens, row, asked):
  """Keys of another layout may stand beside; it counts if none has all of its own."""
  assert chat_of(tokens).prompt_of_row(row)[0].text == asked


def test_a_named_column_counts_before_whole_layouts(tokens):
  chat = chat_of(tokens, Columns(prompt='q', completion='a', strings='turns'))
  row = {'q': 'Hi', 'question': 'No', 'answer': 'No'}
  assert chat.prompt_of_row(row)[0].text == ASKED


def test_earlier_turns_are_part_of_the_prompt_and_columns_may_have_names(tokens):
  chat = chat_of(tokens, Columns(prompt='q', completion='a', strings='turns'))
  assert chat.prompt_of_row({'q': 'Hi'})[0].text == ASKED
  # Rows of another layout do too.
  row = {'messages': [HI, {'role': 'assistant', 'content': 'No'}, HI]}
  prompt, _ = chat.prompt_of_row(row)
  assert prompt.text == ASKED + 'No<|im_end|>\n' + ASKED
  row = {'instruction': 'Hi', 'history': [['Hi', 'No']]}
  assert chat.prompt_of_row(row)[0].text == prompt.text


@pytest.mark.parametrize(
  ('row', 'match'),
  [
    ({'title': 'x'}, "nothing to answer: none of .*'messages'.* only .'title'"),
    ({'messages': []}, 'no turn to learn from'),
    ({'messages': [{'role': 'usr', 'content': 'Hi'}]}, "unknown role 'usr'"),
    ({'messages': 'Hi'}, 'must be JSON'),
    (['Hi'], 'not an object'),
  ],
)
def test_rows_that_cannot_be_asked_say_why(tokens, row, match):
  with pytest.raises(BadRow, match=match):
    chat_of(tokens).prompt_of_row(row)


@pytest.mark.parametrize(
  ('template', 'end'),
  [
    (toy.CHATML, '<|im_end|>'),
    (toy.LLAMA3, '<|eot_id|>'),
    (toy.GEMMA, '<end_of_turn>'),
    (toy.MISTRAL, '</s>'),
    (toy.THINKING, '<|im_end|>'),
  ],
)
def test_answers_stop_at_the_end_of_a_turn_and_of_the_text(template, end):
  tokens = toy.tokenizer(template)
  chat = chat_of(tokens)
  assert end_of_turn(chat.template) == end
  ids = tokens.convert_tokens_to_ids
  assert set(chat.stop_ids) == {ids(end), ids('</s>')}
  said = [*tokens('Yes')['input_ids'], ids(end), ids('Hi')]
  assert chat.text_of(said) == 'Yes' and count_of(said, chat.stop_ids) == 2
  assert count_of(said[:1], chat.stop_ids) == 1


def test_answers_stop_at_the_text_that_ends_turns():
  chat = chat_of(toy.tokenizer(toy.WRITTEN))
  assert end_of_turn(chat.template) == '' and chat.stop_ids == (chat.encoder.end,)
  assert chat.stop_texts == ('<<end|>',)
  said = np.array([chat.encoder.tokens.encode('Yes<<end|>\n<<start|>user').ids])
  assert answers_of(chat, said, ()) == ['Yes']
  blank = toy.WRITTEN.replace("'<<end|>\\n'", "' <<end|>\\n'")
  assert chat_of(toy.tokenizer(blank)).stop_texts == (' <<end|>', '<<end|>')
  for template in (toy.CHATML, toy.MISTRAL, ''):
    assert chat_of(toy.tokenizer(template)).stop_texts == ()


def test_the_plain_template_stops_at_the_end_of_the_text():
  chat = chat_of(toy.tokenizer())
  assert chat.stop_ids == (chat.encoder.end,)
  assert chat.ask(Conversation(messages=(HI,))).text.endswith('### Assistant:\n')


def test_qwen3_stops_at_its_two_ends_and_asks_as_transformers_does(shared):
  transformers = pytest.importorskip('transformers')
  folder = shared / 'models' / 'qwen3-tokenizer'
  tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
  chat = chat_of(tokens)
  named = {'<|im_end|>', tokens.eos_token}
  assert set(chat.stop_ids) == set(tokens.convert_tokens_to_ids(list(named)))
  row = {
    'messages': [HI, {'role': 'assistant', 'content': '<think>x</think>No'}, HI],
    'chat_template_kwargs': {'enable_thinking': False},
  }
  prompt, _ = chat.prompt_of_row(row)
  theirs = tokens.apply_chat_template(
    row['messages'],
    add_generation_prompt=True,
    enable_thinking=False,
    return_dict=False,
  )
  assert list(prompt.ids) == theirs and prompt.text.endswith('</think>\n\n')


def test_a_start_token_is_put_once_and_no_end_is_gone_on_from():
  chat = chat_of(toy.tokenizer(bos=True))
  start = chat.encoder.tokens.token_to_id('<s>')
  prompt, _ = chat.prompt_of_row({'prompt': 'Hi'})
  assert prompt.ids[0] == start and start not in prompt.ids[1:]
  ended, _ = chat.prompt_of_row({'prompt': 'Hi</s>'})
  assert ended.ids == prompt.ids


def test_the_last_turn_alone_is_encoded_to_be_learned(tokens):
  """Whatever a run learns of a row, its loss is told of what answers are asked for."""
  chat = chat_of(tokens)
  said = lambda text, **more: {'role': 'assistant', 'content': text, **more}
  rows = [
    {'messages': [HI, said('No'), HI, said('Yes')]},
    {'instruction': 'Hi', 'output': 'Yes', 'history': [['Hi', 'No']]},
    {'messages': [HI, said('No'), HI, said('Yes', train=False)]},
  ]
  first, second, none = chat.encoded([chat.prompt_of_row(row)[1] for row in rows])
  for one in (first, second):
    assert marked(tokens, one.ids_L, one.learned_L) == (
      f'{ASKED}No<|im_end|>\n{ASKED}⟦Yes<|im_end|>⟧\n'
    )
  assert none is None


def test_texts_end_at_the_first_of_several():
  assert until('one two three', ('three', 'two', '')) == 'one '
  assert until('one', ('two',)) == 'one'
