"""Seconds and memory from files of many rows to the first batch.

  python -m experiments.speed.reading --glue=FOLDER --squad=FOLDER

As many pairs of sentences as MNLI has, and as many questions as SQuAD 2.0: the training
rows of STS-B and MRPC, and of SQuAD's training file, time and again with a number in
each. Each is read twice, by a fresh process each time: once with nothing kept of an
earlier start, once with what that start has kept.
"""

import csv
import dataclasses
import itertools
import json
import pathlib
import resource
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from adapad_jax import models
from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.delimited import read_tsv
from adapad_jax.training.batches import Order, lengths, round_batch
from configs.common import MINILM
from experiments import processes, timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, row
from experiments.tables import markdown

_FIGURE = 'from files to the first batch'
_CLASSES = ('entailment', 'neutral', 'contradiction')
_SENTENCES = {'STS-B': ('sentence1', 'sentence2'), 'MRPC': ('#1 String', '#2 String')}
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Options:
  """Where the rows are, and how many are made of them.

  Attributes:
    glue: folder with STS-B/train.tsv and MRPC/train.tsv.
    squad: folder with train-v1.1.json.
    pairs: rows of two sentences; MNLI has 392,702.
    questions: of SQuAD; version 2.0 has 130,319.
  """

  glue: str = ''
  squad: str = ''
  pairs: int = 393_000
  questions: int = 130_000


@dataclasses.dataclass(frozen=True)
class Case:
  """So many rows of a kind: 'pairs' or 'questions'."""

  data: str
  rows: int


def cases(run: Run) -> list[Case]:
  """Both kinds."""
  options = run.options
  return [Case('pairs', options.pairs), Case('questions', options.questions)]


def key(run: Run, case: Case) -> dict[str, object]:
  """A case is measured once on a kind of processor."""
  return key_of_fields(run, case) | {'processor': timing.processor()}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Both starts."""
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    if case.data == 'pairs':
      config = write_pairs(folder, pathlib.Path(run.options.glue), case.rows)
    else:
      config = write_questions(folder, pathlib.Path(run.options.squad), case.rows)
    for start in ('first', 'second'):
      seconds, found = processes.call(first_batch, config)
      about = dataclasses.asdict(case) | found
      about |= {'start': start, 'processor': timing.processor()}
      yield row(_FIGURE, seconds, 's', **about)


def write_pairs(
  folder: pathlib.Path, glue: pathlib.Path, count: int
) -> dict[str, object]:
  """A file of pairs of sentences; the config of its data."""
  pairs = []
  for task, names in _SENTENCES.items():
    table = read_tsv(glue / task / 'train.tsv')
    pairs += zip(*(table[name] for name in names), strict=True)
  repeated = zip(itertools.cycle(_CLASSES), itertools.cycle(pairs), strict=False)
  numbered = enumerate(itertools.islice(repeated, count))
  with (folder / 'train.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['premise', 'hypothesis', 'label'])
    writer.writerows([f'{a} {i}', b, label] for i, (label, (a, b)) in numbered)
  return {
    'task': 'classification',
    'text': ('premise', 'hypothesis'),
    'train': str(folder / 'train.csv'),
    'holdout': 0.025,
    'cache': str(folder / 'cache'),
  }


def write_questions(
  folder: pathlib.Path, squad: pathlib.Path, count: int
) -> dict[str, object]:
  """A file of questions about passages; the config of its data."""
  articles = json.loads((squad / 'train-v1.1.json').read_text())['data']
  made: list[dict[str, object]] = []
  left = count
  copies = ((number, one) for number in itertools.count() for one in articles)
  while left:
    number, article = next(copies)
    passages = []
    for passage in article['paragraphs']:
      asked = [q | {'id': f'{q["id"]}-{number}'} for q in passage['qas'][:left]]
      left -= len(asked)
      if asked:
        passages.append({'context': f'{passage["context"]} {number}', 'qas': asked})
    made.append({'title': f'{article["title"]} {number}', 'paragraphs': passages})
  text = json.dumps({'version': '1.1', 'data': made})
  (folder / 'train-v1.1.json').write_text(text)
  return {
    'task': 'squad',
    'path': str(folder),
    'max_length': 384,
    'holdout': 0.025,
    'cache': str(folder / 'cache'),
  }


def first_batch(config: dict[str, object]) -> tuple[float, dict[str, object]]:
  """Seconds until there is a batch to train on, and what the process took at most."""
  tokenizer = models.load_tokenizer(models.find(MINILM))
  before, start = _peak(), time.perf_counter()
  task = load_task(DataConfig(**config), tokenizer)
  columns = task.splits['train'].columns
  order = Order(len(task.splits['train']), _BATCH, 0, lengths(columns))
  batch = round_batch(columns, order, 0, 1, np.arange(_BATCH))
  seconds = time.perf_counter() - start
  about = {
    'peak_gib': _peak(),
    'peak_before_gib': before,
    'train_rows': len(task.splits['train']),
    'tokens': int(lengths(columns).sum()),
    'batch': list(batch['ids_BL'].shape),
  }
  return seconds, about


def _peak() -> float:
  """Of this process so far, in GiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def table(run: Run) -> str:
  """A line for each start."""
  lines = [
    [
      one['data'],
      f'{one["rows"]:,}',
      one['start'],
      f'{one["value"]:.1f}',
      f'{one["peak_gib"]:.2f}',
      one['processor'],
    ]
    for one in run.results.rows()
  ]
  return markdown(['data', 'rows', 'start', 'seconds', 'peak, GiB', 'processor'], lines)


EXPERIMENT = Experiment(
  'speed.reading', Options(), measure, cases, key, table, needs=('glue', 'squad')
)

if __name__ == '__main__':
  main(EXPERIMENT)
