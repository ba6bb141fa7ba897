"""Re-ranks a LoRA of rank 16 and compares with singular values at equal size.

python -m experiments.rerank.run --task=sst2 --data=FOLDER --lora=LORA_FOLDER
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping

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
  truncate,
)
from adapad_jax.reranking.rerank import spend
from adapad_jax.reranking.solve import RIDGE
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.session import Session, open_session
from adapad_jax.training.transfer import deploy_adapter
from experiments.record import record
from experiments.rerank.lora import MODEL

HERE = pathlib.Path(__file__).parent
Score = Callable[[Adapter], dict[str, float]]


def open_task(args: argparse.Namespace) -> Session:
  """The model and the task, without a run."""
  values = {
    'data': {'task': args.task, 'path': args.data, 'max_length': 128},
    'model': {'source': args.model},
    'train': {'eval_batch': 64},
  }
  plan = make_plan(finetune_config(values))
  with jax.set_mesh(plan.mesh):
    return open_session(plan)


def make_score(session: Session, like: Adapter) -> Score:
  """Metrics of adapters of like's modules, and how near they are to `like`.

  `logits kept` is 1 - E ||f' - f||^2 / E ||f_0 - f||^2 over the validation rows: f is
  what the model says with `like`, f' with the adapter, f_0 with no update at all.
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
) -> Orders:
  """Every module's components in three ways; records the seconds of two of them."""
  mesh, names = sharding.make_mesh(1, jax.device_count()), list(update.deltas)
  started = time.monotonic()
  factors = kronecker_factors(update.teacher, names, text, mesh)
  looked = time.monotonic()
  inputs = {name: one.s_II for name, one in factors.items()}
  outputs = {name: one.f_OO for name, one in factors.items()}
  ours = solve(update.deltas, inputs, rank, mesh, outputs=outputs, ridge=ridge)
  details = {'rows': len(text['ids_BL']), 'ridge': ridge, 'looking': looked - started}
  seconds = time.monotonic() - started
  record(HERE, 'seconds of re-ranking', seconds, 's', **details)
  moments = input_moments(update.teacher, names, text, mesh)
  return {
    're-ranked': ours,
    're-ranked by inputs alone': solve(update.deltas, moments, rank, mesh, ridge=ridge),
    'svd': truncate(update.deltas, rank),
  }


def candidates(found: Orders, head: dict, most: int) -> dict[str, Adapter]:
  """The largest adapters of at most so many parameters, by order and sharing."""
  small = {}
  for name, own in found.items():
    whole = Adapter({n: o.update for n, o in own.items()}, head)
    fits = lambda adapter: adapter.parameters() <= most
    shared = (
      spend(own, head, n).adapter for n in range(sum(whole.ranks.values()), 0, -1)
    )
    equal = (cut_to_rank(whole, n) for n in range(max(whole.ranks.values()), 0, -1))
    small[f'{name}, shared budget'] = next(filter(fits, shared), None)
    small[f'{name}, equal ranks'] = next(filter(fits, equal), None)
  return {name: adapter for name, adapter in small.items() if adapter}


def main() -> None:
  """Records the metric of the LoRA and of every cut of it."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default=MODEL)
  parser.add_argument('--task', required=True)
  parser.add_argument('--data', default='', help='folder of the official GLUE files')
  parser.add_argument('--lora', type=pathlib.Path, required=True)
  parser.add_argument('--rows', type=int, default=1024, help='unlabelled, to look at')
  parser.add_argument('--metric', action=argparse.BooleanOptionalAction, default=True)
  parser.add_argument('--shares', type=float, nargs='+', default=[0.5, 0.25, 0.125])
  parser.add_argument('--ridge', type=float, default=RIDGE, help='see `solve`')
  args = parser.parse_args()
  session = open_task(args)
  adapter = read_peft(args.lora, session.pretrained).adapter
  rank, metric = max(adapter.ranks.values()), session.plan.task.metric
  about = {'model': args.model, 'task': args.task, 'rows': args.rows}
  about |= {'ridge': args.ridge}
  if args.metric:
    score = make_score(session, adapter)
    full = 100 * score(adapter)[metric]
    record(HERE, f'{metric}, whole adapter', full, 'points', **about, rank=rank)
  update = from_adapter(session.pretrained, adapter)
  splits, mesh = session.plan.task.splits, sharding.make_mesh(1, jax.device_count())
  some = lambda split: {k: v[: args.rows] for k, v in split.columns.items()}
  found = orders(update, some(splits['train']), rank, args.ridge)
  unseen = some(splits['validation'])
  held = input_moments(update.teacher, list(update.deltas), unseen, mesh)
  for share in args.shares:
    most = int(share * adapter.parameters())
    for name, small in candidates(found, adapter.head, most).items():
      details = about | {
        'share': share,
        'components': sum(small.ranks.values()),
        'parameters': small.parameters(),
        'of_parameters': small.parameters() / adapter.parameters(),
        'largest_rank': max(small.ranks.values()),
      }
      reached = kept(small, update, held)
      record(HERE, f'outputs kept, {name}', reached, '', **details)
      if args.metric:
        got = score(small)
        record(HERE, f'{metric}, {name}', 100 * got[metric], 'points', **details)
        record(HERE, f'logits kept, {name}', got['logits kept'], '', **details)


if __name__ == '__main__':
  main()
