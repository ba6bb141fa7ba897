"""What every method promises the training loop, whatever it does inside."""

import functools

import jax
import numpy as np
import pytest

from adapad_jax.lowrank import host_adapter
from adapad_jax.methods import METHODS
from adapad_jax.methods.head import head_alone
from tests.methods import toy

# Every worker sees every row, so that adapad's loss is one of the whole batch too.
SETTINGS = {
  'adapad': dict(feeding='replicate'),
  'increlora': dict(r_max=4),
  'eva': dict(batches=2),
  'lora_one': dict(batches=2),
}
JOINT = sorted(set(METHODS) - {'adapad'})
HALF = toy.STEPS // 2
TRAINED = sorted(METHODS)
# Components over the three modules at an average rank of two.
BUDGET = {name: 6 for name in METHODS} | {'head': 0, 'full': 0}


@functools.cache
def method(name):
  return toy.build(name, SETTINGS.get(name))


@functools.cache
def run(name):
  """The whole run on one device, states kept on the way."""
  return toy.run(method(name), keep=(5, HALF, toy.STEPS - 1))


def assert_same(got, want, **tolerance):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize('name', METHODS)
def test_starts_as_the_model_itself(name):
  m = method(name)
  # LoRA-One starts a step further by what it is; lora_one_test.py holds that step.
  fresh = jax.jit(m.init)(toy.network()[1]) if name == 'lora_one' else None
  start = toy.deployed(m, fresh or run(name).states[0])
  model, head = toy.network()
  x = toy.batches()['x'][0]
  want = toy.logits(model, head, {}, x)
  np.testing.assert_allclose(toy.deployed_logits(m, start, x), want, rtol=1e-6)


@pytest.mark.parametrize('name', METHODS)
def test_learns(name):
  rows = {key: x.reshape(-1, *x.shape[2:]) for key, x in toy.batches().items()}
  m, states = method(name), run(name).states
  at = lambda step: toy.mean_loss(m, toy.deployed(m, states[step]), rows)
  assert at(toy.STEPS) < 0.95 * at(0)


@pytest.mark.parametrize('name', METHODS)
def test_stays_within_the_budget_and_spends_it(name):
  m = method(name)
  assert m.timeline()[-1][1] == BUDGET[name]
  for step, state in run(name).states.items():
    total = toy.deployed(m, state).active_MS.sum()
    assert total <= BUDGET[name], f'step {step}'
  assert total == BUDGET[name]
  assert run(name).history[-1]['rank'] == BUDGET[name]


@pytest.mark.parametrize('name', METHODS)
def test_compiles_once(name):
  """Also for states that come from a checkpoint."""
  toy.run(method(name), start=run(name).states[HALF], first=toy.STEPS - 1)
  assert run(name).round._cache_size() == 1
  assert run(name).history[-1]['step'] == toy.STEPS
  assert run(name).history[-1]['failed'] == -1


@pytest.mark.parametrize('name', METHODS)
def test_resumes_bit_for_bit(name):
  """Through the host, as a checkpoint does."""
  saved = jax.tree.map(np.array, run(name).states[HALF])
  resumed = toy.run(method(name), start=saved, first=HALF)
  got, want = resumed.states[toy.STEPS], run(name).states[toy.STEPS]
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('name', JOINT)
def test_the_first_step_writes_where_the_placed_state_lies(name):
  """Also after a checkpoint: nothing is held twice."""
  m, saved = method(name), jax.tree.map(np.array, run(name).states[HALF])
  mesh, (model, _) = toy.mesh_of((1, 1)), toy.network()
  places = lambda tree: [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]
  with jax.set_mesh(mesh):
    model = jax.device_put(model, jax.NamedSharding(mesh, jax.P()))
    rows = jax.NamedSharding(mesh, jax.P(None, 'data'))
    batch = {key: x[HALF][None] for key, x in toy.batches().items()}
    state = m.place(saved, mesh)
    before = places(state)
    after, _ = toy.compiled(m, (1, 1))(state, model, jax.device_put(batch, rows))
    assert set(places(after)) == set(before)


@pytest.mark.parametrize('name', METHODS)
def test_deployed_update_is_the_trained_one(name):
  """The loss of the last step, once before it by evaluation's forward pass."""
  state = run(name).states[toy.STEPS - 1]
  before = toy.deployed(method(name), state)
  batch = {key: x[-1] for key, x in toy.batches().items()}
  want = run(name).history[-1]['loss']
  # A step of DyLoRA trains a prefix.
  prefix = None
  if name == 'dylora':
    prefix = int(method(name).rule.width(state.tuned, state.step))
  got = toy.mean_loss(method(name), before, batch, prefix)
  assert got == pytest.approx(want, rel=2e-5)


@pytest.mark.parametrize('name', METHODS)
def test_rows_may_lie_on_four_devices(name):
  spread = toy.run(method(name), shape=(1, 4))
  got, want = spread.states[toy.STEPS], run(name).states[toy.STEPS]
  assert_same(got, want, rtol=2e-4, atol=2e-5)


def noisy_loss(model, head, deltas, head_weight_B, batch, keys_B):
  """The toy's loss with dropout of the inputs, drawn row by row."""
  keep_BI = jax.vmap(lambda key: jax.random.bernoulli(key, 0.7, (6,)))(keys_B)
  batch = batch | {'x': batch['x'] * keep_BI}
  return toy.loss(model, head, deltas, head_weight_B, batch, keys_B)


@pytest.mark.parametrize('name', ['lora', 'increlora'])
def test_a_batch_may_be_computed_in_parts(name):
  data = {key: x[:6] for key, x in toy.batches().items()}
  one = toy.run(toy.build(name, SETTINGS.get(name), loss=noisy_loss), data=data)
  in_parts = toy.build(name, SETTINGS.get(name), loss=noisy_loss, accumulate=4)
  got = toy.run(in_parts, shape=(1, 2), data=data)
  assert_same(got.states[6], one.states[6], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize('name', METHODS)
def test_report_tells_the_ranks_of_the_adapter(name):
  m, state = method(name), run(name).states[toy.STEPS]
  report = toy.report(m, state)
  found = toy.deployed(m, state)
  if found.changes is not None:
    with pytest.raises(ValueError, match='no adapter'):
      host_adapter(tuple(toy.SHAPES), found)
    return
  adapter = host_adapter(tuple(toy.SHAPES), found)
  assert list(adapter.ranks.values()) == report.rank_M.tolist()
  assert sum(adapter.ranks.values()) == BUDGET[name]
  for update, (wide, high) in zip(
    adapter.modules.values(), toy.SHAPES.values(), strict=True
  ):
    assert update.weight().shape == (wide, high)


@pytest.mark.parametrize('name', METHODS)
def test_a_loss_that_is_not_finite_changes_nothing_more(name):
  bad = {key: x[:4].copy() for key, x in toy.batches().items()}
  bad['x'][2] = np.nan
  stopped = toy.run(method(name), keep=(2,), data=bad)
  assert [m['failed'] for m in stopped.history] == [-1, -1, 2, 2]
  pick = lambda state: jax.tree.leaves(state)
  kept, last = stopped.states[2], stopped.states[4]
  different = sum(
    not np.array_equal(a, b) for a, b in zip(pick(kept), pick(last), strict=True)
  )
  assert different == 1, 'only the mark of the failure'


@pytest.mark.parametrize('name', METHODS)
def test_rows_that_weigh_nothing_change_nothing_but_the_count(name):
  idle = {key: x[:4].copy() for key, x in toy.batches().items()}
  idle['weight'][2] = 0
  found = toy.run(method(name), keep=(2, 3), data=idle)
  assert [m['failed'] for m in found.history] == [-1] * 4
  before, after, last = (found.states[t] for t in (2, 3, 4))
  assert [int(state.step) for state in (before, after, last)] == [2, 3, 4]
  deployed = lambda state: jax.tree.leaves(toy.deployed(method(name), state))
  assert_same(deployed(after), deployed(before), rtol=0)
  moved = [
    a for a, b in zip(deployed(last), deployed(after), strict=True) if (a != b).any()
  ]
  assert moved


def test_steps_of_the_head_that_are_not_finite_are_named():
  mesh, problem = toy.mesh_of((1, 1)), toy.problem()
  model, head = toy.network()
  rows = {key: x[:1].copy() for key, x in toy.batches().items()}
  rows['x'][:] = np.nan
  rows = jax.device_put(rows, jax.NamedSharding(mesh, jax.P(None, 'data')))
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match='step 1 of train.head_steps=3'),
  ):
    head_alone(problem, head, mesh, model, lambda _: rows, 3)


@pytest.mark.parametrize('name', JOINT)
def test_joint_methods_refuse_a_worker_axis(name):
  with pytest.raises(ValueError, match=r'mesh.worker is 2'):
    method(name).make_round(toy.mesh_of((2, 1)))


@pytest.mark.parametrize(
  'name, settings, message',
  [
    ('lora', dict(rank=7), 'lora.rank is 7; must be in 1..6'),
    ('adalora', dict(budget=10, initial=2), 'exceeds adalora.initial x modules'),
    ('adalora', dict(start=20, final=20), 'leave none of 30 steps'),
    ('adalora', dict(orthogonal=-1.0), 'adalora.orthogonal must be >= 0, got -1.0'),
    ('increlora', dict(score='best'), "unknown increlora.score 'best'"),
    ('increlora', dict(r_max=2, budget=7), 'must be in 3..6'),
    ('increlora', dict(r_max=2, interval=20), 'is spent in step 61'),
    ('increlora', dict(gain=0), 'increlora.gain must be >= 1, got 0'),
    ('lora', dict(b_rate_ratio=0.0), 'lora.b_rate_ratio must be > 0, got 0'),
    ('dylora', dict(rank=7), 'dylora.rank is 7; must be in 1..6'),
    ('eva', dict(rank=4), 'eva.rank x eva.rho is 8; must be in 1..6'),
    ('lora_one', dict(rank=7), 'lora_one.rank is 7; must be in 1..6'),
    ('lora_one', dict(gamma=0.0), 'lora_one.gamma must be > 0, got 0'),
    ('matryoshka', dict(weight='log'), "unknown matryoshka.weight 'log'"),
    ('sequential', dict(rank=0), 'sequential.rank must be >= 1, got 0'),
    ('sequential', dict(alpha=-1.0), 'sequential.alpha must be >= 0, got -1.0'),
  ],
)
def test_what_cannot_work_is_refused(name, settings, message):
  with pytest.raises(ValueError, match=message):
    toy.build(name, settings)
