"""`--mode=eval`: restores a run and prints the metrics that training reported."""

import json

from adapad_jax.commands import Request
from adapad_jax.training.saved import restore
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Prints one JSON object with the metrics of every validation split.

  Raises:
    ValueError: if there is no such run, checkpoint or split.
  """
  options = request.options
  saved = restore(request.run_folder(), options['checkpoint'])
  metrics = saved.evaluate(options['split'], options['max_rank'])
  found = {'checkpoint': options['checkpoint'], 'round': saved.step, **metrics}
  say(json.dumps(found))
