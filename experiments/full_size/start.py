"""What it takes to have a model in memory: import, tokenizer, outline, weights.

  python -m experiments.full_size.start --source=microsoft/deberta-v3-base

Prints seconds of processor time and the peak memory of the process after each.
"""

import argparse
import importlib
import resource
import time


def main() -> None:
  """Takes the steps of a start, one after the other."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--source', required=True, help='as model.source')
  source = parser.parse_args().source
  spent = _lap('start', 0.0)
  importlib.import_module('adapad_jax.training.train')
  spent = _lap('import', spent)
  from adapad_jax import models

  found = models.find(source)
  found.fetch_weights()
  spent = _lap('download', spent)
  models.load_tokenizer(found)
  spent = _lap('tokenizer', spent)
  outlined = models.outline(found, models.Head('classification'))
  spent = _lap('outline', spent)
  models.fill(outlined)
  _lap('fill', spent)


def _lap(name: str, before: float) -> float:
  """Prints what a step took; gives the processor time so far."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  now, peak = time.process_time(), used.ru_maxrss / 2**20
  print(f'{name}: {now - before:.1f} s, peak {peak:.2f} GiB', flush=True)
  return now


if __name__ == '__main__':
  main()
