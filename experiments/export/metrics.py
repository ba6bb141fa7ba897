"""The metrics of an exported run in torch beside those that training reported.

python -m experiments.export.metrics --workdir=RUN --adapter=FOLDER
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from adapad_jax.files import read_json
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.plan import make_plan
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, row


@dataclasses.dataclass(frozen=True)
class Options:
  """A finished run, and what `--mode=export` has written of it."""

  workdir: str = ''
  adapter: str = ''


def load_by_card(folder: pathlib.Path) -> Any:
  """Runs the loading snippet of the model card; gives its model."""
  code = (folder / 'README.md').read_text().split('```python\n')[1].split('```')[0]
  scope: dict = {}
  exec(code.replace('path/to/this/folder', str(folder)), scope)  # noqa: S102
  return scope['model']


def measure(run: Run, options: Options) -> Iterator[Row]:
  """The metrics of both, and the metric of every prefix of the run."""
  from experiments.export.torch_model import logits_of

  workdir, folder = pathlib.Path(options.workdir), pathlib.Path(options.adapter)
  task = make_plan(read_workdir(workdir)).task
  split = task.splits['validation']
  theirs = task.evaluate(split, {'logits_BC': logits_of(load_by_card(folder), split)})
  ours = json.loads((folder / 'adapad.json').read_text())['metrics']
  about, metric = {'task': task.name}, task.metric
  yield row(f'{metric} in torch', theirs[metric], '', **about)
  yield row(f'{metric} in JAX', ours[metric], '', **about)
  same = all(theirs[name] == ours[name] for name in theirs)
  yield row('all metrics equal to the last digit', same, '', **about)
  prefixes = read_json(workdir / 'result.json')['prefixes']
  yield row(f'{metric} at max_rank 0, 1, ...', prefixes, '', **about)


EXPERIMENT = Experiment(
  'export.metrics', Options(), measure, key=no_key, needs=('workdir', 'adapter')
)

if __name__ == '__main__':
  main(EXPERIMENT)
