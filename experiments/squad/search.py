"""CPU time from the logits of the whole v1.1 development set to answers, on one core.

  python -m experiments.squad.search --dev=dev-v1.1.json

The logits are drawn at random, with the true answers raised, so that the search has as
many candidates as with a model. Beside our exact search runs the usual one in plain
Python, the n best starts times the n best ends of every window, on every 20th window.
"""

import dataclasses
import os
import time
from collections.abc import Iterator

import numpy as np

from adapad_jax.models import load_tokenizer
from adapad_jax.tasks.config import DataConfig, QaConfig
from adapad_jax.tasks.squad.load import ANSWER_FORMATS
from adapad_jax.tasks.squad.questions import check_questions
from adapad_jax.tasks.squad.reading import read_questions
from adapad_jax.tasks.squad.scoring import score_v1
from adapad_jax.tasks.squad.search import best_spans
from configs.common import MINILM
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, row

EVERY = 20


@dataclasses.dataclass(frozen=True)
class Options:
  """The development set of SQuAD v1.1, a file."""

  dev: str = ''


def measure(run: Run, options: Options) -> Iterator[Row]:
  """Seconds of our search, of the official metrics, and beside plain Python."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  qa = QaConfig()
  config = DataConfig(task='squad', max_length=384, qa=qa)
  answer_format = ANSWER_FORMATS['span'](
    config, load_tokenizer(MINILM), unanswerable=False
  )
  questions = check_questions(read_questions(options.dev), unanswerable=False)
  encoded = answer_format.encode(questions)
  outputs = draw(encoded.columns)
  windows = encoded.windows
  size = {'windows': len(windows), 'questions': len(questions), 'cores': 1}
  answers, whole = timed(lambda: answer_format.answers(questions, windows, outputs))
  _, scoring = timed(lambda: score_v1(questions.golds, answers.texts))
  arrays = (outputs['start_BL'], outputs['end_BL'], windows.first_N, windows.size_N)
  _, search = timed(lambda: best_spans(*arrays, qa.max_answer, qa.n_best))
  few = tuple(x[::EVERY] for x in arrays)
  _, ours = timed(lambda: best_spans(*few, qa.max_answer, qa.n_best))
  _, plain = timed(lambda: [pairs(*row, qa) for row in zip(*few, strict=True)])
  yield row('search, texts and choice', whole, 's', **size)
  yield row('of it the search for spans', search, 's', **size)
  yield row('official metrics', scoring, 's', **size)
  ratio = plain / ours
  yield row('plain Python pairs / our search', ratio, '', windows=len(few[0]))


def draw(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  row_N = np.arange(len(columns['ids_BL']))
  outputs = {}
  for name in ('start', 'end'):
    logits_NL = rng.normal(size=columns['ids_BL'].shape).astype(np.float32)
    logits_NL[row_N, columns[f'{name}_B']] += 4
    outputs[f'{name}_BL'] = logits_NL
  return outputs


def pairs(
  start_L: np.ndarray, end_L: np.ndarray, first: int, size: int, qa: QaConfig
) -> list[tuple[float, int, int]]:
  starts = np.argsort(start_L)[-1 : -qa.n_best - 1 : -1].tolist()
  ends = np.argsort(end_L)[-1 : -qa.n_best - 1 : -1].tolist()
  found = []
  for s in starts:
    for e in ends:
      inside = first <= s < first + size and first <= e < first + size
      if inside and s <= e < s + qa.max_answer:
        found.append((start_L[s] + end_L[e], s, e))
  return sorted(found, reverse=True)[: qa.n_best]


def timed(run):
  started = time.process_time()
  result = run()
  return result, time.process_time() - started


EXPERIMENT = Experiment(
  'squad.search', Options(), measure, key=no_key, needs=('dev',), own_process=True
)

if __name__ == '__main__':
  main(EXPERIMENT)
