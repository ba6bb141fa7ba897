"""Smaller adapters from one adapter: components are ordered, so any prefix is one.

M counts modules below.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from adapad_jax.lowrank.adapter import Adapter
from adapad_jax.lowrank.spectrum import importances


def cut_to_rank(adapter: Adapter, max_rank: int) -> Adapter:
  """The first `max_rank` components of every module.

  Raises:
    ValueError: if `max_rank` is below one.
  """
  if max_rank < 1:
    raise ValueError(f'max_rank must be at least 1, got {max_rank}')
  return cut_to_ranks(adapter, dict.fromkeys(adapter.modules, max_rank))


def cut_to_budget(adapter: Adapter, budget: int) -> Adapter:
  """The `budget` components that matter most over all modules, kept as prefixes.

  The weight of a component is the square of its Frobenius norm; of all choices of one
  prefix per module with `budget` components in total, the one that keeps most wins.

  Raises:
    ValueError: if the budget is below one.
  """
  return cut_to_ranks(adapter, budget_ranks(adapter, budget))


def budget_ranks(adapter: Adapter, budget: int) -> dict[str, int]:
  """How many components of every module `cut_to_budget` keeps.

  Raises:
    ValueError: if the budget is below one.
  """
  energy = {name: importances(u) ** 2 for name, u in adapter.modules.items()}
  return share(energy, budget)


def cut_to_ranks(adapter: Adapter, ranks: Mapping[str, int]) -> Adapter:
  """The first `ranks[name]` components of every module; the head stays."""
  modules = {name: u.cut(ranks[name]) for name, u in adapter.modules.items()}
  if adapter.rescaled:
    modules = {
      name: u.scaled(np.float32(adapter.modules[name].rank / max(u.rank, 1)))
      for name, u in modules.items()
    }
  return dataclasses.replace(adapter, modules=modules)


def share(gains: Mapping[str, np.ndarray], budget: int) -> dict[str, int]:
  """Shares a budget of components over modules so that their gains sum highest.

  Component k of a module counts only with all before it, so a weak one may be taken
  for the sake of a strong one behind it. Exact, by dynamic programming over modules
  in O(M budget R). Among equals, earlier modules get more.

  Args:
    gains: gain of every component of every module, none negative, (R,) each.
    budget: components in total; more than there are means all.

  Raises:
    ValueError: if the budget is below one or a gain is negative or not a number.
  """
  if budget < 1:
    raise ValueError(f'the budget must be at least 1 component, got {budget}')
  bad = [name for name, gain_R in gains.items() if not np.all(np.asarray(gain_R) >= 0)]
  if bad:
    raise ValueError(f'gains must be numbers >= 0; those of {bad[:5]} are not')
  budget = min(budget, sum(len(gain_R) for gain_R in gains.values()))
  best_C = np.full(budget + 1, -np.inf)
  best_C[0] = 0.0
  taken = []
  for gain_R in gains.values():
    totals = np.concatenate([[0.0], np.cumsum(gain_R, dtype=np.float64)])
    options = np.full((min(len(totals), budget + 1), budget + 1), -np.inf)
    for k in range(len(options)):
      options[k, k:] = best_C[: budget + 1 - k] + totals[k]
    taken.append(np.argmax(options, axis=0))
    best_C = np.max(options, axis=0)
  ranks: dict[str, int] = {}
  for name, taken_C in zip(reversed(list(gains)), reversed(taken), strict=True):
    ranks[name] = int(taken_C[budget])
    budget -= ranks[name]
  return {name: ranks[name] for name in gains}
