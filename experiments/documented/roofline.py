"""What is predicted of a step on an H200, in experiments/speed/README.md."""

from collections.abc import Iterator

from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import one_row, printed
from experiments.results import Row

SETTINGS = (
  r'989 TFLOP/s in bfloat16, 494 in TF32',
  r"half of the data sheet's 67 TFLOP/s",
  r'read and written, 4\.8 TB/s',
  r'launch: 3 us from',
  r'has 3\.8 us\s+for a kernel of 2\.9 us, and 3\.4 us within',
  r'every 16-bit number',
  r'each\s+32-bit word',
  r'\(32 x 128 and 64 x 256 tokens\)',
  r'\(8 x 1,024\), bfloat16, r = 4',
)


def claims() -> Iterator[Claim | Table]:
  """Both tables, and what is made of them."""
  sums, groups = printed('speed.roofline')
  yield Table(sums, '## Where a step would go on an H200')
  yield Table(groups, 'What the kernels of the first row are there for')
  split, lora = predicted('before'), predicted('before', 'lora')
  yield from beside_the_card(split, lora)
  yield from parts(split)
  yield from changes(split)


def predicted(code: str, method: str = 'split', scan: bool = True) -> Row:
  """The row of DeBERTaV3-base, 32 x 128 tokens."""
  step = f'{method} r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16'
  return one_row('speed.roofline', code=code, step=step, scan=scan)


def beside_the_card(split: Row, lora: Row) -> Iterator[Claim]:
  """What was measured with the code that was compiled."""
  ours, (first, second) = (
    split['value'],
    (one_row('speed.steps', row['step'])['value'] for row in (split, lora)),
  )
  text = (
    "prediction is {:.1f} of the {:.1f} ms of `split`, and {:.1f} of our LoRA's {:.1f}."
  )
  yield says(text, ours, first, lora['value'], second)
  text = '{:.1f} and {:.1f} ms should be kernels'
  yield says(text, first - ours, second - lora['value'])


def parts(split: Row) -> Iterator[Claim]:
  """What holds kernels back, and what some of them are there for."""
  limits, groups = split['limits_ms'], split['groups']
  yield says('products hold back take {:.2f} ms', limits['products'])
  text = '{:.2f} ms are bytes, {:.2f} ms the launches of small kernels, and {:.2f} ms'
  yield says(text, limits['memory'], limits['launch'], limits['units'])
  positions = [v['ms'] for k, v in groups.items() if k.startswith('relative')]
  yield says('**Relative positions** take {:.1f} ms', sum(positions))
  yield says('**Dropout** takes {:.1f} ms', groups['dropout']['ms'])
  last = groups['optimiser, masks, ranks']
  text = 'masks and ranks has {:.0f} kernels, since'
  yield says(text, last['kernels'])
  yield says('modules lie in one array: {:.2f} ms', last['ms'])


def changes(split: Row) -> Iterator[Claim]:
  """The same with layers written out, and with the code as it is."""
  whole = predicted('before', scan=False)
  text = 'has {:,} kernels in place of {:,}, moves {:.1f} GB in place of {:.1f} and'
  sizes = [row[k] for k in ('kernels', 'gigabytes') for row in (whole, split)]
  yield says(text, *sizes)
  yield says('is predicted to take {:.1f} ms', whole['value'])
  stacks = split['groups']['copies into and out of scanned stacks']['ms']
  yield says('into stacks and out of them ({:.2f} ms)', stacks)
  now = [predicted('now', scan=scan) for scan in (True, False)]
  text = '{:.1f} GB and {:.1f} ms scanned, {:.1f} GB and {:.1f} ms unrolled'
  yield says(text, *(row[k] for row in now for k in ('gigabytes', 'value')))
