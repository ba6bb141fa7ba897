"""Tests ../../adapad_jax/methods/matryoshka.py against a transcript of its formulas."""

import numpy as np
import pytest

from adapad_jax.methods.matryoshka import MatryoshkaSettings
from tests.methods import toy

torch = pytest.importorskip('torch')
STEPS = 50
# Rank -> weight of the nested update, and what each component weighs in the sum.
CASES = [
  ('constant', 4, {1: 1.0, 2: 1.0, 4: 1.0}, [3.0, 2.0, 1.0, 1.0]),
  ('inverse', 3, {1: 1.0, 2: 0.5, 3: 1 / 3}, [11 / 6, 5 / 6, 1 / 3]),
  ('root', 2, {1: 1.0, 2: 0.5**0.5}, [1 + 0.5**0.5, 0.5**0.5]),
]


@pytest.mark.parametrize('weight, rank, nested, weights', CASES)
def test_fifty_steps_equal_the_sum_of_nested_updates(weight, rank, nested, weights):
  from tests.methods.torch_terms import trainer

  settings = dict(rank=rank, weight=weight)
  np.testing.assert_allclose(MatryoshkaSettings(**settings).weights(), weights)
  method = toy.build('matryoshka', settings, steps=STEPS)
  data = toy.batches(steps=STEPS)
  run = toy.run(method, keep=range(STEPS), data=data)
  theirs, s = trainer(run.states[0].tuned.params, method.problem), method.problem.scale
  theirs.model.delta = lambda a, b: (
    s * sum(w * b[:, :n] @ a[:n] for n, w in nested.items())
  )
  for t in range(STEPS):
    loss = theirs.step(t, {key: x[t] for key, x in data.items()})
    assert run.history[t]['loss'] == pytest.approx(loss, rel=2e-4), f'step {t}'
    for name, one in run.states[t + 1].tuned.params.items():
      got = theirs.model.lora_A[name].detach(), theirs.model.lora_B[name].detach().T
      for x, y in zip((one.a_RI, one.b_RO), got, strict=True):
        np.testing.assert_allclose(x, y, atol=5e-4, err_msg=f'{name} {t}')
  deployed = toy.deployed(method, run.states[STEPS]).components
  trained = {name: theirs.model.update(name) for name in toy.SHAPES}
  for name in toy.SHAPES:
    np.testing.assert_allclose(deployed[name].weight(), trained[name], atol=2e-3)
  # What the authors' code evaluates at the full rank is something else.
  theirs.model.delta = lambda a, b: s * nested[rank] * b @ a
  for name in toy.SHAPES:
    gap = np.abs(theirs.model.update(name) - trained[name]).max()
    assert gap > 0.1 * np.abs(trained[name]).max()


def test_a_prefix_keeps_the_weights_that_were_trained():
  method = toy.build('matryoshka', dict(rank=4, weight='constant'))
  state = toy.run(method).states[toy.STEPS]
  deployed = toy.deployed(method, state)
  model, _ = toy.network()
  x = toy.batches()['x'][0]
  moved = {}
  for name, one in state.tuned.params.items():
    # P = 3, 2, 1, 1
    terms = 3 * np.outer(one.a_RI[0], one.b_RO[0]) + 2 * np.outer(
      one.a_RI[1], one.b_RO[1]
    )
    moved[name] = model[name] + method.problem.scale * terms
  got = toy.deployed_logits(method, deployed, x, prefix=2)
  np.testing.assert_allclose(
    got, toy.logits(moved, deployed.head, {}, x), rtol=1e-4, atol=1e-5
  )


def test_nested_ranks_are_powers_of_two_and_the_rank():
  nested = {rank: MatryoshkaSettings(rank=rank).nested() for rank in (1, 2, 3, 6, 8)}
  assert nested == {1: [1], 2: [1, 2], 3: [1, 2, 3], 6: [1, 2, 4, 6], 8: [1, 2, 4, 8]}
