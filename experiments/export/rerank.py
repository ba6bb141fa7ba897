"""Re-ranks a LoRA of rank 16 and compares with singular values at equal size.

python -m experiments.export.rerank --task=sst2 --data=FOLDER --adapter=LORA
"""

import bisect
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from adapad_jax import sharding
from adapad_jax.interchange import read_peft
from adapad_jax.lowrank import Adapter
from adapad_jax.lowrank.prefixes import cut_to_rank
from adapad_jax.lowrank.update import padded
from adapad_jax.reranking import (
  Ordered,
  Update,
  from_adapter,
  input_moments,
  kronecker_factors,
  solve,
  spend,
  spend_parameters,
  truncate,
)
from adapad_jax.reranking.solve import RIDGE
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.session import Session, open_session
from adapad_jax.training.transfer import deploy_adapter
from configs.common import MINILM
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, row

Score = Callable[[Adapter], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Options:
  """What is re-ranked.

  Attributes:
    model: as model.source.
    task, data: of GLUE, and the folder of its official files.
    adapter: folder of the LoRA.
    rows: unlabelled ones to look at.
    metric: whether to score, which is the slow part.
    shares: of the LoRA's size.
    ridge: see `solve`.
  """

  model: str = MINILM
  task: str = ''
  data: str = ''
  adapter: str = ''
  rows: int = 1024
  metric: bool = True
  shares: tuple[float, ...] = (0.5, 0.25, 0.125)
  ridge: float = RIDGE


def open_task(options: Options) -> Session:
  """The model and the task, without a run."""
  values = {
    'data': {'task': options.task, 'path': options.data, 'max_length': 128},
    'model': {'source': options.model},
    'train': {'eval_batch': 64},
  }
  plan = make_plan(finetune_config(values))
  with jax.set_mesh(plan.mesh):
    return open_session(plan)


def make_score(session: Session, like: Adapter) -> Score:
  """Metrics of adapters of like's modules, and how near they are to `like`.

  `logits kept` is 1 - E ||f' - f||^2 / E ||f_0 - f||^2 over the validation rows: f is
  the logits with `like`, f' those with the adapter, f_0 those with no update at all.
  Compiles once for all of them.
  """
  modules, rank = tuple(like.modules), max(like.ranks.values())
  plan = dataclasses.replace(
    session.plan, shapes={name: session.plan.shapes[name] for name in modules}
  )
  evaluator = dataclasses.replace(session, plan=plan).evaluator
  split = plan.task.splits['validation']

  def outputs(adapter: Adapter, prefix: int) -> dict[str, np.ndarray]:
    same = {name: padded(adapter.modules[name], rank) for name in modules}
    with jax.set_mesh(plan.mesh):
      deployed = deploy_adapter(Adapter(same, adapter.head), modules)
      return evaluator.outputs(session.params, deployed, split, prefix)

  whole, none = outputs(like, rank), outputs(like, 0)
  apart = lambda x, y: sum(float(np.sum(np.square(x[k] - y[k]))) for k in whole)

  def score(adapter: Adapter) -> dict[str, float]:
    found = outputs(adapter, rank)
    kept = 1 - apart(found, whole) / apart(none, whole)
    return plan.task.evaluate(split, found) | {'logits kept': kept}

  return score


def kept(adapter: Adapter, update: Update, moments: Mapping[str, np.ndarray]) -> float:
  """Mean share of E ||Delta W^T x||^2 that an adapter reproduces on held-out text."""
  shares = []
  for name, delta_IO in update.deltas.items():
    left_IO = delta_IO - adapter.modules[name].weight()
    energy = lambda w, s=moments[name]: float(np.sum(w * (s @ w)))
    shares.append(1 - energy(left_IO) / energy(delta_IO))
  return float(np.mean(shares))


Orders = Mapping[str, Mapping[str, Ordered]]


def orders(
  update: Update, text: Mapping[str, np.ndarray], rank: int, ridge: float
) -> tuple[Orders, dict[str, float]]:
  """Every module's components in three ways, and the seconds of the first of them."""
  mesh, names = sharding.make_mesh(1, jax.device_count()), list(update.deltas)
  started = time.monotonic()
  factors = kronecker_factors(update.teacher, names, text, mesh, kind=update.kind)
  looked = time.monotonic()
  inputs = {name: one.s_II for name, one in factors.items()}
  outputs = {name: one.f_OO for name, one in factors.items()}
  ours = solve(update.deltas, inputs, rank, mesh, outputs=outputs, ridge=ridge)
  seconds = {'looking': looked - started, 'all': time.monotonic() - started}
  moments = input_moments(update.teacher, names, text, mesh)
  found = {
    're-ranked': ours,
    're-ranked by inputs alone': solve(update.deltas, moments, rank, mesh, ridge=ridge),
    'svd': truncate(update.deltas, rank),
  }
  return found, seconds


def candidates(found: Orders, head: dict, most: int) -> dict[str, Adapter]:
  """The largest adapters of at most so many parameters, by order and sharing."""
  small = {}
  for name, own in found.items():
    whole = Adapter({n: o.update for n, o in own.items()}, head)
    components, ranks = sum(whole.ranks.values()), max(whole.ranks.values())
    share = lambda n, own=own: spend(own, head, n).adapter
    equal = lambda n, whole=whole: cut_to_rank(whole, n)
    small[f'{name}, shared budget'] = _largest(share, components, most)
    small[f'{name}, shared parameters'] = spend_parameters(own, head, most).adapter
    small[f'{name}, equal ranks'] = _largest(equal, ranks, most)
  return {name: adapter for name, adapter in small.items() if adapter}


def _largest(make: Callable[[int], Adapter], highest: int, most: int) -> Adapter | None:
  """The adapter of the most components that has at most so many parameters."""
  fits = lambda n: make(n).parameters() <= most
  found = bisect.bisect_left(range(1, highest + 1), True, key=lambda n: not fits(n))
  return make(found) if found else None


def measure(run: Run, options: Options) -> Iterator[Row]:
  """The metric of the LoRA and of every cut of it."""
  session = open_task(options)
  adapter = read_peft(pathlib.Path(options.adapter), session.pretrained).adapter
  rank, metric = max(adapter.ranks.values()), session.plan.task.metric
  about = {'model': options.model, 'task': options.task, 'rows': options.rows}
  about |= {'ridge': options.ridge}
  if options.metric:
    score = make_score(session, adapter)
    full = 100 * score(adapter)[metric]
    yield row(f'{metric}, whole adapter', full, 'points', **about, rank=rank)
  update = from_adapter(session.pretrained, adapter)
  splits, mesh = session.plan.task.splits, sharding.make_mesh(1, jax.device_count())
  some = lambda split: {k: v[: options.rows] for k, v in split.columns.items()}
  found, seconds = orders(update, some(splits['train']), rank, options.ridge)
  looking = {'looking': seconds['looking'], 'ridge': options.ridge}
  yield row('seconds of re-ranking', seconds['all'], 's', rows=options.rows, **looking)
  unseen = some(splits['validation'])
  held = input_moments(update.teacher, list(update.deltas), unseen, mesh)
  for share in options.shares:
    most = int(share * adapter.parameters())
    for name, small in candidates(found, adapter.head, most).items():
      details = about | {
        'share': share,
        'components': sum(small.ranks.values()),
        'parameters': small.parameters(),
        'of_parameters': small.parameters() / adapter.parameters(),
        'largest_rank': max(small.ranks.values()),
      }
      yield row(f'outputs kept, {name}', kept(small, update, held), '', **details)
      if options.metric:
        got = score(small)
        yield row(f'{metric}, {name}', 100 * got[metric], 'points', **details)
        yield row(f'logits kept, {name}', got['logits kept'], '', **details)


EXPERIMENT = Experiment(
  'export.rerank', Options(), measure, key=no_key, needs=('task', 'data', 'adapter')
)

if __name__ == '__main__':
  main(EXPERIMENT)
