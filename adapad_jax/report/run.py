"""A run as its workdir holds it, read into plain frozen dataclasses."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapad_jax.files import read_json, require_shape
from adapad_jax.workdir import (
  METRICS,
  RANKS,
  RESULT,
  SAMPLES,
  SPECTRA,
  config_of,
  read_lines,
  result_of,
  stored,
)


@dataclasses.dataclass(frozen=True)
class Series:
  """A scalar over rounds.

  Attributes:
    rounds: where it was written, (T,).
    values: (T,); what was not finite is left out.
  """

  rounds: np.ndarray
  values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Grant:
  """One entry of the budget's ledger.

  Attributes:
    round: after which the component became part of the update.
    module: its name.
    component: its number in the module, from one.
    score: of the module when it was granted.
  """

  round: int
  module: str
  component: int
  score: float


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """What is known of all modules after a round; None where the method has none."""

  round: int
  rank: Mapping[str, int]
  importance: Mapping[str, float] | None
  uncertainty: Mapping[str, float] | None


@dataclasses.dataclass(frozen=True)
class ModuleSpectrum:
  """One module's update, as `lowrank.spectrum` measured it when the run ended.

  Attributes:
    shape: input and output features.
    norm_R, singular_R: Frobenius norms in order of deflation; singular values.
    angles: degrees, row k has those of component k with the k before it.
  """

  shape: tuple[int, int]
  norm_R: np.ndarray
  singular_R: np.ndarray
  angles: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything a report shows.

  Attributes:
    name: of the workdir.
    workdir: where it lies.
    config: as nested dicts.
    result: `result.json`.
    series: scalars by name, 'train/loss'.
    snapshots: at every evaluation.
    grants: the ledger, in order.
    spectra: by module; empty if the update is no adapter.
    samples: what the model answered at the last evaluation, and after which round.
  """

  name: str
  workdir: pathlib.Path
  config: Mapping[str, Any]
  result: Mapping[str, Any]
  series: Mapping[str, Series]
  snapshots: tuple[Snapshot, ...]
  grants: tuple[Grant, ...]
  spectra: Mapping[str, ModuleSpectrum]
  samples: tuple[int, Sequence[Mapping[str, Any]]] = (0, ())

  @property
  def ranks(self) -> Mapping[str, int]:
    """Rank of every module at the end."""
    return self.result['ranks']

  @property
  def metric(self) -> str:
    """The metric that the best state was chosen by."""
    return self.result['metric']

  def best(self) -> float | None:
    """That metric of the best state."""
    return self.result['best']['metrics'].get(self.metric)

  def baseline(self) -> float | None:
    """That metric of the trivial baseline."""
    return self.result['baseline']['metrics'].get(self.metric)

  def ranks_after(self, when: int) -> dict[str, int]:
    """Ranks after a round, from the ledger: the end's less what came later."""
    ranks = dict(self.ranks)
    for grant in self.grants:
      ranks[grant.module] -= grant.round > when
    return ranks

  def parameters_of_prefix(self, rank: int) -> int | None:
    """Adapter parameters if every module keeps its first `rank` components."""
    if not self.spectra:
      return None
    return sum(
      sum(one.shape) * min(rank, len(one.norm_R)) for one in self.spectra.values()
    )


def read_run(workdir: pathlib.Path) -> Run:
  """Reads a finished run.

  Raises:
    ValueError: if the workdir holds none, naming what is missing.
  """
  config, result = config_of(workdir), result_of(workdir, dict)
  if 'ranks' not in result:
    raise ValueError(
      f'{workdir} holds a run of program {result.get("program")!r}; only runs of'
      " program 'finetune' can be compared"
    )
  require_shape(result, stored.RESULT, str(workdir / RESULT))
  spectra = workdir / SPECTRA
  return Run(
    name=workdir.resolve().name,
    workdir=workdir,
    config=config,
    result=result,
    series=read_series(workdir / METRICS),
    snapshots=_snapshots(workdir / RANKS, tuple(result['ranks'])),
    grants=tuple(map(_grant, result['grants'])),
    spectra=_spectra(read_json(spectra, stored.SPECTRA)) if spectra.is_file() else {},
    samples=_samples(workdir / SAMPLES),
  )


def _samples(path: pathlib.Path) -> tuple[int, Sequence[Mapping[str, Any]]]:
  """What the last line of `samples.jsonl` holds; nothing without the file."""
  lines = read_lines(path, stored.SAMPLES)
  return (lines[-1]['step'], lines[-1]['samples']) if lines else (0, ())


def read_series(path: pathlib.Path) -> dict[str, Series]:
  """The scalars of a log by name."""
  found: dict[str, list[tuple[int, float]]] = {}
  for line in read_lines(path, {'step': int} | stored.SCALARS):
    for name, value in line.items():
      if name != 'step' and value is not None:
        found.setdefault(name, []).append((line['step'], value))
  return {
    name: Series(*(np.array(column) for column in zip(*points, strict=True)))
    for name, points in found.items()
  }


def _grant(entry: Mapping[str, Any]) -> Grant:
  return Grant(**{f.name: entry[f.name] for f in dataclasses.fields(Grant)})


def _snapshots(path: pathlib.Path, modules: tuple[str, ...]) -> tuple[Snapshot, ...]:
  """Lines of `ranks.jsonl`, whose lists are in the order of the modules."""
  lines = read_lines(path, stored.RANKS)
  for line in lines:
    for name in ('rank', 'importance', 'uncertainty'):
      if line[name] is not None and len(line[name]) != len(modules):
        raise ValueError(
          f'{path}, step {line["step"]}: {name} has {len(line[name])} entries for'
          f' {len(modules)} modules: the line is damaged: remove it'
        )
  named = lambda values: values and dict(zip(modules, values, strict=True))
  return tuple(
    Snapshot(
      line['step'],
      named(line['rank']),
      named(line['importance']),
      named(line['uncertainty']),
    )
    for line in lines
  )


def _spectra(values: Mapping[str, Any]) -> dict[str, ModuleSpectrum]:
  return {
    name: ModuleSpectrum(
      shape=tuple(one['shape']),
      norm_R=np.array(one['norms']),
      singular_R=np.array(one['singular_values']),
      angles=tuple(tuple(row) for row in one['angles']),
    )
    for name, one in values.items()
  }
