"""A user's own files: label sets, pairs, regression, cuts and refusals."""

import dataclasses
import json

import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task, own_data
from adapad_jax.tasks.files import read_table


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def rows(count, label=lambda i: ('no', 'yes')[i % 2]):
  return [{'body': f'text {i}', 'stars': label(i)} for i in range(count)]


def config(tmp_path, **fields):
  given = {
    'task': 'classification',
    'text': ('body',),
    'label': 'stars',
    'max_length': 16,
    'train': write(tmp_path / 'train.jsonl', rows(20)),
    'validation': write(tmp_path / 'dev.jsonl', rows(6)),
  }
  return DataConfig(**{**given, **fields})


def test_classification_from_end_to_end(tmp_path, tokenizer):
  task = load_task(config(tmp_path), tokenizer)
  assert task.label_names == ('no', 'yes')
  assert (task.head.kind, task.head.num_labels) == ('classification', 2)
  held = task.splits['validation']
  logits = np.float32([[2, 0], [0, 2], [2, 0], [2, 0], [2, 0], [0, 2]])
  assert task.evaluate(held, {'logits_BC': logits})['accuracy'] == 5 / 6
  assert task.baseline.name == 'majority class'
  assert task.baseline.metrics['accuracy'] == 0.5
  task.write_predictions(held, {'logits_BC': logits}, tmp_path / 'p.csv')
  lines = (tmp_path / 'p.csv').read_text().splitlines()
  assert lines[:3] == [
    'index,prediction,probability',
    '0,no,0.880797',
    '1,yes,0.880797',
  ]


def test_training_data_is_read_once(tmp_path, tokenizer, monkeypatch):
  """Though its labels are looked at for the classes first."""
  seen = []

  def read(path):
    seen.append(path.stem)
    return read_table(path)

  monkeypatch.setattr(own_data, 'read_table', read)
  task = load_task(config(tmp_path), tokenizer)
  assert len(task.splits['train']) == 20 and seen == ['train', 'dev']
  again = load_task(config(tmp_path), tokenizer, facts=task.facts)
  assert len(again.splits['train']) == 20 and seen == ['train', 'dev', 'train']


def test_three_integer_classes_in_parquet_and_a_pair(tmp_path, tokenizer):
  arrow, parquet = (
    pytest.importorskip('pyarrow'),
    pytest.importorskip('pyarrow.parquet'),
  )
  columns = {'a': ['x', 'y', 'z'], 'b': ['1', '2', '3'], 'l': [2, 10, 1]}
  parquet.write_table(arrow.table(columns), tmp_path / 't.parquet')
  path = str(tmp_path / 't.parquet')
  task = load_task(
    DataConfig(
      'classification', train=path, validation=path, text=('a', 'b'), label='l',
      max_length=16,
    ),
    tokenizer,
  )  # fmt: skip
  assert task.label_names == ('1', '2', '10')
  train = task.splits['train'].columns
  np.testing.assert_array_equal(train['label_B'], [1, 2, 0])
  assert tokenizer.decode(train['ids_BL'][0]).startswith('[CLS] x [SEP] 1 [SEP]')


def test_given_label_set_keeps_its_order(tmp_path, tokenizer):
  task = load_task(config(tmp_path, labels=('yes', 'no', 'perhaps')), tokenizer)
  assert task.label_names == ('yes', 'no', 'perhaps')
  assert task.splits['train'].columns['label_B'][:2].tolist() == [1, 0]


def test_regression(tmp_path, tokenizer):
  data = rows(20, lambda i: i / 4 - 2)
  task = load_task(
    config(
      tmp_path,
      task='regression',
      train=write(tmp_path / 'r.jsonl', data),
      validation=write(tmp_path / 'r2.jsonl', data[:9]),
    ),
    tokenizer,
  )
  assert (task.head.kind, task.label_names, task.metric) == ('regression', None, 'r2')
  held = task.splits['validation']
  label = held.columns['label_B']
  np.testing.assert_array_equal(label, np.arange(9, dtype=np.float32) / 4 - 2)
  assert task.evaluate(held, {'value_B': label + 1})['mse'] == pytest.approx(1)
  mean = np.mean([row['stars'] for row in data])
  expected = 1 - np.mean((label - mean) ** 2) / np.var(label)
  assert task.baseline.name == 'mean label'
  assert task.baseline.metrics['r2'] == pytest.approx(expected)


def test_predict_input_needs_no_label(tmp_path, tokenizer):
  task = load_task(config(tmp_path), tokenizer)
  (tmp_path / 'in.csv').write_text('id,body\n1,"hello, you"\n2,b\n')
  split = task.read(tmp_path / 'in.csv')
  assert (split.name, len(split)) == ('input', 2)
  assert 'hello , you' in tokenizer.decode(split.columns['ids_BL'][0]).replace(
    ',', ' ,'
  )
  with pytest.raises(ValueError, match='no label; write predictions'):
    task.evaluate(split, {'logits_BC': np.zeros((2, 2))})
  (tmp_path / 'bad.csv').write_text('boddy\nx\n')
  with pytest.raises(ValueError, match="no column 'body'; it has .*mean 'boddy'"):
    task.read(tmp_path / 'bad.csv')
  (tmp_path / 'empty.csv').write_text('body\n')
  with pytest.raises(ValueError, match='empty.csv has no rows'):
    task.read(tmp_path / 'empty.csv')


def test_holdout_leaves_the_real_validation_data_alone(tmp_path, tokenizer):
  task = load_task(config(tmp_path, holdout=0.25), tokenizer)
  sizes = {name: len(split) for name, split in task.splits.items()}
  assert sizes == {'train': 15, 'validation': 5, 'dev': 6}
  seen = {
    tuple(row)
    for name in ('train', 'validation')
    for row in task.splits[name].columns['ids_BL'][:].tolist()
  }
  assert len(seen) == 20
  alone = load_task(config(tmp_path, holdout=0.25, validation=''), tokenizer)
  np.testing.assert_array_equal(
    alone.splits['validation'].columns['ids_BL'],
    task.splits['validation'].columns['ids_BL'],
  )


def test_row_limits(tmp_path, tokenizer):
  task = load_task(config(tmp_path, max_train_rows=8, max_eval_rows=4), tokenizer)
  assert (len(task.splits['train']), len(task.splits['validation'])) == (8, 4)


def test_truncated_rows_are_counted(tmp_path, tokenizer):
  data = rows(20)
  data[3]['body'] = 'long ' * 30
  task = load_task(config(tmp_path, train=write(tmp_path / 'l.jsonl', data)), tokenizer)
  assert task.splits['train'].truncated == 1


def test_folder_of_files(tmp_path, tokenizer):
  given = config(tmp_path, train='', validation='', path=str(tmp_path))
  assert len(load_task(given, tokenizer).splits['validation']) == 6
  write(tmp_path / 'validation.jsonl', rows(2))
  with pytest.raises(
    ValueError, match="2 files for the split 'validation': .'dev.json"
  ):
    load_task(given, tokenizer)
  (tmp_path / 'dev.jsonl').unlink()
  assert len(load_task(given, tokenizer).splits['validation']) == 2


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'train': ''}, "'classification' needs data.train=FILE"),
    ({'validation': ''}, 'no validation data; give data.validation=FILE, or hold'),
    ({'train': 'nowhere/t.csv'}, 'no file nowhere/t.csv'),
    ({'text': ('txt',)}, "no column 'txt'; it has .'body', 'stars'."),
    ({'label': 'star'}, "no column 'star'; .*did you mean 'stars'"),
    ({'labels': ('no', 'maybe')}, "label 'yes' in row 1 .*'no', 'maybe'"),
    ({'max_train_rows': 1}, 'all 1 training rows have the same class'),
    ({'max_length': 1000}, 'max_length=1000 is above .* 512 tokens'),
    ({'path': 'nowhere'}, 'data.path=nowhere: there is no such folder'),
    ({'text': ('body', 'body')}, "^data.text=body,body names the column 'body' twice"),
    ({'text': ('x', 'stars')}, '^data.text=x,stars and data.label=stars name the same'),
    ({'task': 'regression', 'label': 'body'}, "text=body and data.label=body .*'body'"),
    ({'task': 'regression'}, "label 'no' in row 0 .*not a finite number"),
  ],
)
def test_refusals(tmp_path, tokenizer, fields, message):
  with pytest.raises(ValueError, match=message):
    load_task(config(tmp_path, **fields), tokenizer).splits['train']


@pytest.mark.parametrize(
  'data, message',
  [
    ([], "no column 'stars'|training data is empty"),
    (rows(4, lambda i: 'same'), "all 4 training rows have the same class 'same'"),
    (rows(4, lambda i: None), "row 0 .* has no label in column 'stars'"),
    (rows(4, lambda i: i / 8), "label 0.125 .*data.task='regression'"),
    ([*rows(2), {'body': None, 'stars': 'no'}], "'body' is empty in 1 of 3 rows"),
  ],
)
def test_refused_training_data(tmp_path, tokenizer, data, message):
  given = config(tmp_path, train=write(tmp_path / 'bad.jsonl', data))
  with pytest.raises(ValueError, match=message):
    load_task(given, tokenizer)


def test_validation_label_that_training_never_saw(tmp_path, tokenizer):
  bad = write(tmp_path / 'bad.jsonl', rows(3, lambda i: ('no', 'yes', 'si')[i]))
  with pytest.raises(ValueError, match="bad.jsonl: label 'si' in row 2"):
    load_task(config(tmp_path, validation=bad), tokenizer)


def test_unknown_task_and_split(tmp_path, tokenizer):
  with pytest.raises(ValueError, match="unknown task 'sst3'; .*did you mean 'sst2'"):
    load_task(DataConfig(task='sst3'), tokenizer)
  task = load_task(config(tmp_path), tokenizer)
  with pytest.raises(ValueError, match=r"'valid'; this task has \['train', 'valid"):
    task.splits['valid']
  assert 'test' not in task.splits


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'text': ('a', 'b', 'c')}, 'one or two column names'),
    ({'text': 'body'}, 'one or two column names'),
    ({'max_length': 2}, 'data.max_length must be >= 8, got 2'),
    ({'max_eval_rows': -1}, 'data.max_eval_rows must be >= 0, got -1'),
    ({'holdout': 1.0}, r'data.holdout must be in \[0, 1\)'),
  ],
)
def test_config_refusals(fields, message):
  with pytest.raises(ValueError, match=message):
    DataConfig(**fields)


def test_splits_beyond_the_first_keep_their_metrics_apart(tmp_path, tokenizer):
  datasets = pytest.importorskip('datasets')
  rows = lambda labels: datasets.Dataset.from_dict({'text': labels, 'label': labels})
  datasets.DatasetDict(
    train=rows(['a', 'b', 'b']),
    validation=rows(['a', 'b']),
    validation_other=rows(['b', 'b', 'b', 'a']),
  ).save_to_disk(str(tmp_path / 'saved'))
  where = {'task': 'classification', 'path': str(tmp_path / 'saved'), 'max_length': 16}
  task = load_task(DataConfig(**where), tokenizer)
  said_b = lambda count: {'logits_BC': np.eye(2)[[1] * count]}
  first = task.evaluate(task.splits['validation'], said_b(2))
  other = task.evaluate(task.splits['validation_other'], said_b(4))
  assert first['accuracy'] == 0.5 and other['accuracy_other'] == 0.75
  assert task.baseline.metrics == first | other


@pytest.mark.parametrize('label', ['?', -1, 0.5, None, ['no'], {'a': 1}, 'nan', 'si'])
@pytest.mark.parametrize('task', ['classification', 'regression'])
def test_predict_looks_at_no_label(tmp_path, tokenizer, label, task):
  values = {'classification': lambda i: ('no', 'yes')[i % 2], 'regression': float}
  data = rows(6, values[task])
  given = config(tmp_path, task=task, train=write(tmp_path / 't.jsonl', data))
  given = dataclasses.replace(given, validation=given.train)
  mine = [*rows(2, values[task]), {'body': 'x', 'stars': label}]
  split = load_task(given, tokenizer).read(write(tmp_path / 'mine.jsonl', mine))
  assert len(split) == 3


@pytest.mark.parametrize(
  'text', ['body\na\n\nb\n', 'body\na\n""\nb\n', 'x,body\n1,a\n2\n']
)
def test_a_row_without_text_is_never_skipped(tmp_path, tokenizer, text):
  (tmp_path / 'in.csv').write_text(text)
  with pytest.raises(ValueError, match=r"'body' is empty in 1 of .*row 1, .*; line 3"):
    load_task(config(tmp_path), tokenizer).read(tmp_path / 'in.csv')


def test_rows_of_quoted_lines_are_counted_right(tmp_path, tokenizer):
  (tmp_path / 'in.csv').write_text('body\n"a\n\nb"\n"c"\n')
  assert len(load_task(config(tmp_path), tokenizer).read(tmp_path / 'in.csv')) == 2


def test_predictions_of_some_rows_have_the_numbers_of_the_file(tmp_path, tokenizer):
  task = load_task(config(tmp_path, max_eval_rows=3), tokenizer)
  held = task.splits['validation']
  outputs = {'logits_BC': np.zeros((3, 2), np.float32)}
  task.write_predictions(held, outputs, tmp_path / 'p.tsv')
  lines = (tmp_path / 'p.tsv').read_text().splitlines()[1:]
  whole = load_task(config(tmp_path), tokenizer).splits['validation'].columns['ids_BL']
  for line, ids in zip(lines, held.columns['ids_BL'], strict=True):
    np.testing.assert_array_equal(whole[int(line.split('\t')[0])], ids)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_not_written(tmp_path, tokenizer, bad):
  task = load_task(config(tmp_path), tokenizer)
  logits = np.zeros((6, 2), np.float32)
  logits[4, 1] = bad
  with pytest.raises(ValueError, match='1 of 6 rows of .validation., such as row 4'):
    task.write_predictions(
      task.splits['validation'], {'logits_BC': logits}, tmp_path / 'p.csv'
    )
  assert not (tmp_path / 'p.csv').exists()


def test_a_folder_with_two_training_files_needs_one_named(tmp_path, tokenizer):
  train = str(tmp_path / 'train.jsonl')
  write(tmp_path / 'train.json', [])
  given = config(tmp_path, train='', validation='', path=str(tmp_path))
  with pytest.raises(ValueError, match="2 files for the split 'train'"):
    load_task(given, tokenizer)
  assert load_task(dataclasses.replace(given, train=train), tokenizer)


def test_a_saved_dataset_beside_files_is_ambiguous(tmp_path, tokenizer):
  datasets = pytest.importorskip('datasets')
  split = datasets.Dataset.from_dict({'body': ['a', 'b'], 'stars': ['no', 'yes']})
  datasets.DatasetDict(train=split, validation=split).save_to_disk(tmp_path / 'saved')
  given = config(tmp_path, train='', validation='', path=str(tmp_path / 'saved'))
  assert len(load_task(given, tokenizer).splits['train']) == 2
  write(tmp_path / 'saved' / 'train.jsonl', rows(4))
  with pytest.raises(ValueError, match=r"saved dataset .*'train.jsonl'"):
    load_task(given, tokenizer)


@pytest.mark.parametrize('name', ['dev', 'val', 'valid', 'eval'])
def test_a_saved_dataset_may_call_its_validation_split_otherwise(
  tmp_path, tokenizer, name
):
  datasets = pytest.importorskip('datasets')
  split = datasets.Dataset.from_dict({'body': ['a', 'b'], 'stars': ['no', 'yes']})
  saved = tmp_path / 'saved'
  datasets.DatasetDict({'train': split, name: split}).save_to_disk(saved)
  given = config(tmp_path, train='', validation='', path=str(saved))
  assert len(load_task(given, tokenizer).splits['validation']) == 2


def test_a_saved_dataset_without_names_of_splits_is_told(tmp_path, tokenizer):
  datasets = pytest.importorskip('datasets')
  split = datasets.Dataset.from_dict({'body': ['a', 'b'], 'stars': ['no', 'yes']})
  split.save_to_disk(tmp_path / 'one')
  datasets.DatasetDict(other=split).save_to_disk(tmp_path / 'many')
  for name, message in (
    ('one', 'is one saved Dataset'),
    ('many', 'is a saved DatasetDict without'),
  ):
    given = config(tmp_path, train='', path=str(tmp_path / name))
    with pytest.raises(ValueError, match=f'needs data.train=FILE, .*{name} {message}'):
      load_task(given, tokenizer)


def test_cells_of_a_saved_dataset_are_checked(tmp_path, tokenizer):
  datasets = pytest.importorskip('datasets')
  split = datasets.Dataset.from_dict({'body': [['a'], ['b']], 'stars': ['no', 'yes']})
  datasets.DatasetDict(train=split, validation=split).save_to_disk(tmp_path / 'saved')
  given = config(tmp_path, train='', validation='', path=str(tmp_path / 'saved'))
  with pytest.raises(ValueError, match=r'saved \[train\]: the cell in row 0 .*list'):
    load_task(given, tokenizer)
