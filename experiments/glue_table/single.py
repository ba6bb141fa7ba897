"""The runs of one method on one task, in a process of its own.

python -m experiments.glue_table.single SPECS.json DATA ROWS.json
"""

import dataclasses
import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax

from adapad_jax.training import FinetuneConfig, train
from experiments.glue_table.settings import COST_STEPS, Spec, config_of, run_of
from experiments.several_runs import Trained, train_runs


def main(specs_path: str, data: str, rows_path: str) -> None:
  specs = [Spec(**one) for one in json.loads(pathlib.Path(specs_path).read_text())]
  config = config_of(specs[0], pathlib.Path(data))
  if specs[0].kind == 'cost':
    rows = [cost(config)]
  else:
    curves = specs[0].kind == 'run'
    trained = train_runs(config, [run_of(one, config) for one in specs], curves)
    rows = results(trained, specs)
  device = jax.devices()[0].device_kind
  rows = [row | {'device': device} for row in rows]
  pathlib.Path(rows_path).write_text(json.dumps(rows))


def results(trained: Trained, specs: list[Spec]) -> list[dict[str, Any]]:
  """What each run came to, on the last state: nothing is chosen by the metric.

  Raises:
    FloatingPointError: if a run of the table was not finite. While rates are searched
      that only rules a rate out.
  """
  rows = []
  for spec, outcome in zip(specs, trained.outcomes, strict=True):
    if outcome is None and spec.kind == 'run':
      raise FloatingPointError(f'not finite: {spec}')
    found = dataclasses.asdict(outcome) if outcome else {'metrics': None}
    value = outcome.metrics[trained.metric] if outcome else None
    rows.append(
      {
        'metric': trained.metric,
        'value': value,
        **found,
        'head_parameters': trained.head_parameters,
        'steps_done': trained.steps,
        'together': len(specs),
        'seconds_of_all': round(trained.seconds, 1),
      }
    )
  return rows


def cost(config: FinetuneConfig) -> dict[str, Any]:
  """Seconds of a step once compiled, and the peak memory of the process."""
  short = dataclasses.replace(config.train, steps=COST_STEPS)
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder)
    result = train(dataclasses.replace(config, train=short), workdir)
  rounds = result['phases']['rounds'] / (COST_STEPS - 1)
  return {
    'metric': 's a step',
    'value': rounds,
    'seconds_to_first_step': round(result['seconds_to_first_step'], 2),
    'adapter_parameters': result['adapter_parameters'],
    'head_parameters': result['head_parameters'],
    'peak_mib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
  }


if __name__ == '__main__':
  main(*sys.argv[1:])
