"""experiments/sft/README.md."""

from collections.abc import Iterator

from experiments.documented.claims import Table
from experiments.documented.recorded import printed

SETTINGS = (
  r'ranks 1, 2, 4 and 8',
  r'[24]0 steps',
  r'8 rows',
  r'96 rows',
  r'256 of the held-out rows',
  r'160 tokens',
  r'best at 4e-3',
  r'\| method( \| 0\.00\d+)+ \|',
)


def claims() -> Iterator[Table]:
  """Losses by learning rate, and by form of the frozen kernels."""
  tables = printed('sft.comparison')
  arc, gsm8k = (one for one in tables if one.startswith('| method | 0.'))
  yield Table(arc, '### Search on ARC-easy')
  yield Table(gsm8k, '### Search on GSM8K')
  yield Table(printed('sft.forms')[0], '## Bases of four bits')
