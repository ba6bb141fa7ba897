"""What the training loop asks of a method, and what it gives it."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.sharding import Rows


@dataclasses.dataclass(frozen=True)
class Private:
  """Workers that see nothing but their own share of the training data.

  Attributes:
    workers: how many; a batch has as many rows for each, worker by worker.
    skew: 0 divides rows by index; else labels are spread by a Dirichlet distribution
      with this parameter.
  """

  workers: int
  skew: float


@dataclasses.dataclass(frozen=True)
class RankReport:
  """The rank distribution on the host, for logs and reports.

  Attributes:
    rank_M: components of each module.
    importance_M, uncertainty_M: moving averages that growth goes by; None where the
      method has none.
    grants: who got which component when: dicts of 'round', 'module', 'component' and
      'score', in order.
  """

  rank_M: np.ndarray
  importance_M: np.ndarray | None = None
  uncertainty_M: np.ndarray | None = None
  grants: tuple[dict[str, Any], ...] = ()


class Method(Protocol):
  """A way to train adapters: frozen, made by `build(settings, problem)`.

  Attributes:
    rounds: calls of the compiled round in a run.
    local_steps: batches that a round consumes.
    capacity: the most components a module may have.
    private: who has data of its own; None where all see all of it.
    looks: batches that the start is made of; above zero it is an `Informed` too.
    parameters: that the optimiser of the adapters trains, if every module had all the
      components that it may have.
  """

  rounds: int
  local_steps: int
  capacity: int
  private: Private | None
  looks: int
  parameters: int

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """How the rows of a batch lie on a mesh.

    Raises:
      ValueError: if the mesh cannot divide them.
    """

  def bytes_sent(self, state: Any) -> int:
    """Bytes that leave a worker in a round."""

  def init(self, head: Any) -> Any:
    """The portable state before the first round."""

  def place(self, state: Any, mesh: jax.sharding.Mesh) -> Any:
    """Lays a portable state out on a mesh."""

  def outline(self, head: Any, mesh: jax.sharding.Mesh) -> Any:
    """Shapes, dtypes and shardings of a placed state, for an outlined head."""

  def portable(self, state: Any) -> Any:
    """The state as it is saved: replicated, and of the same shapes on every mesh."""

  def make_round(self, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Any, dict]]:
    """The jitted round(state, params, batch) -> (state, metrics); state donated.

    Leaves of the batch are (local_steps, batch, ...). Metrics are replicated and hold
    at least 'loss', 'rank' (total), 'step' (rounds done) and 'failed' (the first
    round that was not finite, or -1).
    """

  def live_rounds(self, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Any, dict]]:
    """The same, in programs that compute no more than what is live; may read states."""

  def deploy(self, state: Any) -> Deployed:
    """The update as evaluation uses it, replicated."""

  def report(self, state: Any) -> RankReport:
    """The rank distribution and how it came about."""

  def require_kept(self) -> None:
    """Refuses, of a new run, settings that it may not keep to.

    Raises:
      ValueError: naming them. Runs of earlier versions may have them, and open.
    """

  def timeline(self) -> list[tuple[int, int]]:
    """(round from one, total rank after it) of every allocation that is planned."""


class Informed(Protocol):
  """What a method with `looks` above zero has beside; see `look.informed`."""

  def look(self, mesh: jax.sharding.Mesh) -> Callable[..., Any]:
    """The jitted (state, params, batch, number of the look) -> sums over the rows."""

  def inform(self, state: Any, sums: Any) -> Any:
    """The state with the start made of the sums over all looks; may be traced."""
