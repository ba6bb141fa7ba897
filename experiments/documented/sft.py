"""experiments/sft/README.md."""

from collections.abc import Iterator

from experiments.documented.claims import Table
from experiments.documented.recorded import printed

SETTINGS = (r'ranks 1, 2, 4 and 8', r'20 steps', r'8 rows', r'96 rows', r'160 tokens')


def claims() -> Iterator[Table]:
  """Losses by form of the frozen kernels."""
  yield Table(printed('sft.forms')[0], '## Bases of four bits')
