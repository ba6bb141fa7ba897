"""`--mode=eval`: restores a run and prints the metrics that training reported."""

import json

import jax

from adapad_jax.commands import Request
from adapad_jax.training.plan import make_plan
from adapad_jax.training.session import open_run, read_workdir
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Prints one JSON object with the metrics of every validation split.

  Raises:
    ValueError: if there is no such run, checkpoint or split.
  """
  options = request.options
  plan = make_plan(read_workdir(request.run_folder()))
  with jax.set_mesh(plan.mesh):
    opened = open_run(plan, request.run_folder(), options['checkpoint'])
    evaluator = opened.session.evaluator()
    prefix = options['max_rank'] or plan.method.capacity
    deployed, params = opened.deployed, opened.session.params
    if options['split']:
      split = plan.task.splits[options['split']]
      metrics = evaluator.metrics(params, deployed, split, prefix)
    else:
      metrics = evaluator.validate(params, deployed, prefix)
  step = opened.restored.step
  found = {'checkpoint': options['checkpoint'], 'round': step, **metrics}
  say(json.dumps(found))
