"""experiments/federated/README.md."""

from collections.abc import Iterator

from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import rows
from experiments.results import Row, matching
from experiments.tables import markdown

SETTINGS = (
  r'1,399 held-out snippets',
  r'100 batches( of 32 rows)?',
  r'H = (1|2|5|10|25)\b',
  r'Dirichlet parameter (10|of 1)',
  r'\(32 among all',
  r'384 x 384',
)


def run(**about: object) -> Row:
  """The newest row of a run of 100 batches."""
  return matching(rows('federated.sweeps'), {'steps': 100, **about})[-1]


def claims() -> Iterator[Claim | Table]:
  """Accuracies, and bytes."""
  first = run(feeding='federated', seed=0, local_steps=1, workers=4, skew=0.0)
  yield says('majority class {:.1f}', 100 * first['baseline'])
  names = {'`split`, every worker sees all data, H = 1': ('split', 1)}
  names |= {f'H = {steps}': ('federated', steps) for steps in (1, 2, 5, 10, 25)}
  lines = []
  for name, (feeding, steps) in names.items():
    like = {'feeding': feeding, 'local_steps': steps, 'workers': 4, 'skew': 0.0}
    found = [run(seed=seed, **like) for seed in (0, 1)]
    sent = f'{found[0]["megabytes_sent"]:.1f}'
    lines.append([name, *(f'{100 * row["value"]:.1f}' for row in found), sent])
  head = ['four workers, even shares', 'seed 0', 'seed 1']
  yield Table(markdown([*head, 'MB that leave a worker in all'], lines), 'Measured on')
  yield Table(markdown(['H = 1, seed 0', ''], one_centre()), 'Measured on')
  both = [run(feeding='split', seed=seed)['value'] for seed in (0, 1)]
  apart = 100 * abs(both[0] - both[1])
  yield says('`split` alone differs by {:.0f} points', apart)
  yield says('{:.0f} kB leave a worker', first['bytes_sent_per_round'] / 1e3)


def one_centre() -> list[list[str]]:
  """Other shares, and other numbers of workers."""
  like = {'feeding': 'federated', 'local_steps': 1, 'seed': 0}
  found = {
    'Dirichlet parameter 10, four workers': run(skew=10.0, **like),
    '1': run(skew=1.0, **like),
    '0.3': run(skew=0.3, **like),
    'even shares, two workers': run(skew=0.0, workers=2, **like),
    'eight workers': run(skew=0.0, workers=8, **like),
  }
  return [[name, f'{100 * row["value"]:.1f}'] for name, row in found.items()]
