"""experiments/theory/README.md."""

from collections.abc import Iterator

import numpy as np

from experiments.documented.claims import Claim, Table, says
from experiments.documented.overview_theory import eigengame
from experiments.documented.recorded import one_row, rows, value
from experiments.results import Row, matching
from experiments.tables import markdown

GAPS = (0.05, 0.1, 0.3)
LATE = (1, 2, 4, 8)
SETTINGS = (
  r'there are 10 seeds',
  r'with (32|48) (Gaussian )?inputs',
  r'\(32 inputs, 24 outputs, a true rank of 10 with gap 0\.2',
  r'24 outputs, a true rank of 6 with singular values',
  r'falling\s+by 0\.3 from 1, at most',
  r'at most 10 components',
  r'\b(6|8) workers',
  r'middle 80 %',
  r'a gap of 0\.3( and 20 seeds)?',
  r'and 20 seeds as',
  r'(of k = |components\s+)2\.\.8',
  r'with 5, 10 and 20 rounds a component',
  r'fell from 1e-2 to 1e-6',
  r'\(20 runs, 7 components\)',
  r'with 10 rounds a component',
  r'pairs that are 0\.3 apart, and 24\s+rounds',
  r'up to 0\.[25]\b|Above 0\.6',
  r'is below 1e-2',
  r'\(1e-2 to 1e-11\)',
  r'1 local step \| 4 local steps',
  r'\bn = 10 000',
  r'noise 0\.[15]\b',
  r'of(\s+but)?\s+1 %|1 % was asked for',
  r'at 100, 1000 and 10 000 examples',
  r'\(d m\)\^\(1/4\)',
  r'Peche 2005',
  r'\(100 examples',
  r'last 5 rounds',
  r'the last tau \+ 1',
  r'rounds to 1e-9',
  r'0\.\.1, 0\.\.2, 0\.\.4, 0\.\.8|from 0\.\.8 on',
  r'absent for 10, 25, 50 %',
  r'a rate of 0\.7 \(the root of 0\.49\)',
  r'best of six \(1 to 300, in units\s+of 1 / tr S\)',
  r'(is|to) 1e-3',
  r'within 400 rounds',
  r'the eighth, 64 times',
  r'of 9 workers on 64 dimensions',
  r'a factor of 2 in time',
  r'family 23',
)


def claims() -> Iterator[Claim | Table]:
  """What it tells, from top to bottom."""
  yield says('EigenGame | {:.1f} to {:.1f} times fewer rounds', *eigengame())
  yield from self_correction()
  yield from equal_pairs()
  yield from spectral_gap()
  yield from advance_learning()
  yield from generalisation()
  yield from rank_discovery()
  yield from staleness()
  yield from pca()


def found(name: str, figure: str) -> list[Row]:
  """All rows of a figure."""
  return matching(rows(f'theory.{name}'), {'figure': figure})


def short(number: float) -> str:
  """'1.4e-10'."""
  return f'{number:.1e}'.replace('e-0', 'e-')


def self_correction() -> Iterator[Claim]:
  """Mismatches of the last component."""
  of = lambda figure, **about: value('theory.self_correction', figure, **about)
  for row in found('self_correction', 'rate m_k'):
    yield says('The fitted rate is {:.4f} for all', row['value'])
  last = 'mismatch of the last component'
  floors = [of(f'{last}, sequential', rounds=n) for n in (5, 10, 20)]
  yield says('stays at {:.1e}, {:.1e} and {:.1e} with', *floors)
  bound = 'runs and components in which the bound held on unseen rounds'
  row = one_row('theory.self_correction', bound)
  held = round(row['value'] * row['cases'])
  yield says('in {} of {} cases', held, row['cases'])
  warm = [row['value'] for row in found('self_correction', 'warm-up s_k')]
  yield says('is the warm-up ({:.0f} to {:.0f} rounds)', min(warm), max(warm))
  parallel = of(f'{last}, parallel, equal compute', rounds=10)
  text = 'it stands at {:.1e} where parallel deflation, which spends its first rounds'
  yield says(text + ' on wrong targets, stands at {:.2f}', floors[1], parallel)
  figure = f'{last}, parallel, equal rounds in a row'
  row = one_row('theory.self_correction', figure, rounds=40)
  text = 'after {} of them it is at {:.1e}, sequential deflation (5 rounds for each'
  yield says(text + ' of 8) at {:.1e}', row['rounds'], row['value'], floors[0])


def equal_pairs() -> Iterator[Table]:
  """Distances to the best fit."""
  lines = []
  for rank in (8, 12):
    cells = []
    for name in ('parallel', 'sequential'):
      figure = f'paired singular values, distance to the best fit, {name}'
      row = one_row('theory.equal_pairs', figure, rank=rank)
      low, middle, high = (short(row[key]) for key in ('low', 'value', 'high'))
      cells.append(f'{middle} ({low} to {high})')
    lines.append([str(rank), *cells])
  yield Table(markdown(['rank', 'parallel', 'sequential'], lines), '## Singular values')


def spectral_gap() -> Iterator[Claim]:
  """Rates and rounds by gap."""
  of = lambda figure, gap: value(
    'theory.spectral_gap', f'{figure} of the last component', gap=gap
  )
  ends = [of('rate m_k', gap) for gap in (0.05, 0.1, 0.5)]
  yield says('{:.4f} at 0.05, {:.2f} at 0.1, {:.2f} at 0.5', *ends)
  near = [of('rounds to a mismatch of 0.01', gap) for gap in (*GAPS, 0.8)]
  yield says('{:g} at gap 0.05, {:g} at 0.1, {:g} at 0.3, {:g} at 0.8', *near)
  far = [of('rounds to a mismatch of 1e-12', gap) for gap in (*GAPS, 0.8)]
  yield says('to 1e-12: {:g}, {:g}, {:g} and {:g}.', *far)


def advance_learning() -> Iterator[Claim | Table]:
  """Ratios of constants."""
  of = lambda figure, **about: value('theory.advance_learning', figure, **about)
  lines = []
  for gap in GAPS:
    figure = 'geometric mean of these shares'
    shares = [of(figure, gap=gap, local_steps=steps) for steps in (1, 4)]
    lines.append([f'{gap:g}', *(f'{x:.{3 if x < 0.1 else 2}f}' for x in shares)])
  yield Table(markdown(['gap', '1 local step', '4 local steps'], lines), '## Advance')
  like = {'local_steps': 4, 'component': 8}
  saved = [of('rounds saved', gap=gap, **like) for gap in GAPS]
  yield says('a median of {:.0f} for the eighth component', float(np.median(saved)))


def generalisation() -> Iterator[Claim]:
  """The terms of the test error."""
  of = lambda figure, **about: value('theory.generalisation', figure, **about)
  yield says('Truncation is {:.3f}', of('truncation error'))
  term = lambda noise, n: of('statistical error', noise=noise, examples=n)
  ends = term(0.1, 100), term(0.1, 10000), term(0.5, 100), term(0.5, 10000)
  text = 'falls from {:.3f} at n = 100 to {:.4f} at 10 000 with noise 0.1, and from'
  yield says(text + ' {:.2f} to {:.4f} with noise 0.5', *ends)
  like = {'noise': 0.1, 'examples': 10000}
  error = lambda by, n: of(f'algorithmic error, {by}', rounds=n, **like)
  parallel = {n: error('parallel', n) for n in (4, 8, 16, 64)}
  below = '1e-12' if parallel[64] < 1e-12 else short(parallel[64])
  text = 'geometrically, {:.3f}, {:.1e} and below {} after 8, 16 and 64 rounds'
  yield says(text, parallel[8], parallel[16], below)
  kept = {n: error('sequential', n) for n in (4, 8)}
  yield says('4 rounds a component keeps {:.3f} for good', kept[4])
  text = "({:.3f} against {:.2f} at 4 rounds' worth, {:.1e} against {:.3f} at 8)"
  yield says(text, kept[4], parallel[4], kept[8], parallel[8])


def rank_discovery() -> Iterator[Claim]:
  """Ranks found over noise."""
  settings = found('rank_discovery', 'rank found')
  runs = sum(row['seeds'] for row in settings)
  more = [row for row in settings if row['most'] > row['true']]
  yield says('none of the {} runs ever finds more', 'none' if more else runs)
  limits = []
  for n in (100, 1000, 10000):
    own = [row for row in settings if row['examples'] == n]
    whole = [row for row in own if row['least'] == row['most'] == row['true']]
    limits.append(max(row['noise'] for row in whole))
  yield says('Up to a noise of {:.2f}, {:.2f} and {:.1f} per output', *limits)
  equal = sum(row['off_exact'] == 0 for row in settings)
  yield says('in {} of {} settings for every seed', equal, len(settings))
  alarms = 'share of runs that find a component in noise'
  alarm = one_row('theory.rank_discovery', alarms)
  text = '({} examples, {} runs) {:.1f} % of the runs find a component'
  yield says(text, alarm['examples'], alarm['runs'], 100 * alarm['value'])


def staleness() -> Iterator[Claim]:
  """Rates and rounds where broadcasts are late or workers absent."""
  last = 'of the last component'

  def of(figure: str, traffic: str, *settings: float) -> list[float]:
    named = f'{figure} {last}'
    like = {'traffic': traffic}
    return [value('theory.staleness', named, setting=s, **like) for s in settings]

  late, random, rounds = 'late by tau', 'late by 0..tau at random', 'rounds to 1e-09'
  none = *of('rate', late, 0), *of(rounds, late, 0)
  yield says('| nothing late | {:.3f} | {:g} |', *none)
  for rate in of('rate', late, *LATE):
    text = '| late by 1, 2, 4, 8 | {:.3f} each | {:g}, {:g}, {:g}, {:g} |'
    yield says(text, rate, *of(rounds, late, *LATE))
  text = 'at random | {:.3f}, {:.3f}, {:.3f}, {:.3f} | {:g}, {:g}, {:g}, {:g} |'
  yield says(text, *of('rate', random, *LATE), *of(rounds, random, *LATE))
  shares = (0.1, 0.25, 0.5)
  rates = of('rate', 'absent', *shares)
  text = '| {:.3f}, {:.3f}, {:.3f} | {:g}, {:g}, {:g} |'
  yield says(text, *rates, *of(rounds, 'absent', *shares))
  yield says('and {:.3f} was measured', rates[2])
  ends = [r['value'] for r in found('staleness', f'mismatch in the last round {last}')]
  yield says('rounding error (median {:.1e})', float(np.median(ends)))
  delayed = of(rounds, late, 0, 8)
  yield says('costs about {:.1f} rounds', (delayed[1] - delayed[0]) / 8)


def pca() -> Iterator[Claim | Table]:
  """Rounds and milliseconds of four rules."""
  lines = []
  for name, rule in (
    ('parallel deflation, power iteration', 'power'),
    ("parallel deflation, Hebb's rule", 'hebb'),
    ('EigenGame alpha', 'alpha'),
    ('EigenGame mu', 'mu'),
  ):
    cells = [pca_cell(data, rule) for data in ('power law', 'exponential', 'digits')]
    lines.append([name, *cells])
  head = ['', 'power law', 'exponential', 'digits']
  yield Table(markdown(head, lines), '## Principal')
  yield says('by a factor of {:.1f} to {:.1f} in rounds', *eigengame())
  power, others = [], []
  for row in found('pca', 'time to an error of 0.001'):
    like = {'data': row['data'], 'rule': row['rule']}
    taken = one_row('theory.pca', 'rounds to an error of 0.001', **like)['value']
    if taken:
      mine = power if row['rule'] == 'power' else others
      mine.append(1e3 * row['value'] / taken)
  text = 'takes {:.0f} to {:.0f} microseconds, and {:.0f} to {:.0f} by power iteration'
  yield says(text, min(others), max(others), min(power), max(power))


def pca_cell(data: str, rule: str) -> str:
  """'41, 0.70 ms (1.7e-6), 300'."""
  of = lambda figure: one_row('theory.pca', figure, data=data, rule=rule)
  rounds, last = (
    of('rounds to an error of 0.001')['value'],
    of('error in the last round'),
  )
  step = f', {last["rate"]:g}' if last['rate'] else ''
  left = f'{last["value"]:.2g}' if last['value'] > 1e-3 else short(last['value'])
  if rounds is None:
    return f'never ({left}){step}'
  ms = of('time to an error of 0.001')['value']
  return f'{rounds:g}, {ms:.2f} ms ({left}){step}'
