"""Tests ../../adapad_jax/deflation/round.py against a plain loop over workers."""

import collections
import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from adapad_jax.deflation.communication import bytes_sent
from adapad_jax.optim import Optimizer
from experiments import hlo
from tests.deflation import toy

CASES = {
  'split': dict(),
  'no_advance': dict(advance=False),
  'local_steps': dict(local_steps=3),
  'replicate': dict(feeding='replicate'),
  'head_all': dict(head_rows='all'),
  'federated': dict(feeding='federated', local_steps=2, head_rows='all'),
  'shares_first': dict(shares='first', local_steps=2),
  'joint': dict(joint=0.5),
  'joint_head_all': dict(joint=0.25, shares='first', head_rows='all'),
  'polish': dict(joint=0.25, polish=0.4),
  'nested': dict(joint=0.5, polish=0.4, nested=0.5, head_rows='all'),
  'nested_head_last': dict(joint=0.75, nested=0.8),
  'nested_alone': dict(joint=1.0, nested=0.9, head_rows='all'),
  'turns': dict(joint=0.92, polish=0.4, head_rows='all'),
  'sum_score': dict(score='sum', grants_per_event=1, interval=1),
}

# Of which the compiled program is read.
PROGRAMS = {
  name: dict(settings=CASES[name])
  for name in ('split', 'local_steps', 'replicate', 'federated', 'joint', 'polish')
} | {
  'parts': dict(accumulate=2),
  'parts_of_local_steps': dict(accumulate=2, settings=dict(local_steps=3)),
}


@functools.cache
def reference(case):
  """The run on one device."""
  m = toy.method(settings=CASES[case])
  return toy.run(m, (1, 1), batches_for(m))


def batches_for(m, rounds=6, seed=1):
  rng = np.random.default_rng(seed)
  return toy.data(rng, rounds, m.settings.local_steps, m.problem.batch)


def assert_equals_loop(m, state, oracle, tol=1e-5):
  for name, got in toy.components(state).items():
    for k in range(m.settings.r_max):
      np.testing.assert_allclose(got.a_RI[k], oracle.a[name, k], atol=tol, rtol=tol)
      np.testing.assert_allclose(got.b_RO[k], oracle.b[name, k], atol=tol, rtol=tol)
  for got, want in zip(
    jax.tree.leaves(state.head), jax.tree.leaves(oracle.head), strict=True
  ):
    np.testing.assert_allclose(got, want, atol=tol, rtol=tol)
  assert list(state.ranks.rank_M) == list(oracle.rank.values())


@pytest.mark.parametrize('case', CASES)
def test_round_equals_loop_over_workers(case):
  m = toy.method(settings=CASES[case])
  state, history, step = reference(case)
  oracle = toy.loop(m, batches_for(m))
  assert len(set(oracle.rank.values())) > 1, 'the case must have unequal ranks'
  assert_equals_loop(m, state, oracle)
  assert step._cache_size() == 1
  assert history[-1]['rank'] == sum(oracle.rank.values())


@pytest.mark.parametrize('joint', [0.0, 0.5])
def test_a_batch_of_fewer_rows_than_workers_equals_the_loop(joint):
  """Two rows for four workers: who has none in a round rests, and so do moments."""
  settings = dict(joint=joint, head_rows='all')
  m = toy.method(batch=2, rounds=9, settings=settings)
  state, history, _ = toy.run(m, (1, 1), batches_for(m, rounds=9))
  assert_equals_loop(m, state, toy.loop(m, batches_for(m, rounds=9)))
  assert np.isfinite([metrics['loss'] for metrics in history]).all()


@pytest.mark.parametrize(
  'case, mesh',
  [
    ('split', (4, 1)),
    ('split', (2, 2)),
    ('split', (1, 4)),
    ('replicate', (4, 1)),
    ('replicate', (2, 2)),
    ('local_steps', (2, 2)),
    ('joint', (4, 1)),
    ('joint', (2, 2)),
    ('joint', (1, 4)),
    ('polish', (4, 1)),
    ('polish', (2, 2)),
    ('nested', (4, 1)),
    ('nested', (2, 2)),
    ('nested_alone', (2, 2)),
    ('turns', (4, 1)),
    ('turns', (2, 2)),
    ('federated', (2, 2)),
  ],
)
def test_same_numbers_on_every_mesh(case, mesh):
  m = toy.method(settings=CASES[case])
  want, want_history, _ = reference(case)
  got, history, step = toy.run(m, mesh, batches_for(m))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5), got, want
  )
  np.testing.assert_allclose(
    history[-1]['loss_R'], want_history[-1]['loss_R'], rtol=1e-4
  )
  for one, wanted in zip(history, want_history, strict=True):
    np.testing.assert_allclose(one['loss'], wanted['loss'], rtol=1e-4)
    assert one['loss'] == one['loss_R'][one['live'] - 1] or case == 'turns'
  assert step._cache_size() == 1


def test_data_of_a_worker_changes_no_worker_before_it():
  m = toy.method(settings=dict(feeding='federated'))
  m = toy.changed(m, head_optimizer=Optimizer(learning_rate=0.0))
  batches = batches_for(m)
  want, _, _ = toy.run(m, (1, 1), batches)
  batches['x'][:, :, 18:] += 1.0
  got, _, _ = toy.run(m, (1, 1), batches)
  # Discovery hears of every worker, and gives ranks to modules by it.
  assert want.ranks.rank_M.tolist() == got.ranks.rank_M.tolist()
  np.testing.assert_array_equal(got.stack_RMP[:3], want.stack_RMP[:3])
  assert np.abs(got.stack_RMP[3] - want.stack_RMP[3]).max() > 1e-4


def test_workers_that_do_not_divide_the_mesh_are_padded():
  m = toy.method(workers=3)
  batches = batches_for(m)
  want, _, _ = toy.run(m, (1, 1), batches)
  got, _, _ = toy.run(m, (2, 1), batches)
  assert got.stack_RMP.shape[0] == 4
  np.testing.assert_allclose(got.stack_RMP[:3], want.stack_RMP, atol=2e-5)
  np.testing.assert_array_equal(got.ranks.rank_M, want.ranks.rank_M)


def test_components_that_are_not_live_do_not_move():
  m = toy.method(settings=dict(budget=4, grants_per_event=1))
  _, initial = toy.start(m)
  state, history, _ = toy.run(m, (1, 1), batches_for(m))
  np.testing.assert_array_equal(state.stack_RMP[3], initial.stack_RMP[3])
  moved_MP = state.stack_RMP[0] != initial.stack_RMP[0]
  assert moved_MP.any(axis=1).all()
  assert state.age_RM[3].max() == 0


def test_advance_component_keeps_its_state_when_activated():
  m = toy.method(settings=dict(budget=6, start=3, grants_per_event=3))
  state, _, _ = toy.run(m, (1, 1), batches_for(m))
  # All second components trained privately from the first round on.
  assert state.age_RM[1].tolist() == [6, 6, 6]
  assert state.ranks.granted_MR[:, 1].tolist() == [3, 3, 3]
  assert state.moments[0].count[:, 0].tolist() == [6, 6, 0, 0]


def test_a_new_component_gets_its_own_warm_up():
  m = toy.method(settings=dict(budget=6, start=3, grants_per_event=3, advance=False))
  state, _, _ = toy.run(m, (1, 1), batches_for(m))
  assert state.age_RM[1].tolist() == [2, 2, 2]
  rates = [
    float(m.problem.optimizer.rate_at(np.int32(age), np.int32(4), m.rounds))
    for age in (4, 0)
  ]
  assert rates[1] == pytest.approx(0.05 * 0.5)
  assert rates[0] == pytest.approx(0.05 * 2 / 4)


def test_rows_of_no_weight_do_not_matter():
  m = toy.method(settings=dict(advance=False, budget=3))
  batches = batches_for(m)
  batches['weight'][..., 12:] = 0
  poisoned = dict(batches, x=batches['x'].copy())
  poisoned['x'][..., 12:, :] = 7.0
  want, _, _ = toy.run(m, (1, 1), batches)
  got, _, _ = toy.run(m, (1, 1), poisoned)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_a_loss_that_is_not_finite_leaves_the_last_good_state():
  m = toy.method()
  batches = batches_for(m)
  good, _, _ = toy.run(m, (2, 2), jax.tree.map(lambda x: x[:4], batches))
  batches['x'][4] = np.nan
  bad, history, _ = toy.run(m, (2, 2), batches)
  assert bad.failed == 4 and history[-1]['failed'] == 4
  assert bad.step == 4
  np.testing.assert_array_equal(bad.stack_RMP, good.stack_RMP)
  jax.tree.map(np.testing.assert_array_equal, bad.head, good.head)


def test_an_infinite_loss_with_finite_gradients_stops_too():
  loss = lambda *args: (lambda loss_B, weight_B: (loss_B + args[4]['more'], weight_B))(
    *toy.loss(*args)
  )
  m = toy.method(loss=loss)
  batches = batches_for(m)
  batches['more'] = np.zeros_like(batches['weight'])
  batches['more'][3, 0, 0] = np.inf
  bad, history, _ = toy.run(m, (2, 2), batches)
  assert bad.failed == 3 and bad.step == 3
  assert np.isfinite([one['loss'] for one in history[:3]]).all()


def test_a_batch_that_weighs_nothing_changes_nothing_but_the_count():
  m = toy.method(settings={'joint': 0.5})
  batches = jax.tree.map(lambda x: x[:4], batches_for(m))
  want, _, _ = toy.run(m, (2, 2), batches)
  idle = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), batches)
  idle['weight'][4] = 0
  got, history, _ = toy.run(m, (2, 2), idle)
  assert got.step == 5 and history[-1]['failed'] == -1
  got = dataclasses.replace(got, step=want.step)
  jax.tree.map(np.testing.assert_array_equal, got, want)


@functools.cache
def lowered(case, mesh_shape):
  """A round before it is compiled."""
  m = toy.method(**PROGRAMS[case])
  devices = jax.devices()[: mesh_shape[0] * mesh_shape[1]]
  mesh = jax.make_mesh(mesh_shape, ('worker', 'data'), devices=devices)
  with jax.set_mesh(mesh):
    model, state = toy.start(m)
    state = toy.on_mesh(state, mesh, m.packing)
    model = jax.device_put(model, jax.NamedSharding(mesh, jax.P()))
    rows = jax.NamedSharding(mesh, m.feeding.rows(mesh).spec)
    batch = jax.device_put(jax.tree.map(lambda x: x[0], batches_for(m)), rows)
    return toy.make_round(m, mesh).lower(state, model, batch)


@functools.cache
def compiled(case, mesh_shape):
  """The text of the compiled round."""
  return lowered(case, mesh_shape).compile().as_text()


@pytest.mark.parametrize('mesh', [(1, 1), (4, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize('case', PROGRAMS)
def test_one_all_gather_a_round_and_none_in_the_local_steps(mesh, case):
  workers, rows = mesh[0] > 1, mesh[1] > 1
  settings = PROGRAMS[case].get('settings', {})
  loops = int(settings.get('local_steps', 1) > 1)
  want = collections.Counter()
  if workers:
    want.update([('all-gather', 0), ('all-reduce', 0)])
  if workers and 'joint' in settings:
    want.update([('reduce-scatter', 0)])
  if rows:  # Once a local step; parts of a batch are added up before.
    want.update([('all-reduce', loops)])
  assert collections.Counter(hlo.collectives(compiled(case, mesh))) == want


@pytest.mark.parametrize('scope', ['broadcast', 'worker_step', 'discovery'])
def test_profiles_name_the_parts_of_a_round(scope):
  assert f'/{scope}/' in compiled('split', (2, 2))


@pytest.mark.parametrize('case', ['split', 'federated', 'joint'])
def test_what_a_worker_sends_is_what_the_program_sends(case):
  m = toy.method(settings=CASES[case])
  _, state = toy.start(m)
  sent = bytes_sent(m, state)
  # Results on one of four devices.
  text = lowered(case, (4, 1)).as_text('hlo')
  pattern = r'= f32\[([\d,]+)\]\S* (all-gather|all-reduce|reduce-scatter|all-to-all)\('
  size = lambda shape: 4 * int(np.prod([int(n) for n in shape.split(',')]))
  want = [('all-gather', 4 * sent.components)]
  if case == 'joint':
    want.append(('reduce-scatter', sent.gradients / 4))
  want.append(('all-reduce', sent.head + sent.statistics))
  assert [(op, size(shape)) for shape, op in re.findall(pattern, text)] == want


def losses_by_hand(m, batch):
  """The mean loss of every live worker's rows in the first round."""
  model, state = toy.start(m)
  parts = toy.components(state)
  live = 2 if m.settings.advance else 1
  edges = np.cumsum([0, *m.feeding.counts(live)])
  found = []
  for k in range(live):
    rows = slice(edges[k], edges[k + 1])
    h = batch['x'][0][rows]
    for name in toy.SHAPES:
      term = lambda j, c=parts[name]: np.outer(c.a_RI[j], c.b_RO[j])
      weight = model[name] + m.problem.scale * sum(term(j) for j in range(k + 1))
      h = np.tanh(h @ weight)
    logits = h @ state.head['w'] + state.head['b']
    top = logits - np.log(np.sum(np.exp(logits), 1, keepdims=True))
    y = batch['y'][0][rows]
    found.append(-np.mean(top[np.arange(len(y)), y]))
  return found


def test_the_loss_is_that_of_the_last_live_worker():
  m = toy.method(settings=dict(shares='first'))
  want = losses_by_hand(m, jax.tree.map(lambda x: x[0], batches_for(m)))
  _, history, _ = toy.run(m, (1, 1), jax.tree.map(lambda x: x[:1], batches_for(m)))
  assert history[0]['live'] == 2 and abs(want[0] - want[1]) > 0.01
  np.testing.assert_allclose(history[0]['loss_R'][:2], want, rtol=1e-4)
  assert history[0]['loss'] == pytest.approx(want[1], rel=1e-4)


def test_the_gradient_of_the_head_is_clipped():
  m = toy.method()
  # A large eps leaves Adam's step proportional to the gradient.
  head = Optimizer(learning_rate=0.5, warmup=2, clip=0.05, eps=0.1)
  m = toy.changed(m, head_optimizer=head)
  state, _, _ = toy.run(m, (1, 1), batches_for(m))
  assert_equals_loop(m, state, toy.loop(m, batches_for(m)))


def test_a_worker_without_a_row_rests():
  """Not even weight decay and momentum move its components."""
  m = toy.method(settings=dict(budget=12, start=1, interval=6))
  batches = batches_for(m)
  first, second = np.split(np.arange(24), [m.feeding.counts(2)[0]])
  assert len(first) and len(second)
  batches['weight'][1:, :, second] = 0
  one, _, _ = toy.run(m, (1, 1), jax.tree.map(lambda x: x[:1], batches))
  all_live, history, _ = toy.run(m, (1, 1), jax.tree.map(lambda x: x[:2], batches))
  assert history[1]['live'] == 2 and np.isnan(history[1]['loss_R'][1])
  np.testing.assert_array_equal(all_live.stack_RMP[1], one.stack_RMP[1])
  assert all_live.age_RM[1].tolist() == [1, 1, 1]
  assert all_live.age_RM[0].tolist() == [2, 2, 2]
  assert np.abs(all_live.stack_RMP[0] - one.stack_RMP[0]).max() > 1e-3


def test_importance_is_a_mean_over_local_steps():
  m = toy.method(settings=CASES['local_steps'])
  state, _, _ = reference('local_steps')
  oracle = toy.loop(m, batches_for(m))
  for got, want in (
    (state.ranks.importance_M, oracle.mean),
    (state.ranks.uncertainty_M, oracle.spread),
  ):
    np.testing.assert_allclose(got, list(want.values()), rtol=1e-3)
