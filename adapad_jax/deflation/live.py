"""Rounds compiled for as many workers as are live, so that idle ones cost nothing.

A compiled round has slots for a fixed number of rows. While few workers are live fewer
slots do: in `replicate` each live worker needs the whole batch, and on a mesh with a
worker axis a device needs what its own workers see. So a run compiles a round for each
of a few ranges of live workers, when it first gets there.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from adapad_jax.deflation.deflation import Deflation
from adapad_jax.deflation.discovery import Discovery, Ranks, live_workers
from adapad_jax.deflation.round import make_round
from adapad_jax.deflation.state import State
from adapad_jax.sharding import WORKER, row_shards


class LiveRounds:
  """The round(state, model, batch) of `make_round`, in as many slots as are needed.

  How many workers are live is read from the device after rounds that may have changed
  it, and whenever a state comes that this object did not make; not in between.

  Args:
    method: what to run.
    mesh: see `make_round`.
    limits: ends of the ranges of live workers, within 1..r_max, which is added.
  """

  def __init__(
    self, method: Deflation, mesh: jax.sharding.Mesh, limits: Sequence[int]
  ) -> None:
    self._method, self._mesh = method, mesh
    self._slots = slots(method, mesh, limits)
    self._rounds: dict[int, Any] = {}
    self._done, self._live = 0, 0
    self._known: jax.Array | None = None

  def __call__(
    self, state: State, model: Any, batch: Any
  ) -> tuple[State, dict[str, jax.Array]]:
    """One round; the state is donated."""
    new, metrics = self._round(state)(state, model, batch)
    due = self._method.discovery.due(self._done)
    self._known, self._done = None if due else new.step, self._done + 1
    return new, metrics

  def _round(self, state: State) -> Any:
    """The compiled round for as many workers as are live now."""
    if len(set(self._slots)) > 1 and state.step is not self._known:
      live = _live(self._method.discovery, state.ranks)
      self._done, self._live = map(int, jax.device_get((state.step, live)))
    needed = self._slots[self._live]
    if needed not in self._rounds:
      self._rounds[needed] = make_round(self._method, self._mesh, needed)
    return self._rounds[needed]

  def _cache_size(self) -> int:
    """Compilations so far, by the name that jitted functions have for it."""
    return sum(one._cache_size() for one in self._rounds.values())


def slots(
  method: Deflation, mesh: jax.sharding.Mesh, limits: Sequence[int]
) -> tuple[int, ...]:
  """Slots of a device while 0, 1, ... r_max workers are live."""
  workers = method.feeding.workers
  blocks, shards = mesh.shape[WORKER], row_shards(mesh)
  need = lambda live: method.feeding.capacity(blocks, shards, live)
  found, first = [], 1
  for last in sorted({*limits, workers}):
    found += [max(map(need, range(first, last + 1)))] * (last + 1 - first)
    first = last + 1
  return (found[0], *found)


@functools.partial(jax.jit, static_argnums=0)
def _live(discovery: Discovery, ranks: Ranks) -> jax.Array:
  return live_workers(discovery.masks(ranks)[1])
