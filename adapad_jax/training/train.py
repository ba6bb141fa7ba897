"""Fine-tuning, from a config to a workdir with everything in it."""

import dataclasses
import functools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax

from adapad_jax.files import require_shape, write_json
from adapad_jax.interrupt import StopRequest, on_signals
from adapad_jax.processes import Vote, is_first, require_same
from adapad_jax.settings import as_dict
from adapad_jax.sharding import put
from adapad_jax.training import wandb_log
from adapad_jax.training.batches import (
  Order,
  cut_to_bucket,
  lengths,
  round_batch,
  trimmed,
)
from adapad_jax.training.checkpoints import Checkpoints, on_disk
from adapad_jax.training.claim import claim_workdir, require_same_run
from adapad_jax.training.commits import recorded
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.evaluate import Evaluator
from adapad_jax.training.logs import NoLog, RunLog
from adapad_jax.training.phases import added, timed
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.profiler import PROFILE, Profiler
from adapad_jax.training.record import known_record, make_record, require_same_data
from adapad_jax.training.result import make_result
from adapad_jax.training.session import Session, open_session, restore
from adapad_jax.training.shares import SharedOut, make_order
from adapad_jax.training.summary import describe
from adapad_jax.training.terminal import Display, display, say
from adapad_jax.workdir import (
  CHECKPOINTS,
  RESULT,
  at,
  locked,
  require_usable,
  stored,
)


class Diverged(RuntimeError):
  """The loss or a gradient was not finite; the state before that is saved."""


class Interrupted(Exception):
  """A signal ended the run; the state is saved."""


@dataclasses.dataclass
class Course:
  """Where a run stands. `meta` of it is saved with every state.

  Attributes:
    state: components, optimiser, ranks; on the mesh.
    step: rounds done.
    best: {'step', 'metrics'} of the best evaluation, or None.
    last: the same of the latest evaluation.
    stale: evaluations since the best one.
    seconds: of training up to this start of the program.
    first_step: seconds from a start of the program to its first finished round.
    phases: seconds by phase, former starts included; what is in none are rounds.
  """

  state: Any
  step: int = 0
  best: dict[str, Any] | None = None
  last: dict[str, Any] | None = None
  stale: int = 0
  seconds: float = 0.0
  first_step: float = 0.0
  phases: dict[str, float] = dataclasses.field(default_factory=dict)
  started: float = dataclasses.field(default_factory=time.monotonic)

  def elapsed(self) -> float:
    """Seconds of training, former starts of the program included."""
    return self.seconds + time.monotonic() - self.started

  def meta(self) -> dict[str, Any]:
    """What is saved beside the state."""
    return {
      'best': self.best,
      'last': self.last,
      'stale': self.stale,
      'seconds': self.elapsed(),
      'first_step': self.first_step,
      'phases': dict(self.phases),
    }


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts that the loop works with."""

  plan: Plan
  session: Session
  workdir: pathlib.Path
  columns: dict[str, Any]
  order: Order | SharedOut
  round: Callable[..., tuple[Any, dict[str, Any]]]
  evaluator: Evaluator
  checkpoints: Checkpoints
  log: RunLog | NoLog
  display: Display
  profiler: Profiler


def train(config: FinetuneConfig, workdir: str | os.PathLike[str]) -> dict[str, Any]:
  """Trains, or goes on where a former run in the workdir stopped.

  Args:
    config: what to train, see `finetune_config`.
    workdir: a folder of the run's own; config, logs, checkpoints and result go there.

  Returns:
    What was also written to `result.json`.

  Raises:
    ValueError: for a config or data that cannot work, or are not those of the run in
      the workdir, before weights are read.
    Diverged: if the loss or a gradient is not finite; the last good state is saved.
    Interrupted: after SIGTERM or SIGINT; the state is saved.
  """
  require_same(json.dumps(as_dict(config), default=str), 'config')
  started, setup, workdir = time.monotonic(), {}, at(workdir)
  wandb_log.check(config.train.wandb)
  require_usable(workdir)
  require_same_run(workdir, config)
  with timed(setup, 'data and plan'):
    then = known_record(workdir)
    check = functools.partial(require_same_data, workdir, then)
    plan = make_plan(config, commits=recorded(then), check=check)
  require_same(json.dumps(plan.commits.as_dict()), 'commit of the hub')
  say(describe(plan))
  with locked(workdir):
    claim_workdir(workdir, config, make_record(plan))
    return _train(plan, workdir, started, setup)


def _train(
  plan: Plan, workdir: pathlib.Path, started: float, setup: dict[str, float]
) -> dict[str, Any]:
  """Trains in a workdir that this start of the program holds."""
  config = plan.config
  saved = lambda: on_disk(workdir / CHECKPOINTS)
  with jax.set_mesh(plan.mesh), on_signals(saved) as request:
    vote = Vote(request.__bool__, plan.mesh)
    with timed(setup, 'reading weights'):
      session = open_session(plan)
    checkpoints = Checkpoints(workdir / CHECKPOINTS)
    course = _start(session, checkpoints, started)
    course.phases = added(course.phases, setup)
    log = _open_log(config, workdir, course.step)
    with display(plan.method.rounds, course.step) as shown:
      run = Run(
        plan=plan,
        session=session,
        workdir=workdir,
        columns=(columns := trimmed(plan.task.splits['train'].columns)),
        order=_order(plan, columns),
        round=plan.method.live_rounds(plan.mesh),
        evaluator=session.evaluator(),
        checkpoints=checkpoints,
        log=log,
        display=shown,
        profiler=Profiler(workdir / PROFILE, config.train.profile),
      )
      try:
        watched = run.evaluator.watchdog.over('the first round')
        with jax.transfer_guard('disallow'), watched:
          _loop(run, course, vote, request)
      finally:
        run.profiler.close()
        checkpoints.close()
        log.close()
    result = make_result(run, course)
  if is_first():
    write_json(workdir / RESULT, result)
  return result


def _open_log(
  config: FinetuneConfig, workdir: pathlib.Path, done: int
) -> RunLog | NoLog:
  """The logs, which the first process writes alone."""
  if not is_first():
    return NoLog()
  wandb = wandb_log.open_log(config.train.wandb, workdir, as_dict(config))
  return RunLog(workdir, done, wandb)


def _order(plan: Plan, columns: dict[str, Any]) -> Order | SharedOut:
  config = plan.config
  by_length = lengths(columns) if config.train.buckets else None
  private = plan.method.private
  return make_order(private, columns, config.train.batch, config.seed, by_length)


def _start(session: Session, checkpoints: Checkpoints, started: float) -> Course:
  """The course at its beginning or as it was saved last."""
  method, mesh = session.plan.method, session.plan.mesh
  found = restore(session, checkpoints, 'latest')
  if found is None:
    fresh = jax.jit(method.init)(session.head)
    return Course(method.place(fresh, mesh), started=started)
  require_shape(found.meta, stored.META, f'{CHECKPOINTS}/latest/{found.step}/meta')
  say(f'resuming after round {found.step} of {method.rounds}')
  checkpoints.forget('best', after=found.step)
  state = method.place(found.state, mesh)
  return Course(state, found.step, started=started, **found.meta)


def _loop(run: Run, course: Course, vote: Vote, request: StopRequest) -> None:
  """All rounds that are left. Metrics of a round are read while the next one runs."""
  config, method = run.plan.config.train, run.plan.method
  evaluations = evaluation_rounds(method.rounds, config.evaluations)
  pending: dict[str, Any] | None = None
  watchdog = run.evaluator.watchdog
  while course.step < method.rounds and not _patience_is_over(run, course):
    run.profiler.before(course.step + 1, course.state)
    watchdog.moved(f'round {course.step + 1}, sending it off')
    batch = _batch(run, course.step)
    with jax.profiler.StepTraceAnnotation('round', step_num=course.step + 1):
      metrics = _advance(run, course, batch)
    course.step += 1
    if pending is not None:
      watchdog.moved(f'round {course.step - 1}, waiting for its outcome')
      _read(run, course, pending)
    pending = metrics
    stop = vote.decided()
    is_due = course.step in evaluations
    wanted = config.checkpoint_every and course.step % config.checkpoint_every == 0
    if is_due or wanted or stop:
      watchdog.moved(f'round {course.step}, waiting for its outcome')
      _read(run, course, pending)
      pending = None
      if is_due:
        _evaluate(run, course)
      _save(run, course, 'latest')
    if stop:
      run.checkpoints.wait()
      raise Interrupted(
        f'{request.reason()}: saved after round {course.step} of {method.rounds};'
        ' the same command goes on from there'
      )


def _advance(run: Run, course: Course, batch: Any) -> dict[str, jax.Array]:
  """One round, dispatched or, the first of its kind, compiled before that."""
  known, start = run.round._cache_size(), time.monotonic()
  course.state, metrics = run.round(course.state, run.session.params, batch)
  if run.round._cache_size() > known:
    spent = {'compilation': time.monotonic() - start}
    course.phases = added(course.phases, spent)
  return metrics


def evaluation_rounds(rounds: int, times: int) -> set[int]:
  """The rounds after which a run evaluates: evenly spread, the last one included."""
  times = min(times, rounds)
  return {round(rounds * (i + 1) / times) for i in range(times)}


def _patience_is_over(run: Run, course: Course) -> bool:
  patience = run.plan.config.train.patience
  return bool(patience) and course.stale >= patience


def _batch(run: Run, step: int) -> dict[str, jax.Array]:
  local_steps = run.plan.method.local_steps
  rows = run.plan.method.rows(run.plan.mesh)
  first = step * local_steps
  host = round_batch(run.columns, run.order, first, local_steps, rows.order_B)
  return put(cut_to_bucket(host, run.plan.config.train.buckets), rows.spec)


def _read(run: Run, course: Course, metrics: dict[str, Any]) -> None:
  """Takes in the metrics of a round that has been dispatched before."""
  host = jax.device_get(metrics)
  done = int(host['step'])
  if not course.first_step:
    course.first_step = time.monotonic() - course.started
  if host['failed'] >= 0:
    _save(run, dataclasses.replace(course, step=done), 'latest')
    raise Diverged(
      f'the loss or a gradient was not finite in round {int(host["failed"]) + 1}; the'
      f' state after round {done} is saved in {run.workdir / CHECKPOINTS}; try a lower'
      f' optimizer.learning_rate (now {run.plan.config.optimizer.learning_rate})'
      f' or adapter.scale (now {run.plan.config.adapter.scale})'
    )
  rank, budget = int(host['rank']), run.plan.method.timeline()[-1][1]
  run.display.step(done, float(host['loss']), rank, budget)
  if done % run.plan.config.train.log_every == 0 or done == 1:
    run.log.metrics(done, {'train/seconds': course.elapsed()} | _scalars(host))


def _scalars(host: dict[str, Any]) -> dict[str, float]:
  """'train/...' scalars; entries of a vector over workers are numbered from one."""
  found: dict[str, float] = {}
  for name, value in host.items():
    if name in ('step', 'failed'):
      continue
    if value.ndim == 0:
      found[f'train/{name}'] = value.item()
      continue
    stem = name.removesuffix('_R')
    found |= {f'train/{stem}_{k + 1}': v.item() for k, v in enumerate(value)}
  return {name: value for name, value in found.items() if math.isfinite(value)}


def _evaluate(run: Run, course: Course) -> None:
  """Validates, logs and keeps the state if it is the best so far."""
  method, task = run.plan.method, run.plan.task
  deployed = method.deploy(course.state)
  with timed(course.phases, 'evaluations'):
    metrics = run.evaluator.validate(run.session.params, deployed, method.capacity)
  course.last = {'step': course.step, 'metrics': metrics}
  is_best = course.best is None or task.score(metrics) > task.score(
    course.best['metrics']
  )
  course.stale = 0 if is_best else course.stale + 1
  if is_best:
    course.best = course.last
    _save(run, course, 'best')
  run.display.metric(course.step, task.metric, metrics[task.metric])
  run.log.metrics(course.step, {f'eval/{name}': v for name, v in metrics.items()})
  report = method.report(course.state)
  listed = lambda x: None if x is None else x.tolist()
  run.log.ranks(
    course.step,
    {
      'rank': listed(report.rank_M),
      'importance': listed(report.importance_M),
      'uncertainty': listed(report.uncertainty_M),
    },
  )


def _save(run: Run, course: Course, kind: str) -> None:
  watched = run.evaluator.watchdog.over(f'saving the state of round {course.step}')
  with timed(course.phases, 'checkpoints'), watched:
    state = run.plan.method.portable(course.state)
    run.checkpoints.save(kind, course.step, state, course.meta())
