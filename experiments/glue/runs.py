"""The runs of one method on one task: first those that search a rate, then the rest."""

import collections
import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from adapad_jax.training import FinetuneConfig, train
from experiments.glue.settings import (
  COST_STEPS,
  Job,
  Spec,
  Tried,
  config_of,
  run_of,
)
from experiments.results import Row, row
from experiments.several_runs import Trained, train_runs
from experiments.timing import peak_bytes


def missing(job: Job, tried: Sequence[Tried]) -> tuple[Spec, ...]:
  """The runs that are not there yet; at the best rate, where one is searched."""
  runs = job.runs
  if job.tune:
    rate = best_rate(tried)
    runs = tuple(dataclasses.replace(one, rate=rate) for one in runs)
  return tuple(one for one in runs if (one.rate, one.seed) not in job.finished)


def best_rate(tried: Sequence[Tried]) -> float:
  """The rate with the best mean over its seeds, all of which stayed finite.

  Only rates with the most seeds compete: where a search went on with some rates, one
  lucky seed of another is no match for their means.
  """
  values = collections.defaultdict(list)
  for rate, _, value in tried:
    values[rate].append(value)
  finite = {rate: found for rate, found in values.items() if None not in found}
  if not finite:
    raise FloatingPointError(f'no rate of {list(values)} stayed finite')
  most = max(map(len, finite.values()))
  means = {
    r: statistics.fmean(found) for r, found in finite.items() if len(found) == most
  }
  return max(means, key=lambda rate: (means[rate], rate))


def execute(job: Job, data: pathlib.Path, size: int) -> Iterator[Row]:
  """A row for every run of the job that is missing, so many runs at a time."""
  tried = [*job.known]
  for one in trained(job.tune, data, size):
    tried.append((one['rate'], one['seed'], one['value']))
    yield one
  yield from trained(missing(job, tried), data, size)


def trained(specs: tuple[Spec, ...], data: pathlib.Path, size: int) -> Iterator[Row]:
  """A row for every run, so many runs at a time."""
  for i in range(0, len(specs), size):
    part = specs[i : i + size]
    config = config_of(part[0], data)
    if part[0].kind == 'cost':
      found = [cost(config)]
    else:
      curves = part[0].kind == 'run'
      done = train_runs(config, [run_of(one, config) for one in part], curves)
      found = results(done, part)
    device = jax.devices()[0].device_kind
    for spec, one in zip(part, found, strict=True):
      value = one.pop('value')
      value = None if value is None else round(value, 5)
      details = spec.details() | one | {'device': device}
      yield row('glue_table', value, one['metric'], **details)


def results(trained: Trained, specs: tuple[Spec, ...]) -> list[dict[str, Any]]:
  """What each run came to, on the last state: nothing is chosen by the metric.

  A run that was not finite has the value None.
  """
  rows = []
  for outcome in trained.outcomes:
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
  """Seconds of a step once compiled, and the peak memory (`timing.peak_bytes`)."""
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
    'peak_mib': round(peak_bytes() / 2**20),
  }
