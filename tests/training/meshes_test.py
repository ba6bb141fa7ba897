"""The mesh worker x data x model: the same numbers, weights divided, what is said."""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import pickle
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.batches import Order, round_batch
from adapad_jax.training.session import open_session
from experiments.hlo import traffic
from tests import tiny

ROUNDS, BATCH = 3, 16
DECODER = {
  'model_type': 'qwen3',
  'vocab_size': 16,
  'hidden_size': 16,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 8,
  'intermediate_size': 32,
  'max_position_embeddings': 32,
  'initializer_range': 0.3,
  'rms_norm_eps': 1e-6,
  'rope_theta': 1e4,
  'tie_word_embeddings': True,
}

# Layers of two kinds, told apart inside the scan.
GEMMA = DECODER | {
  'model_type': 'gemma3_text',
  'sliding_window': 3,
  'sliding_window_pattern': 2,
}
DECODERS = {'decoder': DECODER, 'gemma': GEMMA, 'packed': DECODER}


def values_of(folder, family, mesh, **groups):
  """A config of the tiny encoder, or of a scanned decoder beside it."""
  axes = dict(zip(('worker', 'data', 'model'), mesh, strict=True))
  values = tiny.values(folder, mesh=axes, **groups)
  values['train'] |= {'steps': ROUNDS}
  values['adapad'] |= {'start': 1, 'interval': 1, 'grants_per_event': 6}
  if family in DECODERS:
    encoder = pathlib.Path(values['model']['source'])
    source = encoder.with_name(family)
    tiny.make_model(source)
    (source / 'config.json').write_text(json.dumps(DECODERS[family]))
    values['model'] |= {'source': str(source), 'scan': True}
  if family == 'packed':
    values['model'] |= {'weights': 'nf4', 'remat': True}
  return values


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Losses and components after a few rounds, predictions, and what was compiled."""

  losses: list[float]
  state: Any
  outputs: dict[str, np.ndarray]
  device_bytes: int
  model_bytes: int
  divided: dict[str, int]
  traffic: collections.Counter


def outcome_of(values):
  plan = make_plan(finetune_config(values))
  mesh, method = plan.mesh, plan.method
  with jax.set_mesh(mesh):
    session = open_session(plan)
    state = method.place(jax.jit(method.init)(session.head), mesh)
    step, columns = method.make_round(mesh), plan.task.splits['train'].columns
    order, losses = Order(len(columns['mask_BL']), BATCH, 0), []
    rows = method.rows(mesh)
    for t in range(ROUNDS):
      batch = round_batch(columns, order, t, 1, rows.order_B)
      batch = sharding.put(batch, rows.spec)
      state, metrics = step(state, session.params, batch)
      losses.append(float(metrics['loss']))
    assert step._cache_size() == 1
    hlo = step.lower(state, session.params, batch).compile().as_text()
    deployed = method.deploy(state)
    split = plan.task.splits['validation']
    outputs = session.evaluator.outputs(session.params, deployed, split, 3)
    leaves = jax.tree.leaves(session.params)
    return Outcome(
      losses=losses,
      state=jax.device_get(method.portable(state)),
      outputs=outputs,
      device_bytes=sum(x.addressable_shards[0].data.nbytes for x in leaves),
      model_bytes=sum(x.nbytes for x in leaves),
      divided=dict(plan.attachment.divided),
      traffic=collections.Counter(traffic(hlo, mesh)),
    )


@pytest.fixture(scope='module')
def run(data):
  """Outcomes, each computed once."""
  return functools.cache(lambda family, mesh: outcome_of(values_of(data, family, mesh)))


def assert_close(got, want):
  np.testing.assert_allclose(got.losses, want.losses, rtol=2e-5)
  close = functools.partial(np.testing.assert_allclose, atol=2e-5, rtol=2e-4)
  jax.tree.map(close, got.state.stack_RMP, want.state.stack_RMP)
  jax.tree.map(close, got.state.head, want.state.head)
  jax.tree.map(close, got.outputs, want.outputs)
  np.testing.assert_array_equal(got.state.ranks.rank_M, want.state.ranks.rank_M)


CASES = [
  ('encoder', (1, 1, 4)),
  ('encoder', (2, 1, 2)),
  ('decoder', (1, 2, 2)),
  ('gemma', (2, 1, 2)),
  ('packed', (1, 2, 2)),
]


@pytest.mark.parametrize('family, mesh', CASES)
def test_the_same_numbers_come_out_on_every_mesh(run, family, mesh):
  want = run(family, (1, 1, 1))
  assert len(set(want.state.ranks.rank_M.tolist())) > 1
  assert_close(run(family, mesh), want)


@pytest.mark.parametrize('family, mesh', CASES)
def test_a_device_holds_its_part_of_the_large_weights(run, family, mesh):
  got = run(family, mesh)
  kernels = {'encoder': 6 * 2, 'packed': 2 * 7}.get(family, 7)
  # A vocabulary of 14 cannot be divided by four; the features of its table can.
  assert len(got.divided) == kernels + 1
  whole = run(family, (1, 1, 1))
  assert whole.divided == {} and whole.device_bytes == whole.model_bytes
  left = got.model_bytes - got.device_bytes
  assert left / got.model_bytes > 0.9 * (1 - 1 / mesh[2]) * (
    0.75 if family == 'encoder' else 0.9
  )


@pytest.mark.parametrize('family, mesh', CASES)
def test_only_weights_travel_along_the_model_axis(run, family, mesh):
  """Beside them one broadcast and two sums, as without that axis."""
  found = run(family, mesh).traffic
  rows = tuple(
    n for n, size in zip(('data', 'model'), mesh[1:], strict=True) if size > 1
  )
  others = {key: count for key, count in found.items() if key[2] != ('model',)}
  want = {('all-reduce', 0, rows): 1} if rows != ('model',) else {}
  if mesh[0] > 1:
    want |= {('all-gather', 0, ('worker',)): 1, ('all-reduce', 0, ('worker',)): 1}
  assert others == want
  along = {key[:2]: count for key, count in found.items() if key[2] == ('model',)}
  sums = along.pop(('all-reduce', 0), 0)
  assert sums == (rows == ('model',))
  if family in DECODERS:
    # The table once; a layer's seven kernels on the way there and again on the way
    # back, inside the loops over layers: none is kept whole. Packed, each is two.
    kernels = 28 if family == 'packed' else 14
    assert along == {('all-gather', 0): 1, ('all-gather', 1): kernels}
  else:
    assert {kind for kind, _ in along} == {'all-gather'}


def test_lora_trains_on_divided_weights(data):
  losses = [
    outcome_of(values_of(data, 'decoder', mesh, method='lora')).losses
    for mesh in ((1, 1, 1), (1, 1, 4))
  ]
  np.testing.assert_allclose(losses[1], losses[0], rtol=2e-5)


def test_full_fine_tuning_refuses_packed_weights(data):
  values = values_of(data, 'packed', (1, 1, 1), method='full')
  with pytest.raises(ValueError, match="weights='nf4' .*method full trains them all"):
    make_plan(finetune_config(values))


def test_full_fine_tuning_refuses_divided_weights(data):
  values = values_of(data, 'decoder', (1, 1, 2), method='full')
  with pytest.raises(ValueError, match='method full trains them all.*mesh.model=1'):
    make_plan(finetune_config(values))


EIGHT = [
  (worker, data, 8 // worker // data)
  for worker in (1, 2, 4, 8)
  for data in (1, 2, 4, 8)
  if worker * data <= 8
]


def keep_outcomes(values, folder):
  """Keeps what comes out on each mesh of eight devices; for a process of its own."""
  for mesh in EIGHT:
    axes = dict(zip(('worker', 'data', 'model'), mesh, strict=True))
    found = outcome_of(values | {'mesh': axes})
    path = pathlib.Path(folder, '-'.join(map(str, mesh)))
    path.write_bytes(pickle.dumps(dataclasses.replace(found, divided={})))


@pytest.mark.slow
def test_every_mesh_of_eight_devices(data, tmp_path):
  """Components on 8, 4, 2 or 1 of them, rows and weights on the rest."""
  values = values_of(data, 'decoder', (1, 1, 1), adapad={'r_max': 8})
  want = outcome_of(values)
  code = (
    'import sys, json, jax\n'
    "jax.config.update('jax_num_cpu_devices', 8)\n"
    'from tests.training import meshes_test\n'
    'meshes_test.keep_outcomes(json.loads(sys.argv[1]), sys.argv[2])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, json.dumps(values), str(tmp_path)],
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[2])},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert len(EIGHT) == len(list(tmp_path.iterdir())) == 10
  for path in tmp_path.iterdir():
    assert_close(pickle.loads(path.read_bytes()), want)


def test_weights_take_as_few_devices_as_hold_them(monkeypatch):
  limit = {'bytes_limit': 10 * 2**30}
  device = type('Device', (), {'memory_stats': lambda self: limit})()
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  sizes = [sharding.devices_for(gib * 2**30, 8) for gib in (7, 9, 17, 60)]
  assert sizes == [1, 2, 4, 8]
  with pytest.raises(ValueError, match=r'70.0 GiB do not fit 8 device.s. of 10.0 GiB'):
    sharding.devices_for(70 * 2**30, 8)
  # Two of six devices divide 32 rows, three and six do not.
  assert sharding.devices_for(9 * 2**30, 6, 32) == 2
  with pytest.raises(ValueError, match='do not fit 2 device.*most that divide 32 rows'):
    sharding.devices_for(17 * 2**30, 6, 32)


def test_an_automatic_mesh_suits_federated_workers(data):
  """Each of three workers has two of six rows, which two of four devices share."""
  values = tiny.values(data, mesh={'worker': 0, 'data': 0})
  values['train'] |= {'batch': 6}
  values['adapad'] |= {'feeding': 'federated', 'r_max': 3}
  plan = make_plan(finetune_config(values))
  assert dict(plan.mesh.shape) == {'worker': 1, 'data': 2, 'model': 1}
