"""Tests ../../adapad_jax/training/memory.py: outlines are those of the real arrays."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from adapad_jax.commands import Request
from adapad_jax.commands.registry import run
from adapad_jax.sharding import put
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.batches import round_batch, trimmed
from adapad_jax.training.memory import (
  Memory,
  estimate,
  on_a_device,
  outlines,
)
from adapad_jax.training.partition import make_order
from adapad_jax.training.session import open_session
from tests import tiny


def facts(tree):
  """Shape, dtype and what a device holds of every array, by path."""
  return {
    jax.tree_util.keystr(path): (x.shape, x.dtype, x.sharding.shard_shape(x.shape))
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('data')
  tiny.make_data(path)
  return path


@pytest.mark.parametrize(
  'method, mesh',
  [
    ('adapad', {'worker': 2, 'data': 2}),
    ('adapad', {'worker': 1, 'data': 1, 'model': 2}),
    ('lora', {'data': 4}),
  ],
)
def test_outlines_are_those_of_the_run(folder, method, mesh):
  plan = make_plan(finetune_config(tiny.values(folder, method=method, mesh=mesh)))
  with jax.set_mesh(plan.mesh):
    of = outlines(plan, rows=40)
    session = open_session(plan)
    state = plan.method.place(jax.jit(plan.method.init)(session.head), plan.mesh)
    columns = trimmed(plan.task.splits['train'].columns)
    rows = plan.method.rows(plan.mesh)
    order = make_order(None, columns, 16, 0)
    host = round_batch(columns, order, 0, 1, rows.order_B)
    assert facts(of.batch) == facts(put(host, rows.spec))
    assert facts(of.params) == facts(session.params)
    assert facts(of.state) == facts(state)
    assert facts(of.deployed) == facts(plan.method.deploy(state))


def test_activations_grow_with_rows_and_shrink_with_parts(folder):
  def of(**train):
    values = tiny.values(folder)
    values['train'] |= train
    return estimate(make_plan(finetune_config(values)))

  small, large = of(batch=16), of(batch=96)
  parts = of(batch=96, accumulate=6)
  assert small.weights == large.weights == parts.weights
  assert large.batches == 6 * small.batches
  assert large.round > 3 * small.round
  assert parts.round < 0.5 * large.round


def test_the_peak_is_the_worst_moment():
  quiet = Memory(100, 10, batches=2, round=3, evaluation=4, update=1)
  assert quiet.peak == 100 + 10 + 11
  assert dataclasses.replace(quiet, round=50).peak == 100 + 10 + 2 + 50
  assert dataclasses.replace(quiet, evaluation=60).peak == 100 + 10 + 60
  assert dataclasses.replace(quiet, programs=7).peak == quiet.peak + 7
  large = Memory(100 * 2**20, 0, batches=0, round=0, evaluation=0, update=0)
  assert 'about 100 MiB at the peak' in str(large)


def test_on_the_cpu_the_programs_count_too(folder):
  """In a process of its own: this one has memory to spare from former tests."""
  code = (
    'import json, sys\n'
    'from adapad_jax.training import finetune_config, make_plan\n'
    'from adapad_jax.training.memory import estimate, resident_bytes\n'
    'found = estimate(make_plan(finetune_config(json.loads(sys.argv[1]))))\n'
    'print(found.programs, resident_bytes())\n'
  )
  values = json.dumps(tiny.values(folder))
  env = os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[2])}
  done = subprocess.run(
    [sys.executable, '-c', code, values], capture_output=True, text=True, env=env
  )
  assert done.returncode == 0, done.stderr
  programs, resident = map(int, done.stdout.split()[-2:])
  assert 2**20 < programs < resident


def test_bytes_of_a_device_are_those_of_its_part():
  mesh = jax.make_mesh((4,), ('data',))
  with jax.set_mesh(mesh):
    arrays = put({'x': np.zeros((8, 3), np.float32)}, jax.P('data'))
  assert on_a_device(arrays) == 2 * 3 * 4


def test_a_dry_run_tells_and_writes_nothing(folder, tmp_path, capsys):
  workdir = tmp_path / 'run'
  run('train', Request(tiny.values(folder), workdir, {'dry_run': True}))
  told = capsys.readouterr().out
  assert '12 modules' in told and 'memory of a device: about' in told
  assert 'a lower bound here' in told  # Where this runs, on the CPU.
  assert not workdir.exists()
