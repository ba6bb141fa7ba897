"""Tests ../../../experiments/sft/extraction.py: a tiny model, all the way through."""

import dataclasses
import shutil

import numpy as np
import pytest

import adapad_jax as ax
from adapad_jax.interchange import Release, write_merged
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Head, load
from adapad_jax.reranking import from_adapter
from experiments.results import row, stamped
from experiments.sft import comparison, extraction
from tests.interchange import kit

SIZES = {'steps': 12, 'batch': 8, 'most': 4, 'text': 16, 'rows': 12}


@pytest.fixture(scope='module')
def folder(chat_folder, tmp_path_factory):
  """Rows by the names of GSM8K's files, and a tiny model with weights."""
  made = tmp_path_factory.mktemp('extraction')
  for name in ('gsm8k-train.jsonl', 'gsm8k-test.jsonl'):
    shutil.copy(chat_folder / 'train.jsonl', made / name)
  base = load(str(chat_folder / 'model'), Head('lm'), random_weights=True)
  nothing = Release(Adapter({}, {}), base, 'tiny')
  write_merged(nothing, made / 'model', kit.random_batch(300))
  return made


@pytest.fixture(scope='module')
def measured(folder):
  """All rows of both teachers, by teacher."""
  where = {'model': folder / 'model', 'data': folder, 'teachers': folder}
  where = {name: str(path) for name, path in where.items()}
  run = extraction.EXPERIMENT.run(folder / 'results', sizes=(1, 2), **SIZES, **where)
  short = dataclasses.replace(comparison.TASKS['gsm8k'], length=64, buckets=())
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(comparison.TASKS, 'gsm8k', short)
    few = extraction.TEACHERS['lora-32'] | {'lora.rank': 8}
    patch.setitem(extraction.TEACHERS, 'lora-32', few)
    found = {c.kind: list(extraction.measure(run, c)) for c in extraction.cases(run)}
  return run, found


@pytest.mark.parametrize('kind', extraction.TEACHERS)
def test_the_teacher_is_at_no_distance_and_larger_adapters_are_nearer(measured, kind):
  rows = [r for r in measured[1][kind] if r['figure'] == 'divergence from the teacher']
  at = {(one['way'], one.get('size')): one['value'] for one in rows}
  assert at['teacher', None] == pytest.approx(0, abs=1e-6)
  assert at['base', None] > at['whole update', None] >= -1e-6
  if kind != 'full':  # Full fine-tuning changes more than the adapted layers.
    assert at['whole update', None] == pytest.approx(0, abs=1e-3)
  for way in {way for way, size in at if size}:
    assert at['base', None] > at[way, 1] > at[way, 2]
  sizes = [one for one in rows if 'size' in one]
  assert len(sizes) == 2 * 6
  for one in sizes:
    # Seven layers of a block: 2 x (16 + 16), 2 x (16 + 8) and 3 x (16 + 24), twice.
    assert one['parameters'] <= one['size'] * 464
    assert (one['gap'] == 0) == (one['way'] == 'svd, shared budget')


def test_scores_are_those_of_the_evaluation(measured, folder):
  run, _ = measured
  saved = ax.restore(folder / 'lora-32')
  update = from_adapter(saved.session.pretrained, saved.adapter)
  score = extraction.Score(update, saved.plan.task.splits['validation'].columns)
  found = score(update.teacher)
  assert found.mean(found.loss_B) == pytest.approx(saved.evaluate()['loss'], rel=1e-4)
  assert len(found.loss_B) == 64
  assert extraction.config_of(run.options, next(extraction.cases(run))).method == 'full'


def test_an_error_is_that_of_a_ratio_over_paired_rows():
  rng = np.random.default_rng(0)
  tokens_B = rng.integers(5, 40, 4000).astype(float)
  other = extraction.Scored(tokens_B, np.ones(4000) * tokens_B, tokens_B)
  apart_B = 0.5 * tokens_B + rng.normal(size=4000) * tokens_B
  mine = dataclasses.replace(other, divergence_B=other.divergence_B + apart_B)
  mean, error = mine.gap(other)
  resampled = []
  for _ in range(400):
    at = rng.integers(0, 4000, 4000)
    resampled.append(apart_B[at].sum() / tokens_B[at].sum())
  assert mean == pytest.approx(0.5, abs=0.1)
  assert error == pytest.approx(np.std(resampled), rel=0.15)


def test_the_table_has_every_adapter_beside_singular_values(tmp_path):
  about = {'kind': 'full', 'size': 2, 'parameters': 1000, 'loss': 0.5}
  made = lambda way, value, **more: stamped(
    row('divergence from the teacher', value, 'nats', way=way, **about | more)
  )
  run = extraction.EXPERIMENT.run(tmp_path)
  assert extraction.table(run) == 'no such runs yet'
  ours = {'gap': -0.1, 'gap_error': 0.02}
  run.results.keep([made('re-ranked, shared budget', 0.2, **ours)])
  run.results.keep([made('svd, shared budget', 0.3, gap=0.0, gap_error=0.0)])
  lines = extraction.table(run).splitlines()
  assert lines[-2].endswith('| 1,000 | 0.5000 | 0.2000 | -0.1000 ± 0.0200 |')
  assert lines[-1].endswith('| 0.5000 | 0.3000 |  |')


def test_teachers_are_trained_as_the_comparison_trains(tmp_path):
  run = extraction.EXPERIMENT.run(tmp_path, model='m', data='d', teachers='t')
  configs = {
    c.kind: extraction.config_of(run.options, c) for c in extraction.cases(run)
  }
  assert configs['full'].method == 'full' and configs['lora-32'].settings.rank == 32
  for config in configs.values():
    assert config.model.dtype == 'float32' and not config.model.scan
    assert config.data.validation == 'd/' + comparison.TASKS['gsm8k'].test
