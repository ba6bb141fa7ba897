"""Tests ../../../experiments/sft/forms.py: runs that differ in their kernels alone."""

import dataclasses

from experiments.results import row, stamped
from experiments.sft import forms


def run_of(folder, rows=(), **options):
  run = forms.EXPERIMENT.run(folder, model='m', data='d', **options)
  run.results.keep(map(stamped, rows))
  return run


def test_runs_of_a_seed_differ_in_the_form_of_the_kernels_alone(tmp_path):
  run = run_of(tmp_path, forms=('', 'int8', 'nf4'), seeds=(3,))
  configs = [forms.config_for(run, case) for case in forms.cases(run)]
  assert [one.model.weights for one in configs] == ['', 'int8', 'nf4']
  same = [
    dataclasses.replace(one, model=dataclasses.replace(one.model, weights=''))
    for one in configs
  ]
  assert same[0] == same[1] == same[2]
  assert same[0].data.validation == 'd/gsm8k-test.jsonl' and same[0].seed == 3
  assert same[0].model.dtype == 'float32' and same[0].train.steps == 20


def test_the_table_pairs_seeds_with_float32(tmp_path):
  def made(weights, seed, loss):
    about = dict(weights=weights, seed=seed, rate=1e-3, steps=20, batch=8, rows=96)
    return row('held-out loss', loss, 'nats a token', **about)

  rows = [made('', 0, 1.0), made('', 1, 1.2), made('nf4', 1, 1.5), made('nf4', 0, 1.1)]
  lines = forms.table(run_of(tmp_path, rows)).splitlines()
  assert lines[2] == '| float32 | 1.0000, 1.2000 |  |'
  # Gaps are 0.1 and 0.3: their mean, and 12.7 standard errors of 0.1.
  assert lines[3] == '| nf4 | 1.1000, 1.5000 | +0.2000 [-1.0706, +1.4706] |'
