"""`--mode=eval`: restores a run and prints the metrics that training reported."""

import json

from adapad_jax.commands import Request
from adapad_jax.files import finite
from adapad_jax.regression.evaluate import evaluate
from adapad_jax.training.saved import restore
from adapad_jax.training.terminal import say
from adapad_jax.training.workdir import is_regression


def run(request: Request) -> None:
  """Prints one JSON object with the metrics of every validation split.

  For a run of program 'regression', with the errors of the first `--max_rank`
  components.

  Raises:
    ValueError: if there is no such run, checkpoint or split.
  """
  options = request.options
  if is_regression(request.run_folder()):
    say(json.dumps(finite(evaluate(request.run_folder(), options['max_rank']))))
    return
  saved = restore(request.run_folder(), options['checkpoint'])
  metrics = saved.evaluate(options['split'], options['max_rank'])
  found = {'checkpoint': options['checkpoint'], 'round': saved.step, **metrics}
  say(json.dumps(finite(found)))
