"""Tests ../../../experiments/speed/sft_steps.py: both sides train on the same."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import timing
from experiments.harness import missing
from experiments.results import row, stamped
from experiments.speed import sft_steps
from tests import tiny_chat


@pytest.fixture(autouse=True)
def processor(monkeypatch):
  monkeypatch.setattr(timing, 'processor', lambda: 'one')


@pytest.fixture(scope='module')
def options(tmp_path_factory):
  """A tiny Llama with weights that transformers has drawn, and its questions."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  folder = tiny_chat.make_folder(tmp_path_factory.mktemp('llama'))
  fields = json.loads((folder / 'model' / 'config.json').read_text('utf-8'))
  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model(**fields)
  model = transformers.AutoModelForCausalLM.from_config(config)
  model.save_pretrained(folder / 'model')
  (folder / 'train.jsonl').rename(folder / 'gsm8k-train.jsonl')
  return sft_steps.Options(str(folder / 'model'), str(folder), rows=8, length=64)


def steps_of(options, side, steps=3):
  case = sft_steps.Case(side, '', 'float32', options.rows, options.length)
  step = sft_steps.made(options, side, case)
  return [step() for _ in range(steps)]


# TRL and transformers warn of each other's names.
@pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::UserWarning')
@pytest.mark.parametrize('side', ['peft', 'trl'])
def test_both_sides_begin_at_the_same_loss_and_learn(options, side):
  pytest.importorskip({'peft': 'peft', 'trl': 'trl'}[side])
  theirs = steps_of(options, side)
  ours = steps_of(options, 'lora')
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
  assert theirs[-1] < theirs[0] and ours[-1] < ours[0]


def test_the_step_of_adapad_learns(options):
  # Its loss counts joint rows once for every worker.
  losses = steps_of(options, 'adapad')
  assert losses[-1] < losses[0]


def test_every_side_has_a_peak_and_every_pair_a_ratio(tmp_path):
  run = sft_steps.EXPERIMENT.run(tmp_path, model='m', data='d', dtypes=('float32',))
  cases = list(sft_steps.cases(run))
  alone = [case.side for case in cases if not case.beside]
  assert sorted(alone) == ['adapad', 'lora', 'peft', 'trl']
  pairs = {(case.side, case.beside) for case in cases if case.beside}
  assert pairs == {(o, t) for o in sft_steps.OURS for t in sft_steps.THEIRS}


def test_the_table_tells_ratios_and_peaks(tmp_path):
  run = sft_steps.EXPERIMENT.run(tmp_path, model='m', data='d', dtypes=('float32',))
  pair = sft_steps.Case('lora', 'peft', 'float32', 8, 160)
  alone = dataclasses.replace(pair, beside='')
  spread = {'least': 0.7, 'most': 0.9, 'ms': 800.0, 'their_ms': 1000.0}
  about = {'processor': 'one'}
  run.results.keep(
    map(
      stamped,
      [
        row(sft_steps.TIME, 0.8, '', **dataclasses.asdict(pair), **about, **spread),
        row(sft_steps.PEAK, 4.0, 'GiB', **dataclasses.asdict(alone), **about),
      ],
    )
  )
  text = sft_steps.table(run)
  assert (
    '| lora beside peft | float32 | 8 x 160 | 0.80 (0.70 to 0.90) | 800, 1,000 |'
    in text
  )
  assert '| lora | float32 | 8 x 160 | 4.00 |' in text
  assert len(missing(sft_steps.EXPERIMENT, run)) == 6
