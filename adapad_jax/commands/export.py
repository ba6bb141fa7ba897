"""`--mode=export`: a trained run becomes files that other libraries load."""

import json

from adapad_jax.commands import Request
from adapad_jax.files import finite
from adapad_jax.training.exports import export
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Cuts the adapter if asked to, scores what is left, writes it and checks it.

  Raises:
    ValueError: if there is no such run or format, or the export is not right.
  """
  options = request.options
  found = export(
    request.run_folder(),
    options['out'],
    format=options['format'],
    max_rank=options['max_rank'],
    budget=options['budget'],
    base_name=options['base_name'],
    checkpoint=options['checkpoint'],
  )
  say(json.dumps(finite(found)))
