"""What `configs/regression.py` may say, as frozen dataclasses."""

import dataclasses
import functools
import math

import optax

from adapad_jax.regression.pca import RULES, Eigen
from adapad_jax.regression.schedule import (
  Schedule,
  Traffic,
  absent_traffic,
  late_traffic,
  perfect_traffic,
)
from adapad_jax.regression.solvers import Alternating, Gradient, Power, Solver
from adapad_jax.settings import did_you_mean

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

  x: str = ''
  y: str = ''
  pca: bool = False
  examples: int = 4000
  inputs: int = 128
  outputs: int = 96
  rank: int = 8
  spectrum: str = 'exponential'
  decay: float = 0.3
  noise: float = 0.1
  holdout: float = 0.25
  centre: bool = True

  def __post_init__(self) -> None:
    if self.y and not self.x:
      raise ValueError(f'data.y={self.y!r} needs data.x')
    for name in ('examples', 'inputs', 'outputs', 'rank'):
      if getattr(self, name) < 1:
        raise ValueError(f'data.{name}={getattr(self, name)} must be at least 1')
    if self.rank > min(self.inputs, self.outputs):
      raise ValueError(
        f'data.rank={self.rank} is above min(inputs, outputs) ='
        f' {min(self.inputs, self.outputs)}'
      )
    if self.noise < 0 or not 0 <= self.holdout < 1:
      raise ValueError(
        f'data.noise={self.noise} must not be negative, and'
        f' data.holdout={self.holdout} must be in [0, 1)'
      )


@dataclasses.dataclass(frozen=True)
class SolverConfig:
  """How a worker improves its component.

  Attributes:
    name: 'power', 'alternating', 'sgd', 'momentum', 'adam', and for principal
      components 'power', 'hebb', 'mu' or 'alpha'.
    rate: step length of all but 'power' and 'alternating'.

  Raises:
    ValueError: for an unknown name or a rate that is not positive.
  """

  name: str = 'power'
  rate: float = 0.1

  def __post_init__(self) -> None:
    if self.name not in SOLVERS:
      hint = did_you_mean(self.name, SOLVERS)
      raise ValueError(f'unknown solver.name={self.name!r}{hint}')
    if not self.rate > 0:
      raise ValueError(f'solver.rate={self.rate} must be positive')

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
    return OPTIMIZERS[self.name](self.rate)

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
      return Eigen(self.name, None if self.name == 'power' else self.rate)
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

  late: int = 0
  random: bool = False
  absent: float = 0.0
  length: int = 5

  def __post_init__(self) -> None:
    if self.late < 0 or self.length < 1 or not 0 <= self.absent < 1:
      raise ValueError(
        f'traffic.late={self.late} must not be negative, traffic.length={self.length}'
        f' must be at least 1 and traffic.absent={self.absent} in [0, 1)'
      )

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

  program: str = 'regression'
  method: str = 'parallel'
  rank: int = 8
  seed: int = 0
  dtype: str = 'float32'
  devices: int = 1
  ridge: float = 0.0
  slope: float = 0.0
  level: float = 0.01
  data: DataConfig = DataConfig()
  solver: SolverConfig = SolverConfig()
  schedule: Schedule = Schedule(local_steps=2)
  traffic: TrafficConfig = TrafficConfig()

  def __post_init__(self) -> None:
    if self.method not in METHODS:
      hint = did_you_mean(self.method, METHODS)
      raise ValueError(f'unknown method={self.method!r}{hint}')
    if self.rank < 1:
      raise ValueError(f'rank={self.rank} must be at least 1')
    if self.seed < 0:
      raise ValueError(f'seed={self.seed} must not be negative')
    if not 0 <= self.ridge < math.inf:
      raise ValueError(f'ridge={self.ridge} must not be negative and must be finite')
    self._check_method()
    if self.traffic != TrafficConfig() and self.method != 'parallel':
      raise ValueError(f"traffic is for method='parallel', got {self.method!r}")

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
