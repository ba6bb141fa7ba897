"""Tests ../../adapad_jax/methods/dylora.py against a transcript of its formulas."""

import collections
import functools
import math

import jax
import numpy as np
import pytest

from adapad_jax.lowrank import host_adapter
from adapad_jax.lowrank.prefixes import cut_to_rank, cut_to_ranks
from adapad_jax.sharding import make_mesh
from adapad_jax.training.cutting import cut_deployed
from tests.methods import toy

torch = pytest.importorskip('torch')
STEPS, RANK = 50, 4


@functools.cache
def ours(frozen):
  method = toy.build('dylora', dict(rank=RANK, frozen=frozen), steps=STEPS)
  return method, toy.run(method, keep=range(STEPS), data=toy.batches(steps=STEPS))


def width(method, state):
  return int(method.rule.width(state.tuned, state.step))


def reduced(x_nR, width, frozen):
  """Columns of a factor as the authors' layer gives them: cut, detached, scaled."""
  kept = x_nR[:, :width]
  if frozen:
    kept = torch.cat([kept[:, :-1].detach(), kept[:, -1:]], dim=1)
  return kept * math.sqrt(RANK / width)


@pytest.mark.parametrize('frozen', [False, True])
def test_fifty_steps_equal_the_formulas(frozen):
  from tests.methods.torch_terms import trainer

  method, run = ours(frozen)
  theirs, s = trainer(run.states[0].tuned.params, method.problem), method.problem.scale
  for t in range(STEPS):
    w = width(method, run.states[t])
    theirs.model.delta = lambda a, b, w=w: (
      s * reduced(b, w, frozen) @ reduced(a.T, w, frozen).T
    )
    batch = {key: x[t] for key, x in toy.batches(steps=STEPS).items()}
    loss = theirs.step(t, batch)
    assert run.history[t]['loss'] == pytest.approx(loss, rel=2e-4), f'step {t}'
    for name, one in run.states[t + 1].tuned.params.items():
      got = theirs.model.lora_A[name].detach(), theirs.model.lora_B[name].detach().T
      for x, y in zip((one.a_RI, one.b_RO), got, strict=True):
        np.testing.assert_allclose(x, y, atol=5e-4, err_msg=f'{name} {t}')
  deployed, x = toy.deployed(method, run.states[STEPS]), toy.batches()['x'][0]
  adapter = host_adapter(tuple(toy.SHAPES), deployed)
  for w in range(1, RANK + 1):
    theirs.model.delta = lambda a, b, w=w: s * RANK / w * b[:, :w] @ a[:w]
    want = {name: theirs.model.update(name) for name in toy.SHAPES}
    cut = cut_to_rank(adapter, w)
    for name, one in cut.modules.items():
      np.testing.assert_allclose(one.weight(), want[name], atol=2e-3)
    # By evaluation's forward pass as well, and by two cuts, one after the other.
    model, _ = toy.network()
    moved = {name: model[name] + want[name] for name in toy.SHAPES}
    got = toy.deployed_logits(method, deployed, x, w)
    np.testing.assert_allclose(
      got, toy.logits(moved, deployed.head, {}, x), rtol=1e-3, atol=5e-3
    )
    twice = cut_to_rank(cut_to_rank(adapter, 3), w)
    again = cut_to_rank(adapter, min(w, 3))
    for name, one in twice.modules.items():
      np.testing.assert_allclose(
        one.weight(), again.modules[name].weight(), rtol=1e-5, atol=1e-6
      )


def test_modules_cut_to_several_ranks_are_rescaled_one_by_one():
  """On the devices, as `--budget` evaluates, and on the host, as it exports."""
  method, run = ours(False)
  modules = tuple(toy.SHAPES)
  deployed = toy.deployed(method, run.states[STEPS])
  adapter = host_adapter(modules, deployed)
  with jax.set_mesh(make_mesh(1, 1)):
    cut = jax.device_get(cut_deployed(deployed, adapter, modules, budget=7))
  ranks = {name: int(n) for name, n in zip(modules, cut.active_MS.sum(1), strict=True)}
  assert len(set(ranks.values())) > 1
  model, _ = toy.network()
  update = cut_to_ranks(adapter, ranks).modules
  moved = {name: model[name] + update[name].weight() for name in modules}
  x = toy.batches()['x'][0]
  got = toy.deployed_logits(method, cut, x)
  np.testing.assert_allclose(got, toy.logits(moved, cut.head, {}, x), rtol=1e-4)
  full = {name: adapter.modules[name] for name in modules}
  for name, rank in ranks.items():
    want = RANK / rank * full[name].cut(rank).weight() if rank else 0 * model[name]
    np.testing.assert_allclose(update[name].weight(), want, rtol=1e-5, atol=1e-7)


def test_widths_are_uniform_and_of_the_seed():
  method = toy.build('dylora', dict(rank=RANK))
  draw = lambda seed: method.rule.start(jax.random.key(seed))
  widths = jax.jit(jax.vmap(method.rule.width, in_axes=(None, 0)))
  steps = np.arange(4000)
  one, other = (np.asarray(widths(draw(seed), steps)) for seed in (0, 1))
  assert (one != other).any()
  counts = collections.Counter(one.tolist())
  assert sorted(counts) == [1, 2, 3, 4]
  # Five standard deviations of a share of a quarter.
  assert all(abs(n - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75) for n in counts.values())
