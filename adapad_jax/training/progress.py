"""Where a run stands, while it trains and in what it has saved."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from adapad_jax.methods import Method
from adapad_jax.methods.look import informed
from adapad_jax.training.evaluate import Validation


@dataclasses.dataclass
class Progress:
  """How far a run is. See `meta` for what of it is saved beside the state.

  Attributes:
    state: components, optimiser, ranks; on the mesh.
    step: rounds done.
    best: {'step', 'metrics'} of the best evaluation, or None.
    last: the same of the latest evaluation.
    stale: evaluations since the best one.
    seconds: of training up to this start of the program.
    first_step: seconds from a start of the program to its first finished round.
    phases: seconds by phase, former starts included; what is in none are rounds.
    validation: the best evaluation, with its outputs; None if a former start of the
      program made it.
  """

  state: Any
  step: int = 0
  best: dict[str, Any] | None = None
  last: dict[str, Any] | None = None
  stale: int = 0
  seconds: float = 0.0
  first_step: float = 0.0
  phases: dict[str, float] = dataclasses.field(default_factory=dict)
  validation: Validation | None = None
  started: float = dataclasses.field(default_factory=time.monotonic)

  def elapsed(self) -> float:
    """Seconds of training, former starts of the program included."""
    return self.seconds + time.monotonic() - self.started

  def meta(self) -> dict[str, Any]:
    """What is saved beside the state."""
    return {
      'best': self.best,
      'last': self.last,
      'stale': self.stale,
      'seconds': self.elapsed(),
      'first_step': self.first_step,
      'phases': dict(self.phases),
    }


def beginning(
  method: Method,
  head: Any,
  mesh: jax.sharding.Mesh,
  params: Any,
  batch_of: Callable[[int], Any],
) -> Progress:
  """Before the first round: the method's own start, laid out on the mesh.

  Args:
    method: what will run.
    head: before training.
    mesh: the devices.
    params: frozen parameters of the model, on the devices.
    batch_of: the batches of the round after so many, which a start may be made of.
  """
  state = method.place(jax.jit(method.init)(head), mesh)
  if method.looks:
    state = informed(
      method.looks, method.look(mesh), method.inform, state, params, batch_of
    )
    # As a state that comes from a checkpoint lies, for one program to serve both.
    state = method.place(method.portable(state), mesh)
  return Progress(state)
