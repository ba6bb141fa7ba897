"""Fine-tuning, from a config to a workdir with everything in it.

From top to bottom: prepare, start, rounds, evaluate, save; `result.py` has the outcome.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from adapad_jax.files import write_json
from adapad_jax.interrupt import StopRequest, on_signals
from adapad_jax.processes import Vote, is_first, require_same
from adapad_jax.settings import as_dict
from adapad_jax.training import wandb_log
from adapad_jax.training.batches import lengths, trimmed
from adapad_jax.training.begun import plan_in
from adapad_jax.training.checkpoints import Checkpoints, on_disk
from adapad_jax.training.claim import claim_workdir, make_record
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.logs import NoLog, RunLog
from adapad_jax.training.loop import Diverged, batches, rounds
from adapad_jax.training.partition import make_order
from adapad_jax.training.phases import added, timed
from adapad_jax.training.plan import Plan
from adapad_jax.training.profiler import PROFILE, Profiler
from adapad_jax.training.progress import Progress
from adapad_jax.training.result import make_result
from adapad_jax.training.session import Session, open_session
from adapad_jax.training.summary import describe
from adapad_jax.training.terminal import Display, display, say, shown_samples
from adapad_jax.workdir import CHECKPOINTS, RESULT, at, locked, require_usable


class Interrupted(Exception):
  """A signal ended the run; the state is saved."""


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
  started, phases, workdir = time.monotonic(), {}, at(workdir)
  plan = _prepare(config, workdir, phases)
  saved = lambda: on_disk(workdir / CHECKPOINTS)
  with locked(workdir):
    claim_workdir(workdir, plan.config, make_record(plan))
    with jax.set_mesh(plan.mesh), on_signals(saved) as request:
      with timed(phases, 'reading weights'):
        session = open_session(plan)
      with _start(session, workdir, started, phases) as training:
        training.run(request)
      result = make_result(session, training.progress, workdir)
    if is_first():
      write_json(workdir / RESULT, result)
  return result


def _prepare(
  config: FinetuneConfig, workdir: pathlib.Path, phases: dict[str, float]
) -> Plan:
  """Checks what can be checked before weights are read, and says what will be done."""
  wandb_log.check(config.train.wandb)
  require_usable(workdir)
  with timed(phases, 'data and plan'):
    plan = plan_in(workdir, config)
  require_same(json.dumps(plan.commits.as_dict()), 'commit of the hub')
  say(describe(plan))
  return plan


@contextlib.contextmanager
def _start(
  session: Session, workdir: pathlib.Path, started: float, phases: dict[str, float]
) -> Iterator['_Training']:
  """A run at its beginning or where it was saved last, with all that it writes to."""
  plan, train = session.plan, session.plan.config.train
  columns = trimmed(plan.task.splits['train'].columns)
  by_length = lengths(columns) if train.buckets else None
  private, seed = plan.method.private, plan.config.seed
  order = make_order(private, columns, train.batch, seed, by_length)
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
      contextlib.closing(Checkpoints(workdir / CHECKPOINTS))
    )
    batch_of = batches(plan.method, plan.mesh, columns, order, train.buckets)
    progress = _resumed(session, checkpoints, batch_of)
    progress.started, progress.phases = started, added(progress.phases, phases)
    log = _open_log(plan.config, workdir, progress.step)
    stack.enter_context(contextlib.closing(log))
    profiler = Profiler(workdir / PROFILE, train.profile)
    stack.enter_context(contextlib.closing(profiler))
    yield _Training(
      session=session,
      progress=progress,
      batch_of=batch_of,
      checkpoints=checkpoints,
      log=log,
      display=stack.enter_context(display(plan.method.rounds, progress.step)),
      profiler=profiler,
      workdir=workdir,
      budget=plan.method.timeline()[-1][1],
    )


def _resumed(
  session: Session, checkpoints: Checkpoints, batch_of: Callable[[int], Any]
) -> Progress:
  """Where the run stands."""
  found = session.saved(checkpoints, 'latest')
  if found is None:
    if session.plan.begins:
      raise ValueError(
        'this run was to begin with an imported adapter, and --mode=import was ended'
        ' before it had saved it; delete the workdir and import again'
      )
    return session.beginning(batch_of)
  say(f'resuming after round {found.step} of {session.plan.method.rounds}')
  checkpoints.forget('best', after=found.step)
  return found


def _open_log(
  config: FinetuneConfig, workdir: pathlib.Path, done: int
) -> RunLog | NoLog:
  """The logs, which the first process writes alone."""
  if not is_first():
    return NoLog()
  wandb = wandb_log.open_log(config.train.wandb, workdir, as_dict(config))
  return RunLog(workdir, done, wandb)


def evaluation_rounds(rounds: int, times: int) -> set[int]:
  """The rounds after which a run evaluates: evenly spread, the last one included."""
  times = min(times, rounds)
  return {round(rounds * (i + 1) / times) for i in range(times)}


@dataclasses.dataclass(frozen=True)
class _Training:
  """A session under way, and all that it writes to."""

  session: Session
  progress: Progress
  batch_of: Callable[[int], dict[str, jax.Array]]
  checkpoints: Checkpoints
  log: RunLog | NoLog
  display: Display
  profiler: Profiler
  workdir: pathlib.Path
  budget: int

  def run(self, request: StopRequest) -> None:
    """All rounds that are left, with evaluations and saves between them."""
    plan, progress = self.session.plan, self.progress
    train, last = plan.config.train, plan.method.rounds
    evaluations = evaluation_rounds(last, train.evaluations)
    vote, is_stopping = Vote(request.__bool__, plan.mesh), False
    first = progress.step + 1

    def due(number: int) -> bool:
      wanted = train.checkpoint_every and number % train.checkpoint_every == 0
      return is_stopping or number in evaluations or bool(wanted)

    def pause(number: int) -> bool:
      nonlocal is_stopping
      is_stopping = vote.decided()
      # What came of the first round is shown before another one, of rows of another
      # length, is compiled.
      return due(number) or number == first

    if self._patience_is_over():
      return
    watchdog = self.session.evaluator.watchdog
    with jax.transfer_guard('disallow'), watchdog.over('the first round'):
      for number, metrics in rounds(
        self._advance, self._batch, progress, last, watchdog, pause
      ):
        self._read(number, metrics)
        if number < progress.step or not due(number):
          continue  # As a rule the next round is on its way: no state of this one.
        if number in evaluations:
          self._evaluate()
        self._save('latest')
        if is_stopping:
          self._stop(request)
        if self._patience_is_over():
          return

  def _patience_is_over(self) -> bool:
    patience = self.session.plan.config.train.patience
    return bool(patience) and self.progress.stale >= patience

  def _batch(self, step: int) -> dict[str, jax.Array]:
    """What the next round trains on; a trace begins or ends ahead of it."""
    self.profiler.before(step + 1, self.progress.state)
    return self.batch_of(step)

  def _advance(self, state: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
    """A round, sent off or, the first of its kind, compiled before that."""
    advance, start = self.session.round, time.monotonic()
    known = advance._cache_size()
    state, metrics = advance(state, self.session.params, batch)
    if advance._cache_size() > known:
      spent = {'compilation': time.monotonic() - start}
      self.progress.phases = added(self.progress.phases, spent)
    return state, metrics

  def _read(self, number: int, metrics: dict[str, Any]) -> None:
    """Shows and logs what came of a round, whose number is from one."""
    config = self.session.plan.config
    if metrics['failed'] >= 0:
      done = int(metrics['step'])
      self._save('latest', done)
      raise Diverged(
        f'the loss or a gradient was not finite in round {int(metrics["failed"]) + 1};'
        f' the state after round {done} is saved in {self.workdir / CHECKPOINTS}; try'
        f' a lower optimizer.learning_rate (now {config.optimizer.learning_rate})'
        f' or adapter.scale (now {config.adapter.scale})'
      )
    rank, loss = int(metrics['rank']), float(metrics['loss'])
    self.display.step(number, loss, rank, self.budget)
    if number % config.train.log_every == 0 or number == 1:
      seconds = {'train/seconds': self.progress.elapsed()}
      self.log.metrics(number, seconds | _scalars(metrics))

  def _evaluate(self) -> None:
    """Validates, logs and keeps the state if it is the best so far."""
    plan, progress = self.session.plan, self.progress
    method, metric = plan.method, plan.task.metric
    deployed = method.deploy(progress.state)
    with timed(progress.phases, 'evaluations'):
      evaluator, params = self.session.evaluator, self.session.params
      found = evaluator.validation(params, deployed, method.capacity)
      metrics = found.metrics
    progress.last = {'step': progress.step, 'metrics': metrics}
    score = plan.task.score
    best = progress.best
    is_best = best is None or score(metrics) > score(best['metrics'])
    progress.stale = 0 if is_best else progress.stale + 1
    if is_best:
      progress.best, progress.validation = progress.last, found
      self._save('best')
    self.display.metric(progress.step, metric, metrics[metric])
    evaluated = {f'eval/{name}': value for name, value in metrics.items()}
    self.log.metrics(progress.step, evaluated)
    if found.samples:
      self.log.samples(progress.step, found.samples)
      self.display.note(shown_samples(found.samples, progress.step))
    report = method.report(progress.state)
    listed = lambda x: None if x is None else x.tolist()
    ranks = {
      'rank': listed(report.rank_M),
      'importance': listed(report.importance_M),
      'uncertainty': listed(report.uncertainty_M),
    }
    self.log.ranks(progress.step, ranks)

  def _save(self, kind: str, step: int | None = None) -> None:
    """Saves the state at hand, as that of another round if it stands still."""
    progress, watchdog = self.progress, self.session.evaluator.watchdog
    step = progress.step if step is None else step
    watched = watchdog.over(f'saving the state of round {step}')
    with timed(progress.phases, 'checkpoints'), watched:
      state = self.session.plan.method.portable(progress.state)
      self.checkpoints.save(kind, step, state, progress.meta())

  def _stop(self, request: StopRequest) -> None:
    """Ends a run that has been asked to, when its state is on disk.

    Raises:
      Interrupted: saying how to go on.
    """
    self.checkpoints.wait()
    raise Interrupted(
      f'{request.reason()}: saved after round {self.progress.step} of'
      f' {self.session.plan.method.rounds}; the same command goes on from there'
    )


def _scalars(metrics: dict[str, Any]) -> dict[str, float]:
  """'train/...' scalars; entries of a vector over workers are numbered from one."""
  found: dict[str, float] = {}
  for name, value in metrics.items():
    if name in ('step', 'failed'):
      continue
    if value.ndim == 0:
      found[f'train/{name}'] = value.item()
      continue
    stem = name.removesuffix('_R')
    found |= {f'train/{stem}_{k + 1}': v.item() for k, v in enumerate(value)}
  return {name: value for name, value in found.items() if math.isfinite(value)}
