"""Several processes, one program: how they meet, agree on the end and fail together.

Every process runs the same program on its own devices (`jax.distributed`). All compute;
the first alone writes and talks.
"""

import contextlib
import dataclasses
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from adapad_jax.ranges import Count, Natural, Range, Text
from adapad_jax.settings import check
from adapad_jax.sharding import put_one

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Where the processes of a run meet.

  Attributes:
    coordinator: HOST:PORT on which process 0 listens.
    processes, process_id: how many there are, and which one this is.
    detect: leave what is not given to jax, which knows SLURM, Open MPI, Kubernetes and
      TPU pods.
    heartbeat: seconds without a sign of life after which a process counts as dead.
  """

  coordinator: Text = ''
  processes: Natural = 0
  process_id: Annotated[int, Range(least=-1)] = -1
  detect: bool = False
  heartbeat: Count = 30

  def __post_init__(self) -> None:
    flags = {field.name: f'--{field.name}' for field in dataclasses.fields(self)}
    check(self, '', **flags | {'detect': '--cluster'})
    if self.detect or not (self.coordinator or self.processes or self.process_id >= 0):
      return
    if not self.coordinator or not 0 <= self.process_id < self.processes:
      raise ValueError(
        'several processes need --coordinator=HOST:PORT, --processes=N and'
        f' --process_id=0..N-1, or --cluster; got --coordinator={self.coordinator!r}'
        f' --processes={self.processes} --process_id={self.process_id}'
      )

  def join(self) -> None:
    """Meets the other processes, if there are any; call it before anything of jax.

    Raises:
      ValueError: if they cannot be found.
    """
    if not (self.coordinator or self.detect):
      return
    # Signals are the run's own affair, see `Vote`.
    jax.config.update('jax_enable_preemption_service', False)
    try:
      jax.distributed.initialize(
        self.coordinator or None,
        self.processes or None,
        self.process_id if self.process_id >= 0 else None,
        cluster_detection_method=None if self.detect else 'deactivate',
        heartbeat_timeout_seconds=self.heartbeat,
      )
    except (ValueError, RuntimeError) as error:
      where = self.coordinator or 'what --cluster found here'
      raise ValueError(
        f'cannot meet the other processes at {where}: {error}'
      ) from error


def is_first() -> bool:
  """Whether this process writes and talks."""
  return jax.process_index() == 0


def are_several() -> bool:
  """Whether there is more than one process."""
  return jax.process_count() > 1


def require_same(text: str, what: str) -> None:
  """Refuses processes that were started in different ways.

  Raises:
    ValueError: in all of them, if the texts differ.
  """
  if not are_several():
    return
  sums = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
  if len(set(sums.tolist())) > 1:
    raise ValueError(
      f'{len(sums)} processes were started with different {what}s (checksums'
      f' {sums.tolist()}); give all of them the same command but for --process_id'
    )


def first_does(what: Callable[[], T]) -> T | None:
  """Does in the first process what one alone may do; the others wait for it.

  Returns:
    In the first process what `what` does, None in the others.

  Raises:
    Exception: in the first process what `what` raises, in the others ValueError.
  """
  if not are_several():
    return what()
  found, failure = None, None
  if is_first():
    try:
      found = what()
    except Exception as error:  # whatever it is, the others must not wait for ever
      failure = error
  failed = multihost_utils.process_allgather(np.int32(failure is not None)).any()
  if failure is not None:
    raise failure
  if failed:
    raise ValueError('the first process could not go on, and has said why')
  return found


class Vote:
  """Tells all processes in the same round that one of them wants to stop.

  With several processes a vote is one small all-reduce, sent off with a round and read
  when the next one has been sent off, so that no process waits for it.

  Args:
    wanted: whether this process wants to stop.
    mesh: the devices that vote.
  """

  def __init__(self, wanted: Callable[[], bool], mesh: jax.sharding.Mesh) -> None:
    self._wanted = wanted
    self._ballots = jax.NamedSharding(mesh, jax.P(mesh.axis_names))
    self._size = mesh.size
    self._count = jax.jit(jnp.max)
    self._cast: list[jax.Array] = []

  def decided(self) -> bool:
    """Casts a vote and returns the outcome of the last one."""
    if not are_several():
      return self._wanted()
    mine = np.full(self._size, self._wanted(), np.int32)
    self._cast.append(self._count(put_one(mine, self._ballots)))
    return len(self._cast) > 1 and bool(jax.device_get(self._cast.pop(0)))


def require_one(what: str) -> None:
  """Refuses what only a single process can do.

  Raises:
    ValueError: if there are several.
  """
  if are_several():
    raise ValueError(
      f'{what} runs in one process, here are {jax.process_count()}; start it without'
      ' --coordinator or --cluster'
    )


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Ends this process at once if it fails while there are others.

  Python would wait for them at its exit, and they for this one in a collective. They
  notice that it is gone, and end as well.
  """
  try:
    yield
  except BaseException as error:
    if not are_several() or (isinstance(error, SystemExit) and not error.code):
      raise
    print(f'process {jax.process_index()}: {_reason(error)}', file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(error, KeyboardInterrupt):
      os._exit(130)
    code = error.code if isinstance(error, SystemExit) else 1
    os._exit(code if isinstance(code, int) else 1)


def _reason(error: BaseException) -> str:
  if isinstance(error, SystemExit):
    return str(error)
  if isinstance(error, KeyboardInterrupt):
    return 'interrupted'
  if isinstance(error, jax.errors.JaxRuntimeError):
    return (
      'stopped because another process is gone, or because a device failed:'
      f' {str(error).splitlines()[0]}\nthe same command in all processes goes on from'
      ' the last checkpoint'
    )
  return ''.join(traceback.format_exception(error))
