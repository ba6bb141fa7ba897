"""experiments/speed/README.md."""

import itertools
from collections.abc import Iterator

import numpy as np

from experiments.documented import fits, roofline, speed_regression
from experiments.documented.claims import Claim, Table, says
from experiments.documented.overview import (
  BACKBONES,
  EPYC,
  EPYC_26,
  adapad_step_kept,
  adapad_steps,
  freed_memory,
)
from experiments.documented.recorded import one_row, printed, rows, value
from experiments.results import Row, matching
from experiments.tables import markdown

SETTINGS = (
  r'TinyLlama-1\.1B',
  r'every 3 GiB of moments',
  r'family 26( is Zen 5)?',
  *roofline.SETTINGS,
  r'\b(8|16|32|64) rows of \d+( tokens)?',
  r'64 tokens a row',
  r'batch 8 and 32',
  r'(rows of 8|with 32 rows)\b',
  r'Below 1 (JAX is|AdaPaD is|ours is)',
  r'ratio of at most 1 everywhere',
  r'(jax|torch) [\d.]+\d',
  r'\(CUDA 13\)',
  r'2\.5 GHz|AVX-512, 2\.5',
  r'come nearer to 1 than',
  r'r_max = 4',
  r'The aim is 0\.85',
  r'SmolLM2-135M with 8 rows',
  r'\b54f4f48\b',
  r'\b(3d422f4|5db6550)\b',
  r'in batches of 8, the\s+tokenising of 7,473 rows',
  r'`split` with r = 8 is',
  r'(989|312)(, dense| TFLOP/s)',
  r'glibc 2\.35',
  r'SQuAD 2\.0',
  r'axis of 1, 4, 8 and 64 virtual devices',
  r'450 GB/s one way over NVLink within 8 devices',
  r'900 GB/s both',
  r'50 GB/s over',
  r'one 400 Gb/s port',
  r'40 % of 989',
  r'for 2, 4 and\s+8 workers',
  r'\(72 modules\)',
  r'\| 4 H200 \| 8 H200 \| 64 H200 \|',
  r'has a 64th of its work',
  r'stays under 1 % on one machine',
  r': 64 rows are too few',
  r'stay\s+under is 24 GiB',
  r'0\.85 to 1\.15',
  r'rows of 128 tokens, float32',
  r'within 15 %',
  r'd = m = 1024',
  r'Aim: (0\.75|1\.3)\.',
  r'Aims: 1\.8;',
  r'relative error of 1e-5 (/|and of) 1e-6',
  r'more than 25 s|took 25 s',
  r'before 15:00 of the first day',
  r'\(16384 x 1024 inputs',
  r'At d = 4096',
  r'its own gap \(0\.1\)',
  r'at most 42 products of 74 rows',
  r'stopped below 1e-6',
  r'Whitening takes 1\.3 d\^3',
  r'at d = 4096',
  r'2 x 256 positions, vocabulary\s+49,152',
)
# When backbones ran: on a Xeon, on an EPYC, on a Xeon with bfloat16 units. The rows
# have no name of a processor.
DAYS = {'Xeon': '2026-11-22', 'EPYC': '2026-11-25', 'AMX': '2026-11-28'}


def claims() -> Iterator[Claim | Table]:
  """What it tells, from top to bottom."""
  yield Table(printed('speed.reading')[0], '## Reading many rows')
  yield from backbones()
  yield from bfloat16()
  yield from adapad_step()
  yield from card()
  yield from devices()
  yield from sizes()
  yield feedings()
  yield from start()
  yield Table(printed('speed.revisions')[0], '### Before and now')
  yield from kept_memory()
  yield from communication()
  yield from turns()
  yield from roofline.claims()
  yield Table(printed('speed.rerank_memory')[0], '### Re-ranking a model of')
  yield from memory()
  yield Table(printed('speed.forms')[0], '## Forms of the weights')
  yield from fits.speed()
  yield from speed_regression.claims()
  yield from sft_loss()
  yield from sft_steps()


def backbone(part: str, model: str, size: int, day: str, dtype: str) -> Row | None:
  """The row of a part of a model on one machine."""
  figure = f'{part} of {model}, {size} x 64 tokens: time beside torch'
  found = matching(rows('speed.backbones'), {'figure': figure, 'dtype': dtype})
  found = [row for row in found if row['when'].startswith(DAYS[day])]
  return found[-1] if found else None


def backbones() -> Iterator[Claim | Table]:
  """Products, forward passes and LoRA steps beside torch."""
  lines = []
  for model, size, day in (
    ('MiniLM', 8, 'Xeon'),
    ('MiniLM', 32, 'Xeon'),
    ('MiniLM', 32, 'EPYC'),
    ('DeBERTa-v3-xsmall', 8, 'Xeon'),
    ('DeBERTa-v3-xsmall', 32, 'Xeon'),
    ('SmolLM2-135M', 8, 'Xeon'),
    ('SmolLM2-135M', 32, 'Xeon'),
    ('SmolLM2-135M', 32, 'EPYC'),
  ):
    cells = []
    for part in ('matrix products', 'forward', 'LoRA step'):
      row = backbone(part, model, size, day, 'float32')
      cells.append(f'{row["value"]:.2f} ({row["repeats"]})' if row else 'not measured')
    lines.append([model, str(size), day, *cells])
  head = ['model', 'rows', 'machine', 'products', 'forward', 'LoRA step']
  yield Table(markdown(head, lines), '### Backbones: measured')
  bare = [
    row['value']
    for row in matching(rows('speed.backbones'), {'dtype': 'float32'})
    if row['figure'].startswith('matrix') and row['when'].startswith(DAYS['Xeon'])
  ]
  yield says("XLA's are up to {:.1f} times as slow", max(bare))


def bfloat16() -> Iterator[Claim | Table]:
  """Both number formats on the machine with units for the shorter one."""
  lines = []
  for model, size in (('MiniLM', 32), ('SmolLM2-135M', 8)):
    for dtype in ('float32', 'bfloat16'):
      parts = ('matrix products', 'forward', 'LoRA step')
      found = [backbone(part, model, size, 'AMX', dtype) for part in parts]
      ratios = [f'{row["value"]:.2f}' if row else 'not measured' for row in found]
      ms = [f'{row["ours_ms"]:.0f} ms' for row in found[1:]]
      lines.append([model, str(size), dtype, *ratios, *ms])
  repeats = [
    backbone('LoRA step', *case, 'AMX', 'bfloat16')['repeats']
    for case in (('MiniLM', 32), ('SmolLM2-135M', 8))
  ]
  yield says('(medians of {} pairs for MiniLM, {} for SmolLM2)', *repeats)
  head = ['model', 'rows', 'dtype', 'products', 'forward', 'LoRA step']
  yield Table(
    markdown([*head, 'our forward', 'our step'], lines), 'In bfloat16 (`--models'
  )


def adapad_step() -> Iterator[Claim | Table]:
  """AdaPaD's step beside PEFT's."""
  lines = []
  for processor, model in itertools.product((EPYC, EPYC_26), BACKBONES):
    for size in (8, 32):
      row = adapad_step_kept(model, size, processor)
      ratio = f'{row["value"]:.2f} ({row["least"]:.2f} to {row["most"]:.2f})'
      ms = [f'{row[side]:,.0f}' for side in ('ours_ms', 'torch_ms')]
      lines.append([model, str(size), ratio, *ms, row['processor']])
  head = ['model', 'rows', 'ratio', 'ms', "PEFT's ms", 'processor']
  yield Table(markdown(head, lines), '## An AdaPaD step beside')
  xeon, epyc = adapad_steps()
  text = '{:.2f} on two cores of an AMD EPYC ({} pairs)'
  yield says(text, epyc['value'], epyc['repeats'])
  text = '{:.2f} on two cores of a 2.5 GHz Xeon ({} pairs)'
  yield says(text, xeon['value'], xeon['repeats'])


def card() -> Iterator[Claim]:
  """DeBERTaV3-base on one H200."""
  size = 'r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16'
  for name, side in (
    ('LoRA of PEFT in torch', 'peft'),
    ('our LoRA', 'lora'),
    ('`split`', 'split'),
  ):
    row = one_row('speed.steps', f'{side} {size}')
    ratios = matching(
      rows('speed.steps'), {'figure': f'{side} {size}: time beside peft r=4'}
    )
    beside = [one['value'] for one in ratios]
    tokens = float(f'{row["tokens_per_second"]:.3g}')
    text = f'| {name} | {{:.1f}} | {"{:.2f}" if beside else ""} | {{:,.0f}} |'
    text = text.replace('|  |', '| |') + ' {:.1f} % | {:.1f} | {:.1f} |'
    more = row['model_flop_utilisation'], row['peak_gib'], row['first_step_s']
    yield says(text, row['value'], *beside, tokens, 100 * more[0], *more[1:])
  ratio = value('speed.steps', f'split {size}: time beside lora r=4')
  yield says('`split` takes {:.2f} of our', ratio)


def devices() -> Iterator[Claim]:
  """Two devices beside one."""
  for name, feeding, axis in (
    ('`replicate`, a worker on each device', 'replicate', 'worker'),
    ('`split`, a worker on each device', 'split', 'worker'),
    ('`split`, half of the rows on each device', 'split', 'data'),
  ):
    figure = f'{feeding} r=2 step of MiniLM, 32 x 64 tokens, float32: two devices along'
    row = one_row('speed.turns', f'{figure} {axis} beside one, a core each')
    ratios = np.divide(row['one_ms'], row['two_ms'])
    text = f'| {name} | {{:.2f}} ({{:.2f}} to {{:.2f}}) |'
    yield says(text, row['value'], ratios.min(), ratios.max())


def sizes() -> Iterator[Claim | Table]:
  """Tokens a second, and the peak of the process."""
  rate, lines = {}, []
  for name, method, rank, size, length in (
    ('`split`, r = 4, 16 rows of 32', 'split', 4, 16, 32),
    ('64 tokens', 'split', 4, 16, 64),
    ('128', 'split', 4, 16, 128),
    ('256', 'split', 4, 16, 256),
    ('8 rows of 64', 'split', 4, 8, 64),
    ('32 rows', 'split', 4, 32, 64),
    ('64 rows', 'split', 4, 64, 64),
    ('r = 2, 16 rows of 64', 'split', 2, 16, 64),
    ('r = 8', 'split', 8, 16, 64),
    ('`replicate`, r = 2', 'replicate', 2, 16, 64),
    ('r = 4', 'replicate', 4, 16, 64),
    ('r = 8', 'replicate', 8, 16, 64),
  ):
    like = {'method': method, 'rank': rank, 'rows': size, 'length': length}
    row = one_row('speed.steps', model='MiniLM', **like)
    rate[method, rank, size, length] = row['value']
    lines.append([name, f'{row["value"]:,.0f}', f'{row["peak_gib"]:.1f}'])
  yield Table(markdown(['', 'tokens a second', 'peak, GiB'], lines), '### How cost')
  slower = [rate['split', r, 16, 64] / rate['replicate', r, 16, 64] for r in (2, 4, 8)]
  text = '`replicate` costs {:.1f}, {:.1f} and {:.1f} times as much'
  yield says(text, *slower)
  yield says(
    'it took {:.1f}, {:.1f} and {:.1f} times as much and {:.1f}, {:.1f} and {:.1f} GiB',
    *(at_once(r, 'split')['value'] / at_once(r)['value'] for r in (2, 4, 8)),
    *(at_once(r)['peak_gib'] for r in (2, 4, 8)),
  )


def at_once(rank: int, method: str = 'replicate') -> Row:
  """The first row of a step: with the rows of all workers at once, no memory kept."""
  like = {'method': method, 'rank': rank, 'rows': 16, 'length': 64}
  return matching(rows('speed.steps'), {'model': 'MiniLM', **like})[0]


def feedings() -> Table:
  """Every worker on every row beside the rows shared among them."""
  lines = []
  for rank in (2, 4, 8):
    figure = f'replicate r={rank} step of MiniLM, 16 x 64 tokens, float32: times split'
    row = one_row('speed.turns', figure)
    spread = f'{row["value"]:.2f} ({row["least"]:.2f} to {row["most"]:.2f})'
    ms = [f'{np.median(row[side]):,.0f}' for side in ('ms', 'other_ms')]
    lines.append([str(rank), spread, *ms, row['processor']])
  head = ['r', 'times `split`', 'ms', "`split`'s ms", 'processor']
  return Table(markdown(head, lines), '`replicate` beside `split`')


def start() -> Iterator[Table]:
  """Every kind of start."""
  yield Table(printed('speed.start')[0], '### Start-up')


def kept_memory() -> Iterator[Claim]:
  """Steps whose memory the C library keeps."""
  for length in (32, 128):
    row = freed_memory(length)
    ratios = np.divide(row['kept_ms'], row['ms'])
    text = (
      f'| 32 rows of {length} tokens | {{:.2f}} ({{:.2f}} to {{:.2f}}) | {{:.1f}} |'
    )
    spread = ratios.min(), ratios.max()
    yield says(
      text + ' {:.1f} |', row['value'], *spread, row['kept_peak_gib'], row['peak_gib']
    )


def communication() -> Iterator[Claim]:
  """Shares that follow from lowered programs."""
  for model, name in (
    ('DeBERTa-v3-base', 'DeBERTaV3-base'),
    ('Qwen3-0.6B', 'Qwen3-0.6B'),
  ):
    for feeding in ('replicate', 'split'):
      like = {'model': model, 'feeding': feeding, 'workers': 64}
      shares = [
        100 * one_row('speed.collectives', devices=n, **like)['value']
        for n in (4, 8, 64)
      ]
      digits = [2, 2, 1] if feeding == 'replicate' else [1, 1, 1]
      fields = ' | '.join(f'{{:.{n}f}} %' for n in digits)
      yield says(f'| {name}, `{feeding}` | {fields} |', *shares)
  base, large = (
    one_row('speed.collectives', model=model, devices=4)
    for model in ('DeBERTa-v3-base', 'Qwen3-0.6B')
  )
  text = '{:.1f} and {:.1f} MB for DeBERTaV3-base'
  yield says(text, base['megabytes_gathered'], base['megabytes_reduced'])
  text = '{:.1f} MB and {:.0f} KB for Qwen3-0.6B'
  yield says(text, large['megabytes_gathered'], 1e3 * large['megabytes_reduced'])


def turns() -> Iterator[Table]:
  """Steps of DeBERTaV3-base beside LoRA's."""
  lines = []
  for feeding in ('split', 'replicate'):
    for rank in (2, 4, 8):
      figure = (
        f'{feeding} r={rank} step of DeBERTa-v3-base, 8 x 32 tokens, float32: time'
      )
      found = [
        one_row('speed.turns', f'{figure} beside {side} r=4, by turns')['value']
        for side in ('lora', 'peft')
      ]
      lines.append([f'`{feeding}`, r = {rank}', *(f'{one:.2f}' for one in found)])
  head = ['', 'beside our LoRA', "beside PEFT's"]
  yield Table(markdown(head, lines), '### Steps by turns')


def memory() -> Iterator[Claim]:
  """Peaks of processes, and what was estimated."""
  for model in ('DeBERTa-v3-base', 'Qwen3-0.6B'):
    row = one_row('speed.full_size', f'AdaPaD step of {model}: peak memory')
    text = f'| {model} | {{:.0f}} million | {{:.1f}} GiB |'
    yield says(text, row['parameters'] / 1e6, row['value'])
  for name, like in (
    ('AdaPaD, 16 rows', {'rows': 16, 'accumulate': 1, 'remat': False, 'rank': 4}),
    ('AdaPaD, 32 rows', {'rows': 32}),
    ('AdaPaD, `replicate`, r_max 2, 16 rows', {'feeding': 'replicate'}),
    ('AdaPaD, 16 rows in four parts', {'accumulate': 4}),
    ('AdaPaD, 16 rows, rematerialisation', {'remat': True}),
    ('LoRA, 16 rows', {'method': 'lora'}),
    ('all weights, 16 rows', {'method': 'full'}),
  ):
    row = one_row('speed.memory', **({'method': 'adapad'} | like))
    sides = row['estimated_mib'], row['measured_mib']
    yield says(f'| {name} | {{:,.0f}} | {{:,.0f}} | {{:.2f}} |', *sides, row['value'])


def sft_loss() -> Iterator[Claim]:
  """Memory and time of the loss."""
  for vocabulary, features, size, length in (
    (151936, 1024, 8, 1024),
    (151936, 1024, 2, 512),
    (49152, 576, 8, 512),
  ):
    like = {'vocabulary': vocabulary, 'rows': size, 'positions': length}
    sides = [
      value('speed.sft_loss', f'memory of {n}', **like) for n in ('plain', 'chunks')
    ]
    text = f'| {vocabulary:,} | {features:,} | {size} x {length:,} | {{:,.0f}} MiB |'
    yield says(text + ' {:,.0f} MiB |', *sides)
  for share in (1.0, 0.5, 0.1):
    ratio = value('speed.sft_loss', 'chunks over plain', share=share)
    yield says(f'| {100 * share:.0f} % | {{:.2f}} |', ratio)


def sft_steps() -> Iterator[Claim | Table]:
  """Steps of instruction tuning beside PEFT's and TRL's."""
  for one in printed('speed.sft_steps'):
    yield Table(one, '## A step of instruction tuning')
  like = {'side': 'lora', 'beside': 'peft'}
  wide, narrow = (
    one_row('speed.sft_steps', dtype=dtype, **like)['repeats']
    for dtype in ('float32', 'bfloat16')
  )
  words = {5: 'five', 7: 'seven'}
  yield says('{} pairs in float32, {} in bfloat16', words[wide], words[narrow])
