"""Tests ../../adapad_jax/methods/increlora.py against a transcript in plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.methods import toy
from tests.methods.increlora_oracle import Oracle

STEPS = 40
CASES = {
  'one': dict(budget=8, r_max=5, start=4, interval=3, grants_per_event=2),
  # Three more for each of two modules would make nine: the budget holds.
  'several': dict(budget=8, r_max=5, start=4, interval=6, grants_per_event=2, gain=3),
}


@pytest.mark.parametrize('case', CASES)
def test_run_equals_the_formulas(case):
  method = toy.build('increlora', CASES[case], steps=STEPS)
  data = toy.batches(steps=STEPS)
  run = toy.run(method, keep=range(STEPS), data=data)
  oracle = Oracle(method.problem, method.rule.settings, run.states[0].tuned.params)
  for t in range(STEPS):
    loss = oracle.step({key: x[t] for key, x in data.items()})
    assert run.history[t]['loss'] == pytest.approx(loss, rel=2e-4), f'step {t}'
    tuned = run.states[t + 1].tuned
    assert tuned.auxiliary.rank_M.tolist() == list(oracle.rank.values()), f'step {t}'
    for name, one in tuned.params.items():
      for k, term in enumerate(oracle.terms[name]):
        for part, got in (('a', one.a_RI), ('b', one.b_RO), ('e', one.e_R)):
          want = term.value[part]
          np.testing.assert_allclose(got[k], want, atol=5e-4, err_msg=f'{name} {k} {t}')
  for name, want in (('importance_M', oracle.mean), ('uncertainty_M', oracle.spread)):
    got = getattr(tuned.auxiliary, name)
    np.testing.assert_allclose(got, list(want.values()), rtol=2e-3)
  assert sum(oracle.rank.values()) == 8 and len(set(oracle.rank.values())) > 1


def test_proxy_is_the_sum_without_absolute_values():
  """|sum dW G| from the values' gradients equals that from the matrices."""
  settings = dict(budget=6, r_max=4)
  full = toy.build('increlora', settings)
  proxy = toy.build('increlora', settings | dict(score='proxy'))
  tuned = full.rule.start(jax.random.key(0))
  rng = np.random.default_rng(0)
  e_R = jnp.asarray([0.3, 1e-5, 1e-5, 1e-5])
  tuned = dataclasses.replace(
    tuned, params={n: dataclasses.replace(t, e_R=e_R) for n, t in tuned.params.items()}
  )
  G = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in toy.SHAPES.items()}
  weight = full.rule.masks(tuned.auxiliary)[1] * full.rule.scales(tuned.auxiliary)
  grads, want = {}, []
  for m, (name, t) in enumerate(tuned.params.items()):
    value = jnp.einsum('ri,io,ro->r', t.a_RI, G[name], t.b_RO) * weight[m]
    grads[name] = dataclasses.replace(t, e_R=value)
    one = t.component(weight[m])
    total = np.sum((one.a_RI.T @ one.b_RO) * G[name])
    want.append(abs(total) / np.sqrt(G[name].size))
  got = proxy.rule.importance(tuned, (grads, {}))
  np.testing.assert_allclose(got, want, rtol=1e-4)
  assert (full.rule.importance(tuned, (grads, G)) > got).all()


@pytest.mark.parametrize(
  'ranks, scores, gain, grants, want',
  [
    ([1, 1, 1], [3.0, 1.0, 2.0], 1, 2, [1, 0, 1]),
    ([1, 1, 1], [1.0, 1.0, 1.0], 1, 2, [1, 1, 0]),
    ([4, 1, 1], [9.0, 1.0, 2.0], 1, 1, [0, 0, 1]),
    ([2, 3, 1], [3.0, 1.0, 2.0], 2, 3, [2, 0, 0]),
    ([3, 1, 1], [3.0, 1.0, 2.0], 2, 2, [1, 0, 2]),
  ],
)
def test_growth_keeps_the_budget_whatever_the_ties(ranks, scores, gain, grants, want):
  method = toy.build(
    'increlora', dict(budget=8, r_max=4, gain=gain, grants_per_event=grants, interval=2)
  )
  got = method.rule.grants(jnp.asarray(ranks), jnp.asarray(scores))
  assert got.tolist() == want


def test_a_new_run_is_refused_whose_full_modules_may_leave_a_part_of_the_budget():
  fields = dict(budget=12, r_max=4, start=1, interval=2, grants_per_event=2)
  method = toy.build('increlora', fields, steps=13)
  assert method.timeline()[-1] == (11, 12)
  method.require_kept()
  with pytest.raises(
    ValueError, match='as late as in step 13, .* ends after 12: raise'
  ):
    toy.build('increlora', fields, steps=12).require_kept()


@pytest.mark.parametrize(
  'fields, end', [(dict(gain=4, r_max=2), 6), (dict(r_max=1), 3), (dict(r_max=4), 6)]
)
def test_what_is_derived_can_be_spent(fields, end):
  method = toy.build('increlora', fields, steps=30)
  method.require_kept()
  run = toy.run(method, keep=[30], data=toy.batches(steps=30))
  rank_M = run.states[30].tuned.auxiliary.rank_M
  assert int(rank_M.sum()) == end == method.timeline()[-1][1]


def test_growth_begins_after_the_start_and_not_in_it():
  """As in the authors' code: in the first multiple of the interval beyond `start`."""
  settings = dict(budget=4, r_max=3, start=6, interval=3, grants_per_event=1)
  method = toy.build('increlora', settings, steps=STEPS)
  run = toy.run(method, keep=[10], data=toy.batches(steps=STEPS))
  granted_MR = np.asarray(run.states[10].tuned.auxiliary.granted_MR)
  assert sorted(set(granted_MR.ravel())) == [-1, 0, 9]
  assert method.timeline() == [(0, 3), (10, 4)]
