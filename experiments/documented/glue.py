"""experiments/glue/README.md: its tables."""

import functools
from collections.abc import Iterator

from experiments.documented import glue_prose
from experiments.documented import glue_rows as glue
from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import cells, printed, rows, table
from experiments.results import matching
from experiments.tables import markdown

SETTINGS = (
  r'families 26 and 23|of family 23',
  r'100 rounds of 32 rows',
  r'`--steps` are batches of 32 rows; 0 takes three epochs',
  r'12 to 14',
  r'568 runs',
  r'40\s+steps of one seed',
  r'cut to 1, 2, \.\.\. components',
  r'1,000 batches of (SST-2|32)',
  r'run of 40 steps',
  r'(498|872|13,470|67,349) such rows|872 rows|13,470 (such |other )?rows|67,349 rows',
  r'RTE 498',
  r'first 1, 2, 3, 4 components',
  r'at ranks 1, 2, 4 and 8',
  r'its majority \(52\.7\)',
  r'more than 2 brings',
  r'average rank \| (all|adapad).*',
  r'5e-4 and 1e-3 \(at 2e-3',
  r'AdaPaD of 4 came',
  r'2e-3 on MRPC and RTE, 1e-3 for',
  r'scale of 4',
  r'by\s+about 10\.7 \(AdaLoRA\) and 16 \(IncreLoRA\)',
  r'\| (CoLA|RTE), [a-z ]+ \| [24] \|',
  r'\(4 minus 2',
  r'while LoRA\s+gained|at 2 on query and value|of ranks 2 and 4',
  r'\(on\s+CoLA, 2 and 8\)',
  r'no rate of AdaPaD',
  r'\| [^|\n]+ \| 0\.\d\dM \|[^\n]*',
  r'400 steps of 32 x 32 tokens, 600 rows to validate on',
  r'budget 72, at most 4 components',
  r'cut to 0, 1, \.\.\. components',
  r'8 rows of 32',
  r'The scale 16',
  r'; 1 at the same rate is a point or two behind 4\.',
  r'4e-3 is too much at scale 4',
  r'180 steps, rate 2e-3',
  r'\(4 x the compute\)',
  r'45 rounds',
  r'Rate 2e-3 unless',
  r'r_max 2, one seed',
  r'rows at 2e-3 were run together on one H100, those at 1e-3',
  r'At 2e-3, the rate',
  r"AdaPaD's 1e-3",
  r'(at|took) 1e-3',
  r'300\s+batches of 32 rows',
  r'\| held-out loss at rate \|[^\n]*',
  r'come on top of the 300',
)
RANKS = (1, 2, 4, 8)
QUERY_VALUE = '--targets=query+value'


def claims() -> Iterator[Claim | Table]:
  """Tables, and what is said of them (`glue_prose.py`)."""
  yield from glue_prose.claims()
  yield from comparison()
  yield from where_rank_matters()
  yield from beside_lora()
  yield from on_more_rows()
  yield from settings()
  yield from whole_of_sst2()


def comparison() -> Iterator[Table]:
  """The tables of the searched comparison, and of one run at every rank."""
  for head, after in (
    ('method', '### Measured'),
    ('adapad minus', '### Measured'),
    ('held-out rows (seeds)', '### On held-out rows'),
    ('adapad minus, held-out rows', '### On held-out rows'),
    ('rate chosen', '### Limits of the comparison'),
  ):
    yield Table(table(head, glue.searched()), after)
  curves = glue.searched('--budget=2,1,4,8')
  yield Table(table('average over the tasks', curves), '### One run at every rank')


def where_rank_matters() -> Iterator[Table]:
  """LoRA of every rank, on all linear layers and on two kinds of them."""
  for after, more in (
    ('All linear layers:', ()),
    ('Query and value alone:', (QUERY_VALUE,)),
  ):
    tables = glue.searched('--methods=lora', '--budget=1,2,4,8', *more)
    for head in ('method | average rank', 'larger budget'):
      yield Table(table(head, tables), after)


def beside_lora() -> Iterator[Claim]:
  """AdaPaD beside LoRA where rank pays."""
  for task, targets, where, budget in (
    ('cola', 'all-linear', 'all linear layers', 2),
    ('cola', 'all-linear', 'all linear layers', 4),
    ('cola', 'query+value', 'query and value', 2),
    ('rte', 'all-linear', 'all linear layers', 2),
  ):
    tables = printed(
      'glue.comparison',
      f'--tasks={task}',
      f'--steps={dict(zip(glue.TASKS, glue.STEPS, strict=True))[task]}',
      '--methods=adapad,lora',
      f'--budget={budget}',
      f'--targets={targets}',
    )
    main = [cells('method', tables, method)[task] for method in ('adapad', 'lora')]
    minus = cells('adapad minus', tables, 'lora')[task]
    text = f'| {glue.NAMES[task]}, {where} | {budget} | {{}} | {{}} | {{}} |'
    yield says(text, *main, minus)


def on_more_rows() -> Iterator[Table]:
  """SST-2 on the rows held out of its training set."""
  lines = []
  for method, budget in (*(('lora', rank) for rank in RANKS), ('adapad', 2)):
    both = [glue.tried(method, budget, t)[1000] for t in ('all-linear', 'query+value')]
    lines.append([method, str(budget), *(f'{value:.1f}' for value in both)])
  for method in ('sequential', 'adalora', 'increlora', 'full'):
    budget = '' if method == 'full' else '2'
    lines.append([method, budget, f'{glue.tried(method, 2)[1000]:.1f}', ''])
  head = ['method', 'average rank', 'all linear layers', 'query and value']
  yield Table(markdown(head, lines), '#### SST-2 on more rows')


def settings() -> Iterator[Table]:
  """One or two settings changed at a time."""
  stsb, cola = printed('glue.defaults', '--tasks=stsb,cola', '--steps=400')
  yield Table(stsb, "STS-B, Pearson's correlation:")
  yield Table(cola, 'CoLA, Matthews correlation:')
  for row in matching(rows('glue.defaults'), {'task': 'stsb', 'steps': 180}):
    fields = ' '.join(['{:.3f}'] * len(row['prefixes']))
    text = f'| {row["variant"]} | {{:.4f}} | {fields} |'
    yield says(text, row['value'], *row['prefixes'])
  yield Table(printed('glue.three_epochs')[0], '## Whole tasks, three epochs')
  for task, one in glue.held_out_tables():
    yield Table(one, f'{glue.NAMES[task]}, held-out loss:')
  yield from _beside_lora()
  yield from _published()


def _published() -> Iterator[Claim]:
  """What the paper's own setting is worth, on CoLA."""
  size = {'steps': 100, 'dtype': 'float32'}
  tables = [one for _, one in glue.held_out_tables(**size)]
  for one in tables:
    yield Table(one, '### What the published setting is worth')
  minus = lambda name: cells('variant', tables, name)['loss minus LoRA']
  yield says('is {} nats a row with the', minus(glue.PUBLISHED))
  yield says(
    'and {} with LoRA for four', minus('LoRA of rank 2 for four times the steps')
  )


def _beside_lora() -> Iterator[Claim]:
  """What held-out losses can tell, and what they do."""
  minus = functools.partial(glue.by_held_out_loss, 'recipe')
  text = 'AdaPaD minus LoRA is {} nats a row on CoLA'
  yield says(text, minus('cola'))
  yield says('{} on SST-2 (three', minus('sst2'))
  yield says('and {} of the squared error on STS-B (five', minus('stsb'))
  names = 'LoRA of rank 2 from the gradient', 'recipe from the gradient'
  text = 'can be seen ({} for LoRA, {} for AdaPaD)'
  yield says(text, *map(glue.by_held_out_loss, names))


def whole_of_sst2() -> Iterator[Table]:
  """Variants of the recipe there, by seed."""
  lines = {
    'LoRA of rank 2 (comparison of methods)': [*glue.tried('lora', 2).values()],
    'recipe with polish a quarter (comparison of methods)': [
      *glue.tried('adapad', 2).values()
    ],
  }
  like = {'task': 'sst2', 'steps': 1000, 'eval_rows': 0}
  for row in matching(rows('glue.defaults'), like):
    at = '' if row['rate'] == 2e-3 else f', rate {1e3 * row["rate"]:.1f}e-3'
    own = glue.of_variant(row['variant'], row['rate'])
    lines[row['variant'] + at] = [*own.values()]
  told = [
    [name, *(f'{value:.1f}' for value in values), *[''] * (3 - len(values))]
    for name, values in lines.items()
  ]
  head = ['accuracy, %', 'seed 0', 'seed 1', 'seed 2']
  yield Table(markdown(head, told), '### The whole of SST-2')
