"""The metric of an exported run in torch beside the one that training reported.

python -m experiments.export.run --workdir=RUN --export=FOLDER
"""

import argparse
import json
import pathlib

import numpy as np
import torch

from adapad_jax.files import read_json
from adapad_jax.tasks import Split
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.plan import make_plan
from experiments.record import record

HERE = pathlib.Path(__file__).parent
_NAMES = {
  'ids_BL': 'input_ids',
  'mask_BL': 'attention_mask',
  'types_BL': 'token_type_ids',
}


def load_by_card(folder: pathlib.Path) -> torch.nn.Module:
  """Runs the loading snippet of the model card; gives its model."""
  code = (folder / 'README.md').read_text().split('```python\n')[1].split('```')[0]
  scope: dict = {}
  exec(code.replace('path/to/this/folder', str(folder)), scope)  # noqa: S102
  return scope['model']


def logits_of(model: torch.nn.Module, split: Split) -> np.ndarray:
  """Logits of every row of a split."""
  parts = []
  with torch.no_grad():
    for start in range(0, len(split), 64):
      rows = slice(start, start + 64)
      length = int(split.columns['mask_BL'][rows].sum(1).max())
      batch = {
        theirs: torch.tensor(split.columns[ours][rows, :length]).long()
        for ours, theirs in _NAMES.items()
        if ours in split.columns
      }
      parts.append(model(**batch).logits.numpy())
  return np.concatenate(parts)


def main() -> None:
  """Records the metrics of both, and the metric of every prefix of the run."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--export', type=pathlib.Path, required=True)
  args = parser.parse_args()
  task = make_plan(read_workdir(args.workdir)).task
  split = task.splits['validation']
  logits = logits_of(load_by_card(args.export), split)
  theirs = task.evaluate(split, {'logits_BC': logits})
  ours = json.loads((args.export / 'adapad.json').read_text())['metrics']
  about = {'task': task.name}
  record(HERE, f'{task.metric} in torch', theirs[task.metric], '', **about)
  record(HERE, f'{task.metric} in JAX', ours[task.metric], '', **about)
  same = all(theirs[name] == ours[name] for name in theirs)
  record(HERE, 'all metrics equal to the last digit', same, '', **about)
  prefixes = read_json(args.workdir / 'result.json')['prefixes']
  record(HERE, f'{task.metric} at max_rank 0, 1, ...', prefixes, '', **about)


if __name__ == '__main__':
  main()
