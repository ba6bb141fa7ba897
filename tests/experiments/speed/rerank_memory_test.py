"""Tests ../../../experiments/speed/rerank_memory.py: its models, and a small call."""

import numpy as np
import pytest

from adapad_jax.models import Head, load
from adapad_jax.reranking import from_tuned
from experiments.results import row, stamped
from experiments.speed import rerank_memory

SMALL = {
  'hidden_size': 64,
  'intermediate_size': 96,
  'num_hidden_layers': 1,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 16,
}


@pytest.fixture
def tokenizer(shared, monkeypatch):
  monkeypatch.setattr(rerank_memory, 'SIZES', SMALL)
  return shared / 'models/stories260k'


def test_the_tuned_model_has_an_update_in_every_matrix(tokenizer, tmp_path):
  count = rerank_memory.write(tokenizer, tmp_path / 'base', 1, tuned=False)
  rerank_memory.write(tokenizer, tmp_path / 'tuned', 1, tuned=True)
  base, tuned = (load(str(tmp_path / name), Head('lm')) for name in ('base', 'tuned'))
  layers = [f'model.layers.0.{name}' for name in ('mlp.up_proj', 'self_attn.k_proj')]
  update = from_tuned(base, tuned, layers)
  for delta_IO in update.deltas.values():
    assert np.linalg.matrix_rank(delta_IO, tol=1e-5) >= 20
  assert len(update.beside) == 5, 'the other matrices'
  assert count == 512 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64 + 3 * 64


@pytest.mark.slow
def test_a_call_is_measured(tokenizer, tmp_path, shared):
  options = dict(model=str(tokenizer), data=str(shared / 'data/sft'), layers=1, rows=4)
  run = rerank_memory.EXPERIMENT.run(tmp_path, orders=('svd',), **options)
  (case,) = rerank_memory.cases(run)
  (found,) = rerank_memory.measure(run, case)
  assert found['order'] == 'svd' and found['rows'] == 4
  assert found['value'] > 1 and 0.1 < found['peak_gib'] < 3


def test_the_table_has_a_line_a_call(tmp_path):
  run = rerank_memory.EXPERIMENT.run(tmp_path, model='m', data='d')
  assert [case.order for case in rerank_memory.cases(run)] == ['outputs', 'svd']
  about = {'order': 'svd', 'rows': 16, 'parameters': 1.07e9, 'cpu_seconds': 9.0}
  about |= {'peak_gib': 12.34, 'processor': 'P'}
  run.results.keep([stamped(row('re-ranking', 99.6, 's', **about))])
  assert rerank_memory.table(run).splitlines()[2:] == [
    '| svd | 1.07 | 16 | 100 | 9 | 12.3 | P |'
  ]
