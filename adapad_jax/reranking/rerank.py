"""The whole of re-ranking: gradients on text, regressions, ranks of the modules."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from adapad_jax import freed_memory
from adapad_jax.lowrank import Adapter
from adapad_jax.lowrank.prefixes import cut_to_ranks, share, share_by_size
from adapad_jax.reranking.kfac import kronecker_factors
from adapad_jax.reranking.solve import RIDGE, Ordered, solve
from adapad_jax.reranking.updates import Update

# Bytes of the moments that are held at once: 3 GiB.
_MEMORY = 3 * 2**30


@dataclasses.dataclass(frozen=True)
class Reranked:
  """A small adapter and how much of the update it keeps.

  Attributes:
    adapter: components by module, the shared budget spent.
    explained: share that is kept of what components were ordered by. Of every module's
      effect on the model's outputs, as far as the Kronecker factors tell, it is
      1 - tr(F E^T S E) / tr(F Delta W^T S Delta W) for what is left out, E, with the
      ridge in both factors.
    share: the same of all modules together, which a budget is spent for.
  """

  adapter: Adapter
  explained: dict[str, float]
  share: float


def fit(
  update: Update,
  columns: Mapping[str, np.ndarray],
  rank: int,
  mesh: jax.sharding.Mesh,
  *,
  ridge: float = RIDGE,
  memory: int = _MEMORY,
) -> dict[str, Ordered]:
  """Every module's components in order, from as many passes over the text as it takes.

  A module's moments are as large as the squares of its sides, which of a model of a
  billion parameters is more than its weights; so those of some modules are summed in
  one pass, used and dropped.

  Args:
    update: what is to be approximated.
    columns: tokens of the text, as a split of a task has them.
    rank: components of a module, or as many as its sides allow.
    mesh: the devices; text and then modules are spread over its data axis.
    ridge: see `solve`.
    memory: bytes of the moments of a pass; a module alone may have more.

  Raises:
    ValueError: for a rank or text that cannot work.
  """
  ordered: dict[str, Ordered] = {}
  for names in _passes(update.deltas, memory):
    ordered |= _one_pass(update, names, columns, rank, mesh, ridge)
    # Components come to lie between the moments, where those of the next do not fit.
    freed_memory.give_back()
  return ordered


def _one_pass(
  update: Update,
  names: list[str],
  columns: Mapping[str, np.ndarray],
  rank: int,
  mesh: jax.sharding.Mesh,
  ridge: float,
) -> dict[str, Ordered]:
  """Some modules' components; their moments are gone when it returns."""
  factors = kronecker_factors(update.teacher, names, columns, mesh, kind=update.kind)
  deltas = {name: update.deltas[name] for name in names}
  inputs = {name: one.s_II for name, one in factors.items()}
  outputs = {name: one.f_OO for name, one in factors.items()}
  return solve(deltas, inputs, rank, mesh, outputs=outputs, ridge=ridge)


def _passes(deltas: Mapping[str, np.ndarray], memory: int) -> Iterator[list[str]]:
  """Names of modules whose moments fit together, in their order."""
  names, held = [], 0
  for name, delta_IO in deltas.items():
    size = 4 * sum(side**2 for side in delta_IO.shape)
    if names and held + size > memory:
      yield names
      names, held = [], 0
    names.append(name)
    held += size
  yield names


def spend(ordered: Mapping[str, Ordered], head: dict, budget: int) -> Reranked:
  """Shares a budget over modules so that the kept components explain most."""
  ranks = share({name: o.gains for name, o in ordered.items()}, budget)
  return _kept(ordered, head, ranks)


def spend_parameters(ordered: Mapping[str, Ordered], head: dict, most: int) -> Reranked:
  """Shares parameters over modules by what they explain: components differ in size."""
  gains = {name: o.gains for name, o in ordered.items()}
  sizes = {name: o.update.component_size for name, o in ordered.items()}
  return _kept(ordered, head, share_by_size(gains, sizes, most))


def alike(ordered: Mapping[str, Ordered], head: dict, rank: int) -> Reranked:
  """Gives every module the same number of components, or all that it has."""
  ranks = {name: min(rank, o.update.rank) for name, o in ordered.items()}
  return _kept(ordered, head, ranks)


def within(
  ordered: Mapping[str, Ordered], ranks: Mapping[str, int]
) -> dict[str, Ordered]:
  """Leaves out components beyond the rank of a module's update, which are rounding.

  Args:
    ordered: components by module.
    ranks: of the updates whose rank is known.
  """
  return {name: o.cut(ranks.get(name, o.update.rank)) for name, o in ordered.items()}


def _kept(
  ordered: Mapping[str, Ordered], head: dict, ranks: Mapping[str, int]
) -> Reranked:
  whole = Adapter({name: o.update for name, o in ordered.items()}, head)
  kept = {name: float(np.sum(o.gains[: ranks[name]])) for name, o in ordered.items()}
  # Gains are differences of float32 numbers, so their sum may be a little too large.
  part = lambda gain, energy: min(gain / max(energy, 1e-30), 1.0)
  return Reranked(
    adapter=cut_to_ranks(whole, ranks),
    explained={name: part(kept[name], o.energy) for name, o in ordered.items()},
    share=part(sum(kept.values()), sum(o.energy for o in ordered.values())),
  )
