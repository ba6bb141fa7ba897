"""Which rows are answered at evaluations, and how what is said of them is scored."""

import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import GenerationConfig
from tests.tasks.sft import toy


@pytest.fixture(scope='module')
def tokens():
  return toy.tokenizer(toy.CHATML, eos='<|im_end|>')


def task_of(tmp_path, tokens, rows, most_positions=None, **generation):
  path = toy.write_rows(tmp_path / 'rows.jsonl', rows)
  config = DataConfig(
    task='sft',
    train=path,
    validation=path,
    max_length=64,
    cache=str(tmp_path / 'cache'),
    generation=GenerationConfig(**{'max_new_tokens': 8} | generation),
  )
  return load_task(config, tokens, most_positions)


ROWS = [{'question': f'Hi {i}', 'answer': f'Yes\n#### {i}'} for i in range(20)]


def test_a_sample_is_the_same_every_time_and_comes_from_the_files(tmp_path, tokens):
  task = task_of(tmp_path, tokens, ROWS, samples=3)
  prompts = task.generated.prompts['validation'].host.prompts
  again = task_of(tmp_path, tokens, ROWS, samples=3).generated.prompts['validation']
  assert prompts == again.host.prompts and len(set(prompts)) == 3
  for one in prompts:
    number = one.reference.split('#### ')[1]
    assert one.text == (
      f'<|im_start|>user\nHi {number}<|im_end|>\n<|im_start|>assistant\n'
    )
  columns = task.generated.prompts['validation'].columns
  for one, ids, mask in zip(
    prompts, columns['ids_BL'], columns['mask_BL'], strict=True
  ):
    assert tuple(ids[mask > 0]) == one.ids
  line = task.about()[-1]
  assert line == 'at each evaluation 3 validation rows are answered by up to 8 tokens'


def outputs_of(task, tokens, texts):
  """What a model would have said."""
  ids = [
    [*tokens(text)['input_ids'], tokens.eos_token_id, *tokens('No')['input_ids']]
    for text in texts
  ]
  width = max(map(len, ids))
  return {'tokens_BT': np.array([row + [0] * (width - len(row)) for row in ids])}


def test_exact_match_is_the_share_of_right_final_answers(tmp_path, tokens):
  task = task_of(tmp_path, tokens, ROWS, samples=2, scored=4, answer='hashes')
  split = task.generated.prompts['validation']
  assert len(split) == 4 and task.generated.most == 4
  said = [one.reference for one in split.host.prompts]
  said[1], said[2] = 'Yes\n#### 99', 'Yes'
  outputs = outputs_of(task, tokens, said)
  assert task.generated.evaluate(split, outputs) == {'exact_match': 0.5}
  first, second = task.generated.samples(split, outputs)
  assert (first['answer'], first['right']) == (said[0], True)
  assert (second['answer'], second['right']) == ('Yes\n#### 99', False)
  assert second['reference'] == split.host.prompts[1].reference


def test_without_an_answer_nothing_is_scored_and_stop_texts_end_it(tmp_path, tokens):
  task = task_of(tmp_path, tokens, ROWS, samples=1, stop=('##',))
  split = task.generated.prompts['validation']
  outputs = outputs_of(task, tokens, ['Yes ## No'])
  assert task.generated.evaluate(split, outputs) == {}
  (one,) = task.generated.samples(split, outputs)
  assert one['answer'] == 'Yes ' and 'right' not in one


def test_rows_that_cannot_be_answered_or_scored_are_left_out_and_counted(
  tmp_path, tokens
):
  rows = [
    {'question': 'Hi', 'answer': '#### 1'},
    {'question': 'Hi', 'answer': 'Yes'},
    {'question': 'Hi ' * 12, 'answer': '#### 2'},
  ]
  task = task_of(
    tmp_path, tokens, rows, 64, scored=0, answer='hashes', max_new_tokens=30
  )
  split = task.generated.prompts['validation']
  assert [one.reference for one in split.host.prompts] == ['#### 1']
  assert split.host.out == {
    'no final answer': 1, 'longer than the model takes with an answer': 1
  }  # fmt: skip
  assert "scored by exact match of 'hashes'; left out: 1 no final" in task.about()[-1]
  task = task_of(tmp_path, tokens, [rows[1]] * 2, scored=1, answer='hashes')
  with pytest.raises(ValueError, match="'hashes': no row of 2 of split 'validation'"):
    task.about()


def test_plain_text_has_nothing_to_answer(tmp_path, tokens):
  task = task_of(tmp_path, tokens, [{'text': 'Hi Hi'}] * 4)
  assert len(task.generated.prompts['validation']) == 0
  assert '0 validation rows are answered' in task.about()[-1]
  assert task_of(tmp_path, tokens, ROWS, samples=0).generated is None
