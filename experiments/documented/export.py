"""experiments/export/README.md."""

from collections.abc import Iterator

from experiments.documented.claims import Claim, Table, says
from experiments.documented.recorded import one_row, value
from experiments.tables import markdown

SETTINGS = (
  r'1,399 snippets',
  r'Cut to 1, 2, 3 and 4',
  r'1,024 unlabelled',
  r'is 1 - E \|\|.*\^2',
  r'mean share of E .*\^2',
  r'872 validation rows',
  r'36 modules, 663,552 parameters',
  r'ridge of 0\.1',
  r'30 layers of 576, 135 M parameters, Apache-2\.0',
  r'538 MB',
  r'Gemma 3( 270M)?',
)
CUTS = {
  're-ranked': 're-ranked',
  'singular values': 'svd',
  'by inputs alone': 're-ranked by inputs alone',
}


def claims() -> Iterator[Claim | Table]:
  """An exported run, and a LoRA that was cut."""
  of = lambda figure: value('export.metrics', figure)
  equal = 'equal' if of('all metrics equal to the last digit') else 'not equal'
  yield says(f'the other metrics {equal} to the last digit')
  yield says('accuracy\n{} in JAX', repr(of('accuracy in torch')))
  bare, *curve = of('accuracy at max_rank 0, 1, ...')
  text = 'the same run has {:.3f}, {:.3f}, {:.3f} and {:.3f}; without any it has {:.3f}'
  yield says(text, *curve, bare)
  yield says('snippets, {:.3f} for the majority', baseline())
  yield from cuts()


def baseline() -> float:
  """Share of the larger class among the snippets."""
  return one_row('federated.sweeps', task='rotten_tomatoes')['baseline']


def cut(figure: str, by: str, share: float) -> float:
  """A figure of one cut."""
  return value('export.rerank', f'{figure}, {by}', share=share)


def cuts() -> Iterator[Claim | Table]:
  """What is kept at a quarter and at an eighth of the size."""
  yield says('an accuracy of {:.2f}', value('export.rerank', 'accuracy, whole adapter'))
  lines = []
  for size, share in (('a quarter', 0.25), ('an eighth', 0.125)):
    for name, by in CUTS.items():
      for budget in ('shared budget', 'equal ranks'):
        found = [
          cut(figure, f'{by}, {budget}', share)
          for figure in ('accuracy', 'logits kept', 'outputs kept')
        ]
        cells = [f'{found[0]:.2f}', f'{found[1]:.4f}', f'{found[2]:.3f}']
        lines.append([size if len(lines) % 6 == 0 else '', f'{name}, {budget}', *cells])
  head = ['of its size', '', 'accuracy', 'logits kept', 'outputs kept']
  yield Table(markdown(head, lines), 'Measured with all-MiniLM')
  less = []
  for share in (0.25, 0.125):
    left = 1 - cut('logits kept', 're-ranked, shared budget', share)
    budgets = 'shared budget', 'equal ranks'
    others = [cut('logits kept', f'svd, {budget}', share) for budget in budgets]
    less.append(100 * (1 - left / (1 - max(others))))
  yield says('leaves {:.0f} % less of the change of the logits undone', less[0])
  yield says('does; at an eighth {:.0f} % less', less[1])
