"""experiments/glue/README.md: its sentences."""

from collections.abc import Iterator

import numpy as np

from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, says
from experiments.documented.recorded import cells, printed, rows
from experiments.glue.summary import averages, of, scores
from experiments.results import matching
from experiments.tables import paired


def claims() -> Iterator[Claim]:
  """What it says, from top to bottom."""
  yield from of_a_step()
  yield from of_the_tables()
  yield from of_prefixes()
  yield from of_ranks()
  yield from of_sst2()
  yield from of_searches()
  yield from of_settings()
  yield from of_the_whole_of_sst2()
  epochs = glue.epochs('cola', 'adapad', 1e-3), glue.epochs('cola', 'lora', 2e-3)
  yield says('{} and {} are no fair', *(mean.split()[0] for mean in epochs))


def mean_of(method: str, column: str = 'average') -> float:
  """A mean of the main table."""
  return float(glue.main_row(method)[column].split()[0])


def exact(
  method: str, budget: int = 2, task: str = '', targets: str = 'all-linear'
) -> float:
  """The mean over seeds, not rounded, of a task or of the averages."""
  own = of(glue.runs(targets).runs, method, budget)
  found = scores(own, task) if task else averages(own, glue.TASKS)
  return float(np.mean([*found.values()]))


def of_a_step() -> Iterator[Claim]:
  """Single timings, and turns."""
  seconds = [float(glue.main_row(method)['s a step']) for method in ('adapad', 'lora')]
  yield says('so {:.3f} beside {:.3f} s is no speed-up', *seconds)
  found = [
    row['value']
    for row in rows('speed.turns')
    if row['figure'].startswith('split') and 'beside lora' in row['figure']
  ]
  text = 'a `split` step takes {:.2f} to {:.2f} of the time'
  yield says(text, min(found), max(found))


def of_the_tables() -> Iterator[Claim]:
  """Differences on the development sets and on the held-out fifths."""
  text = 'has the best average, {:.1f}. Over plain LoRA of rank 2, {:.1f}, that'
  yield says(text, mean_of('adapad'), mean_of('lora'))
  minus = {task: glue.apart('lora', task)[0] for task in glue.TASKS}
  text = 'widest gaps are {:+.1f} on SST-2 and {:+.1f} on RTE'
  yield says(text, min(minus.values()), max(minus.values()))
  gap = glue.held_out('lora')
  yield says('On more rows of SST-2 LoRA is ahead by {:.1f}', -gap['sst2'])
  cola = [glue.apart(peer, 'cola')[0] for peer in glue.COMPONENTS]
  yield says('more than the noise ({:+.1f} to {:+.1f})', min(cola), max(cola))
  ahead = glue.gaps(glue.COMPONENTS)
  text = 'on average by {:.1f} to {:.1f} points, beyond'
  yield says(text, min(ahead), max(ahead))
  best = exact('lora', 8)
  text = 'fine-tuning both have {:.1f} on average, {:.1f} above LoRA of rank 2'
  yield says(text, best, best - exact('lora'))
  yield says('rank 8 and full fine-tuning both have {:.1f}', exact('full'))
  own = glue.runs().runs
  pair = paired(*(averages(of(own, m, 2), glue.TASKS) for m in ('adapad', 'lora')))
  text = 'five seeds tell AdaPaD from LoRA to {:.1f} points'
  yield says(text, (pair['high'] - pair['low']) / 2)
  led = glue.word(sum(gap[task] < 0 for task in glue.TASKS))
  text = 'LoRA leads AdaPaD on {} tasks of five, by {:.1f} points on average'
  yield says(text, led, -gap['average'])
  yield says("the development sets' {:+.1f} it says", pair['mean'])
  behind = {
    peer: glue.named([task for task in glue.TASKS if glue.held_out(peer)[task] < 0])
    for peer in glue.COMPONENTS
  }
  yield says(
    f'AdaLoRA is ahead of AdaPaD on {behind["adalora"]}, IncreLoRA on'
    f' {behind["increlora"]}, sequential deflation on {behind["sequential"]}.'
  )


def of_prefixes() -> Iterator[Claim]:
  """AdaPaD's own order beside singular values, and both beside LoRA."""
  own = of(glue.runs().runs, 'adapad', 2)
  gaps = {}
  for kept in (1, 2):
    for task in glue.TASKS:
      found = matching(own, {'task': task})
      curves = [
        100 * np.mean([row[key][kept] for row in found])
        for key in ('prefixes', 'spectral_prefixes')
      ]
      gaps[kept, task] = curves
  yield says('on CoLA {:.1f} against {:.1f}, elsewhere', *gaps[1, 'cola'])
  others = [np.subtract(*gaps[1, task]) for task in glue.TASKS if task != 'cola']
  ok = min(others) > 0 and max(others) < 0.6
  yield says('elsewhere by less than {}', '0.6' if ok else f'{max(others):.1f}')
  worst = {task: np.subtract(*gaps[2, task][::-1]) for task in glue.TASKS}
  task = max(worst, key=worst.get)
  text = f'with two up to {{:.1f}} points behind ({glue.NAMES[task]})'
  yield says(text, worst[task])
  cut = [one_component_of_lora(rank) for rank in (2, 8)]
  text = 'LoRA trained at rank 1 has {:.1f}, LoRA of rank 2 cut to one component'
  text += ' {:.1f}, of rank 8 {:.1f}.'
  yield says(text, exact('lora', 1, 'cola'), *cut)
  curves = [np.mean(curve[0][1]) for curve in glue.at_every_rank().values()]
  text = 'is {:.1f} points behind LoRA trained at rank 1, and {:.1f} ahead of what'
  yield says(text, curves[1] - curves[0], curves[0] - curves[2])


def one_component_of_lora(rank: int) -> float:
  """CoLA's mean after LoRA was cut by singular values to one component."""
  own = of(glue.runs().runs, 'lora', rank)
  found = matching(own, {'task': 'cola'})
  return 100 * float(np.mean([row['spectral_prefixes'][1] for row in found]))


def of_ranks() -> Iterator[Claim]:
  """Where LoRA's rank pays."""
  means = [exact('lora', rank) for rank in (1, 2, 4, 8)]
  steps = np.diff(means)
  text = "every doubling of LoRA's rank adds {:.1f} to {:.1f} points"
  yield says(text, min(steps), max(steps))
  text = 'AdaPaD of average rank 2, {:.1f} with {} parameters'
  yield says(text, mean_of('adapad'), glue.main_row('adapad')['adapter'])
  two = [exact('lora', rank, 'cola', 'query+value') for rank in (1, 2, 4, 8)]
  text = 'every doubling adds {} to {} points, and on RTE'
  yield says(text, *(glue.word(end) for end in (min(np.diff(two)), max(np.diff(two)))))
  gap = exact('lora', 4, 'mrpc') - exact('lora', 8, 'mrpc')
  yield says('the best mean, {:.1f} points ahead of rank 8', gap)
  flags = '--tasks=cola', '--steps=802', '--methods=adapad', '--budget=2,4'
  grown = cells('larger budget', printed('glue.comparison', *flags), 'adapad 4 minus 2')
  yield says('(4 minus 2: {})', grown['cola'])


def of_sst2() -> Iterator[Claim]:
  """SST-2 on the rows held out of its training set."""
  mine, lora = glue.tried('adapad', 2), glue.tried('lora', 2)
  text = 'AdaPaD minus LoRA of rank 2 is {} with all layers, like the {:+.1f} of the'
  yield says(text, glue.interval(mine, lora), glue.apart('lora', 'sst2')[0])
  both = [glue.tried(m, 2, 'query+value')[1000] for m in ('adapad', 'lora')]
  yield says('with query and value it is {:+.1f} (one seed)', both[0] - both[1])
  half = by_rank(glue.of_variant('recipe with polish half'))
  longer = glue.interval(half, by_rank(mine))
  left = glue.interval(half, by_rank(lora))
  text = 'instead of a quarter adds {}, which leaves {} to LoRA'
  yield says(text, longer.removeprefix('+'), left)
  # The same numbers once more, below.
  yield says('their difference is tight: {} (95 %', longer)
  text = 'Polish half minus LoRA is {}, a quarter minus LoRA {}. On'
  yield says(text, left, glue.interval(mine, lora))


def by_rank(values: dict[int, float]) -> dict[int, float]:
  """Seeds counted from 0: searches and variants name the same seeds differently."""
  return dict(enumerate(values.values()))


def of_searches() -> Iterator[Claim]:
  """What more seeds of a search have changed."""
  like = {'kind': 'run', 'task': 'cola', 'budget': 2, 'targets': 'all-linear'}

  def at(method: str, rate: float) -> float:
    found = matching(rows('glue.comparison'), like | {'method': method, 'rate': rate})
    return 100 * float(np.mean([row['value'] for row in found]))

  text = 'it gave AdaPaD {} on CoLA, and {:.1f}; three seeds gave {}, and {:.1f}.'
  yield says(text, '5e-4', at('adapad', 5e-4), '1e-3', at('adapad', 1e-3))
  text = 'moved sequential deflation from {} to {}, and from {:.1f} to {:.1f}.'
  before, after = at('sequential', 2e-3), at('sequential', 1e-3)
  yield says(text, '2e-3', '1e-3', before, after)
  text = '({:.1f} and {:.1f} are means of the five recorded rows'
  yield says(text, at('adapad', 5e-4), before)


def of_settings() -> Iterator[Claim]:
  """One or two settings changed at a time."""
  stsb, cola = printed('glue.defaults', '--tasks=stsb,cola', '--steps=400')

  def mean(table: str, name: str) -> float:
    return 100 * float(cells('variant', [table], name)['mean'])

  deflating = mean(stsb, 'every row deflates')
  lora, recipe = mean(stsb, 'LoRA of rank 2'), mean(stsb, 'recipe')
  yield says('loses {:.0f} points on STS-B to LoRA', lora - deflating)
  by_all = mean(stsb, 'head by all') - deflating
  yield says('by all rows recovers {:.1f} points on STS-B', round(by_all, 6))
  yield says('on CoLA and {:.1f} points ahead on STS-B', recipe - lora)
  eight = mean(cola, 'recipe') - mean(cola, 'recipe with r_max 8')
  yield says('little on STS-B and cost {:.0f} points on CoLA', eight)


def of_the_whole_of_sst2() -> Iterator[Claim]:
  """Differences there, by seed."""
  stsb = {'task': 'stsb', 'steps': 400, 'rate': 2e-3}
  values = []
  for name in ('recipe with polish a quarter', 'recipe with polish half'):
    found = matching(rows('glue.defaults'), stsb | {'variant': name})
    values.append({row['seed']: 100 * row['value'] for row in found})
  behind = [values[0][seed] - values[1][seed] for seed in values[0]]
  text = 'On STS-B half was {:.1f} behind a quarter with each of {} seeds'
  yield says(text, np.mean(behind), glue.word(len(behind)))
  half = glue.of_variant('recipe with polish half')
  clipped = glue.of_variant('recipe with polish half and clip a quarter')
  text = 'a smaller clip by {:+.1f}, {:+.1f} and {:+.1f} with the three seeds'
  yield says(text, *(clipped[seed] - half[seed] for seed in (0, 1, 2)))
  early = glue.of_variant('recipe with polish half and full by a quarter')
  yield says('is last, {:.1f} behind it', half[0] - early[0])
  lora = by_rank(glue.tried('lora', 2))
  joint = glue.of_variant('all joint and full at once')
  apart = max(abs(joint[seed] - lora[seed]) for seed in (0, 1))
  yield says('within {:.1f} of it, once behind and once ahead', apart)
  long = glue.of_variant('recipe with polish throughout')
  text = 'two seeds are on average {:.1f} behind LoRA and {:.1f} ahead of polish half'
  mean = lambda values: np.mean([values[seed] for seed in (0, 1)])
  yield says(text, mean(lora) - mean(long), mean(long) - mean(half))
