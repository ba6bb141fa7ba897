"""Memory by tracing (`speed.fits`): what pages tell of it."""

import math
from collections.abc import Iterator

from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import one_row, printed, rows, table
from experiments.results import Row, matching
from experiments.tables import markdown

_CARD = 'r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16'
# What a page calls a step -> how rows begin.
_STEPS = {'`split`': 'split', 'LoRA': 'lora'}


def checks() -> dict[str, Row]:
  """By the name of a step: the estimate over the peak on a card."""
  figure = 'memory by tracing over the peak on a card'
  of = lambda side: one_row('speed.fits', figure, step=f'{side} {_CARD}')
  return {name: of(side) for name, side in _STEPS.items()}


def overview() -> Claim:
  """The row of experiments/README.md."""
  text = 'H200, a `split` and a LoRA step of DeBERTaV3-base | {:.2f}, {:.2f} |'
  return says(text, *(found['value'] for found in checks().values()))


def speed() -> Iterator[Claim | Table]:
  """The section of experiments/speed/README.md."""
  cases = matching(rows('speed.fits'), {'figure': 'memory that a device needs'})
  forms = len({row['weights'] for row in cases})
  devices = sorted({row['devices'] for row in cases})
  text = 'in {} forms of weights on {}, {} and {} devices'
  yield says(text, glue.word(forms), *devices)
  yield says('against the {} steps whose peak', glue.word(len(checks())))
  lines = []
  for name, found in checks().items():
    # The peak is that of the step's own row: measured anew, it has to be traced anew.
    sides = found['traced_gib'], one_row('speed.steps', found['step'])['peak_gib']
    lines.append([f'{name}, r = 4', *(f'{gib:.3f}' for gib in sides)])
  head = ['step', 'traced, GiB', 'measured, GiB']
  yield Table(markdown(head, lines), '## What fits')


def models() -> Iterator[Claim | Table]:
  """The section of docs/models.md."""
  yield Table(table('model', printed('speed.fits')), '## What fits')
  sizes = {(r['batch'], r['length']) for r in rows('speed.fits') if 'batch' in r}
  ((batch, length),) = sizes
  yield says('AdaPaD, {} rows that fill {:,} tokens', batch, length)
  off = [abs(1 - found['value']) for found in checks().values()]
  text = 'The same count was within {} % of what an H200 held in {} steps'
  yield says(text, math.ceil(100 * max(off)), glue.word(len(off)))
