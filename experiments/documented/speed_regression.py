"""experiments/speed/README.md: regression by parallel deflation."""

from collections.abc import Iterator

from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import rows, value
from experiments.results import Row, matching
from experiments.speed.regression_race import LOCAL_STEPS
from experiments.tables import markdown

CHUNK = 5  # Rounds between two looks at our error.


def claims() -> Iterator[Claim | Table]:
  """What was measured, and why two devices and one are as fast as they are."""
  yield from of_a_round()
  yield from two_devices()
  yield from race()


def of_a_round() -> Iterator[Claim]:
  """Rates, memory and collectives."""
  of = lambda figure, **about: value('speed.regression', figure, **about)
  ratio = of('rate of a round / rate of the bare product')
  rates = of('rate of a round'), of('rate of the bare product')
  yield says('| 0.75 | {:.2f} ({:.0f} of {:.0f} GFLOP/s) |', ratio, *rates)
  figure = 'peak memory / (inputs + C + S + three copies of the components)'
  yield says('outputs) | 1.3 | {:.2f} |', of(figure, call='second'))
  yield says('which also compiles | | {:.2f} |', of(figure, call='first'))
  counts = of('collectives a round'), of('collectives inside the local steps')
  yield says('| 1; 0 | {}; {} |', *counts)


def two_devices() -> Iterator[Claim]:
  """A round on one and on two, before and after the products were turned round."""
  one, two = (
    matching(
      rows('speed.regression'), {'figure': f'round on {n} device(s), a core each'}
    )
    for n in ('one', 'two')
  )
  ratios = matching(rows('speed.regression'), {'figure': 'speed-up of two devices'})
  now = one[-1]['value'], two[-1]['value']
  text = '| 1.8 | {:.2f} ({:.1f} and {:.1f} ms) |'
  yield says(text, ratios[-1]['value'], *now)
  yield says('the second device brought nothing ({:.2f})', ratios[0]['value'])
  faster = [100 * (1 - own[-1]['value'] / own[0]['value']) for own in (one, two)]
  text = 'one device became faster by {:.0f} %, two by {:.0f} %'
  yield says(text, *faster)
  half = value('speed.regression', 'round of half the workers on one device')
  alone = value('speed.regression', 'speed-up without waiting')
  yield says('to itself takes {:.1f} ms a round, {:.1f} times less', half, alone)
  yield says('The {:.1f} ms on top of that', now[1] - half)


def race() -> Iterator[Claim | Table]:
  """Seconds to two errors, of three competitors."""
  cells, lines = {}, []
  for size in (256, 1024, 4096):
    for rank in (8, 64):
      for method in ('ours', 'randomised SVD', 'NumPy loop'):
        found = matching(
          rows('speed.regression'), {'method': method, 'size': size, 'rank': rank}
        )
        cells[size, rank, method] = [row for row in found if 'least' in row][-2:]
      own = [cells[size, rank, m] for m in ('ours', 'randomised SVD', 'NumPy loop')]
      lines.append([f'{size}, {rank}', *map(both, own)])
  head = ['d, r', 'ours', 'randomised SVD', 'NumPy loop']
  yield Table(markdown(head, lines), '**The race**')
  yield from about_the_race(cells)


def both(found: list[Row]) -> str:
  """'0.025 / 0.026': seconds with three digits behind the point below 0.1, else two."""
  said = []
  for row in found:
    seconds = row['value']
    if seconds is None:
      said.append('-')
    else:
      said.append(f'{seconds:.3f}' if seconds < 0.1 else f'{seconds:.2f}')
  return ' / '.join(said)


def about_the_race(cells: dict[tuple[int, int, str], list[Row]]) -> Iterator[Claim]:
  """What follows from the table."""
  most = max(row['value'] for row in named('speed-up over NumPy loop'))
  yield says('in every cell where it gets there, up to {:.1f} times', most)
  stopped = cells[4096, 64, 'NumPy loop'][0]['rows']
  others = [cells[size, 64, 'NumPy loop'][0]['rows'] for size in (256, 1024)]
  yield says('{} of its about {:.0f} rounds', stopped, round(max(others), -2))
  slower = [
    1 / row['value']
    for row in named('speed-up over randomised SVD')
    if row['rank'] == 64
  ]
  text = 'at r = 8, and {:.0f} to {:.0f} times as long at'
  yield says(text, min(slower), max(slower))
  even = [
    1 / row['value']
    for row in named('speed-up over randomised SVD')
    if row['rank'] == 8
  ]
  text = 'ours takes {:.1f} to {:.1f} times as long as the randomised SVD at r = 8'
  yield says(text, min(even), max(even))
  chunks = {cells[size, 64, 'ours'][0]['rows'] for size in (256, 1024, 4096)}
  steps = max(chunks) * CHUNK * LOCAL_STEPS
  yield says('it needs about {} local steps, {} products of 64', steps, 2 * steps)
  ends = [
    cells[size, 64, method][0]['least']
    for method in ('randomised SVD', 'ours')
    for size in (256, 1024, 4096)
  ]
  text = 'ends at {:.1e} to {:.1e} at r = 64'
  yield says(text, min(ends[:3]), max(ends[:3]))
  yield says('stood at {:.0e} to {:.0e} when', min(ends[3:]), max(ends[3:]))


def named(figure: str) -> list[Row]:
  """The rows of a ratio to the present targets."""
  found = matching(rows('speed.regression'), {'figure': figure})
  return [row for row in found if 'target' in row]
