"""AdaPaD on data that stays where it is: the metric against H, workers and skew.

  python -m experiments.federated.run
  python -m experiments.federated.run --data=FOLDER --task=sst2 --steps=2000

FOLDER/SST-2 being the official files; without, snippets of Rotten Tomatoes. Skips what
`results.jsonl` already holds, so it can be stopped and started at will.
"""

import pathlib
import time

from absl import app, flags, logging

from adapad_jax.compilation import keep_compiled
from experiments.federated.sweeps import SWEEPS, cases, draw, measure, missing
from experiments.record import recorded

HERE = pathlib.Path(__file__).parent

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASK = flags.DEFINE_string('task', 'rotten_tomatoes', 'A task of configs/glue.py.')
_STEPS = flags.DEFINE_integer('steps', 150, 'Batches of a run.')
_SEEDS = flags.DEFINE_list('seeds', ['0'], 'Seeds of each case.')
_SWEEPS = flags.DEFINE_list('sweeps', list(SWEEPS), f'Of {list(SWEEPS)}.')
_LIMIT = flags.DEFINE_float('limit', 1e9, 'Seconds after which no case is begun.')
_OUT = flags.DEFINE_string('out', str(HERE), 'Folder of results.jsonl and the figure.')


def main(argv: list[str]) -> None:
  """Runs what has not been run, then draws."""
  if unknown := set(_SWEEPS.value) - set(SWEEPS):
    raise app.UsageError(f'unknown --sweeps {sorted(unknown)}; of {list(SWEEPS)}')
  logging.set_verbosity(logging.WARNING)  # Checkpoints are talkative.
  keep_compiled()
  folder, start = pathlib.Path(_OUT.value), time.monotonic()
  task, steps, seeds = _TASK.value, _STEPS.value, map(int, _SEEDS.value)
  for case in missing(folder, cases(task, steps, seeds, _SWEEPS.value)):
    if time.monotonic() - start > _LIMIT.value:
      print('# --limit reached; the same command goes on', flush=True)
      break
    measure(folder, case, _DATA.value)
  run = {'task': task, 'steps': steps}.items()
  if rows := [row for row in recorded(folder) if run <= row.items()]:
    draw(folder, rows)


if __name__ == '__main__':
  app.run(main)
