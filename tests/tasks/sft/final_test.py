"""Final answers in the texts of real data sets, and what is asked for by a config."""

import json

import pytest

from adapad_jax.tasks.config import GenerationConfig
from adapad_jax.tasks.sft.final import FinalAnswer


@pytest.mark.parametrize(
  ('kind', 'text', 'found'),
  [
    ('hashes', '48/2 = <<48/2=24>>24\n#### 72', '72'),
    ('hashes', '#### 5\nno, wait\n#### 1,200.50 ', '1200.5'),
    ('hashes', '#### $18.00.', '18'),
    ('hashes', '####\nnone', None),
    ('hashes', 'it is 72', None),
    ('hashes', '#### -1e3', '-1000'),
    ('hashes', '#### nan', 'nan'),
    ('hashes', '#### -0.0', '0'),
    ('hashes', '#### 100', '100'),
    # Beyond what decimal's own context holds; numbers too large to be written out.
    ('hashes', f'#### {10**40 + 1}.50', f'{10**40 + 1}.5'),
    ('hashes', '#### 1e9999999', '1e9999999'),
    ('hashes', '#### 1e-9999999', '1e-9999999'),
    ('hashes', '#### 1e99999999999999999999', '1e99999999999999999999'),
    ('choice', 'the correct answer is answer2', '2'),
    ('choice', 'The Answer: 3', '3'),
    ('choice', 'Not A but (C).', 'C'),
    ('choice', 'answers differ', None),
    ('boolean', 'the correct answer is True.', 'true'),
    ('boolean', 'No', 'false'),
    ('boolean', 'nothing', None),
    (r'is (\w+)$', 'it is 3, it is four', 'four'),
    ('boolean', '<think>false, no</think>\n\nYes', 'true'),
    ('boolean', '<think>false</think>\n\n', None),
  ],
)
def test_the_last_one_counts_in_one_spelling(kind, text, found):
  assert FinalAnswer(kind)(text) == found


@pytest.mark.parametrize(
  ('name', 'key', 'kind', 'choices'),
  [
    ('gsm8k-test.jsonl', 'answer', 'hashes', None),
    ('arc-easy-test.json', 'output', 'choice', {'1', '2', '3', '4'}),
    ('boolq-test.json', 'output', 'boolean', {'true', 'false'}),
  ],
)
def test_real_rows_have_the_answer_that_their_data_name(
  shared, name, key, kind, choices
):
  text = (shared / 'data' / 'sft' / name).read_text(encoding='utf-8')
  rows = (
    [json.loads(line) for line in text.splitlines()]
    if name.endswith('l')
    else json.loads(text)
  )
  found = [FinalAnswer(kind)(row[key]) for row in rows]
  assert None not in found
  if choices:
    assert set(found) >= choices
    assert found == [row['answer'].removeprefix('answer') for row in rows]
  else:
    assert all(float(one) == float(one) for one in found)


@pytest.mark.parametrize(
  ('value', 'match'),
  [
    ('hashs', "'hashs': not a name; did you mean 'hashes'.*with one group; this has 0"),
    ('(a)(b)', 'with one group; this has 2'),
    ('(a', 'no regular expression: missing'),
  ],
)
def test_answers_that_are_neither_a_name_nor_a_pattern_are_refused(value, match):
  with pytest.raises(ValueError, match=match):
    GenerationConfig(answer=value)


def test_numbers_out_of_range_are_refused():
  with pytest.raises(ValueError, match=r'data.generation.top_p must be in \(0, 1\]'):
    GenerationConfig(top_p=0.0)
  with pytest.raises(ValueError, match='data.generation.max_new_tokens must be >= 1'):
    GenerationConfig(max_new_tokens=0)
