"""What `configs/regression.py` may say, as frozen dataclasses."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

import optax

from adapad_jax.ranges import (
  Count,
  Fraction,
  Natural,
  NonNegative,
  OneOf,
  Positive,
  Range,
  Real,
  Seed,
  Text,
)
from adapad_jax.regression.fit import DTYPES
from adapad_jax.regression.pca import RULES, Eigen
from adapad_jax.regression.planted import SPECTRA
from adapad_jax.regression.schedule import (
  Schedule,
  Traffic,
  absent_traffic,
  late_traffic,
  perfect_traffic,
)
from adapad_jax.regression.solvers import Alternating, Gradient, Power, Solver
from adapad_jax.settings import build, check, renamed, unread

METHODS = ('parallel', 'sequential', 'joint', 'exact', 'discover')
OPTIMIZERS = {
  'sgd': optax.sgd,
  'momentum': functools.partial(optax.sgd, momentum=0.9),
  'adam': optax.adam,
}
SOLVERS = ('power', 'alternating', *OPTIMIZERS, *RULES[1:])
DISCOVERERS = ('power', 'alternating')


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """One's own files, or planted data.

  Attributes:
    x: inputs, one example a row: a .npy file, or numbers in a .csv or .tsv file.
    y: outputs, likewise; empty with `x` given means principal components of x.
    pca: planted data: principal components of the inputs.
    examples: rows of planted training data.
    inputs: columns of planted inputs.
    outputs: columns of planted outputs.
    rank: components of the planted W.
    spectrum: of its singular values: 'exponential' or 'power_law'.
    decay: relative gap of the former, exponent of the latter.
    noise: standard deviation of the noise in the outputs.
    holdout: share of the rows kept for the test error.
    centre: subtract the means of the training rows.

  Raises:
    ValueError: for values out of range.
  """

  x: Text = ''
  y: Text = ''
  pca: bool = False
  examples: Count = 4000
  inputs: Count = 128
  outputs: Count = 96
  rank: Count = 8
  spectrum: Annotated[str, OneOf(SPECTRA)] = 'exponential'
  decay: NonNegative = 0.3
  noise: NonNegative = 0.1
  holdout: Fraction = 0.25
  centre: bool = True

  def __post_init__(self) -> None:
    check(self, 'data')
    if self.y and not self.x:
      raise ValueError(f'data.y={self.y!r} needs data.x')
    if self.rank > min(self.inputs, self.outputs):
      raise ValueError(
        f'data.rank={self.rank} is above min(inputs, outputs) ='
        f' {min(self.inputs, self.outputs)}'
      )
    if self.spectrum == 'exponential' and not self.decay < 1:
      raise ValueError(
        f"data.decay must be in [0, 1) with data.spectrum='exponential', got"
        f' {self.decay}'
      )


@dataclasses.dataclass(frozen=True)
class SolverConfig:
  """How a worker improves its component.

  Attributes:
    name: 'power', 'alternating', 'sgd', 'momentum', 'adam', and for principal
      components 'power', 'hebb', 'mu' or 'alpha'.
    learning_rate: step length of all but 'power' and 'alternating'.

  Raises:
    ValueError: for an unknown name or a rate that is not positive.
  """

  name: Annotated[str, OneOf(SOLVERS)] = 'power'
  learning_rate: Positive = 0.1

  def __post_init__(self) -> None:
    check(self, 'solver')

  def tx(self) -> optax.GradientTransformation:
    """The optimiser of that name.

    Raises:
      ValueError: if the solver is no optimiser.
    """
    if self.name not in OPTIMIZERS:
      raise ValueError(
        f"method='joint' takes gradient steps: solver.name={self.name!r} must be one of"
        f' {sorted(OPTIMIZERS)}'
      )
    return OPTIMIZERS[self.name](self.learning_rate)

  def build(self, pca: bool) -> Solver | Eigen:
    """The solver.

    Raises:
      ValueError: for a rule of principal components in a regression.
    """
    if self.name in OPTIMIZERS:
      return Gradient(self.tx())
    if self.name == 'alternating':
      return Alternating()
    if pca:
      return Eigen(self.name, None if self.name == 'power' else self.learning_rate)
    if self.name != 'power':
      raise ValueError(
        f'solver.name={self.name!r} is for principal components: leave data.y empty or'
        ' set data.pca=True'
      )
    return Power()


@dataclasses.dataclass(frozen=True)
class TrafficConfig:
  """What goes wrong between workers.

  Attributes:
    late: rounds by which news of predecessors are old.
    random: draw 0..late anew for every worker and round.
    absent: share of the rounds that workers miss.
    length: rounds that an absence lasts.

  Raises:
    ValueError: for values out of range.
  """

  late: Natural = 0
  random: bool = False
  absent: Fraction = 0.0
  length: Count = 5

  def __post_init__(self) -> None:
    check(self, 'traffic')

  def build(self, rounds: int, rank: int, seed: int) -> Traffic:
    """Lateness and absences together."""
    if not self.late and not self.absent:
      return perfect_traffic(rounds, rank)
    late = late_traffic(rounds, rank, self.late, seed if self.random else None)
    absent = absent_traffic(rounds, rank, self.absent, self.length, seed)
    return dataclasses.replace(late, absent_LR=absent.absent_LR)


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
  """A run of `program = 'regression'`.

  Attributes:
    program: 'regression'.
    method: 'parallel', 'sequential', 'joint', 'exact' or 'discover'.
    rank: components; at most so many with 'discover'.
    seed: of data and starts.
    dtype: 'float32' or 'float64'.
    devices: over which the workers are split, with 'parallel' and 'discover'.
    ridge: penalty on ||W||_F^2; not with 'discover'.
    slope: of the rounds over the components, with 'sequential'.
    level: chance of a component in noise alone, with 'discover'.
    data: what is fitted.
    solver: local steps.
    schedule: the rounds.
    traffic: lateness and absences, with 'parallel'.

  Raises:
    ValueError: for values out of range, or that do not go together.
  """

  program: Annotated[str, OneOf(('regression',))] = 'regression'
  method: Annotated[str, OneOf(METHODS)] = 'parallel'
  rank: Count = 8
  seed: Seed = 0
  dtype: Annotated[str, OneOf(DTYPES)] = 'float32'
  devices: Count = 1
  ridge: NonNegative = 0.0
  slope: Real = 0.0
  level: Annotated[float, Range(above=0, below=1)] = 0.01
  data: DataConfig = DataConfig()
  solver: SolverConfig = SolverConfig()
  schedule: Schedule = Schedule(local_steps=2)
  traffic: TrafficConfig = TrafficConfig()

  def __post_init__(self) -> None:
    check(self, '')
    self._check_method()

  def _check_method(self) -> None:
    """What only some methods can do."""
    if self.method == 'joint':
      self.solver.tx()
    elif self.method == 'discover':
      if self.solver.name not in DISCOVERERS or self.ridge or self.pca:
        raise ValueError(
          f"method='discover' is for outputs, without ridge, with a solver of"
          f' {DISCOVERERS}; got solver.name={self.solver.name!r},'
          f' ridge={self.ridge}, principal components: {self.pca}'
        )
    elif isinstance(self.solver.build(self.pca), Eigen) and self.ridge:
      raise ValueError(f'ridge={self.ridge} is not for principal components')
    if self.schedule.activation == 'above_noise':
      raise ValueError("activation='above_noise' is what method='discover' does")

  @property
  def pca(self) -> bool:
    """Whether the inputs are fitted to themselves."""
    return not self.data.y if self.data.x else self.data.pca


_ROUNDS = frozenset({'schedule.rounds', 'schedule.local_steps'})
# Read beside `_BY_ALL`; a group stands for all that is in it.
_READ = {
  'parallel': {'devices', 'ridge', 'solver', 'schedule', 'traffic'},
  'sequential': {'slope', 'ridge', 'solver', *_ROUNDS},
  'joint': {'ridge', 'solver', *_ROUNDS},
  'exact': {'ridge'},
  'discover': {'devices', 'level', 'solver', 'schedule'},
}
_BY_ALL = {'program', 'method', 'rank', 'seed', 'dtype', 'data'}


def require_read(config: RegressionConfig) -> None:
  """Refuses, of a new run, what would not be read, or not be kept to.

  Raises:
    ValueError: for the first field that was set and that the method does not read, or
      more absence than there can be.
  """
  reads = _READ[config.method]
  for name, value in unread(config, RegressionConfig(), reads | _BY_ALL):
    raise ValueError(
      f'{name}={value!r} is not read by method={config.method!r}, which reads'
      f' {", ".join(sorted(reads))} beside the data, rank, seed and dtype'
    )
  traffic = config.traffic
  # Whoever comes back is there for a round at least.
  most = traffic.length / (traffic.length + 1)
  if traffic.absent > most:
    raise ValueError(
      f'traffic.absent={traffic.absent}: with absences of traffic.length='
      f'{traffic.length} rounds a worker misses at most {most:.3f} of them; lower it or'
      ' raise traffic.length'
    )


# What fields were called in earlier versions, by group: old name -> name.
_RENAMED = {'solver': {'rate': 'learning_rate'}}


def stored_config(values: Mapping[str, Any]) -> RegressionConfig:
  """The config that a fit of this version or an earlier one has written."""
  return build(RegressionConfig, renamed(values, _RENAMED))
