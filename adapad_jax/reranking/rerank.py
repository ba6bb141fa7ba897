"""The whole of re-ranking: gradients on text, regressions, one shared budget."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from adapad_jax.lowrank import Adapter
from adapad_jax.lowrank.prefixes import cut_to_ranks, share
from adapad_jax.reranking.kfac import kronecker_factors
from adapad_jax.reranking.solve import RIDGE, Ordered, solve
from adapad_jax.reranking.updates import Update


@dataclasses.dataclass(frozen=True)
class Reranked:
  """A small adapter and how much of the update it keeps.

  Attributes:
    adapter: components by module, the shared budget spent.
    explained: share of every module's effect on the model's outputs that is kept, as
      far as the Kronecker factors tell: 1 - tr(F E^T S E) / tr(F Delta W^T S Delta W)
      for what is left out, E.
  """

  adapter: Adapter
  explained: dict[str, float]


def rerank(
  update: Update,
  columns: Mapping[str, np.ndarray],
  budget: int,
  rank: int,
  mesh: jax.sharding.Mesh,
  *,
  ridge: float = RIDGE,
) -> Reranked:
  """Finds a small adapter for an update on unlabelled text.

  Args:
    update: what is to be approximated.
    columns: tokens of the text, as a split of a task has them.
    budget: components over all modules.
    rank: the most components of one module.
    mesh: the devices; text and then modules are spread over its data axis.
    ridge: see `solve`.

  Raises:
    ValueError: for a budget, rank or text that cannot work.
  """
  factors = kronecker_factors(update.teacher, list(update.deltas), columns, mesh)
  inputs = {name: one.s_II for name, one in factors.items()}
  outputs = {name: one.f_OO for name, one in factors.items()}
  ordered = solve(update.deltas, inputs, rank, mesh, outputs=outputs, ridge=ridge)
  return spend(ordered, update.head, budget)


def spend(ordered: Mapping[str, Ordered], head: dict, budget: int) -> Reranked:
  """Shares a budget over modules so that the kept components explain most."""
  ranks = share({name: o.gains for name, o in ordered.items()}, budget)
  whole = Adapter({name: o.update for name, o in ordered.items()}, head)
  explained = {
    name: float(np.sum(o.gains[: ranks[name]]) / max(o.energy, 1e-30))
    for name, o in ordered.items()
  }
  return Reranked(cut_to_ranks(whole, ranks), explained)
