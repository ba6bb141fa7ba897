"""MiniLM marks answers: trains, answers the whole held-out data, scores the files.

  python -m experiments.squad.run --task=v1 --data=FOLDER

FOLDER has train-v1.1.json and dev-v1.1.json, or for v2 a v2.0 file whose name is given
as --file; it is split by article. `--start=RUN` goes on from the adapter of a finished
run. Flags of the main command may follow.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

from adapad_jax.files import read_json
from adapad_jax.tasks.squad.questions import check_questions
from adapad_jax.tasks.squad.reading import read_questions
from adapad_jax.tasks.squad.scoring import score_v1, score_v2
from adapad_jax.tasks.table import split_by_group
from experiments.record import record

HERE = pathlib.Path(__file__).parent
# The last state is scored, so that nothing is chosen on the held-out questions.
SETTINGS = ('--config.data.max_eval_rows=400', '--config.train.evaluations=1')


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--task', choices=('v1', 'v2'), default='v1')
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--file', default='dev-v2.0.json')
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/squad'))
  parser.add_argument('--steps', type=int, default=250)
  parser.add_argument('--method', default='adapad')
  parser.add_argument('--start', type=pathlib.Path, help='a finished run to go on from')
  args, more = parser.parse_known_args()
  out = args.out / f'{args.task}-{args.method}'
  out.mkdir(parents=True, exist_ok=True)
  train, held = (
    split_v2(args.data / args.file, out)
    if args.task == 'v2'
    else (
      args.data / 'train-v1.1.json',
      args.data / 'dev-v1.1.json',
    )
  )
  flags = (
    f'--config=configs/squad.py:{args.task},minilm',
    f'--workdir={out / "run"}',
    f'--config.data.train={train}',
    f'--config.data.validation={held}',
    f'--config.train.steps={args.steps}',
    f'--config.method={args.method}',
    *SETTINGS,
    *more,
  )
  if args.start and not (out / 'run').exists():
    adapter = f'{out / "start"}'
    run_main(
      '--mode=export',
      f'--workdir={args.start}',
      '--checkpoint=latest',
      f'--out={adapter}',
    )
    run_main('--mode=import', *flags, f'--adapter={adapter}')
  going_on = ('--mode=train', f'--workdir={out / "run"}')
  seconds = run_main(*(going_on if args.start else flags))
  answering = run_main(
    '--mode=predict',
    '--checkpoint=latest',
    f'--workdir={out / "run"}',
    f'--input={held}',
    f'--output={out / "predictions.json"}',
    '--overwrite',
  )
  metrics = score(held, out, args.task)
  details = {'task': args.task, 'method': args.method, 'steps': args.steps}
  result = read_json(out / 'run' / 'result.json')
  details |= {'batch': 32, 'adapter_parameters': result['adapter_parameters']}
  details |= {'checkpoint': 'latest', 'device': result['devices'][0]}
  details |= {'start': args.start.parent.name} if args.start else {}
  for name, value in metrics.items():
    record(HERE, name, value, '' if name.endswith('total') else '%', **details)
  record(HERE, 'training', seconds, 's', **details)
  record(HERE, 'answering the held-out data', answering, 's', **details)


def run_main(*flags: str) -> float:
  """Runs a documented command; gives its seconds."""
  print('python -m adapad_jax.main', *flags, flush=True)
  started = time.perf_counter()
  subprocess.run([sys.executable, '-m', 'adapad_jax.main', *flags], check=True)
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


if __name__ == '__main__':
  main()
