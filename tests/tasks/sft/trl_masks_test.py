"""Masks against those of TRL, by its own functions and templates."""

import json

import numpy as np
import pytest

from adapad_jax.models import load_tokenizer
from adapad_jax.tasks.sft.conversation import conversation
from adapad_jax.tasks.sft.layouts import Columns, find_layout
from adapad_jax.tasks.sft.masks import mark
from adapad_jax.tasks.sft.template import load_template
from tests.tasks.sft import toy
from tests.tasks.sft.toy import encoder_of

data_utils = pytest.importorskip('trl.data_utils')
templates = pytest.importorskip('trl.chat_template_utils')
STOCK = {
  'qwen2_5': '<|im_end|>',
  'llama3': '<|eot_id|>',
  'gemma': '<end_of_turn>',
  'gemma3': '<end_of_turn>',
}


@pytest.fixture(scope='module')
def qwen(shared):
  made = load_tokenizer(str(shared / 'models' / 'qwen3-tokenizer'))
  made.chat_template = templates.qwen3_chat_template
  return made


@pytest.fixture(scope='module')
def rows(shared):
  """Questions with answers."""
  path = shared / 'data' / 'sft' / 'gsm8k-train.jsonl'
  lines = path.read_text(encoding='utf-8').splitlines()[:50]
  return [json.loads(line) for line in lines]


def chats(rows):
  """Rows one after the other in a conversation: one, two and three exchanges."""
  for i in range(0, 12, 3):
    for n in (1, 2, 3):
      messages = []
      for row in rows[i : i + n]:
        messages.append({'role': 'user', 'content': row['question']})
        messages.append({'role': 'assistant', 'content': row['answer']})
      yield messages


def theirs(tokenizer, messages, end):
  """(token ids, assistant mask) of the template that TRL trains with.

  Its templates count the line break after the end of a turn, and Qwen2.5's the one that
  ends the header too; no decoder is asked for either, and here neither is learned.
  """
  training = templates.get_training_chat_template(tokenizer)
  assert training is not None
  found = tokenizer.apply_chat_template(
    messages,
    chat_template=training,
    return_assistant_tokens_mask=True,
    return_dict=True,
  )
  ids_L, mask_L = np.array(found['input_ids']), np.array(found['assistant_masks'])
  outside_L = (ids_L == tokenizer.convert_tokens_to_ids(end)) | (mask_L == 0)
  breaks_L = np.array([tokenizer.decode([i]) == '\n' for i in ids_L])
  return ids_L, np.where(np.roll(outside_L, 1) & breaks_L, 0, mask_L)


def ours(tokenizer, messages, loss='assistant'):
  one = mark(conversation(messages), load_template('', tokenizer), loss)
  (encoded,) = encoder_of(tokenizer).encode([one])
  return encoded.ids_L, encoded.learned_L


@pytest.mark.parametrize('family', STOCK)
def test_assistant_turns_of_stock_templates(family, rows):
  stock = getattr(templates, f'{family}_chat_template')
  tokenizer = toy.tokenizer(stock, eos=STOCK[family])
  for messages in chats(rows):
    ids, mask = theirs(tokenizer, messages, STOCK[family])
    ids_L, learned_L = ours(tokenizer, messages)
    np.testing.assert_array_equal(ids_L, ids)
    assert len(messages) // 2 < sum(mask) < len(mask)
    np.testing.assert_array_equal(learned_L, mask)


def test_assistant_turns_of_qwen3(qwen, rows):
  """One exchange: what TRL trains on keeps earlier thinking, the stock template not."""
  for messages in chats(rows):
    ids, mask = theirs(qwen, messages[:2], '<|im_end|>')
    ids_L, learned_L = ours(qwen, messages[:2])
    np.testing.assert_array_equal(ids_L, ids)
    np.testing.assert_array_equal(learned_L, mask)


def test_completions_of_qwen3(qwen, rows):
  template, layout = load_template('', qwen), None
  for row in rows:
    layout = layout or find_layout(row, Columns(), 'rows')
    one = layout(row)
    messages = [dict(message) for message in one.messages]
    tokenize = lambda *args, **more: data_utils._tokenize(qwen, *args, **more)  # noqa: SLF001
    prompt = tokenize(messages[:1], add_generation_prompt=True)['input_ids']
    whole = tokenize(messages)['input_ids']
    same = data_utils.common_prefix_length(prompt, whole)
    encoded = encoder_of(qwen).encode([mark(one, template, 'completion')])[0]
    np.testing.assert_array_equal(encoded.ids_L, whole)
    np.testing.assert_array_equal(
      encoded.learned_L, [0] * same + [1] * (len(whole) - same)
    )
