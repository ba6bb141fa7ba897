"""Tests ../../adapad_jax/training/profiler.py: traces on disk, scopes in programs."""

import gzip
import json

import jax
import numpy as np
import pytest

from adapad_jax.sharding import put
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.batches import padded, trimmed
from adapad_jax.training.session import open_session
from tests import tiny


@pytest.fixture(scope='module')
def values(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  tiny.make_data(folder)
  found = tiny.values(folder, adapad={'start': 1, 'interval': 1})
  found['train'] |= {'steps': 6, 'evaluations': 2}
  return found


def test_chosen_rounds_leave_one_trace(values, tmp_path):
  values = values | {'train': values['train'] | {'profile': (2, 2)}}
  train(finetune_config(values), tmp_path)
  [path] = (tmp_path / 'profile').rglob('*.trace.json.gz')
  assert list(path.parent.glob('*.xplane.pb'))
  events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
  rounds = [e['args']['step_num'] for e in events if e.get('name') == 'round']
  assert rounds == ['2', '3']
  # The evaluation after round 3 is part of it.
  assert any(e.get('name') == 'PjitFunction(evaluation)' for e in events)


def test_evaluation_is_a_scope_of_its_program(values):
  plan = make_plan(finetune_config(values))
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    method, evaluator = plan.method, session.evaluator
    state = method.place(method.init(session.head), plan.mesh)
    columns = trimmed(plan.task.splits['validation'].columns)
    lowered = evaluator.program.predict.lower(
      session.params,
      method.deploy(state),
      put(np.int32(1)),
      put(
        padded(columns, 0, evaluator.program.rows), jax.P(('worker', 'data', 'model'))
      ),
    )
  assert '/evaluation/' in lowered.as_text(debug_info=True)


@pytest.mark.parametrize('window', [(1,), (0, 2), (1, 2, 3)])
def test_a_window_that_is_none_is_refused(values, window):
  train_values = values['train'] | {'profile': window}
  with pytest.raises(ValueError, match='train.profile must be'):
    finetune_config(values | {'train': train_values})
