"""What a plan looks like before it runs: modules, parameters, timeline."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from adapad_jax.models import weights
from adapad_jax.origins import HubCommit
from adapad_jax.settings import as_dict
from adapad_jax.tasks.task import validation_names
from adapad_jax.training.plan import Plan, nbytes
from adapad_jax.training.terminal import kind_of, table

_SHOWN_EVENTS = 6
_SHOWN_CLASSES = 20
# Values beyond it take a head many steps to reach.
_LARGE_LABEL = 10


def describe(plan: Plan) -> str:
  """The match table, parameter counts and the growth of the budget."""
  start, end = plan.method.timeline()[0][1], plan.method.timeline()[-1][1]
  train = plan.task.splits['train']
  config = plan.config
  lines = [
    f'task {plan.task.name}: {len(train):,} training rows, '
    + ', '.join(
      f'{len(plan.task.splits[name]):,} in {name}'
      for name in validation_names(plan.task.splits)
    ),
    *_origin('data', plan.commits.data, config.data.path),
    _model(plan),
    *_origin('model and tokenizer', plan.commits.model, config.model.source),
    *_to_download(plan.to_download),
    f'adapters on {len(plan.shapes)} modules (starting and largest rank):',
    _matches(plan, start // len(plan.shapes)),
    f'trained: {_trained(plan)}',
    _rounds(plan),
    _devices(plan),
    f'components: {start} at the start, {end} at the end; {_events(plan)}',
  ]
  if plan.task.label_names:
    counts = np.bincount(train.columns['label_B'], minlength=len(plan.task.label_names))
    lines.insert(1, f'classes: {_classes(plan.task.label_names, counts)}')
  if train.truncated:
    lines.append(
      f'note: {train.truncated:,} training rows are longer than data.max_length='
      f'{config.data.max_length} tokens and were cut'
    )
  lines += [*_size_of_labels(plan), *_same_files(plan)]
  return '\n'.join([*lines, *plan.task.about()])


def _size_of_labels(plan: Plan) -> list[str]:
  """A note on values to fit that a head is slow to reach."""
  label_B = plan.task.splits['train'].columns.get('label_B')
  if label_B is None or not np.issubdtype(np.asarray(label_B).dtype, np.floating):
    return []
  mean, spread = float(np.mean(label_B)), float(np.std(label_B))
  if max(abs(mean), spread) <= _LARGE_LABEL:
    return []
  return [
    f'note: labels have a mean of {mean:.4g} and a standard deviation of {spread:.4g};'
    ' the head begins at 0 and learns numbers of about 1 best: subtract the mean and'
    ' divide by the deviation in the files'
  ]


def _same_files(plan: Plan) -> list[str]:
  """A note on rows that are trained on and validated on."""
  sources = plan.task.facts.sources if plan.task.facts else {}
  digests = {
    name: {file.digest: file.path for file in sources[name].files}
    for name in ('train', 'validation')
    if name in sources
  }
  if len(digests) < 2:
    return []
  return [
    f'note: {digests["validation"][one]} is trained on too: its metrics say nothing of'
    ' other rows'
    for one in digests['validation'].keys() & digests['train'].keys()
  ]


def _rounds(plan: Plan) -> str:
  """'2 rounds of 3 x 16 rows', and the batches if others were asked for."""
  rounds, local_steps = plan.method.rounds, plan.method.local_steps
  train = plan.config.train
  line = f'{rounds:,} rounds of {local_steps} x {train.batch} rows'
  done, wanted = rounds * local_steps, train.total_steps(plan.train_rows)
  if done == wanted:
    return line
  field = 'train.steps' if train.steps else 'train.epochs'
  return (
    f'{line}: {done:,} batches, not the {wanted:,} of {field}, since rounds are whole'
  )


def _trained(plan: Plan) -> str:
  """'1,024 for one component in every module, 98 in the head', or what else."""
  method, head = plan.method, plan.head_parameters()
  if method.capacity:
    one = method.parameters // method.capacity
    of_head = f', {head:,} in the head' if head else ''
    return f'{one:,} for one component in every module{of_head}'
  if method.parameters:
    of_head = f', {head:,} of them in the head' if head else ''
    return f'all {method.parameters:,} of the model{of_head}'
  return f'{head:,} in the head, nothing else'


def _model(plan: Plan) -> str:
  """'model x/y (llama): 134,515,008 parameters in 146.4 MB, kernels in nf4'."""
  model, outlined = plan.config.model, plan.outlined
  slots = weights.slots_of(outlined.model)
  parameters = sum(len(slot.names) * math.prod(slot.shape) for slot in slots)
  held = nbytes(nnx.state(outlined.model)) / 1e6
  form = f', kernels in {model.weights}' if model.weights else ''
  return (
    f'model {model.source} ({outlined.family}): {parameters:,} parameters in'
    f' {held:,.1f} MB{form}'
  )


def _origin(what: str, commit: HubCommit | None, place: str) -> list[str]:
  """'model and tokenizer: x/y at commit 0123456789ab of main', or which folder."""
  if commit is not None:
    return [f'  {what}: {commit}, on the hub']
  folder = pathlib.Path(place).expanduser() if place else None
  return [f'  {what}: folder {folder.resolve()}'] if folder and folder.is_dir() else []


def _to_download(sizes: Mapping[str, int | None]) -> list[str]:
  """What of the weights is not here yet, and how much that is."""
  if not sizes:
    return []
  known = [size for size in sizes.values() if size is not None]
  much = f'{sum(known) / 1e6:,.1f} MB' if len(known) == len(sizes) else 'size unknown'
  return [f'  to download: {", ".join(sizes)} ({much})']


def _classes(names: Sequence[str], counts: Sequence[int]) -> str:
  """'neg 310, pos 290': the classes and their training rows."""
  shown = [f'{name} {n:,}' for name, n in zip(names, counts, strict=True)]
  if len(shown) > _SHOWN_CLASSES:
    shown = [*shown[:_SHOWN_CLASSES], f'... ({len(names)} in all)']
  return ', '.join(shown)


def _devices(plan: Plan) -> str:
  """'mesh worker 1 x data 4 x model 1 of 4 cpu, 1 process(es)'."""
  axes = ' x '.join(f'{name} {size}' for name, size in plan.mesh.shape.items())
  kind = plan.mesh.devices.flat[0].device_kind
  held = f', {jax.process_count()} processes' if jax.process_count() > 1 else ''
  return f'mesh {axes} of {jax.device_count()} {kind} device(s){held}'


def _matches(plan: Plan, rank: int) -> str:
  """One row a kind of module: its shape, its layers, its first and largest rank."""
  layers: dict[tuple[str, tuple[int, int]], list[int]] = {}
  for name, shape in plan.shapes.items():
    kind, layer = kind_of(name)
    layers.setdefault((kind, shape), []).append(layer or 0)
  rows = [
    [kind, f'{i} x {o}', _ranges(numbers), rank, min(plan.method.capacity, i, o)]
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


def _events(plan: Plan) -> str:
  events = [f'{total} after round {at}' for at, total in plan.method.timeline()[1:]]
  if not events:
    return 'they do not grow'
  if len(events) > _SHOWN_EVENTS:
    events = [*events[: _SHOWN_EVENTS - 1], '...', events[-1]]
  return ', '.join(events)


def dry_run(plan: Plan) -> str:
  """The resolved config, the plan and every allocation."""
  timeline = table(['round', 'components'], plan.method.timeline())
  config = json.dumps(as_dict(plan.config), indent=2)
  return f'{config}\n{describe(plan)}\nallocations:\n{timeline}'
