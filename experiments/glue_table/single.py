"""The seeds of one method on one task, in a process of its own.

python -m experiments.glue_table.single SPECS.json DATA ROWS.json
"""

import dataclasses
import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

from adapad_jax.training import FinetuneConfig, train
from experiments.glue_table.settings import COST_STEPS, Spec, config_of
from experiments.several_seeds import train_seeds


def main(specs_path: str, data: str, rows_path: str) -> None:
  specs = [Spec(**one) for one in json.loads(pathlib.Path(specs_path).read_text())]
  config = config_of(specs[0], pathlib.Path(data))
  if specs[0].kind == 'cost':
    rows = [cost(config)]
  else:
    rows = results(config, [one.seed for one in specs])
  pathlib.Path(rows_path).write_text(json.dumps(rows))


def results(config: FinetuneConfig, seeds: list[int]) -> list[dict[str, Any]]:
  """What each seed came to, on the last state: nothing is chosen by the metric."""
  trained = train_seeds(config, seeds)
  return [
    {
      'metric': trained.metric,
      'value': outcome.metrics[trained.metric],
      'metrics': outcome.metrics,
      'prefixes': outcome.prefixes,
      'spectral_prefixes': outcome.spectral_prefixes,
      'rank_M': outcome.rank_M,
      'adapter_parameters': outcome.adapter_parameters,
      'head_parameters': trained.head_parameters,
      'steps_done': trained.steps,
      'together': len(seeds),
      'seconds_of_all': round(trained.seconds, 1),
    }
    for outcome in trained.outcomes.values()
  ]


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
