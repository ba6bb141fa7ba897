"""Tests ../../adapad_jax/methods/lora_one.py against a transcript of its formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.methods import toy

torch = pytest.importorskip('torch')
STEPS, RANK, GAMMA, LOOKS = 50, 3, 8.0, 5
SETTINGS = dict(rank=RANK, batches=LOOKS, gamma=GAMMA)


@functools.cache
def ours():
  method = toy.build('lora_one', SETTINGS, steps=STEPS)
  return method, toy.run(method, keep=range(STEPS), data=toy.batches(steps=STEPS))


def gradients():
  """G of every module over the first batches, by torch, (in, out)."""
  from tests.methods.torch_net import Net

  net, data = Net(), toy.batches(steps=STEPS)
  for t in range(LOOKS):
    x, y, weight = (torch.tensor(data[key][t]) for key in ('x', 'y', 'weight'))
    # The net's loss is a mean; the sum over all rows is wanted.
    (net(x, y.long(), weight).loss * weight.sum()).backward()
  return {name: getattr(net, name).weight.grad.numpy().T for name in toy.SHAPES}


def test_the_start_is_the_best_step_down_the_gradient():
  method, run = ours()
  start = run.states[0].tuned.params
  for name, g in gradients().items():
    u, s, v = np.linalg.svd(-g.astype('f8'), full_matrices=False)
    size = s[:RANK] / s[0] / GAMMA
    want = (u[:, :RANK] * size) @ v[:RANK]
    np.testing.assert_allclose(start[name].weight(), want, atol=2e-6, err_msg=name)
    # Both sides share the size.
    for rows in (start[name].a_RI, start[name].b_RO):
      np.testing.assert_allclose((rows**2).sum(1), size, rtol=1e-4)
      np.testing.assert_allclose(rows @ rows.T, np.diag(size), atol=1e-6)
  loss = lambda state: toy.mean_loss(
    method, toy.deployed(method, state), {k: x[0] for k, x in toy.batches().items()}
  )
  untouched = jax.jit(method.init)(toy.network()[1])
  assert loss(run.states[0]) < loss(untouched)
  assert run.states[0].step == 0


def test_fifty_steps_from_there_are_those_of_lora():
  from tests.methods.torch_terms import trainer

  method, run = ours()
  theirs, s = trainer(run.states[0].tuned.params, method.problem), method.problem.scale
  theirs.model.delta = lambda a, b: s * b @ a
  for t in range(STEPS):
    batch = {key: x[t] for key, x in toy.batches(steps=STEPS).items()}
    loss = theirs.step(t, batch)
    assert run.history[t]['loss'] == pytest.approx(loss, rel=5e-4), f'step {t}'
    for name, one in run.states[t + 1].tuned.params.items():
      got = theirs.model.lora_A[name].detach(), theirs.model.lora_B[name].detach().T
      for x, y in zip((one.a_RI, one.b_RO), got, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-3, err_msg=f'{name} {t}')


def test_a_batch_may_be_looked_at_in_parts_and_on_four_devices():
  other = toy.build('lora_one', SETTINGS, steps=STEPS, accumulate=2)
  data = {key: x[:LOOKS] for key, x in toy.batches(steps=STEPS).items()}
  start = toy.run(other, shape=(1, 4), data=data).states[0].tuned.params
  for name, one in ours()[1].states[0].tuned.params.items():
    np.testing.assert_allclose(start[name].a_RI, one.a_RI, atol=1e-5)
    np.testing.assert_allclose(start[name].b_RO, one.b_RO, atol=1e-5)


def test_a_module_without_a_gradient_starts_as_lora():
  method, run = ours()
  drawn = method.rule.start(jax.random.key(0))
  sums = {name: jnp.zeros(shape) for name, shape in toy.SHAPES.items()}
  kept = method.rule.inform(drawn, sums)
  for got, want in zip(jax.tree.leaves(kept), jax.tree.leaves(drawn), strict=True):
    np.testing.assert_array_equal(got, want)
