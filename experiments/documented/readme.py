"""README.md."""

from collections.abc import Iterator

from experiments.documented import glue_rows as glue
from experiments.documented import sft
from experiments.documented.claims import Claim, Table, says

SETTINGS = (
  r'arXiv:2605\.10741(, 2026)?',
  r'org/abs/2605\.10741',
  r'worker \d .*',
  r'at 0 one run',
  r'an adapter of rank 1, the first two one of rank 2',
  r'Python 3\.11',
  r'LoRA, rank 2',
  r'95 % interval',
  r'batches of 32',
  r'LoRA of rank 8',
  r'Qwen2/2\.5/3',
  r'Gemma 3',
  r'40 steps of GSM8K',
  r'cut to 1, 2, 4 and 8',
)
METHODS = {
  'AdaPaD': 'adapad',
  'LoRA, rank 2': 'lora',
  'sequential deflation': 'sequential',
  'AdaLoRA': 'adalora',
  'IncreLoRA': 'increlora',
  'full fine-tuning': 'full',
}
AT_EVERY_RANK = {
  'AdaPaD, half of the rows nested': 'adapad half nested',
  'AdaPaD, every row nested': 'adapad nested',
  'LoRA of rank 8, cut by singular values': 'lora',
  "AdaPaD's recipe": 'adapad',
  'MatryoshkaLoRA': 'matryoshka',
  'DyLoRA': 'dylora',
}


def claims() -> Iterator[Claim | Table]:
  """What it tells of results."""
  for name, method in METHODS.items():
    row = glue.main_row(method)
    columns = [*glue.TASKS, 'average', 'adapter']
    fields = ' | '.join('{}' for _ in columns)
    yield says(f'| {name} | {fields} |', *(row[column] for column in columns))
  yield from difference_from_lora()
  yield from differences_from_others()
  text = (
    'a held-out loss of {} with AdaPaD, of {} with LoRA of rank 1 and of {} with rank 2'
  )
  yield says(
    text, *(sft.mean_text('gsm8k', method) for method in ('adapad', 'lora-1', 'lora-2'))
  )
  gaps = sft.minus_lora()
  for name, method in AT_EVERY_RANK.items():
    yield says(f'| {name} | {{}} |', gaps[method][sft.OVER_RANKS])
  text = 'is that of LoRA {} nats a row on CoLA, {} on SST-2, and {} of the squared'
  tasks = 'cola', 'sst2', 'stsb'
  yield says(text, *(glue.by_held_out_loss('recipe', task) for task in tasks))
  yield says('about {:.0f} % of the weight', 100 * glue.weight_of_joint_rows(32, 4))
  yield says('By default {} fifths', glue.word(5 * glue.share_of_joint_rows()))


def difference_from_lora() -> Iterator[Claim]:
  """On the development sets, and on the held-out fifths."""
  minus = glue.intervals('lora')['average']
  yield says('level within the noise: {} points on average', minus)
  gap = glue.held_out('lora')
  fields = ', '.join(f'{glue.NAMES[task]} {{:+.2f}}' for task in glue.TASKS)
  text = f'{{}} tasks of five (AdaPaD minus LoRA: {fields};'
  led = sum(gap[task] < 0 for task in glue.TASKS)
  yield says(text, glue.word(led), *(gap[task] for task in glue.TASKS))
  seeds = glue.held_out_seeds('adapad', 'lora')
  many = [task for task in glue.TASKS if seeds[task] == (3, 3)]
  yield says(f'one seed, three on {glue.named(many)})')


def differences_from_others() -> Iterator[Claim]:
  """The methods that add components or distribute ranks, and rates at an edge."""
  development = glue.gaps(glue.COMPONENTS)
  yield says(
    'by {:.1f} to {:.1f} points on average on the development sets',
    min(development),
    max(development),
  )
  apart = {peer: glue.held_out(peer) for peer in glue.COMPONENTS}
  averages = {peer: gap['average'] for peer, gap in apart.items()}
  least = min(averages, key=averages.get)
  name = {'adalora': 'AdaLoRA', 'increlora': 'IncreLoRA'}[least]
  yield says(
    f'and by {{:.1f}} ({name}) to {{:.1f}} on the held-out fifths, where {name} leads'
    ' on {} tasks',
    averages[least],
    max(averages.values()),
    glue.word(sum(apart[least][task] < 0 for task in glue.TASKS)),
  )
  edges = [len(glue.at_the_edge(method)) for method in ('adalora', 'increlora')]
  full = glue.named(glue.at_the_edge('full'))
  text = f"AdaLoRA's on {{}} tasks, IncreLoRA's on {{}}, full fine-tuning's on {full}"
  yield says(text, *map(glue.word, edges))
