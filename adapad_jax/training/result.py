"""The outcome of a run: `result.json`, and what the terminal shows of it."""

import contextlib
import dataclasses
import pathlib
import shlex
import sys
from typing import Any

import jax

from adapad_jax.files import write_json
from adapad_jax.lowrank import Adapter, Deployed, host_adapter
from adapad_jax.lowrank.spectrum import spectrum
from adapad_jax.processes import is_first
from adapad_jax.training.checkpoints import Checkpoints
from adapad_jax.training.curve import aurac, truncation_curve
from adapad_jax.training.phases import completed, timed
from adapad_jax.training.plan import Plan
from adapad_jax.training.progress import Progress
from adapad_jax.training.session import Session
from adapad_jax.training.terminal import metric_names, number, rank_map, table
from adapad_jax.workdir import CHECKPOINTS, SPECTRA, command_for, versions

# Angles of that many components a module are kept: they grow with the square.
_MOST_ANGLES = 16
_DIGITS = 5


def command() -> str:
  """The command that started this process, the interpreter without its folder."""
  return shlex.join([pathlib.Path(sys.executable).name, *sys.orig_argv[1:]])


def make_result(
  session: Session, progress: Progress, workdir: pathlib.Path
) -> dict[str, Any]:
  """Restores the best state, scores its prefixes and collects all figures.

  Ranks are those at the end; parameters are the best state's, which is exported.
  Also writes the spectra of the best state's update to `spectra.json`.
  """
  plan, method = session.plan, session.plan.method
  traces = session.round._cache_size() if progress.first_step else 0
  report, kept = method.report(progress.state), _best(session, progress, workdir)
  best = method.deploy(kept)
  with timed(progress.phases, 'truncation curve'):
    curve = truncation_curve(session, best, progress.validation)
  if best.changes is None and is_first():
    adapter = host_adapter(plan.modules, best)
    write_json(workdir / SPECTRA, spectra(adapter))
  seconds = progress.elapsed()
  return {
    'task': plan.task.name,
    'method': plan.config.method,
    'model': plan.config.model.source,
    'commits': plan.commits.as_dict(),
    'metric': plan.task.metric,
    'best': progress.best,
    'last': progress.last,
    'baseline': dataclasses.asdict(plan.task.baseline),
    'prefixes': curve.values,
    'prefix_metrics': curve.metrics,
    'prefix_samples': curve.samples,
    'curve': {
      'split': curve.split,
      'rows': curve.rows,
      'rows_in_all': curve.rows_in_all,
      'standard_errors': curve.errors,
      'aurac': aurac(curve.values),
    },
    'ranks': dict(zip(plan.modules, report.rank_M.tolist(), strict=True)),
    'rank_total': int(report.rank_M.sum()),
    'best_rank_total': int(method.report(kept).rank_M.sum()),
    'budget': method.timeline()[-1][1],
    'grants': list(report.grants),
    'adapter_parameters': adapter_parameters(plan, best),
    'head_parameters': plan.head_parameters(),
    'rounds': progress.step,
    'local_steps': method.local_steps,
    'bytes_sent_per_round': method.bytes_sent(progress.state),
    'seconds': seconds,
    'seconds_to_first_step': progress.first_step,
    'phases': completed(progress.phases, seconds),
    'traces': traces,
    'devices': [d.device_kind for d in plan.mesh.devices.flat],
    'mesh': dict(plan.mesh.shape),
    'processes': jax.process_count(),
    'versions': versions(),
    'command': command(),
    'checkpoints': str(workdir / CHECKPOINTS),
  }


def adapter_parameters(plan: Plan, deployed: Deployed) -> int:
  """Parameters of the update outside the head."""
  if deployed.changes is None:
    return host_adapter(plan.modules, deployed).parameters()
  changed = sum(leaf.size for leaf in jax.tree.leaves(deployed.changes))
  return changed - plan.head_parameters()


def _best(session: Session, progress: Progress, workdir: pathlib.Path) -> Any:
  """The method's state when the metric was best; the best that can be read is named.

  Raises:
    ValueError: if none is there.
  """
  with contextlib.closing(Checkpoints(workdir / CHECKPOINTS)) as checkpoints:
    found = session.saved(checkpoints, 'best')
  if found is None:
    raise ValueError(
      f'{workdir / CHECKPOINTS} has no best state any more, which round'
      f' {progress.best["step"]} had saved; put it back, or train in a new workdir'
    )
  if found.step != progress.best['step']:  # It was lost or damaged since.
    progress.best, progress.validation = found.best, None
  return found.state


def spectra(adapter: Adapter) -> dict[str, dict[str, Any]]:
  """By module: its shape (in, out), norms, singular values and angles, see `Spectrum`.

  Angles are rows of the lower triangle without the diagonal.
  """
  found = {}
  for name, update in adapter.modules.items():
    one, kept = spectrum(update), min(update.rank, _MOST_ANGLES)
    rounded = lambda x_R: [float(f'{x:.{_DIGITS}g}') for x in x_R]
    found[name] = {
      'shape': [update.a_RI.shape[1], update.b_RO.shape[1]],
      'norms': rounded(one.norm_R),
      'singular_values': rounded(one.singular_R),
      'angles': [rounded(one.angle_RR[k, :k]) for k in range(kept)],
    }
  return found


def summarise(result: dict[str, Any], workdir: str) -> str:
  """The outcome for the terminal: metrics, ranks and the next command."""
  best, last = result['best'], result['last']
  baseline = result['baseline']
  names = metric_names(*(one['metrics'] for one in (best, last, baseline)))
  row = lambda title, values: [title, *(number(values.get(name)) for name in names)]
  rows = [
    row(f'best (round {best["step"]})', best['metrics']),
    row(f'last (round {last["step"]})', last['metrics']),
    row(f'baseline: {baseline["name"]}', baseline['metrics']),
  ]
  indented = lambda mode: f'  {command_for(mode, workdir)}'
  asked = ['talk to it:', indented('chat')] if result['task'] == 'sft' else []
  return '\n'.join(
    [
      '',
      f'{result["task"]} with {result["method"]}, {result["rounds"]} rounds in'
      f' {result["seconds"]:.0f} s (first step after'
      f' {result["seconds_to_first_step"]:.0f} s, {result["traces"]} compilation(s))',
      table(['', *names], rows),
      '',
      _size(result),
      rank_map(result['ranks']),
      '',
      *_curve_lines(result),
      '',
      f'checkpoints: {result["checkpoints"]}',
      'evaluate it again:',
      indented('eval'),
      *asked,
    ]
  )


def _size(result: dict[str, Any]) -> str:
  """Components at the end; of the best state too, where that was saved before."""
  total, best = result['rank_total'], result.get('best_rank_total')
  head = result['head_parameters']
  of_head = f' (+ {head:,} in the head)' if head else ''
  size = f'{result["adapter_parameters"]:,} parameters{of_head}'
  of_budget = f'{total} of {result["budget"]} components'
  if best in (None, total):
    return f'rank of every module, {of_budget}, {size}:'
  return (
    f'rank of every module at the end, {of_budget}; the best state has {best}, {size}:'
  )


def _curve_lines(result: dict[str, Any]) -> list[str]:
  """The metric of every prefix that was scored; on how many rows, if not on all.

  Where generated answers are scored, their exact match as well. Results of earlier
  versions have the metric alone.
  """
  values, curve = result['prefixes'], result.get('curve')
  first = next((k for k, value in enumerate(values) if value is not None), 0)
  counts = ', '.join(str(k) for k in range(first, len(values))[:2])
  more = ', ...' if len(values) > first + 2 else ''
  sample = ''
  if curve and curve['rows'] < curve['rows_in_all']:
    some, every = curve['rows'], curve['rows_in_all']
    sample = f' (on {some:,} of the {every:,} rows that the table is of)'
  curves = {result['metric']: values}
  metrics = [one or {} for one in result.get('prefix_metrics', [])]
  if metrics and 'exact_match' in metrics[-1]:
    curves.setdefault('exact_match', [one.get('exact_match') for one in metrics])
  return [
    line
    for name, found in curves.items()
    for line in (
      f'{name} of the adapter cut to its first {counts}{more} components{sample}:',
      '  ' + '  '.join(number(value) for value in found[first:]),
    )
  ]
