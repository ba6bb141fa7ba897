"""Tests ../../adapad_jax/methods/eva.py against a transcript of its formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.methods.look import Moments, Recorder, token_weights
from tests.methods import toy

torch = pytest.importorskip('torch')
STEPS, LOOKS = 30, 4
SETTINGS = dict(rank=2, rho=2.0, batches=LOOKS)


@functools.cache
def batches():
  """Inputs off centre, of which one matters most, so that modules differ."""
  size = np.array([3.0, 0.3, 0.25, 0.2, 0.15, 0.1], 'f4')
  return toy.batches() | {'x': (toy.batches()['x'] + 0.5) * size}


@functools.cache
def ours():
  method = toy.build('eva', SETTINGS)
  return method, toy.run(method, keep=range(STEPS), data=batches())


def inputs():
  """What every module of the pretrained network is given, (rows, in), by torch."""
  from tests.methods.torch_net import Net

  net, data, found = Net(), batches(), {name: [] for name in toy.SHAPES}
  for name, kept in found.items():
    hook = lambda module, args, output, kept=kept: kept.append(args[0].detach().numpy())
    getattr(net, name).register_forward_hook(hook)
  for t in range(LOOKS):
    x, y, weight = (torch.tensor(data[key][t]) for key in ('x', 'y', 'weight'))
    net(x, y.long(), weight)
  return {name: np.concatenate(kept).astype('f8') for name, kept in found.items()}


def test_the_start_is_that_of_the_formulas():
  _, run = ours()
  tuned, shares = run.states[0].tuned, []
  for name, x in inputs().items():
    centred = x - x.mean(0)
    _, value, vector = np.linalg.svd(centred, full_matrices=False)
    got = tuned.params[name].a_RI
    np.testing.assert_allclose(np.abs(got @ vector[:4].T), np.eye(4), atol=1e-3)
    assert not tuned.params[name].b_RO.any()
    shares.append((value**2)[:4] / (value**2).sum())
  best = sorted(((s, m) for m, row in enumerate(shares) for s in row), reverse=True)[:6]
  want = [sum(module == m for _, module in best) for m in range(3)]
  assert tuned.auxiliary.tolist() == want
  assert len(set(want)) > 1, 'the case must share out unequally'


def test_thirty_steps_from_there_are_those_of_lora_of_these_ranks():
  from tests.methods.torch_terms import trainer

  method, run = ours()
  tuned = run.states[0].tuned
  rank = dict(zip(toy.SHAPES, tuned.auxiliary.tolist(), strict=True))
  start = {name: one.cut(rank[name]) for name, one in tuned.params.items()}
  theirs, s = trainer(start, method.problem), method.problem.scale
  theirs.model.delta = lambda a, b: s * b @ a
  for t in range(STEPS):
    loss = theirs.step(t, {key: x[t] for key, x in batches().items()})
    assert run.history[t]['loss'] == pytest.approx(loss, rel=5e-4), f'step {t}'
    for name, whole in run.states[t + 1].tuned.params.items():
      one = whole.cut(rank[name])
      got = theirs.model.lora_A[name].detach(), theirs.model.lora_B[name].detach().T
      for x, y in zip((one.a_RI, one.b_RO), got, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-3, err_msg=f'{name} {t}')
      assert not whole.b_RO[rank[name] :].any()
  assert run.states[STEPS].tuned.auxiliary.tolist() == list(rank.values())


def test_a_recorder_counts_tokens_that_are_no_padding():
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(3, 4, 5)).astype('f4'), rng.normal(size=(5, 2)).astype('f4')
  mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], 'f4')
  zeros = Moments(jnp.zeros((5, 5)), jnp.zeros(5), jnp.zeros(()))

  def total(moments, x):
    return jnp.sum(jnp.tanh(x @ w + Recorder(mask, moments, 2)(x)))

  found, dx = jax.grad(total, argnums=(0, 1))(zeros, x)
  kept = x[mask > 0]
  np.testing.assert_allclose(found.square_II, kept.T @ kept, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.sum_I, kept.sum(0), rtol=1e-5, atol=1e-6)
  assert found.count == 4
  np.testing.assert_allclose(
    dx, jax.grad(lambda x: jnp.sum(jnp.tanh(x @ w)))(x), rtol=1e-6
  )
  # One vector a row: those of rows with a token.
  pooled = jax.grad(lambda m: jnp.sum(Recorder(mask, m, 2)(x[:, 0])))(zeros)
  assert pooled.count == 2
  np.testing.assert_allclose(pooled.sum_I, x[:2, 0].sum(0), rtol=1e-5, atol=1e-6)


def test_of_answers_only_tokens_that_are_learned_count():
  """As peft's `use_label_mask`."""
  batch = {
    'mask_BL': np.array([[1, 1, 1, 0], [1, 1, 0, 0]]),
    'learned_BL': np.array([[0, 1, 1, 0], [1, 0, 1, 1]]),
  }
  np.testing.assert_array_equal(
    token_weights(batch, 2), [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
  )
  np.testing.assert_array_equal(token_weights({}, 2), [[1.0], [1.0]])


def test_ranks_keep_the_budget_whatever_the_ties():
  method, _ = ours()
  share = lambda rows: method.rule.choose(jnp.asarray(rows, jnp.float32)).tolist()
  assert share([[0.5, 0.2, 0.1, 0.05]] * 3) == [2, 2, 2]
  assert share([[0.9, 0.05, 0.01, 0], [0.3, 0.3, 0.3, 0.1], [0.01] * 4]) == [2, 4, 0]
