"""Tests ../../../experiments/speed/card.py: what a card is asked, and how."""

import dataclasses
import os
import shutil
import subprocess
import sys

import pytest

from experiments import processes, timing
from experiments.harness import main, missing, parse
from experiments.harness import measure as run_cases
from experiments.speed import card
from experiments.speed.card import EXPERIMENT, GRAPHS, Measured

# In this process, which has its programs compiled for it once.
HERE = dataclasses.replace(EXPERIMENT, own_process=False)


@pytest.fixture
def tiny(tmp_path):
  return EXPERIMENT.run(tmp_path, tiny=True, rank=2, seconds=0.01)


def one(run, method, model, **fields):
  [found] = [
    case
    for case in card.cases(run)
    if (case.step.method, case.step.model) == (method, model)
    and case.graphs == fields.get('graphs', 'default')
    and all(getattr(case.step, k) == v for k, v in fields.items() if k != 'graphs')
  ]
  return found


def rows_of(run, case):
  given = parse(HERE, [])
  only = dataclasses.replace(HERE, cases=lambda run: [case])
  assert run_cases(only, run, given) == 0
  return run.results.rows()


def test_every_case_has_a_name_of_its_own(tmp_path, monkeypatch):
  monkeypatch.setattr(timing, 'device', lambda: 'NVIDIA H200')
  cases = card.cases(EXPERIMENT.run(tmp_path))
  names = [case.name for case in cases]
  assert len(set(names)) == len(names)
  first = {(c.step.model, c.step.rows, c.step.method) for c in cases[:15]}
  assert len(first) == 3 * 4, 'every method at every size comes before the variants'


def test_without_a_card_one_line_says_so(tmp_path):
  with pytest.raises(SystemExit, match='no GPU is seen by JAX; --tiny runs'):
    main(EXPERIMENT, [f'--out={tmp_path}'])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'method, model, fields',
  [
    ('split', 'DeBERTa-v3-tiny', {'scan': True}),
    ('lora', 'DeBERTa-v3-tiny', {'scan': False}),
    ('split', 'Qwen3-tiny', {'scan': True, 'fused': True}),
  ],
)
def test_a_step_of_ours_is_timed_and_traced(tiny, method, model, fields):
  case = one(tiny, method, model, **fields)
  timed, traced = rows_of(tiny, case)
  assert timed['figure'] == case.name and timed['unit'] == 'ms'
  assert timed['value'] > 0 and timed['first_step_s'] > 0
  assert traced['figure'] == f'kernels of a {case.name}'
  assert traced['value'] > 0 and traced['kernels'] > 50
  assert len(traced['top']) == 10
  assert case.name in EXPERIMENT.table(tiny)
  assert case not in missing(EXPERIMENT, tiny), 'it is not measured again'


@pytest.mark.parametrize('model', ['DeBERTa-v3-tiny', 'Qwen3-tiny'])
def test_a_step_of_peft_is_timed(tiny, model):
  pytest.importorskip('peft')
  case = one(tiny, 'peft', model, compiled=False)
  [timed] = rows_of(tiny, case)
  assert timed['figure'] == case.name and timed['value'] > 0


@pytest.mark.filterwarnings('ignore:.torch.jit.script_method:DeprecationWarning')
def test_a_step_of_peft_is_compiled(tiny):
  pytest.importorskip('peft')
  if not any(map(shutil.which, ('g++', 'clang++'))):
    pytest.skip('torch.compile needs a C++ compiler on the CPU')
  import torch

  case = one(tiny, 'peft', 'Qwen3-tiny', compiled=True)
  torch._dynamo.utils.counters.clear()
  [timed] = rows_of(tiny, case)
  assert timed['figure'].endswith('torch.compile') and timed['value'] > 0
  assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0


@pytest.mark.parametrize('graphs', GRAPHS)
def test_flags_are_known_to_xla(graphs, tiny, monkeypatch):
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  case = Measured(card.cases(tiny)[0].step, graphs)
  env = card.env(tiny, case)
  assert env == {'XLA_FLAGS': GRAPHS[graphs]}
  started = 'import jax; print(len(jax.devices()))'
  env = os.environ | env | {'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-c', started], env=env, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (0, '1\n'), done.stderr


def test_a_flag_that_xla_does_not_know_fails_its_case_alone():
  with pytest.raises(RuntimeError, match='ended with exit code'):
    processes.call(timing.device_kind, env={'XLA_FLAGS': '--xla_gpu_no_such_flag=1'})
