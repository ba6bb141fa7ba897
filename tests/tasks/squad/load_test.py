"""The tasks 'squad' and 'squad_v2' through the door that every task has."""

import json

import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import QaConfig
from tests.tasks.squad.toy import write_toy

SMALL = QaConfig(overlap=8)


def load(folder, tokenizer, task='squad', qa=SMALL):
  train, held = write_toy(folder, unanswerable=task == 'squad_v2')
  config = DataConfig(task=task, train=train, validation=held, max_length=128, qa=qa)
  return load_task(config, tokenizer, max_positions=512)


def outputs_of(split, value=0.0):
  shape = split.columns['ids_BL'].shape
  return {'start_BL': np.full(shape, value), 'end_BL': np.full(shape, value)}


def test_columns_are_what_the_loss_reads(tmp_path, tokenizer):
  task = load(tmp_path, tokenizer, qa=QaConfig(overlap=8, max_question=16))
  assert (task.name, task.head.kind, task.metric) == ('squad', 'span', 'f1')
  split = task.splits['train']
  columns = {name: x[:] for name, x in split.columns.items()}
  assert {x.dtype for x in columns.values()} == {np.dtype('int32'), np.dtype('float32')}
  assert len({len(x) for x in columns.values()}) == 1 and columns['weight_B'].all()
  at = np.arange(len(split))
  for name in ('start_B', 'end_B'):
    places = columns[name]
    held = places != columns['null_B']
    inside = (columns['first_B'] <= places) & (
      places < columns['first_B'] + columns['size_B']
    )
    np.testing.assert_array_equal(held, inside)
    assert columns['mask_BL'][at, places].all() and held.any()


@pytest.mark.parametrize(
  ('task', 'expected'),
  [
    ('squad', {'exact_match': 25.0, 'f1': 25.0}),
    ('squad_v2', {'exact': 100 / 3, 'HasAns_f1': 0.0, 'NoAns_f1': 100.0}),
  ],
)
def test_baseline_is_the_commonest_answer(tmp_path, tokenizer, task, expected):
  metrics = load(tmp_path, tokenizer, task).baseline.metrics
  assert {name: metrics[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize('name', ['squad', 'squad_v2'])
def test_every_validation_split_has_metrics_of_its_own(tmp_path, tokenizer, name):
  datasets = pytest.importorskip('datasets')

  def rows(*towns):
    found = [{'text': [t], 'answer_start': [0]} for t in towns]
    ids, contexts = [str(i) for i in range(len(towns))], [f'{t} is far.' for t in towns]
    columns = {'context': contexts, 'question': ['Where?'] * len(towns)}
    return datasets.Dataset.from_dict(columns | {'id': ids, 'answers': found})

  datasets.DatasetDict(
    train=rows('Oslo', 'Oslo', 'Lima'),
    validation=rows('Oslo', 'Rome'),
    validation_far=rows('Oslo', 'Lima', 'Bonn', 'Perth'),
  ).save_to_disk(str(tmp_path / 'saved'))
  path = str(tmp_path / 'saved')
  config = DataConfig(task=name, path=path, max_length=128, qa=SMALL)
  task = load_task(config, tokenizer)
  baseline = task.baseline.metrics
  assert (baseline['f1'], baseline['f1_far']) == (50.0, 25.0)
  far = task.splits['validation_far']
  found = task.evaluate(far, outputs_of(far))
  assert set(found) == {name for name in baseline if name.endswith('_far')}


@pytest.mark.parametrize('name', ['squad', 'squad_v2'])
def test_a_sample_of_questions_is_scored_as_these_questions_alone(
  tmp_path, tokenizer, name
):
  train, held = write_toy(tmp_path, unanswerable=name == 'squad_v2', articles=6)
  # Short rows: questions have several windows each, which stay together.
  qa = QaConfig(overlap=4, max_question=16)
  config = DataConfig(task=name, train=train, validation=held, max_length=28, qa=qa)
  task = load_task(config, tokenizer, max_positions=512)
  split = task.splits['validation']
  asked = split.host.questions
  windows_Q = np.bincount(split.host.windows.question_N)
  assert windows_Q.max() > 1
  rng, shape = np.random.default_rng(0), split.columns['ids_BL'].shape
  whole = {n: rng.standard_normal(shape) for n in ('start_BL', 'end_BL')}
  count = len(split) // 2
  rows_M, part = task.sample(split, count, seed=1)
  assert count - windows_Q.max() < len(part) <= count
  kept = [asked.ids.index(one) for one in part.host.questions.ids]
  assert kept == sorted(kept) and windows_Q[kept].sum() == len(part)
  np.testing.assert_array_equal(part.columns['ids_BL'], split.columns['ids_BL'][rows_M])
  of_part = {n: x[rows_M] for n, x in whole.items()}
  found, own = task.evaluate(part, of_part), task.by_row(part, of_part)
  exact = 'exact' if name == 'squad_v2' else 'exact_match'
  assert set(own) == {exact, 'f1'}
  for metric, own_Q in own.items():
    assert own_Q.mean() == pytest.approx(found[metric])
    # The same questions among all others answer and score alike.
    np.testing.assert_array_equal(own_Q, task.by_row(split, whole)[metric][kept])
  assert (task.sample(split, count, seed=2)[0][:3] != rows_M[:3]).any()


def test_a_users_own_questions_are_read_and_answered(tmp_path, tokenizer):
  task = load(tmp_path, tokenizer)
  mine = tmp_path / 'mine.json'
  mine.write_text(json.dumps([{'question': 'Who?', 'context': 'Ann saw Ben.'}]))
  split = task.read(mine)
  assert split.name == 'input' and not split.columns['weight_B'].any()
  outputs = outputs_of(split)
  first = split.columns['first_B'][0]
  outputs['start_BL'][0, first + 2] = outputs['end_BL'][0, first + 2] = 5
  task.write_predictions(split, outputs, tmp_path / 'out' / 'predictions.json')
  written = (tmp_path / 'out' / 'predictions.json').read_text()
  assert json.loads(written) == {'0': 'Ben'}
  with pytest.raises(ValueError, match="'input' cannot be scored.*1 of 1 questions"):
    task.evaluate(split, outputs)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('mine.json', '[]'),
    ('mine.json', '{"data": []}'),
    ('mine.csv', 'id,question,context\n'),
  ],
)
def test_a_file_without_questions_is_refused_by_name(
  tmp_path, tokenizer, name, content
):
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=f'{name} has no rows'):
    load(tmp_path, tokenizer).read(tmp_path / name)


def test_questions_whose_lists_of_answers_are_empty_are_answered_in_v1_too(
  tmp_path, tokenizer
):
  mine = tmp_path / 'mine.json'
  asked = {'question': 'Who?', 'context': 'Ann saw Ben.', 'answers': []}
  mine.write_text(json.dumps([asked]))
  split = load(tmp_path, tokenizer).read(mine)
  assert split.host.questions.golds == (None,) and not split.columns['weight_B'].any()
  # In v2.0 the same says that there is no answer, which can be scored.
  split = load(tmp_path, tokenizer, 'squad_v2').read(mine)
  assert split.host.questions.golds == ((),) and split.columns['weight_B'].all()


def test_one_output_per_row_is_needed(tmp_path, tokenizer):
  task = load(tmp_path, tokenizer)
  split = task.splits['validation']
  short = {name: x[1:] for name, x in outputs_of(split).items()}
  with pytest.raises(ValueError, match=f'has {len(split)} rows, but there are'):
    task.evaluate(split, short)


def test_cut_questions_are_counted(tmp_path, tokenizer, caplog):
  task = load(tmp_path, tokenizer, qa=QaConfig(max_question=2, overlap=8))
  assert len(task.splits['train']) == 4 and "4 of 4 questions in 'train'" in caplog.text


def test_v1_refuses_unanswerable_questions(tmp_path, tokenizer):
  train, held = write_toy(tmp_path, unanswerable=True)
  config = DataConfig(task='squad', train=train, validation=held, max_length=128)
  with pytest.raises(ValueError, match="is unanswerable; data.task='squad_v2'"):
    load_task(config, tokenizer)


def test_rows_too_short_for_the_overlap_are_refused_at_once(tmp_path, tokenizer):
  with pytest.raises(ValueError, match='leaves 61 tokens of passage'):
    load(tmp_path, tokenizer, qa=QaConfig())


def test_settings_are_checked():
  match = "unknown data.qa.answer 'spam'; did you mean 'span'"
  with pytest.raises(ValueError, match=match):
    QaConfig(answer='spam')
  with pytest.raises(ValueError, match='data.qa.n_best must be >= 1, got 0'):
    QaConfig(n_best=0)
  with pytest.raises(ValueError, match='data.qa.overlap must be >= 0, got -1'):
    QaConfig(overlap=-1)
  with pytest.raises(ValueError, match='no_answer must not be blank'):
    QaConfig(no_answer=' ')
