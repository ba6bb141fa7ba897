"""The loop over rounds, whatever is trained: a config's run, a model, several runs."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from adapad_jax import freed_memory
from adapad_jax.methods import Method
from adapad_jax.sharding import put
from adapad_jax.training.batches import Columns, Order, cut_to_bucket, round_batch
from adapad_jax.training.partition import PartitionedOrder
from adapad_jax.training.progress import Progress
from adapad_jax.training.watchdog import Watchdog

# Rounds after a start or a pause until memory lies as it stays: the first leaves what
# the second finds.
_SETTLE = 2


class Diverged(RuntimeError):
  """The loss or a gradient was not finite."""


def rounds(
  advance: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
  batch_of: Callable[[int], Any],
  progress: Progress,
  last: int,
  watchdog: Watchdog,
  pause: Callable[[int], bool] = lambda number: False,
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Takes the rounds that are left, and yields what came of each, in order.

  The outcome of a round is waited for when the next one has been sent off, so that the
  devices never wait for the host; `progress` is then one round ahead. After a round for
  which `pause` says so, nothing else is sent off before its outcome has been yielded:
  `progress.state` is then what that round left, to be evaluated or saved.

  Args:
    advance: sends off a round: (state, batch) -> (state, metrics); state is donated.
    batch_of: the batches of the round after so many, on the devices.
    progress: where to begin; moves with every round that is sent off.
    last: rounds of the run.
    watchdog: is told what is under way.
    pause: asked once for every round, counted from one, when it has been sent off.

  Yields:
    The number of a round, counted from one, and its metrics on the host.
  """
  pending, settling = None, _SETTLE
  while progress.step < last:
    number = progress.step + 1
    watchdog.moved(f'round {number}, sending it off')
    batch = batch_of(progress.step)
    with jax.profiler.StepTraceAnnotation('round', step_num=number):
      progress.state, metrics = advance(progress.state, batch)
    progress.step = number
    if settling:
      freed_memory.give_back()
    settling = max(settling - 1, 0)
    if pending is not None:
      yield _outcome(number - 1, pending, progress, watchdog)
    pending = metrics
    if pause(number):
      yield _outcome(number, pending, progress, watchdog)
      pending, settling = None, _SETTLE
  if pending is not None:
    yield _outcome(progress.step, pending, progress, watchdog)


def _outcome(
  number: int, metrics: dict[str, jax.Array], progress: Progress, watchdog: Watchdog
) -> tuple[int, dict[str, Any]]:
  """Waits for a round that has been sent off."""
  watchdog.moved(f'round {number}, waiting for its outcome')
  host = jax.device_get(metrics)
  if not progress.first_step:
    progress.first_step = time.monotonic() - progress.started
  return number, host


def batches(
  method: Method,
  mesh: jax.sharding.Mesh,
  columns: Columns,
  order: Order | PartitionedOrder,
  buckets: tuple[int, ...] = (),
) -> Callable[[int], dict[str, jax.Array]]:
  """The batches of the round after so many, as a method wants them on a mesh.

  Args:
    method: how many batches a round takes, and how their rows lie.
    mesh: the devices.
    columns: the training data.
    order: which rows a batch has.
    buckets: see `batches.cut_to_bucket`.
  """
  rows = method.rows(mesh)

  def after(step: int) -> dict[str, jax.Array]:
    first = step * method.local_steps
    host = round_batch(columns, order, first, method.local_steps, rows.order_B)
    return put(cut_to_bucket(host, buckets), rows.spec)

  return after
