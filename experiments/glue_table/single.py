"""One run of the table in a process of its own, whose peak memory is its own too.

python -m experiments.glue_table.single SPEC.json DATA RESULT.json
"""

import dataclasses
import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax

from adapad_jax.deflation.components import Component
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.methods.spectral import by_singular_values
from adapad_jax.training import train
from adapad_jax.training.plan import make_plan
from adapad_jax.training.session import open_run
from experiments.glue_table.settings import Spec, config_of

# The other methods deploy by singular values already.
OWN_ORDER = ('adapad', 'sequential')


def main(spec_path: str, data: str, result_path: str) -> None:
  spec = Spec(**json.loads(pathlib.Path(spec_path).read_text()))
  config = config_of(spec, pathlib.Path(data))
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder)
    result = train(config, workdir)
    curve = result['prefixes']
    if spec.method in OWN_ORDER:
      curve = spectral_curve(make_plan(config), workdir)
  row = {
    'metric': result['metric'],
    'value': result['last']['metrics'][result['metric']],
    'metrics': result['last']['metrics'],
    'prefixes': result['prefixes'],
    'spectral_prefixes': curve,
    'rank_total': result['rank_total'],
    'adapter_parameters': result['adapter_parameters'],
    'head_parameters': result['head_parameters'],
    'seconds': round(result['seconds'], 2),
    'seconds_to_first_step': round(result['seconds_to_first_step'], 2),
    'peak_mib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
  }
  pathlib.Path(result_path).write_text(json.dumps(row))


def spectral_curve(plan: Any, workdir: pathlib.Path) -> list[float]:
  """The metric of the best cut of every size, by singular values."""
  with jax.set_mesh(plan.mesh):
    opened = open_run(plan, workdir, 'best')
    evaluator = opened.session.evaluator()
    deployed = jax.jit(reordered, static_argnums=0)(plan.modules, opened.deployed)
    score = lambda k: evaluator.validate(opened.session.params, deployed, k)
    counts = range(plan.method.capacity + 1)
    return [score(k)[plan.task.metric] for k in counts]


def reordered(modules: tuple[str, ...], deployed: Deployed) -> Deployed:
  """The same update, components by singular value."""
  active = {
    name: Component(
      deployed.components[name].a_RI,
      deployed.components[name].b_RO * deployed.active_MS[m][:, None],
    )
    for m, name in enumerate(modules)
  }
  return dataclasses.replace(deployed, components=by_singular_values(active))


if __name__ == '__main__':
  main(*sys.argv[1:])
