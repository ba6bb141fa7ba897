"""docs/concepts.md."""

from collections.abc import Iterator

from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, says

SETTINGS = (
  r'workers 1 \.\. k-1',
  r'a batch of 32',
  r'the first 1, 2, 4, \.\.\. components',
  r'start with \$b = 0\$',
  r'512 MiB, of its size, the first 16 KiB of every MiB and the last 16 KiB',
)


def claims() -> Iterator[Claim]:
  """What follows from the defaults: which rows train together."""
  joint, polish = glue.defaults()
  share = 100 * glue.share_of_joint_rows()
  yield says('{:g} x {:g} + {:g} = {:.0f} %', joint, 1 - polish, polish, share)
  weight = 100 * glue.weight_of_joint_rows(batch=32, workers=4)
  yield says('with {} workers {:.0f} % of the weight', 'four', weight)
  together = joint * 32
  own = (32 - together) / 4
  text = '{:.0f} of the {:.0f} rows of a batch of 32'
  yield says(text, together, together + own)
  text = '{:.0f} of {:.0f} for one that learns in advance'
  yield says(text, own, together + own)
