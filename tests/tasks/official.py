"""Files in the official layouts of GLUE and SQuAD, filled with rows made here."""

import json
import pathlib

import numpy as np

from adapad_jax.tasks.glue import TASKS
from tests.tasks.squad.toy import write_toy
from tests.tiny import WORDS

# Columns of the official training files, in order. CoLA's has no header line.
_PARSES = (
  'sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse'
)
_MNLI = f'index promptID pairID genre {_PARSES} sentence1 sentence2'.split()
_STSB = 'index genre filename year old_index source1 source2 sentence1 sentence2'
COLUMNS = {
  'cola': ['source', 'label', 'judgement', 'sentence'],
  'sst2': ['sentence', 'label'],
  'mrpc': ['Quality', '#1 ID', '#2 ID', '#1 String', '#2 String'],
  'stsb': [*_STSB.split(), 'score'],
  'qqp': ['id', 'qid1', 'qid2', 'question1', 'question2', 'is_duplicate'],
  'mnli': [*_MNLI, 'label1', 'gold_label'],
  'qnli': ['index', 'question', 'sentence', 'label'],
  'rte': ['index', 'sentence1', 'sentence2', 'label'],
}
# Where they are not the same without the label and with a number in front.
_DEV = {'mnli': [*_MNLI, *(f'label{i}' for i in range(1, 6)), 'gold_label']}
_TEST = {
  'cola': ['index', 'sentence'],
  'sst2': ['index', 'sentence'],
  'mrpc': ['index', '#1 ID', '#2 ID', '#1 String', '#2 String'],
  'stsb': _STSB.split(),
  'qqp': ['id', 'question1', 'question2'],
  'mnli': _MNLI,
  'qnli': ['index', 'question', 'sentence'],
  'rte': ['index', 'sentence1', 'sentence2'],
}
TEST_ROWS = 5


def write_glue(folder: pathlib.Path, name: str, rows: int = 16) -> str:
  """Writes all official files of a task below the folder; gives the folder."""
  glue, rng = TASKS[name], np.random.default_rng(0)
  for split, stem in glue.files.items():
    held = split.startswith('validation')
    columns = _DEV.get(name, COLUMNS[name]) if held else COLUMNS[name]
    count = rows
    if split.startswith('test'):
      columns, count = _TEST[name], TEST_ROWS
    lines = [_line(name, columns, i, rng) for i in range(count)]
    if name != 'cola' or split == 'test':
      lines.insert(0, '\t'.join(columns))
    path = folder / glue.folder / f'{stem}.tsv'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return str(folder)


def _line(name: str, columns: list[str], number: int, rng: np.random.Generator) -> str:
  """One row: words of the tiny vocabulary and a label, whatever else is in between."""
  glue = TASKS[name]
  spelled = lambda column: glue.official.get(column, column)
  # All rows have the same length in tokens, so that one compiled program fits all.
  words = 6 // len(glue.text)
  cells = dict.fromkeys(columns, 'x') | {'index': str(number), 'id': str(number)}
  for column in glue.text:
    cells[spelled(column)] = ' '.join(rng.choice(WORDS, words))
  if name in ('mnli', 'qnli', 'rte'):
    cells[spelled('label')] = glue.labels[number % len(glue.labels)]
  else:
    cells[spelled('label')] = '0.250' if not glue.labels else str(number % 2)
    if not glue.labels:
      cells[spelled('label')] = f'{5 * rng.random():.3f}'
  return '\t'.join(cells[column] for column in columns)


def write_squad(folder: pathlib.Path, name: str) -> str:
  """Writes train-v1.1.json and dev-v1.1.json, or those of v2.0; gives the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  version = {'squad': 'v1.1', 'squad_v2': 'v2.0'}[name]
  paths = write_toy(folder, unanswerable=name == 'squad_v2')
  for path in map(pathlib.Path, paths):
    official = json.loads(path.read_text()) | {'version': version}
    for article in official['data']:
      for question in article['paragraphs'][0]['qas'] if version == 'v2.0' else []:
        question['is_impossible'] = not question['answers']
        if not question['answers']:
          question['plausible_answers'] = [{'text': 'Rome', 'answer_start': 13}]
    path.unlink()
    path.with_stem(f'{path.stem}-{version}').write_text(json.dumps(official))
  return str(folder)
