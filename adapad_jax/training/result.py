"""The outcome of a run: `result.json`, and what the terminal shows of it."""

import dataclasses
import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

import jax

from adapad_jax.deflation.deployed import Deployed
from adapad_jax.training.session import CHECKPOINTS, host_adapter, restore
from adapad_jax.training.terminal import rank_map, table

if TYPE_CHECKING:
  from adapad_jax.training.plan import Plan
  from adapad_jax.training.train import Course, Run

RESULT = 'result.json'
_PACKAGES = (
  'adapad-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'transformers',
  'numpy',
)


def versions() -> dict[str, str]:
  """Versions of Python and the packages that matter."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version(), **found}


def make_result(run: 'Run', course: 'Course') -> dict[str, Any]:
  """Restores the best state, scores each of its prefixes and collects all figures."""
  plan, method = run.plan, run.plan.method
  traces = run.round._cache_size() if course.first_step else 0
  report = method.report(course.state)
  curve = [*_prefixes(run), course.best['metrics'][plan.task.metric]]
  deployed = method.deploy(course.state)
  return {
    'task': plan.task.name,
    'method': plan.config.method,
    'model': plan.config.model.source,
    'metric': plan.task.metric,
    'best': course.best,
    'last': course.last,
    'baseline': dataclasses.asdict(plan.task.baseline),
    'prefixes': curve,
    'ranks': dict(zip(plan.modules, report.rank_M.tolist(), strict=True)),
    'rank_total': int(report.rank_M.sum()),
    'budget': method.timeline()[-1][1],
    'grants': list(report.grants),
    'adapter_parameters': _adapter_parameters(plan, deployed),
    'head_parameters': plan.head_parameters(),
    'rounds': course.step,
    'local_steps': method.local_steps,
    'seconds': course.elapsed(),
    'seconds_to_first_step': course.first_step,
    'traces': traces,
    'devices': [d.device_kind for d in plan.mesh.devices.flat],
    'mesh': dict(plan.mesh.shape),
    'versions': versions(),
    'checkpoints': str(run.workdir / CHECKPOINTS),
  }


def _adapter_parameters(plan: 'Plan', deployed: Deployed) -> int:
  """Parameters of the update outside the head."""
  if deployed.changes is None:
    return host_adapter(plan.modules, deployed).parameters()
  changed = sum(leaf.size for leaf in jax.tree.leaves(deployed.changes))
  return changed - plan.head_parameters()


def _prefixes(run: 'Run') -> list[float]:
  """The metric of the best state's update cut to 0, 1, ... components, all but all."""
  from adapad_jax.training.checkpoints import Checkpoints

  plan, method = run.plan, run.plan.method
  checkpoints = Checkpoints(run.workdir / CHECKPOINTS)
  best = restore(run.session, checkpoints, 'best')
  checkpoints.close()
  deployed = method.deploy(method.place(best.state, plan.mesh))
  score = lambda k: run.evaluator.validate(run.session.params, deployed, k)
  return [score(k)[plan.task.metric] for k in range(method.capacity)]


def summarise(result: dict[str, Any], workdir: str) -> str:
  """The outcome for the terminal: metrics, ranks and the next command."""
  best, last = result['best'], result['last']
  names = list(best['metrics'])
  shown = lambda values: [f'{values[name]:.4f}' for name in names]
  rows = [
    [f'best (round {best["step"]})', *shown(best['metrics'])],
    [f'last (round {last["step"]})', *shown(last['metrics'])],
    [f'baseline: {result["baseline"]["name"]}', *shown(result['baseline']['metrics'])],
  ]
  prefixes = [f'{value:.4f}' for value in result['prefixes']]
  return '\n'.join(
    [
      '',
      f'{result["task"]} with {result["method"]}, {result["rounds"]} rounds in'
      f' {result["seconds"]:.0f} s (first step after'
      f' {result["seconds_to_first_step"]:.0f} s, {result["traces"]} compilation(s))',
      table(['', *names], rows),
      '',
      f'rank of every module, {result["rank_total"]} of {result["budget"]} components,'
      f' {result["adapter_parameters"]:,} parameters (+ {result["head_parameters"]:,}'
      ' in the head):',
      rank_map(result['ranks']),
      '',
      f'{result["metric"]} of the adapter cut to its first 0, 1, ... components:',
      '  ' + '  '.join(prefixes),
      '',
      f'checkpoints: {result["checkpoints"]}',
      'evaluate it again:',
      f'  python -m adapad_jax.main --mode=eval --workdir={workdir}',
    ]
  )
