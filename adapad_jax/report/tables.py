"""Figures of a run as cards and tables."""

import datetime
import functools
from collections.abc import Mapping
from typing import Any

from adapad_jax.report.curves import short
from adapad_jax.report.page import cards, code, details, table
from adapad_jax.report.run import Run
from adapad_jax.training.terminal import metric_names, number, one_line
from adapad_jax.workdir import RESULT, command_for


def title(run: Run) -> str:
  """What was done."""
  return f'{run.result["task"]} with {run.result["method"]}'


def subtitle(run: Run) -> list[str]:
  """With what, where and when."""
  ended = (run.workdir / RESULT).stat().st_mtime
  when = datetime.datetime.fromtimestamp(ended, datetime.UTC)
  return [
    f'model {run.result["model"]}, run {run.name}, ended {when:%Y-%m-%d %H:%M} UTC'
  ]


def summary(run: Run) -> str:
  """The outcome in a few cards."""
  result = run.result
  kinds = sorted(set(result['devices']))
  first = result['seconds_to_first_step']
  return cards(
    [
      (
        f'best {run.metric}',
        number(run.best()),
        f'round {result["best"]["step"]} of {result["rounds"]}',
      ),
      ('baseline', number(run.baseline()), result['baseline']['name']),
      ('rank at the end', str(result['rank_total']), f'budget {result["budget"]}'),
      (
        'adapter parameters (best)',
        short(result['adapter_parameters']),
        f'and {short(result["head_parameters"])} in the head',
      ),
      ('time', duration(result['seconds']), f'first step after {duration(first)}'),
      (
        'devices',
        f'{len(result["devices"])} x {", ".join(kinds)}',
        f'{result["traces"]} compilation{"" if result["traces"] == 1 else "s"}'
        ' of the round',
      ),
    ]
  )


def duration(seconds: float) -> str:
  """'95 s' or '12 min' or '3.4 h'."""
  if seconds < 120:
    return f'{seconds:.0f} s'
  return f'{seconds / 60:.0f} min' if seconds < 7200 else f'{seconds / 3600:.1f} h'


def metrics(run: Run) -> str:
  """All metrics of the best and the last state and of the baseline."""
  best, last, base = run.result['best'], run.result['last'], run.result['baseline']
  names = metric_names(*(one['metrics'] for one in (best, last, base)))
  row = lambda title, values: [title, *map(values.get, names)]
  return table(
    ['state', *names],
    [
      row(f'best (round {best["step"]})', best['metrics']),
      row(f'last (round {last["step"]})', last['metrics']),
      row(f'baseline: {base["name"]}', base['metrics']),
    ],
    '.4f',
  )


def ledger(run: Run) -> str:
  """Every grant as a row; nothing for methods that grant none."""
  if not run.grants:
    return ''
  rows = [[g.round, g.module, g.component, g.score] for g in run.grants]
  shown = table(['round', 'module', 'component', 'score'], rows)
  return details(f'all {len(rows)} grants as a table', shown)


def setting(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """A nested config as 'train.batch': 32."""
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat |= setting(value, f'{prefix}{name}.')
    else:
      flat[f'{prefix}{name}'] = value
  return flat


def commands(run: Run) -> str:
  """How the run was started, and what can be done with it."""
  of = functools.partial(command_for, workdir=run.workdir)
  started = run.result.get('command')
  begun = f'<p>It was started with</p>\n{code(started)}' if started else ''
  lines = [
    of('eval'),
    *([of('chat')] if run.samples[1] else []),
    f'{of("export")} --out=adapter',
    f'{of("report")},OTHER_RUN',
  ]
  return f'{begun}<p>Evaluate it again, export it, or compare it</p>\n' + code(
    '\n'.join(lines)
  )


def provenance(run: Run) -> str:
  """Config, versions and mesh."""
  mesh = ', '.join(f'{name} {size}' for name, size in run.result['mesh'].items())
  return origin(run.config, run.result['versions'] | {'mesh': mesh})


def origin(config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
  """A config and versions as tables."""
  rows = [[name, str(value)] for name, value in setting(config).items()]
  return details('config', table(['field', 'value'], rows)) + details(
    'versions', table(['package', 'version'], [[n, v] for n, v in versions.items()])
  )


def samples(run: Run) -> str:
  """What the model answered at the last evaluation, and exact match by prefix."""
  step, rows = run.samples
  metrics = run.result.get('prefix_metrics', [])
  scores = {
    k: one['exact_match']
    for k, one in enumerate(metrics)
    if one and 'exact_match' in one
  }
  parts = []
  if scores:
    header = ['components a module', *map(str, scores)]
    parts.append(table(header, [['exact match', *scores.values()]]))
  if rows:
    names = [
      'prompt',
      'reference',
      'answer',
      *(['right'] if 'right' in rows[0] else []),
    ]
    cells = [[_shown(one[name]) for name in names] for one in rows]
    parts.append(details(f'answers after round {step}', table(names, cells)))
  return ''.join(parts)


def _shown(value: Any) -> str:
  return {True: 'yes', False: 'no'}.get(value) or one_line(value)
