"""experiments/README.md."""

from collections.abc import Iterator

import numpy as np

from experiments.documented import fits, overview_theory, sft
from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import cells, one_row, rows, value
from experiments.results import Row, matching

# Processors as rows have them: of the first EPYC no more than the name is recorded.
XEON = 'Intel(R) Xeon(R) Processor'
EPYC, EPYC_26 = 'AMD EPYC', 'AMD EPYC (family 26, model 2)'
EPYC_23 = 'AMD EPYC (family 23, model 1)'
BACKBONES = ('MiniLM', 'DeBERTa-v3-xsmall', 'SmolLM2-135M')
SETTINGS = (
  r'2\.5 GHz Xeon',
  r'1,399 held-out\s+snippets',
  r'first 1, 2, 3, 4 components',
  r'rank (1|2|8|16)\b',
  r'a rate chosen after these seeds had been seen at 2e-3',
  r'AdaPaD at 1e-3',
  r'LoRA at 2e-3 alone',
  r'44 training articles',
  r'1,024 questions',
  r'400 scored',
  r'100 batches',
  r'at 1, 2, 5, 10, 25 local steps',
  r'seed [01]:',
  r'below 1 ours',
  r'\d+ x [\d,]+ (tokens|positions)',
  r'8 and 32 rows of 64 tokens',
  r'(32|8) rows',
  r'32 rows of 32 and of 128 tokens',
  r'a vocabulary of 151,936',
  r'd = m = 1024, r = 64',
  r'13,470 rows to validate on',
  r'`\(1 - gap\)\^2`',
  r'at rank 12',
  r'40 steps of 8 rows of GSM8K',
  r'393,000 pairs of sentences',
  r'ranks 1, 4, 8:',
  r'after 64 rounds; sequential deflation with 4 rounds',
  r'where 1 % was asked for',
  r'gets to 1e-3',
  r'family 26',
)


def claims() -> Iterator[Claim | Table]:
  """What it tells, from top to bottom."""
  yield from quickstart()
  yield from comparison()
  yield from three_epochs()
  yield from squad()
  yield from decoder()
  yield from elsewhere()
  yield from times()
  yield from reading()
  yield from memory()
  yield from overview_theory.claims()


def quickstart() -> Iterator[Claim]:
  """The run that `export.metrics` has scored in torch too."""
  baseline = one_row('federated.sweeps', task='rotten_tomatoes')['baseline']
  yield says('the majority class has {:.3f}', baseline)
  accuracy = value('export.metrics', 'accuracy in JAX')
  yield says('| quickstart | {:.3f} |', accuracy)
  curve = value('export.metrics', 'accuracy at max_rank 0, 1, ...')[1:]
  fields = ', '.join('{:.3f}' for _ in curve)
  yield says(f'components a module | {fields} |', *curve)


def comparison() -> Iterator[Claim]:
  """Five tasks with searched rates."""
  average = lambda method: glue.main_row(method)['average']
  yield says('(H100, H200) | {} | {} |', average('adapad'), average('lora'))
  middle, low, high = glue.apart('lora', 'average')
  yield says(
    "it is {:.1f} points ahead on average, which is within the seeds' noise"
    ' ({:+.1f} to {:+.1f})',
    middle,
    low,
    high,
  )
  gap = glue.held_out('lora')
  led = sum(gap[task] < 0 for task in glue.TASKS)
  text = 'LoRA leads on {} tasks of five, by {:.1f} points on average'
  yield says(text, glue.word(led), -gap['average'])
  yield says('LoRA is {:.1f} points ahead, three seeds', -gap['sst2'])
  ahead = glue.gaps(glue.COMPONENTS)
  there = [glue.held_out(peer)['average'] for peer in glue.COMPONENTS]
  text = 'by {:.1f} to {:.1f} points on average on the development sets, and by {:.1f}'
  text += ' to {:.1f} on the held-out fifths'
  yield says(text, min(ahead), max(ahead), min(there), max(there))
  tables = glue.searched('--methods=lora', '--budget=2,8')
  more = cells('larger budget', tables, 'lora 8 minus 2')
  yield says(
    'LoRA of rank 8 is {:.1f} points ahead of rank 2 on CoLA, which is within the'
    ' noise, and {:.1f} on RTE',
    float(more['cola'].split()[0]),
    float(more['rte'].split()[0]),
  )


def three_epochs() -> Iterator[Claim]:
  """CoLA and STS-B by their recipes."""
  adapad, lora = glue.epochs('cola', 'adapad', 1e-3), glue.epochs('cola', 'lora', 2e-3)
  yield says('| {} | {} | [glue](glue/README.md#whole-tasks', adapad, lora)
  yield says('at 2e-3, where it has {};', glue.epochs('cola', 'adapad', 2e-3))
  both = [glue.epochs('stsb', method, 2e-3) for method in ('adapad', 'lora')]
  yield says("the same: Pearson's correlation (H100) | {} | {} |", *both)


def squad() -> Iterator[Claim]:
  """Marked and generated answers."""
  span = lambda figure, **about: value('squad.span', figure, **about)
  v1 = [
    span(figure, task='v1', method=method, steps=700)
    for method in ('adapad', 'lora')
    for figure in ('exact_match', 'f1')
  ]
  yield says('F1 (H100) | {:.1f}, {:.1f} | {:.1f}, {:.1f} |', *v1)
  v2 = [span(figure, task='v2', steps=330) for figure in ('exact', 'f1')]
  none, all_ = (span(f, task='v2', steps=330) for f in ('NoAns_total', 'total'))
  text = 'F1 (EPYC); {:.1f} without any answer | {:.1f}, {:.1f} |'
  yield says(text, 100 * none / all_, *v2)
  made = lambda figure, **about: value('squad.generate', figure, **about)
  before = [made(f'{name} before') for name in ('exact_match', 'f1')]
  yield says('exact match, F1; {:.1f}, {:.1f} before', *before)
  after = {
    method: [
      *(made(f'{name} after', method=method) for name in ('exact_match', 'f1')),
      made('adapter size', method=method),
    ]
    for method in ('adapad', 'lora', 'lora-1')
  }
  yield says('| {:.1f}, {:.1f} with {:,} parameters |', *after['adapad'])
  text = '| {:.1f}, {:.1f} with {:,} (rank 1: {:.1f}, {:.1f} with {:,}) |'
  yield says(text, *after['lora'], *after['lora-1'])


def decoder() -> Iterator[Claim]:
  """AdaPaD beside LoRA in instruction tuning."""
  before = [
    one['prefixes'][0]
    for one in matching(rows('sft.comparison'), {'kind': 'run', 'task': 'gsm8k'})
    if one['method'] == 'adapad'
  ]
  yield says('nats a token; {:.3f} before', np.mean(before))
  others = [
    np.mean([*sft.losses('gsm8k', f'lora-{rank}').values()]) for rank in (1, 4, 8)
  ]
  text = 'before (Xeon, EPYC) | {} | {} (ranks 1, 4, 8: {:.4f}, {:.4f}, {:.4f})'
  own, lora = (sft.mean_text('gsm8k', method) for method in ('adapad', 'lora-2'))
  yield says(text, own, lora, *others)


def elsewhere() -> Iterator[Claim]:
  """Federated workers, and a LoRA that was cut."""
  found = matching(rows('federated.sweeps'), {'steps': 100, 'workers': 4, 'skew': 0.0})
  score = lambda **about: 100 * matching(found, about)[-1]['value']
  fields = ', '.join(['{:.1f}'] * 5)
  yield says(
    f'seed 0: {fields}; seed 1: {fields}',
    *(
      score(feeding='federated', seed=seed, local_steps=steps)
      for seed in (0, 1)
      for steps in (1, 2, 5, 10, 25)
    ),
  )
  both = [score(feeding='split', seed=seed) for seed in (0, 1)]
  yield says('sees all data | {:.1f}; {:.1f} |', *both)
  yield says(
    '(SST-2, accuracy {:.1f})', value('export.rerank', 'accuracy, whole adapter')
  )
  cut = [
    value('export.rerank', f'{figure}, {by}, shared budget', share=0.25)
    for by in ('re-ranked', 'svd')
    for figure in ('accuracy', 'logits kept')
  ]
  yield says('| {:.1f}, {:.4f}; {:.1f}, {:.4f} (one core) |', *cut)


def reading() -> Iterator[Claim]:
  """Files of many rows."""
  text = 'first start, second; peak | {:.1f} s, {:.1f} s; {:.2f} GiB (EPYC);'
  text += ' {:.1f} s, {:.1f} s; {:.2f} GiB (EPYC of family 26) |'
  numbers = []
  for processor in (EPYC, EPYC_26):
    about = {'data': 'pairs', 'processor': processor}
    first, second = (
      one_row('speed.reading', start=start, **about) for start in ('first', 'second')
    )
    numbers += [first['value'], second['value'], first['peak_gib']]
  yield says(text, *numbers)


def times() -> Iterator[Claim]:
  """Steps beside others, and start-up."""
  xeon, _ = adapad_steps()
  text = '| {:.2f}, {:.2f}; {:.2f}, {:.2f}; {:.2f}, {:.2f} on an EPYC ({});'
  text += ' {:.2f}, {:.2f}; {:.2f}, {:.2f}; {:.2f}, {:.2f} on one of family 26 ({});'
  text += ' MiniLM with 32 rows, before freed memory was kept, {:.2f} on a Xeon ({}) |'
  numbers = []
  for processor in (EPYC, EPYC_26):
    kept = [adapad_step_kept(m, size, processor) for m in BACKBONES for size in (8, 32)]
    numbers += [row['value'] for row in kept] + [kept[0]['repeats']]
  yield says(text, *numbers, xeon['value'], xeon['repeats'])
  steps = [lora_steps(model) for model in BACKBONES]
  ends = [f(row['value'] for row in own) for own in steps for f in (min, max)]
  repeats = [row['repeats'] for own in steps for row in own]
  text = (
    '| {:.2f} to {:.2f}, {:.2f} to {:.2f}, {:.2f} to {:.2f} over all runs and machines'
  )
  text += ' (two Xeons, an EPYC; {} to {}) |'
  yield says(text, *ends, min(repeats), max(repeats))
  yield from bfloat16()
  card = 'r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16'
  ms = [value('speed.steps', f'{side} {card}') for side in ('split', 'lora', 'peft')]
  yield says('| {:.1f} ms, {:.1f} ms, {:.1f} ms |', *ms)
  yield from devices()
  first = 'start to the first step of configs/glue.py:quickstart, {} compilation cache'
  figures = [first.format(cache) for cache in ('empty', 'warm')]
  figures.append('start with --dry_run of configs/glue.py:quickstart')
  text = '| {:.1f} s, {:.1f} s; {:.1f} s (EPYC, {} starts each);'
  text += ' {:.1f} s, {:.1f} s; {:.1f} s (EPYC of family 26, {});'
  text += ' {:.1f} s, {:.1f} s; {:.1f} s (EPYC of family 23, {}) |'
  numbers = []
  for processor in (EPYC, EPYC_26, EPYC_23):
    found = [one_row('speed.start', figure, processor=processor) for figure in figures]
    numbers += [row['value'] for row in found] + [found[0]['repeats']]
  yield says(text, *numbers)
  yield from first_steps()
  search = value('squad.search', 'search, texts and choice')
  yield says('one core | {:.2f} s |', search)
  yield says(
    '| {:.2f} times as fast |', value('speed.regression', 'speed-up of two devices')
  )


def adapad_steps() -> list[Row]:
  """AdaPaD's step beside PEFT's LoRA before freed memory was kept: Xeon and EPYC."""
  found = matching(rows('speed.backbones'), {'figure': _adapad_step('MiniLM', 32)})
  return [row for row in found if 'processor' not in row]


def first_steps() -> Iterator[Claim]:
  """First steps beside those of earlier versions."""
  at = lambda which, processor: one_row(
    'speed.revisions', f'{which}first step: seconds', processor=processor
  )
  one, other = at('', XEON), at('', EPYC_26)
  text = 'kernels | {:.1f} s; {:.1f} s (Xeon, {} starts each); {:.1f} s; {:.1f} s (EPYC'
  numbers = [row[x] for row in (one, other) for x in ('value', 'before', 'repeats')]
  yield says(text + ' of family 26, {}) |', *numbers)
  one = at('SmolLM2, ', XEON)
  text = 'at once | {:.1f} s; {:.1f} s (Xeon, {} starts each) |'
  yield says(text, one['value'], one['before'], one['repeats'])


def adapad_step_kept(model: str, size: int, processor: str) -> Row:
  """The same by now, of so many rows."""
  return one_row('speed.backbones', _adapad_step(model, size), processor=processor)


def _adapad_step(model: str, size: int) -> str:
  return (
    f'AdaPaD split step of {model}, {size} x 64 tokens: time beside a LoRA step of PEFT'
  )


def lora_steps(model: str, dtype: str = 'float32') -> list[Row]:
  """Every row of a LoRA step of ours beside PEFT's."""
  found = matching(rows('speed.backbones'), {'dtype': dtype})
  return [row for row in found if row['figure'].startswith(f'LoRA step of {model},')]


def bfloat16() -> Iterator[Claim]:
  """The newest rows of either number format, of one machine."""
  mini = [lora_steps('MiniLM', dtype)[-1] for dtype in ('bfloat16', 'float32')]
  smol = [lora_steps('SmolLM2-135M', dtype)[-1] for dtype in ('bfloat16', 'float32')]
  ms = [row['ours_ms'] for row in (*mini, *smol)]
  text = '| {:.0f} ms, {:.0f} ms; {:.0f} ms, {:.0f} ms (medians of {} and {}) |'
  yield says(text, *ms, mini[0]['repeats'], smol[0]['repeats'])


def devices() -> Iterator[Claim]:
  """Two devices beside one, and how far the turns lie apart."""
  found = [
    one_row(
      'speed.turns',
      f'{feeding} r=2 step of MiniLM, 32 x 64 tokens, float32: two devices along {axis}'
      ' beside one, a core each',
    )
    for feeding, axis in (
      ('replicate', 'worker'),
      ('split', 'worker'),
      ('split', 'data'),
    )
  ]
  turns = [np.divide(row['one_ms'], row['two_ms']) for row in found]
  yield says(
    '| {:.2f}, {:.2f}, {:.2f} times as fast (EPYC; medians of {} turns, which lie'
    ' between {:.2f} and {:.2f}) |',
    *(row['value'] for row in found),
    glue.word(len(turns[0])),
    np.min(turns),
    np.max(turns),
  )


def memory() -> Iterator[Claim]:
  """Of processes and of one function."""
  peaks = [
    value('speed.full_size', f'AdaPaD step of {model}: peak memory')
    for model in ('DeBERTa-v3-base', 'Qwen3-0.6B')
  ]
  yield says('| {:.1f} GiB, {:.1f} GiB |', *peaks)
  ratios = [row['value'] for row in rows('speed.memory')]
  yield says('{} kinds of run | {:.2f} to {:.2f} |', 'seven', min(ratios), max(ratios))
  yield fits.overview()
  loss = [
    value('speed.sft_loss', f'memory of {form}', rows=8, positions=1024)
    for form in ('chunks', 'plain')
  ]
  yield says('| {:.0f} MiB; {:,.0f} MiB |', *loss)
  wide, narrow = (
    [
      one_row('speed.sft_steps', side=side, beside='peft', dtype=dtype)
      for side in ('lora', 'adapad')
    ]
    for dtype in ('float32', 'bfloat16')
  )
  ratios = [one['value'] for one in (*wide, *narrow)]
  text = '| {:.2f}, {:.2f} ({}); {:.2f}, {:.2f} ({}), on a Xeon'
  turns = wide[0]['repeats'], narrow[0]['repeats']
  yield says(text, *ratios[:2], turns[0], *ratios[2:], turns[1])
  kept = [freed_memory(length) for length in (32, 128)]
  text = '| {:.2f}, {:.2f} ({}) | [speed](speed/README.md#freed'
  yield says(text, *(one['value'] for one in kept), len(kept[0]['ms']))


def freed_memory(length: int) -> Row:
  """A step of so many tokens whose memory the C library keeps."""
  step = f'split r=4 step of MiniLM, 32 x {length} tokens, float32'
  figure = f'{step}: time with freed memory kept beside without'
  return one_row('speed.turns', figure)
