"""experiments/sft/README.md."""

from collections.abc import Iterator

import numpy as np

from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import one_row, printed, rows
from experiments.results import Row, matching
from experiments.sft.every_rank import OVER_RANKS, RANKS
from experiments.tables import mean_sd, paired, paired_text

SETTINGS = (
  r'ranks 1, 2, 4 and 8',
  r'rank 1, 2 and 4',
  r'128 rows of the',
  r'96 rows of the',
  r'210 modules',
  r'[24]0 steps',
  r'8 rows',
  r'96 rows',
  r'on 256 rows',
  r'the 256 rows of the test file',
  r'first 1, 2 and 4',
  r'on 16 generated',
  r'160 tokens( \(GSM8K\) and 144)?',
  r'batches of 8',
  r'\| method( \| 0\.00\d+)+ \|',
)


def claims() -> Iterator[Claim | Table]:
  """Searches, runs and prefixes, and losses by form of the frozen kernels."""
  tables = printed('sft.comparison')
  for task, part in zip(('ARC-easy', 'GSM8K'), (tables[:3], tables[3:]), strict=True):
    search, runs, prefixes = part
    yield Table(search, f'### Search on {task}')
    yield Table(runs, f'### Runs on {task}')
    yield Table(prefixes, f'### Runs on {task}')
  yield from gsm8k()
  yield from arc()
  yield from screening()
  yield from every_rank()
  yield from extraction()
  yield Table(printed('sft.forms')[0], '## Bases of four bits')


def gsm8k() -> Iterator[Claim]:
  """What rank is worth to LoRA, and how far AdaPaD is behind."""
  mean = {
    method: np.mean([*losses('gsm8k', method).values()])
    for method in ('adapad', 'lora-1', 'lora-2', 'lora-4')
  }
  yield says(
    "LoRA's loss falls by {:.3f} from rank 1 to 2 and by {:.3f} from 2 to 4",
    mean['lora-1'] - mean['lora-2'],
    mean['lora-2'] - mean['lora-4'],
  )
  yield says('behind that of rank 2 by {:.3f}', mean['adapad'] - mean['lora-2'])
  yield says('reach {:.3f} to either side at most', widest('gsm8k'))


def arc() -> Iterator[Claim]:
  """Before and after training, and what could not be seen."""
  own = matching(rows('sft.comparison'), {'kind': 'run', 'task': 'arc'})
  before = np.mean([one['prefixes'][0] for one in own if one['method'] == 'adapad'])
  after = np.mean([*losses('arc', 'adapad').values()])
  yield says('the loss falls from {:.2f} to {:.2f}', before, after)
  yield says('differences below {:.3f}', widest('arc'))


def screening() -> Iterator[Claim | Table]:
  """Variants of the recipe, and how far the same run on two machines is apart."""
  yield Table(printed('sft.screening')[0], '## What of the recipe costs')
  twice = {'LoRA of rank 2': 'lora-2', 'recipe with half of the rows joint': 'adapad'}
  gaps = []
  for variant, method in twice.items():
    like = {'seed': 1000, 'rate': 4e-3, 'task': 'gsm8k'}
    here = one_row('sft.screening', variant=variant, **like)
    there = one_row('sft.comparison', method=method, kind='tune', **like)
    gaps.append(abs(here['value'] - there['value']))
  yield says('differs by up to {:.4f}', max(gaps))
  first, *_ = matching(rows('sft.screening'), {'variant': 'recipe'})
  yield says('the recipe had {:.4f} then', first['value'])
  value = lambda variant: matching(rows('sft.screening'), {'variant': variant})[-1]
  nested = [
    f'recipe with {rows_} nested' for rows_ in ('every row', 'half of the rows')
  ]
  text = '{:.4f} with every row nested and {:.4f} with half of them, beside its {:.4f}'
  yield says(text, *(value(variant)['value'] for variant in (*nested, 'recipe')))


def every_rank() -> Iterator[Claim | Table]:
  """One run of each method cut to every rank."""
  search, values, gaps = printed('sft.every_rank')
  yield Table(search, '### Every rank, search')
  yield Table(values, '### Every rank, runs')
  yield Table(gaps, '### Every rank, runs')
  names = 'adapad half nested', 'adapad nested', 'lora'
  half, nested, cut = (minus_lora()[method] for method in names)
  yield says('AdaPaD lacks {} on the mean over ranks', half[OVER_RANKS])
  yield says('with all rows nested it lacks {}', nested[OVER_RANKS])
  yield says('cut by singular values {}. Half', cut[OVER_RANKS])
  yield says('Half nested minus cut is {}', gap_between('adapad half nested', 'lora'))
  yield says('and behind by {} with one', half['rank 1'])
  text = 'other way round: {} with one component, and {} with eight'
  yield says(text, nested['rank 1'], nested['rank 8'])
  mean = lambda method, rank: np.mean(
    [one['value'] for one in _ranked('run', 'loss', method, rank=rank)]
  )
  ahead = [mean('dylora', rank) - mean('adapad half nested', rank) for rank in RANKS]
  yield says('ahead of DyLoRA by {:.4f} to {:.4f}', min(ahead), max(ahead))
  yield says('are not nested, lacks {}', minus_lora()['adapad'][OVER_RANKS])
  yield says('(two seeds) lacks {}', minus_lora()['lora re-ranked'][OVER_RANKS])
  apart = gap_between('lora re-ranked', 'lora')
  yield says('re-ranked minus singular values is {}', apart)
  apart = gap_between('adapad half nested', 'matryoshka')
  yield says('minus MatryoshkaLoRA is {} on the mean', apart)
  less = lambda rank: mean('matryoshka', rank) - mean('adapad half nested', rank)
  yield says('by {:.4f} and {:.4f} with one and two', less(1), less(2))
  yield says('and behind by {:.4f} with eight', -less(8))


def gap_between(method: str, other: str) -> str:
  """Mean losses over ranks of one method minus those of another, same seeds."""
  by_seed = lambda method: {
    one['seed']: one['value'] for one in _ranked('run', 'mean loss', method)
  }
  return paired_text(by_seed(method), by_seed(other))


def minus_lora() -> dict[str, dict[str, str]]:
  """By method and column: the loss of its run, less that of LoRA trained there."""
  lines = printed('sft.every_rank')[2].splitlines()
  head, _, *cells = (line.strip('| ').split(' | ') for line in lines)
  return {one[0]: dict(zip(head, one, strict=True)) for one in cells}


def _ranked(kind: str, figure: str, method: str, **about: object) -> list[Row]:
  like = {'kind': kind, 'figure': figure, 'method': method, **about}
  return matching(rows('sft.every_rank'), like)


def extraction() -> Iterator[Claim | Table]:
  """What was taken from each teacher, re-ranked and by singular values."""
  full, lora = printed('sft.extraction')
  yield Table(full, '### Every parameter trained')
  yield Table(lora, '### LoRA of rank 32 trained')
  text = 'leaves {:.0f}, {:.0f} and {:.0f} % less of the divergence'
  yield says(text, *(-100 * more for more in more_than_svd('lora-32')))
  text = 'leaves {:.0f}, {:.0f} and {:.0f} % more'
  yield says(text, *(100 * more for more in more_than_svd('full')))
  ours, svd = (
    one_row('sft.extraction', f'seconds of {what}', kind='full', text=128)
    for what in ('re-ranking', 'svd')
  )
  text = 'takes {:.0f} s for 210 modules, singular values {:.0f} s; the process held up'
  yield says(f'{text} to {{:.0f}} GiB', ours['value'], svd['value'], ours['peak_gib'])


def more_than_svd(kind: str) -> list[float]:
  """By size: divergence of the better re-ranked adapter over the better cut, less 1."""
  like = {'kind': kind, 'figure': 'divergence from the teacher'}
  least: dict[tuple[int, str], float] = {}
  for one in matching(rows('sft.extraction'), like):
    if 'size' in one:
      at = one['size'], one['way'].split(',')[0]
      least[at] = min(one['value'], least.get(at, np.inf))
  sizes = sorted({size for size, _ in least})
  return [least[size, 're-ranked'] / least[size, 'svd'] - 1 for size in sizes]


def losses(task: str, method: str) -> dict[int, float]:
  """Held-out loss of a method's runs by seed."""
  like = {'kind': 'run', 'task': task, 'method': method}
  return {one['seed']: one['value'] for one in matching(rows('sft.comparison'), like)}


def mean_text(task: str, method: str) -> str:
  """Mean and standard deviation of its held-out losses."""
  return mean_sd([*losses(task, method).values()], 4)


def widest(task: str) -> float:
  """Half of the widest interval of AdaPaD's differences from LoRA."""
  own = losses(task, 'adapad')
  found = [paired(own, losses(task, f'lora-{rank}')) for rank in (1, 2, 4, 8)]
  return max(one['high'] - one['mean'] for one in found)
