"""What experiments/README.md tells of the theory and of regression."""

from collections.abc import Iterator

from experiments.documented.claims import Claim, says
from experiments.documented.recorded import one_row, rows, value
from experiments.results import matching


def claims() -> Iterator[Claim]:
  """One number or two of every experiment."""
  cases = one_row(
    'theory.self_correction',
    'runs and components in which the bound held on unseen rounds',
  )
  held = round(cases['value'] * cases['cases'])
  yield says('the bound held in {} of {} cases', held, cases['cases'])
  pairs = [
    value(
      'theory.equal_pairs',
      f'paired singular values, distance to the best fit, {by}',
      rank=12,
    )
    for by in ('sequential', 'parallel')
  ]
  yield says('ahead by far, {:.1e} against {:.1e}', *pairs)
  yield says('up to a gap of {}; all runs', power_iteration_up_to())
  shares = [
    value(
      'theory.advance_learning',
      'geometric mean of these shares',
      gap=gap,
      local_steps=4,
    )
    for gap in (0.05, 0.3)
  ]
  text = 'nothing with one local step; {:.0f} to {:.0f} % with {}'
  yield says(text, *(100 * (1 - share) for share in shares), 'four')
  about = {'noise': 0.1, 'examples': 10000}
  left = value(
    'theory.generalisation', 'algorithmic error, parallel', rounds=64, **about
  )
  kept = value(
    'theory.generalisation', 'algorithmic error, sequential', rounds=4, **about
  )
  yield says('below {} after 64 rounds', '1e-12' if left < 1e-12 else f'{left:.1e}')
  yield says('4 rounds a component keeps {:.3f}', kept)
  found = rows('theory.rank_discovery')
  runs = sum(row['seeds'] for row in found if 'true' in row)
  yield says('never above the true rank in {} runs', runs)
  false = value('theory.rank_discovery', 'share of runs that find a component in noise')
  yield says('{:.1f} % alarms on noise alone', 100 * false)
  yield says('{:.1f} to {:.1f} times fewer rounds', *eigengame())


def power_iteration_up_to() -> float:
  """The largest gap at which the fitted rate is that of power iteration, to 1 %."""
  figure = 'rate m_k of the last component'
  found = matching(rows('theory.spectral_gap'), {'figure': figure})
  near = [r['gap'] for r in found if abs(r['value'] / (1 - r['gap']) ** 2 - 1) < 0.01]
  return max(near)


def eigengame() -> list[float]:
  """Rounds of the better form of EigenGame over those of the better of ours."""
  figure = 'rounds to an error of 0.001'
  ratios = []
  for data in ('power law', 'exponential', 'digits'):
    of = lambda rule, data=data: value('theory.pca', figure, data=data, rule=rule)
    theirs = [x for x in (of('alpha'), of('mu')) if x is not None]
    ratios += [x / y for x in theirs for y in (of('power'), of('hebb'))]
  return [min(ratios), max(ratios)]
