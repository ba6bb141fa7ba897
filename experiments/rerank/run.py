"""Re-ranks a LoRA of rank 16 and compares with singular values at equal budget.

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
from adapad_jax.adapters import Adapter
from adapad_jax.adapters.padding import padded
from adapad_jax.adapters.prefixes import cut_to_rank
from adapad_jax.interchange import read_peft
from adapad_jax.reranking import (
  Ordered,
  Update,
  from_adapter,
  input_moments,
  solve,
  truncate,
)
from adapad_jax.reranking.rerank import spend
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.hosted import deploy_adapter
from adapad_jax.training.session import Session, open_session
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
  """Metrics of adapters of like's modules; compiles once for all of them."""
  modules, rank = tuple(like.modules), max(like.ranks.values())
  plan = dataclasses.replace(
    session.plan, shapes={name: session.plan.shapes[name] for name in modules}
  )
  evaluator = dataclasses.replace(session, plan=plan).evaluator()

  def score(adapter: Adapter) -> dict[str, float]:
    same = {name: padded(adapter.modules[name], rank) for name in modules}
    with jax.set_mesh(plan.mesh):
      deployed = deploy_adapter(Adapter(same, adapter.head), modules)
      return evaluator.validate(session.params, deployed, rank)

  return score


def kept(adapter: Adapter, update: Update, moments: Mapping[str, np.ndarray]) -> float:
  """Mean share of E ||Delta W^T x||^2 that an adapter reproduces on held-out text."""
  shares = []
  for name, delta_IO in update.deltas.items():
    left_IO = delta_IO - adapter.modules[name].weight()
    energy = lambda w, s=moments[name]: float(np.sum(w * (s @ w)))
    shares.append(1 - energy(left_IO) / energy(delta_IO))
  return float(np.mean(shares))


def candidates(
  ours: Mapping[str, Ordered], svd: Mapping[str, Ordered], head: dict, budget: int
) -> dict[str, Adapter]:
  """Both orders of components, with a shared budget and with equal ranks."""
  rank = budget // len(ours)
  whole = lambda found: Adapter({n: o.update for n, o in found.items()}, head)
  found = {
    're-ranked': spend(ours, head, budget).adapter,
    'svd, shared budget': spend(svd, head, budget).adapter,
  }
  if rank:
    found['re-ranked, equal ranks'] = cut_to_rank(whole(ours), rank)
    found['svd, equal ranks'] = cut_to_rank(whole(svd), rank)
  return found


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
  args = parser.parse_args()
  session = open_task(args)
  adapter = read_peft(args.lora, session.pretrained).adapter
  rank, metric = max(adapter.ranks.values()), session.plan.task.metric
  about = {'model': pathlib.Path(args.model).name, 'task': args.task, 'rows': args.rows}
  if args.metric:
    score = make_score(session, adapter)
    full = 100 * score(adapter)[metric]
    record(HERE, f'{metric}, whole adapter', full, 'points', **about, rank=rank)
  update = from_adapter(session.pretrained, adapter)
  splits, mesh = session.plan.task.splits, sharding.make_mesh(1, jax.device_count())
  text = {k: v[: args.rows] for k, v in splits['train'].columns.items()}
  started = time.monotonic()
  moments = input_moments(update.teacher, list(update.deltas), text, mesh)
  looked = time.monotonic()
  ours = solve(update.deltas, moments, rank, mesh)
  seconds = time.monotonic() - started
  record(HERE, 'seconds of re-ranking', seconds, 's', **about, looking=looked - started)
  svd = truncate(update.deltas, rank)
  unseen = {k: v[: args.rows] for k, v in splits['validation'].columns.items()}
  held = input_moments(update.teacher, list(update.deltas), unseen, mesh)
  for share in args.shares:
    budget = int(share * sum(adapter.ranks.values()))
    for name, small in candidates(ours, svd, adapter.head, budget).items():
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
        found = 100 * score(small)[metric]
        record(HERE, f'{metric}, {name}', found, 'points', **details)


if __name__ == '__main__':
  main()
