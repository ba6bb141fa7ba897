"""MiniLM marks answers: trains, answers the whole held-out data, scores the files.

  python -m experiments.squad.span --task=v1 --data=FOLDER

FOLDER has train-v1.1.json and dev-v1.1.json, or for v2 a v2.0 file whose name is given
as --file; it is split by article.
"""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from adapad_jax.files import read_json
from adapad_jax.tasks.squad.questions import check_questions
from adapad_jax.tasks.squad.reading import read_questions
from adapad_jax.tasks.squad.scoring import score_v1, score_v2
from adapad_jax.tasks.table import split_by_group
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row

# The last state is scored, so that nothing is chosen on the held-out questions.
SETTINGS = ('--config.data.max_eval_rows=400', '--config.train.evaluations=1')


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    task: v1 of SQuAD or v2.
    data: folder with the official files.
    file: name of the v2.0 file.
    runs: folder for the run and what it predicts.
    steps, method: of the run.
    start: a finished run whose adapter it goes on from.
    flags: more flags of the main command.
  """

  task: Literal['v1', 'v2'] = 'v1'
  data: str = ''
  file: str = 'dev-v2.0.json'
  runs: str = 'runs/squad'
  steps: int = 250
  method: str = 'adapad'
  start: str = ''
  flags: str = ''

  @property
  def name(self) -> str:
    """Task and method: of the case, and of its folder."""
    return f'{self.task}-{self.method}'


def key(run: Run, options: Options) -> dict[str, Any]:
  """What identifies a run; rows without a checkpoint were chosen on 400 questions."""
  start = pathlib.Path(options.start).parent.name
  return {
    'task': options.task,
    'method': options.method,
    'steps': options.steps,
    'checkpoint': 'latest',
    'start': start if options.start else None,
    'flags': options.flags or None,
  }


def measure(run: Run, options: Options) -> Iterator[Row]:
  """The official metrics, and seconds of training and of answering."""
  out = pathlib.Path(options.runs) / options.name
  out.mkdir(parents=True, exist_ok=True)
  data = pathlib.Path(options.data)
  train, held = data / 'train-v1.1.json', data / 'dev-v1.1.json'
  if options.task == 'v2':
    train, held = split_v2(data / options.file, out)
  seconds = trained(options, out, train, held)
  answering = run_main(
    '--mode=predict',
    '--checkpoint=latest',
    f'--workdir={out / "run"}',
    f'--input={held}',
    f'--output={out / "predictions.json"}',
    '--overwrite',
  )
  details = {k: v for k, v in key(run, options).items() if v is not None}
  result = read_json(out / 'run' / 'result.json')
  details |= {'batch': 32, 'adapter_parameters': result['adapter_parameters']}
  details |= {'device': result['devices'][0]}
  for name, value in score(held, out, options.task).items():
    yield row(name, value, '' if name.endswith('total') else '%', **details)
  yield row('training', seconds, 's', **details)
  yield row('answering the held-out data', answering, 's', **details)


def trained(
  options: Options, out: pathlib.Path, train: pathlib.Path, held: pathlib.Path
) -> float:
  """Trains by the documented command, which goes on where it was stopped; seconds."""
  flags = (
    f'--config=configs/squad.py:{options.task},minilm',
    f'--workdir={out / "run"}',
    f'--config.data.train={train}',
    f'--config.data.validation={held}',
    f'--config.train.steps={options.steps}',
    f'--config.method={options.method}',
    *SETTINGS,
    *shlex.split(options.flags),
  )
  if not options.start:
    return run_main(*flags)
  if not (out / 'run').exists():
    export = ('--mode=export', '--checkpoint=latest', f'--workdir={options.start}')
    run_main(*export, f'--out={out / "start"}')
    run_main('--mode=import', *flags, f'--adapter={out / "start"}')
  return run_main('--mode=train', f'--workdir={out / "run"}')


def run_main(*flags: str) -> float:
  """Runs the main command; gives its seconds."""
  command = [sys.executable, '-m', 'adapad_jax.main', *flags]
  print('#', *command[1:], file=sys.stderr, flush=True)
  started = time.perf_counter()
  subprocess.run(command, check=True, stdout=sys.stderr)
  return time.perf_counter() - started


def split_v2(path: pathlib.Path, out: pathlib.Path) -> tuple[pathlib.Path, ...]:
  """Cuts an official file in two by article, a quarter of the questions held out."""
  articles = json.loads(path.read_text(encoding='utf-8'))['data']
  title_of = {article['title']: article for article in articles}
  table = read_questions(path)
  parts = split_by_group(table, table['title'], 0.25)
  paths = []
  for name, part in zip(('train', 'held'), parts, strict=True):
    data = [title_of[title] for title in dict.fromkeys(part['title'])]
    paths.append(out / f'{name}-v2.0.json')
    paths[-1].write_text(json.dumps({'version': 'v2.0', 'data': data}))
  return tuple(paths)


def score(held: pathlib.Path, out: pathlib.Path, task: str) -> dict[str, float]:
  """Scores the official files that prediction wrote."""
  questions = check_questions(read_questions(held), unanswerable=task == 'v2')
  read = lambda name: json.loads((out / name).read_text(encoding='utf-8'))
  said = read('predictions.json')
  texts = [said[name] for name in questions.ids]
  if task == 'v1':
    return score_v1(questions.golds, texts)
  odds = read('null_odds.json')
  best = read('nbest_predictions.json')
  spans = [
    next((c['text'] for c in best[name] if c['text']), '') for name in questions.ids
  ]
  odds_Q = np.array([odds[name] for name in questions.ids])
  return score_v2(questions.golds, texts, spans, odds_Q)


EXPERIMENT = Experiment('squad.span', Options(), measure, key=key, needs=('data',))

if __name__ == '__main__':
  main(EXPERIMENT)
