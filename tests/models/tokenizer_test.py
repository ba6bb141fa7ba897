"""The real tokenizers: DeBERTaV3's sentencepiece and Qwen3's with its chat template."""

import pytest

from adapad_jax.models import load_tokenizer


def test_debertas_sentencepiece(shared):
  tokenizer = load_tokenizer(str(shared / 'models' / 'deberta-v3-tokenizer'))
  ids = tokenizer('Hello world!', 'A second one.')['input_ids']
  # [CLS] and [SEP] are 1 and 2 in every DeBERTaV3 checkpoint, padding is 0.
  assert ids[0] == 1 and ids[-1] == 2 and ids.count(2) == 2
  assert tokenizer.pad_token_id == 0
  assert tokenizer.mask_token_id == 128000
  pieces = tokenizer.convert_ids_to_tokens(ids)
  assert pieces[1:4] == ['▁Hello', '▁world', '!']
  assert tokenizer.decode(ids, skip_special_tokens=True) == 'Hello world! A second one.'
  batch = tokenizer(['Hi', 'Hi there, friend'], padding=True)
  assert batch['attention_mask'][0][-1] == 0  # padded on the right


def test_qwens_chat_template(shared):
  tokenizer = load_tokenizer(str(shared / 'models' / 'qwen3-tokenizer'))
  question = [{'role': 'user', 'content': 'Where is Paris?'}]
  text = tokenizer.apply_chat_template(
    question, tokenize=False, add_generation_prompt=True, enable_thinking=False
  )
  assert text == (
    '<|im_start|>user\nWhere is Paris?<|im_end|>\n'
    '<|im_start|>assistant\n<think>\n\n</think>\n\n'
  )
  ids = tokenizer(text)['input_ids']
  assert ids.count(tokenizer.convert_tokens_to_ids('<|im_end|>')) == 1
  assert tokenizer.decode(ids) == text
  assert len(tokenizer) == 151669


def test_a_folder_without_a_tokenizer_is_refused_with_what_it_has(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
  with pytest.raises(ValueError, match=r"no tokenizer.*\['config.json'\]"):
    load_tokenizer(str(tmp_path))
