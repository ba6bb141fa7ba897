"""GLUE from the official files, a saved dataset and the hub; real files too."""

import csv
import gzip
import logging

import numpy as np
import pytest

from adapad_jax.origins import HubCommit
from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.glue import TASKS, official_table
from tests.hub import repositories
from tests.hub.client import connected

# The header, two labelled lines and a test file of every official layout.
OFFICIAL = {
  'cola': (
    None,
    ['gj04\t1\t\tA "B C.', 'gj04\t0\t*\tD E.'],
    ('index\tsentence', '0\tF G.'),
  ),
  'sst2': (
    'sentence\tlabel',
    ['a " film\t0', 'great\t1'],
    ('index\tsentence', '0\tF G.'),
  ),
  'mrpc': (
    '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String',
    ['1\t7\t8\tA one\tA two', '0\t7\t8\tB one\tB two'],
    ('index\t#1 ID\t#2 ID\t#1 String\t#2 String', '0\t1\t2\tC one\tC two'),
  ),
  'stsb': (
    'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2'
    '\tscore',
    ['0\tg\tf\ty\to\ts\ts\tA one\tA two\t5.000', '1\tg\tf\ty\to\ts\ts\tB\tC\t0.25'],
    (
      'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2',
      '0\tg\tf\ty\to\ts\ts\tC one\tC two',
    ),
  ),
  'qqp': (
    'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate',
    ['0\t1\t2\tA one?\t\t1', '1\t3\t4\tB one?\tB two?\t0'],
    ('id\tquestion1\tquestion2', '0\tC one\tC two'),
  ),
  'mnli': (
    'index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t'
    'sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label',
    [
      '0\tp\tp\tg\tb\tb\tp\tp\tA one\tA two\tneutral\tcontradiction',
      '1\tp\tp\tg\tb\tb\tp\tp\tB one\tB two\tentailment\tentailment',
    ],
    (
      'index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t'
      'sentence1_parse\tsentence2_parse\tsentence1\tsentence2',
      '0\tp\tp\tg\tb\tb\tp\tp\tC one\tC two',
    ),
  ),
  'qnli': (
    'index\tquestion\tsentence\tlabel',
    ['0\tA one?\tA two.\tnot_entailment', '1\tB one?\tB two.\tentailment'],
    ('index\tquestion\tsentence', '0\tC one\tC two'),
  ),
  'rte': (
    'index\tsentence1\tsentence2\tlabel',
    ['0\tA one.\tA two.\tnot_entailment', '1\tB one.\tB two.\tentailment'],
    ('index\tsentence1\tsentence2', '0\tC one\tC two'),
  ),
}
LABELS = {
  'cola': [1, 0],
  'sst2': [0, 1],
  'mrpc': [1, 0],
  'stsb': [5.0, 0.25],
  'qqp': [1, 0],
  'mnli': [2, 0],
  'qnli': [1, 0],
  'rte': [1, 0],
}


def write_official(root, name):
  folder = root / TASKS[name].folder
  folder.mkdir()
  header, lines, test = OFFICIAL[name]
  labelled = '\n'.join([*([header] if header else []), *lines]) + '\n'
  for stem in TASKS[name].files.values():
    text = '\n'.join(test) + '\n' if stem.startswith('test') else labelled
    (folder / f'{stem}.tsv').write_text(text, encoding='utf-8')
  return folder


@pytest.mark.parametrize('name', list(TASKS))
def test_every_official_layout(name, tmp_path, tokenizer):
  write_official(tmp_path, name)
  task = load_task(DataConfig(task=name, path=str(tmp_path), max_length=16), tokenizer)
  assert set(task.splits) == set(TASKS[name].files)
  train = task.splits['train']
  np.testing.assert_array_equal(train.columns['label_B'], LABELS[name])
  np.testing.assert_array_equal(train.columns['weight_B'], [1, 1])
  text = tokenizer.decode(train.columns['ids_BL'][0], skip_special_tokens=True)
  assert text.startswith('a') and ('"' in text) == (name in ('cola', 'sst2'))
  if len(TASKS[name].text) == 2 and name != 'qqp':
    assert 'one' in text and 'two' in text and train.columns['types_BL'][:].any()
  test = task.splits['test']
  np.testing.assert_array_equal(test.columns['weight_B'], [0])
  first = tokenizer.decode(test.columns['ids_BL'][0], skip_special_tokens=True)
  assert first.startswith('c one') or first == 'f g.'


def test_folder_may_be_the_task_folder_itself(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'rte')
  task = load_task(DataConfig(task='rte', path=str(folder), max_length=16), tokenizer)
  assert len(task.splits['train']) == 2
  read = task.read(folder / 'test.tsv')
  assert read.name == 'input' and len(read) == 1


def test_mismatched_metrics_end_in_mm(tmp_path, tokenizer):
  write_official(tmp_path, 'mnli')
  task = load_task(
    DataConfig(task='mnli', path=str(tmp_path), max_length=16), tokenizer
  )
  outputs = {'logits_BC': np.eye(3, dtype=np.float32)[[2, 1]]}
  assert task.evaluate(task.splits['validation'], outputs) == {'accuracy': 0.5}
  assert task.evaluate(task.splits['validation_mm'], outputs) == {'accuracy_mm': 0.5}
  with pytest.raises(ValueError, match='1 of 1 rows have no label; write predictions'):
    task.evaluate(task.splits['test'], {'logits_BC': outputs['logits_BC'][:1]})


def test_the_baseline_covers_every_validation_split(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'mnli')
  header, lines, _ = OFFICIAL['mnli']
  more = lines[1].replace('B one', 'D one')
  (folder / 'train.tsv').write_text('\n'.join([header, *lines, more]) + '\n')
  (folder / 'dev_mismatched.tsv').write_text('\n'.join([header, more, *lines]) + '\n')
  task = load_task(
    DataConfig(task='mnli', path=str(tmp_path), max_length=16), tokenizer
  )
  # Entailment, the commonest, is right in one of two rows and in two of three.
  want = {'accuracy': 1 / 2, 'accuracy_mm': 2 / 3}
  assert task.baseline.metrics == pytest.approx(want)


def test_unlabelled_test_split_is_written_as_run_glue_does(tmp_path, tokenizer):
  write_official(tmp_path, 'qnli')
  task = load_task(
    DataConfig(task='qnli', path=str(tmp_path), max_length=16), tokenizer
  )
  outputs = {'logits_BC': np.float32([[0, 1]])}
  task.write_predictions(task.splits['test'], outputs, tmp_path / 'p.tsv')
  assert (tmp_path / 'p.tsv').read_text() == 'index\tprediction\n0\tnot_entailment\n'


def test_lines_that_lack_a_column_are_dropped_aloud(tmp_path, tokenizer, caplog):
  folder = write_official(tmp_path, 'qqp')
  with (folder / 'train.tsv').open('a') as file:
    file.write('5\t6\t7\tno second\n')
  with caplog.at_level(logging.WARNING):
    task = load_task(
      DataConfig(task='qqp', path=str(tmp_path), max_length=16), tokenizer
    )
  assert len(task.splits['train']) == 2
  assert 'dropped 1 rows that lack a column' in caplog.text


def test_saved_dataset_with_class_names(tmp_path, tokenizer):
  datasets = pytest.importorskip('datasets')
  features = datasets.Features(
    sentence=datasets.Value('string'),
    label=datasets.ClassLabel(names=['unacceptable', 'acceptable']),
  )

  def split(labels):
    columns = {'sentence': [f's {i}' for i in range(len(labels))], 'label': labels}
    return datasets.Dataset.from_dict(columns, features=features)

  datasets.DatasetDict(
    train=split([1, 0, 0]), validation=split([1]), test=split([-1, -1])
  ).save_to_disk(str(tmp_path / 'saved'))
  task = load_task(
    DataConfig(task='cola', path=str(tmp_path / 'saved'), max_length=16), tokenizer
  )
  np.testing.assert_array_equal(task.splits['train'].columns['label_B'], [1, 0, 0])
  np.testing.assert_array_equal(task.splits['test'].columns['weight_B'], [0, 0])


def test_files_named_after_splits(tmp_path, tokenizer):
  for name in ('train', 'validation'):
    with (tmp_path / f'{name}.csv').open('w', newline='') as file:
      writer = csv.writer(file)
      writer.writerows([['sentence', 'label'], ['a', '0'], ['b', 'positive']])
  task = load_task(
    DataConfig(task='sst2', path=str(tmp_path), max_length=16), tokenizer
  )
  np.testing.assert_array_equal(task.splits['train'].columns['label_B'], [0, 1])


def mnli_of_the_hub():
  """A dataset made here with the splits and columns that MNLI has on the hub."""
  datasets = pytest.importorskip('datasets')
  features = datasets.Features(
    premise=datasets.Value('string'),
    hypothesis=datasets.Value('string'),
    label=datasets.ClassLabel(names=['entailment', 'neutral', 'contradiction']),
  )
  rows = {'premise': ['a', 'b'], 'hypothesis': ['c', 'd']}
  labels = {
    'train': [0, 2],
    'validation_matched': [1, 1],
    'validation_mismatched': [2, 2],
    'test_matched': [-1, -1],
    'test_mismatched': [-1, -1],
  }
  return datasets.DatasetDict(
    {
      split: datasets.Dataset.from_dict({**rows, 'label': label}, features=features)
      for split, label in labels.items()
    }
  )


def assert_is_mnli(task):
  assert set(task.splits) == set(TASKS['mnli'].files)
  for name, label in [('validation', 1), ('validation_mm', 2)]:
    assert task.splits[name].columns['label_B'].tolist() == [label] * 2
  assert not task.splits['test_mm'].columns['weight_B'].any()
  assert set(task.baseline.metrics) == {'accuracy', 'accuracy_mm'}


def test_hub_splits_get_our_names(tmp_path, monkeypatch, tokenizer):
  names = ('entailment', 'neutral', 'contradiction')
  columns = lambda rows: {n: list(rows[n]) for n in ('premise', 'hypothesis', 'label')}
  splits = {name: (columns(rows), names) for name, rows in mnli_of_the_hub().items()}
  other = {name: splits['train'] for name in ('train', 'validation')}
  with connected(tmp_path, monkeypatch) as hub:
    # The card's first subset is another, which `datasets` would look at.
    files = repositories.data_set({'ax': other, 'mnli': splits})
    commit = hub.put('dataset', 'nyu-mll/glue', files)
    task = load_task(DataConfig(task='mnli', max_length=16), tokenizer)
    assert not any('/ax/' in request for request in hub.asked)
  assert task.facts.hub == HubCommit('nyu-mll/glue', 'main', commit)
  assert_is_mnli(task)


def test_saved_splits_of_the_hub_get_our_names_too(tmp_path, tokenizer):
  mnli_of_the_hub().save_to_disk(str(tmp_path / 'saved'))
  path = str(tmp_path / 'saved')
  assert_is_mnli(
    load_task(DataConfig(task='mnli', path=path, max_length=16), tokenizer)
  )


def test_unreachable_hub_names_the_alternative(tokenizer, tmp_path, monkeypatch):
  monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path))
  with pytest.raises(
    ValueError, match=r'nyu-mll/glue \(cola\) .*data.path=FOLDER, where CoLA/train.tsv'
  ):
    load_task(DataConfig(task='cola', max_length=16), tokenizer)


def test_folder_without_the_files_is_refused(tmp_path, tokenizer):
  (tmp_path / 'notes.txt').write_text('')
  with pytest.raises(ValueError, match=r"expected \['train.tsv', .*it has \['notes"):
    load_task(DataConfig(task='rte', path=str(tmp_path), max_length=16), tokenizer)
  with pytest.raises(ValueError, match='no such folder'):
    load_task(DataConfig(task='rte', path=str(tmp_path / 'x')), tokenizer)


def test_label_outside_the_set_is_refused_before_tokenising(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'rte')
  with (folder / 'dev.tsv').open('a') as file:
    file.write('2\ta\tb\tentailed\n')
  with pytest.raises(ValueError, match=r"dev.tsv: label 'entailed' in row 2 .*did you"):
    load_task(DataConfig(task='rte', path=str(tmp_path), max_length=16), tokenizer)


# Rows of the official training and development files.
REAL = {
  'cola': (8551, 1043),
  'sst2': (67349, 872),
  'mrpc': (3668, 408),
  'stsb': (5749, 1500),
  'rte': (2490, 277),
}


@pytest.mark.parametrize('name', list(REAL))
def test_real_official_files(name, shared, tokenizer):
  folder = shared / 'data/glue'
  config = DataConfig(task=name, path=str(folder), max_length=32, max_train_rows=500)
  task = load_task(config, tokenizer)
  train = official_table(TASKS[name], folder / TASKS[name].folder / 'train.tsv')
  assert (len(train), len(task.splits['validation'])) == REAL[name]
  assert len(task.splits['train']) == 500
  held = task.splits['validation']
  label = held.columns['label_B']
  if task.label_names is None:
    assert 0 <= label.min() < 1 and 4 < label.max() <= 5
    perfect = {'value_B': label}
    constant = {'value_B': np.full(len(held), 2.5, np.float32)}
  else:
    perfect = {'logits_BC': np.eye(2)[label]}
    commonest = np.bincount(task.splits['train'].columns['label_B']).argmax()
    constant = {'logits_BC': np.eye(2)[np.full(len(held), commonest)]}
  assert task.evaluate(held, perfect)[task.metric] == pytest.approx(1)
  found = task.evaluate(held, constant)
  assert found == pytest.approx(task.baseline.metrics, nan_ok=True)


def glue(tmp_path, name, **fields):
  return DataConfig(task=name, path=str(tmp_path), max_length=16, **fields)


def test_packed_official_files_in_any_spelling(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'cola')
  for path in list(folder.iterdir()):
    (folder / f'{path.stem}.TSV.gz').write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
  task = load_task(glue(tmp_path, 'cola'), tokenizer)
  assert [len(task.splits[name]) for name in ('train', 'validation', 'test')] == [
    2,
    2,
    1,
  ]


@pytest.mark.parametrize(
  'other, message',
  [
    ('RTE/train.csv', "2 files for the split 'train'"),
    ('RTE/validation.jsonl', "2 files for the split 'validation'"),
    ('RTE/test.tsv.gz', "2 files for the split 'test'"),
    ('train.csv', 'lie both there and in RTE/'),
  ],
)
def test_two_places_for_one_split_are_ambiguous(tmp_path, tokenizer, other, message):
  write_official(tmp_path, 'rte')
  (tmp_path / other).write_text('')
  if other == 'train.csv':
    (tmp_path / 'validation.csv').write_text('')
  with pytest.raises(ValueError, match=message):
    load_task(glue(tmp_path, 'rte'), tokenizer)


@pytest.mark.parametrize('where', ['test', 'input'])
@pytest.mark.parametrize('line', ['', '7\tonly the first', '7'])
def test_no_row_to_predict_is_dropped(tmp_path, tokenizer, where, line):
  """Where training drops a row aloud, a prediction would move to another row."""
  folder = write_official(tmp_path, 'qqp')
  path = folder / 'test.tsv'
  path.write_text(path.read_text() + f'{line}\n8\tD one\tD two\n')
  task = load_task(glue(tmp_path, 'qqp'), tokenizer)
  with pytest.raises(ValueError, match=r'test.tsv: .*is empty .*row 1, .*; line 3'):
    task.read(path) if where == 'input' else task.splits['test']


def test_a_row_to_predict_with_a_tab_in_its_text_is_not_cut(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'qqp')
  path = folder / 'test.tsv'
  path.write_text(path.read_text() + '7\tC\tone\tC two\n')
  task = load_task(glue(tmp_path, 'qqp'), tokenizer)
  with pytest.raises(ValueError, match=r'test.tsv: row 1 .*line 3\) has 4 cells'):
    task.splits['test']


def test_predictions_have_the_numbers_of_the_rows_that_were_kept(tmp_path, tokenizer):
  folder = write_official(tmp_path, 'qqp')
  path = folder / 'dev.tsv'
  lines = path.read_text().splitlines()
  path.write_text('\n'.join([lines[0], '5\t6\t7\tno second', *lines[1:]]) + '\n')
  task = load_task(glue(tmp_path, 'qqp'), tokenizer)
  outputs = {'logits_BC': np.float32([[0, 1], [1, 0]])}
  task.write_predictions(task.splits['validation'], outputs, tmp_path / 'p.tsv')
  assert (tmp_path / 'p.tsv').read_text() == (
    'index\tprediction\n1\tduplicate\n2\tnot_duplicate\n'
  )


@pytest.mark.parametrize('label', ['?', '-1', '2', '', 'yes'])
def test_labels_of_a_test_file_may_be_anything(tmp_path, tokenizer, label):
  folder = write_official(tmp_path, 'sst2')
  path = folder / 'test.tsv'
  path.write_text(f'sentence\tlabel\nA.\t1\nB.\t{label}\n')
  task = load_task(glue(tmp_path, 'sst2'), tokenizer)
  for split in (task.splits['test'], task.read(path)):
    assert len(split) == 2
    with pytest.raises(ValueError, match='cannot be scored: .*(no label|in row 1 )'):
      task.evaluate(split, {'logits_BC': np.zeros((2, 2))})
