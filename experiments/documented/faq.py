"""docs/faq.md."""

from collections.abc import Iterator

import numpy as np

from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, says
from experiments.documented.overview import freed_memory, lora_steps
from experiments.documented.recorded import one_row

SETTINGS = (
  r'LoRA of rank [28]',
  r'trained at rank 1',
  r'95 % interval',
  r'a batch of 32',
  r'16, 8 or 4 bits',
  r'1\.2 times its bytes',
  r'with 32 rows',
  r'32 rows of 32 tokens',
  r'of 128 tokens',
  r'glibc 2\.35',
)


def claims() -> Iterator[Claim]:
  """What it tells of GLUE, and of steps on a CPU."""
  average = lambda method: glue.main_row(method)['average'].split()[0]
  text = '{} and {} on average over {} seeds'
  seeds = glue.word(len(glue.at_every_rank()[glue.PREFIXES][0][1]))
  yield says(text, average('lora'), average('adapad'), seeds)
  _, low, high = glue.apart('lora', 'average')
  yield says('95 % interval {:+.1f} to {:+.1f}', low, high)
  gap = glue.held_out('lora')
  led = sum(gap[task] < 0 for task in glue.TASKS)
  text = 'LoRA leads on {} tasks of five, by {:.1f} on average'
  yield says(text, glue.word(led), -gap['average'])
  yield from prefixes()
  fast, slow = (lora_steps('MiniLM', dtype)[-1] for dtype in ('bfloat16', 'float32'))
  text = '{:.0f} ms with it and {:.0f} ms in float32, medians of {}'
  yield says(text, fast['ours_ms'], slow['ours_ms'], fast['repeats'])
  fast, slow = (
    one_row('speed.sft_steps', side='lora', beside='peft', dtype=dtype)['ms']
    for dtype in ('bfloat16', 'float32')
  )
  text = 'one of SmolLM2-135M on questions with answers {:,.0f} ms and {:,.0f} ms'
  yield says(text, fast, slow)
  yield from kept_memory()


def prefixes() -> Iterator[Claim]:
  """One component of every module beside LoRA."""
  curves = glue.at_every_rank()
  yield says(
    'component of every module came to {:.1f} and LoRA trained at rank 1 to {:.1f};'
    ' LoRA of rank 8 cut to one component by singular values to {:.1f}',
    *(np.mean(curves[name][0][1]) for name in curves),
  )
  fifths = 5 * glue.share_of_joint_rows()
  weight = 100 * glue.weight_of_joint_rows(batch=32, workers=4)
  text = "by default {} fifths of all and about {:.0f} % of the weight in a component's"
  yield says(text, glue.word(fifths), weight)


def kept_memory() -> Iterator[Claim]:
  """Steps whose memory the C library keeps."""
  short, long = map(freed_memory, (32, 128))
  yield says('took {:.2f} of its time', short['value'])
  yield says('of 128 tokens {:.2f} ', long['value'])
  text = "the latter's peak was {:.1f} GiB with it and {:.1f} GiB without"
  yield says(text, long['kept_peak_gib'], long['peak_gib'])
