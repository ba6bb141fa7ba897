"""`--mode=eval`: restores a run and prints the metrics that training reported."""

import json

from adapad_jax.commands import Request
from adapad_jax.files import finite
from adapad_jax.tasks.files import existing
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.saved import restore
from adapad_jax.training.terminal import say
from adapad_jax.workdir import is_regression

# What a run of program 'regression' can be told.
_OF_REGRESSION = ('workdir', 'max_rank')


def run(request: Request) -> None:
  """Prints one JSON object with the metrics of every validation split.

  With `--split` or `--input`, of that split or of a labelled file. For a run of program
  'regression', with the errors of the first `--max_rank` components.

  Raises:
    ValueError: if there is no such run, checkpoint, split or file, or the rows cannot
      be scored.
  """
  options, workdir = request.options, request.run_folder()
  check_cut(options['max_rank'], options['budget'])
  if is_regression(workdir):
    _require_known(request)
    # Only such a run needs that package and scipy.
    from adapad_jax.regression.evaluate import evaluate

    say(json.dumps(finite(evaluate(workdir, options['max_rank']))))
    return
  if options['input'] and options['split']:
    raise ValueError('give --input=FILE or --split=NAME, not both')
  if options['input']:
    existing(options['input'])  # Before weights are read.
  saved = restore(workdir, options['checkpoint'])
  cut = {name: options[name] for name in ('max_rank', 'budget')}
  if options['input']:
    metrics = saved.evaluate_file(options['input'], **cut)
  else:
    metrics = saved.evaluate(options['split'], **cut)
  found = {'checkpoint': options['checkpoint'], 'round': saved.step, **metrics}
  say(json.dumps(finite(found)))


def _require_known(request: Request) -> None:
  for name in request.given:
    if name not in _OF_REGRESSION:
      raise ValueError(
        f"--{name} is not read for a run of program 'regression'; its --mode=eval"
        f' reads {", ".join(f"--{one}" for one in _OF_REGRESSION)}'
      )
