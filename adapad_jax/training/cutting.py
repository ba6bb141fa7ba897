"""A run's update cut to fewer components, the same for every mode that can."""

import dataclasses
import numbers

import jax
import numpy as np

from adapad_jax.lowrank import Adapter, Deployed
from adapad_jax.lowrank.prefixes import budget_ranks, cut_to_budget, cut_to_rank
from adapad_jax.sharding import put


def check_cut(max_rank: int, budget: int) -> None:
  """Checks how an update is to be cut.

  Raises:
    ValueError: if both are given or one is no whole number, or negative.
  """
  if max_rank and budget:
    raise ValueError('give --max_rank or --budget, not both')
  require_counts(max_rank=max_rank, budget=budget)


def require_counts(**counts: int) -> None:
  """Refuses what is no number of things to keep, by the names of their flags.

  Raises:
    ValueError: naming the first.
  """
  for name, value in counts.items():
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
      raise ValueError(f'--{name} must be a whole number, got {value!r}')
    if value < 0:
      raise ValueError(f'--{name} must be at least 1, or 0 for all, got {value}')


def chosen_prefix(adapter: Adapter, max_rank: int = 0, budget: int = 0) -> Adapter:
  """The prefix of so many components a module, or over all modules; 0 keeps all.

  Raises:
    ValueError: if both are given or one is negative.
  """
  check_cut(max_rank, budget)
  if max_rank:
    return cut_to_rank(adapter, max_rank)
  return cut_to_budget(adapter, budget) if budget else adapter


def require_adapter(deployed: Deployed, max_rank: int, budget: int) -> None:
  """Refuses to cut an update that has no components.

  Raises:
    ValueError: if the model's own parameters were changed.
  """
  if deployed.changes is not None and (max_rank or budget):
    raise ValueError(
      'this run changed every parameter of the model (method full): it has no'
      ' components that --max_rank or --budget could leave out'
    )


def cut_deployed(
  deployed: Deployed, adapter: Adapter, modules: tuple[str, ...], budget: int
) -> Deployed:
  """The components that `chosen_prefix` keeps under a budget, still where they are.

  Args:
    deployed: on the current mesh.
    adapter: the same update on the host.
    modules: names in the order of the M axis.
    budget: components over all modules.
  """
  ranks = budget_ranks(adapter, budget)
  rank_M1 = np.array([[ranks[name]] for name in modules])
  active_MS = jax.device_get(deployed.active_MS)
  kept_MS = np.arange(active_MS.shape[1])[None] < rank_M1
  return dataclasses.replace(deployed, active_MS=put(np.where(kept_MS, active_MS, 0)))
