"""experiments/squad/README.md."""

import math
from collections.abc import Iterator

from experiments.documented.claims import Claim, says
from experiments.documented.recorded import one_row, value

SETTINGS = (
  r'at most 256 tokens',
  r'an 8B model',
  r'32 rows of',
  r'72 components on 36 modules',
  r'best on 400 of',
  r'10,570 questions',
  r'1,609 questions',
  r'(700|450|330) \| (AdaPaD|LoRA)',
  r'450 steps of v1\.1|150 steps of v1\.1 and\s+100 of v2\.0',
  r"44 of v1\.1's 442",
  r'4,469 training questions',
  r'at twice the rate and 160 tokens',
  r'210 (modules|components)',
  r'294 components, at most 4|420 components',
  r'64 steps of 16\s+questions \(1,024 of the 11,877 in v1\.1\'s 44 training',
  r'400 questions',
  r'the 30\.7 % that',
  r'384 tokens\s+\(overlap 128\)|the 20\s+best spans of up to 30 tokens',
  r'less than 20 seconds',
  r'20 best starts times 20 best ends|every 20th window|of the 20 best starts',
)


def claims() -> Iterator[Claim]:
  """What it tells, from top to bottom."""
  yield from marked()
  yield from generated()
  yield from searched()


def span(figure: str, **about: object) -> float:
  """A figure of a run that marks answers."""
  return value('squad.span', figure, **about)


def marked() -> Iterator[Claim]:
  """v1.1 and v2.0 by MiniLM."""
  for method, name in (('adapad', 'AdaPaD'), ('lora', 'LoRA of rank 2')):
    like = {'task': 'v1', 'method': method, 'steps': 700}
    scores = span('exact_match', **like), span('f1', **like)
    text = f'| 700 | {name} | 82,944 | {{:.1f}} | {{:.1f}} |'
    yield says(text, *scores)
  for steps in (450, 330):
    like = {'task': 'v2', 'steps': steps}
    row = [span('exact', **like), span('f1', **like)]
    size = one_row('squad.span', 'f1', **like)['adapter_parameters']
    text = f'| {steps} | AdaPaD | {{:,}} | {{:.1f}} | {{:.1f}} |'
    yield says(text, size, *row)
  last = {'task': 'v2', 'steps': 330}
  none = 100 * span('NoAns_total', **last) / span('total', **last)
  yield says('giving no answer at all scores {:.1f}', none)
  yield says('anything ({:.1f}\nF1', span('HasAns_f1', task='v2', steps=450))
  has, no = span('HasAns_f1', **last), span('NoAns_f1', **last)
  text = 'it reaches {:.1f} F1 of those with an answer and gives none to {:.1f} %'
  yield says(text, has, no)
  more = [span(f'best_{name}', **last) - span(name, **last) for name in ('f1', 'exact')]
  yield says('would add {:.1f} F1 and {:.1f} exact match', *more)
  yield says('gave none ({:.1f} F1;', span('f1', task='v2', steps=100))


def generated() -> Iterator[Claim]:
  """Answers of SmolLM2."""
  of = lambda figure, **about: value('squad.generate', figure, **about)
  before = of('exact_match before'), of('f1 before')
  yield says('| before | 0 | {:.1f} | {:.1f} |', *before)
  found = {}
  for method, name in (
    ('lora-1', 'LoRA of rank 1, 210 components'),
    ('adapad', 'AdaPaD, 294 components, at most 4 in a module'),
    ('lora', 'LoRA of rank 2, 420 components'),
  ):
    size = of('adapter size', method=method)
    scores = [of(f'{name} after', method=method) for name in ('exact_match', 'f1')]
    found[method] = [size, *scores]
    yield says(f'| {name} | {{:,}} | {{:.1f}} | {{:.1f}} |', *found[method])
  small, mine, large = (found[method] for method in ('lora-1', 'adapad', 'lora'))
  sizes = []
  for i in (2, 1):
    share = (mine[i] - small[i]) / (large[i] - small[i])
    sizes.append(small[0] + share * (large[0] - small[0]))
  text = 'F1 belongs to {:,} parameters and its exact match to {:,}:'
  yield says(text, *(round(size, -2) for size in map(int, sizes)))
  text = 'at equal scores its adapter is {:.0f} % and {:.0f} % larger'
  yield says(text, *(100 * (mine[0] / size - 1) for size in sizes))
  share = (mine[0] - small[0]) / (large[0] - small[0])
  there = small[2] + share * (large[2] - small[2])
  yield says('LoRA would have {:.1f} F1, {:.1f} more', there, there - mine[2])
  error = 100 * math.sqrt(0.25 / 400)
  yield says('up to\n{:.1f} points, so the order', error)


def searched() -> Iterator[Claim]:
  """From logits to answers."""
  of = lambda figure: value('squad.search', figure)
  windows = one_row('squad.search', 'search, texts and choice')['windows']
  yield says('make {:,} windows', windows)
  text = (
    '{:.2f} from logits to answers, {:.2f} of it in the search for spans, and {:.2f}'
  )
  names = 'search, texts and choice', 'of it the search for spans', 'official metrics'
  yield says(text, *map(of, names))
  yield says('takes {:.1f} times as long', of('plain Python pairs / our search'))
