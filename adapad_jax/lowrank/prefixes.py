"""Smaller adapters from one adapter: components are ordered, so any prefix is one.

M counts modules below.
"""

import dataclasses
import numbers
from collections.abc import Iterator, Mapping

import numpy as np

from adapad_jax.lowrank.adapter import Adapter
from adapad_jax.lowrank.spectrum import importances


def cut_to_rank(adapter: Adapter, max_rank: int) -> Adapter:
  """The first `max_rank` components of every module.

  Raises:
    ValueError: if `max_rank` is below one, or no whole number.
  """
  if isinstance(max_rank, bool) or not isinstance(max_rank, numbers.Integral):
    raise ValueError(f'max_rank must be a whole number, got {max_rank!r}')
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
  _check(gains)
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


def share_by_size(
  gains: Mapping[str, np.ndarray], sizes: Mapping[str, int], most: int
) -> dict[str, int]:
  """Shares so many parameters over modules so that gains sum high.

  The components of a module fall into runs, each with the highest mean gain of all that
  could follow those before it. Runs are taken by their gain a parameter, the highest
  first, as long as they fit: less than one run behind the best choice (the greedy rule
  for knapsacks, Dantzig 1957). What is left goes to first components of other runs.

  Args:
    gains: gain of every component of every module, none negative, (R,) each.
    sizes: parameters of one component of a module.
    most: parameters in total.

  Raises:
    ValueError: if no component fits or a gain is negative or not a number.
  """
  there = [sizes[name] for name, gain_R in gains.items() if len(gain_R)]
  if there and most < min(there):
    raise ValueError(
      f'the smallest component has {min(there):,} parameters, got {most:,}'
    )
  _check(gains)
  runs = [
    (gain / sizes[name], name, last)
    for name, gain_R in gains.items()
    for gain, last in _runs(np.asarray(gain_R, np.float64))
  ]
  ranks, closed = dict.fromkeys(gains, 0), []
  for _, name, last in sorted(runs, key=lambda run: -run[0]):
    size = (last - ranks[name]) * sizes[name]
    if name in closed:
      continue
    if size > most:
      closed.append(name)
      continue
    ranks[name], most = last, most - size
  # Only now: a weak component must not take the place of a whole run.
  for name in closed:
    more, most = divmod(most, sizes[name])
    ranks[name] += more
  return ranks


def _runs(gain_R: np.ndarray) -> Iterator[tuple[float, int]]:
  """(mean gain, components up to its end) of every run of a module."""
  first = 0
  while first < len(gain_R):
    means = np.cumsum(gain_R[first:]) / np.arange(1, len(gain_R) - first + 1)
    longest = len(means) - 1 - int(np.argmax(means[::-1]))
    first += longest + 1
    yield float(means[longest]), first


def _check(gains: Mapping[str, np.ndarray]) -> None:
  bad = [name for name, gain_R in gains.items() if not np.all(np.asarray(gain_R) >= 0)]
  if bad:
    raise ValueError(f'gains must be numbers >= 0; those of {bad[:5]} are not')
