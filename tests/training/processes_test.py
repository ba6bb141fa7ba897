"""Tests ../../adapad_jax/processes.py: whole runs by several processes on this host.

Devices are the same four in every run, in one, two or four processes.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from adapad_jax.processes import Cluster
from adapad_jax.training import finetune_config, train
from adapad_jax.training.saved import restore
from adapad_jax.workdir import read_lines
from tests import tiny
from tests.training.train_test import final_state

DEVICES, STEPS = 4, 60
# Seconds of silence. A busy machine can keep a live process silent for a while, so only
# the run that loses a process is impatient.
HEARTBEAT, PATIENT = 15, 100
ROOT = pathlib.Path(__file__).parents[2]


def values_of(data):
  values = tiny.values(data, mesh={'worker': 2, 'data': 2})
  values['train'] |= {'steps': STEPS, 'evaluations': 1, 'checkpoint_every': 5}
  values['adapad'] |= {'start': 5, 'interval': 5}
  return values


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  tiny.make_data(folder)
  code = (
    'import ml_collections\n'
    'def get_config():\n'
    f'  return ml_collections.ConfigDict({values_of(folder)!r})\n'
  )
  (folder / 'config.py').write_text(code)
  return folder


@pytest.fixture(scope='module')
def alone(data, tmp_path_factory):
  """The run in one process: its workdir and result."""
  workdir = tmp_path_factory.mktemp('runs') / 'alone'
  return workdir, train(finetune_config(values_of(data)), workdir)


def free_port():
  with socket.socket() as sock:
    sock.bind(('127.0.0.1', 0))
    return sock.getsockname()[1]


def start(forks, count, data, workdir, *flags, heartbeat=PATIENT):
  """The processes of one run; without forks, as users start them."""
  # A run that is opened has its config.
  config = [] if flags else [f'--config={data / "config.py"}']
  command = [
    *(f'--workdir={workdir}', *config, *flags),
    *(f'--coordinator=127.0.0.1:{free_port()}', f'--processes={count}'),
    f'--heartbeat={heartbeat}',
  ]
  every = [[*command, f'--process_id={i}'] for i in range(count)]
  devices = DEVICES // count
  if forks:
    made = 'tests.forks:program'
    return [forks.start(made, *each, devices=devices) for each in every]
  env = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_NUM_CPU_DEVICES': str(devices),
    'JAX_PLATFORMS': 'cpu',
  }
  return [
    subprocess.Popen(
      [sys.executable, '-m', 'adapad_jax.main', *each],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for each in every
  ]


def wait_for_step(processes, workdir, step):
  while all(process.poll() is None for process in processes):
    lines = read_lines(workdir / 'metrics.jsonl')
    if lines and lines[-1]['step'] >= step:
      return
    time.sleep(0.01)
  raise AssertionError(ends(processes))


def ends(processes, timeout=600):
  """(return code, stdout, stderr) of each."""
  said = [process.communicate(timeout=timeout) for process in processes]
  return [
    (process.returncode, *texts) for process, texts in zip(processes, said, strict=True)
  ]


def outlive(forks, victim, data, workdir, step):
  """Kills one of two after a step: what the first said, and why the other ended."""
  two = start(forks, 2, data, workdir, heartbeat=HEARTBEAT)
  wait_for_step(two, workdir, step)
  two[victim].kill()
  killed = time.monotonic()
  found = ends(two)
  code, _, err = found[1 - victim]
  assert code not in (0, -signal.SIGKILL) and err
  assert time.monotonic() - killed < 20 * HEARTBEAT, 'it hung'
  return found[0], err


def is_quiet(text):
  """Whether there is nothing of ours: Gloo tells every stdout who is connected."""
  ours = r'round|checkpoint|model|components|resuming|accuracy|step|predictions'
  return not re.search(ours, text)


@pytest.mark.slow
def test_runs_of_two_and_four_processes_end_at_the_numbers_of_one(
  alone, data, forks, tmp_path
):
  """Two are told to stop, twice two lose one of them, four go on to the end."""
  workdir, result = alone
  two = start(forks, 2, data, tmp_path)
  wait_for_step(two, tmp_path, 3)
  two[1].send_signal(signal.SIGTERM)
  (code, out, err), (other, quiet, other_err) = ends(two)
  assert (code, other) == (0, 0), err + other_err
  assert 'a signal to another process: saved after round' in out and is_quiet(quiet)
  stopped = read_lines(tmp_path / 'metrics.jsonl')[-1]['step']

  (_, out, _), err = outlive(forks, 1, data, tmp_path, max(stopped + 2, 11))
  assert f'resuming after round {stopped} of {STEPS}' in out
  assert 'another process is gone' in err or 'another task died' in err
  # The one that the others meet at.
  done = read_lines(tmp_path / 'metrics.jsonl')[-1]['step']
  outlive(forks, 0, data, tmp_path, done + 2)
  assert not (tmp_path / 'result.json').exists()

  four = ends(start(forks, 4, data, tmp_path))
  assert [code for code, *_ in four] == [0] * 4, '\n'.join(map(str, four))
  assert all(is_quiet(out) for _, out, _ in four[1:]) and not is_quiet(four[0][1])
  got = json.loads((tmp_path / 'result.json').read_text())
  assert got['processes'] == 4 and result['processes'] == 1
  assert got['ranks'] == result['ranks'] and got['traces'] <= result['traces']
  assert got['best'] == result['best'] and got['prefixes'] == result['prefixes']
  # Saved by four, restored by one.
  _, want = final_state(values_of(data), workdir, (2, 2))
  _, have = final_state(values_of(data), tmp_path, (2, 2))
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
  jax.tree.map(close, have.stack_RMP, want.stack_RMP)
  jax.tree.map(close, have.head, want.head)
  assert restore(tmp_path, 'best').evaluate() == result['best']['metrics']


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_with_what_one_saved(
  alone, data, forks, tmp_path
):
  workdir, result = alone
  first, second = ends(start(None, 2, data, workdir, '--mode=eval'))
  assert first[0] == second[0] == 0, first[2] + second[2]
  (printed,) = map(json.loads, re.findall(r'^{.*}$', first[1], re.MULTILINE))
  assert (
    printed
    == {'checkpoint': 'best', 'round': result['best']['step']}
    | (result['best']['metrics'])
  )
  assert is_quiet(second[1])
  source, output = data / 'validation.csv', tmp_path / 'two.csv'
  asked = ('--mode=predict', f'--input={source}', f'--output={output}')
  first, second = ends(start(forks, 2, data, workdir, *asked))
  assert first[0] == second[0] == 0, first[2] + second[2]
  assert f'40 predictions in {output}' in first[1] and is_quiet(second[1])
  alone_says = tmp_path / 'one.csv'
  saved = restore(workdir, 'best')
  split = saved.plan.task.read(str(source))
  saved.plan.task.write_predictions(split, saved.outputs(split), alone_says)
  assert output.read_text() == alone_says.read_text()


def test_half_an_address_is_refused():
  with pytest.raises(ValueError, match=r'--coordinator=HOST:PORT, --processes=N and'):
    Cluster(coordinator='localhost:1234', processes=2)
  with pytest.raises(ValueError, match=r'got --coordinator=.. --processes=2'):
    Cluster(processes=2, process_id=0)
  Cluster().join()  # alone: nothing to do


@pytest.mark.parametrize(
  'cluster, where',
  [
    (Cluster('nowhere:1', 2, 1), 'nowhere:1'),
    (Cluster(detect=True), 'what --cluster found here'),
  ],
  ids=['address', 'detect'],
)
@pytest.mark.parametrize('kind', [ValueError, jax.errors.JaxRuntimeError])
def test_a_meeting_that_fails_is_told(cluster, where, kind, monkeypatch):
  def initialize(*args, **kwargs):
    raise kind('DEADLINE_EXCEEDED')

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  with pytest.raises(ValueError, match=f'other processes at {where}: DEADLINE'):
    cluster.join()
