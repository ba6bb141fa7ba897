"""What a plan looks like before it runs: modules, parameters, timeline."""

import json
from typing import TYPE_CHECKING

import jax

from adapad_jax.settings import as_dict
from adapad_jax.training.terminal import kind_of, table

if TYPE_CHECKING:
  from adapad_jax.training.plan import Plan

_SHOWN_EVENTS = 6


def describe(plan: 'Plan') -> str:
  """The match table, parameter counts and the growth of the budget."""
  start, end = plan.method.timeline()[0][1], plan.method.timeline()[-1][1]
  train = plan.task.splits['train']
  config = plan.config
  frozen = sum(x.size for x in jax.tree.leaves(plan.outlined.model))
  one = sum(i + o for i, o in plan.shapes.values())
  lines = [
    f'task {plan.task.name}: {len(train):,} training rows, '
    + ', '.join(
      f'{len(plan.task.splits[name]):,} in {name}'
      for name in plan.task.splits
      if name.startswith('validation')
    ),
    f'model {config.model.source} ({plan.outlined.family}): {frozen:,} parameters',
    f'adapters on {len(plan.shapes)} modules (starting and largest rank):',
    _matches(plan, start // len(plan.shapes)),
    f'trained: {one:,} for one component in every module, {plan.head_parameters():,}'
    ' in the head',
    f'{plan.method.rounds:,} rounds of {plan.method.local_steps} x'
    f' {config.train.batch} rows',
    _devices(plan),
    f'components: {start} at the start, {end} at the end; {_events(plan)}',
  ]
  if train.truncated:
    lines.append(
      f'note: {train.truncated:,} training rows are longer than data.max_length='
      f'{config.data.max_length} tokens and were cut'
    )
  return '\n'.join([*lines, *plan.task.about()])


def _devices(plan: 'Plan') -> str:
  """'mesh worker 1 x data 4 x model 1 of 4 cpu, 1 process(es)'."""
  axes = ' x '.join(f'{name} {size}' for name, size in plan.mesh.shape.items())
  kind = plan.mesh.devices.flat[0].device_kind
  held = f', {jax.process_count()} processes' if jax.process_count() > 1 else ''
  return f'mesh {axes} of {jax.device_count()} {kind} device(s){held}'


def _matches(plan: 'Plan', rank: int) -> str:
  """One row a kind of module: its shape, its layers, its first and largest rank."""
  layers: dict[tuple[str, tuple[int, int]], list[int]] = {}
  for name, shape in plan.shapes.items():
    kind, layer = kind_of(name)
    layers.setdefault((kind, shape), []).append(layer or 0)
  rows = [
    [kind, f'{i} x {o}', _ranges(numbers), rank, plan.method.capacity]
    for (kind, (i, o)), numbers in layers.items()
  ]
  return table(['module', 'shape', 'layers', 'start', 'most'], rows)


def _ranges(numbers: list[int]) -> str:
  """'0-5,8' for 0, 1, ... 5 and 8."""
  parts: list[list[int]] = []
  for n in sorted(numbers):
    if parts and n == parts[-1][-1] + 1:
      parts[-1].append(n)
    else:
      parts.append([n])
  return ','.join(str(p[0]) if len(p) == 1 else f'{p[0]}-{p[-1]}' for p in parts)


def _events(plan: 'Plan') -> str:
  events = [f'{total} after round {at}' for at, total in plan.method.timeline()[1:]]
  if not events:
    return 'they do not grow'
  if len(events) > _SHOWN_EVENTS:
    events = [*events[: _SHOWN_EVENTS - 1], '...', events[-1]]
  return ', '.join(events)


def dry_run(plan: 'Plan') -> str:
  """The resolved config, the plan and every allocation."""
  timeline = table(['round', 'components'], plan.method.timeline())
  config = json.dumps(as_dict(plan.config), indent=2)
  return f'{config}\n{describe(plan)}\nallocations:\n{timeline}'
