"""Tests ../../adapad_jax/methods/adalora.py step by step against huggingface/peft."""

import functools

import numpy as np
import pytest

from adapad_jax.methods.adalora import AdaLoRASettings
from tests.methods import toy

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
STEPS = 50
SETTINGS = dict(
  budget=6,
  initial=4,
  start=6,
  final=14,
  interval=3,
  beta1=0.8,
  beta2=0.9,
  orthogonal=0.3,
)


@functools.cache
def ours():
  method = toy.build('adalora', SETTINGS, steps=STEPS)
  return method, toy.run(method, keep=range(STEPS), data=toy.batches(steps=STEPS))


def theirs(method):
  """peft's AdaLoRA with our weights."""
  from tests.methods.torch_net import Net, Trainer

  s = SETTINGS
  config = peft.AdaLoraConfig(
    target_r=2,
    init_r=s['initial'],
    tinit=s['start'],
    tfinal=s['final'],
    deltaT=s['interval'],
    beta1=s['beta1'],
    beta2=s['beta2'],
    orth_reg_weight=s['orthogonal'],
    total_step=STEPS,
    # peft divides by the rank + 1e-5.
    lora_alpha=method.problem.scale * (s['initial'] + 1e-5),
    target_modules=list(toy.SHAPES),
  )
  trainer = Trainer(peft.get_peft_model(Net(), config), method.problem)
  for name, one in ours()[1].states[0].tuned.params.items():
    trainer.factor(name, 'lora_A').data = torch.tensor(one.a_RI)
    trainer.factor(name, 'lora_B').data = torch.tensor(one.b_RO.T)
    assert not trainer.factor(name, 'lora_E').any()
  return trainer


def test_fifty_steps_equal_peft():
  """Parameters after every step, and the same triplets cut at the same time."""
  method, run = ours()
  trainer = theirs(method)
  cuts = set()
  for t in range(STEPS):
    trainer.step(t, {key: x[t] for key, x in toy.batches(steps=STEPS).items()})
    trainer.model.base_model.update_and_allocate(t)
    params = run.states[t + 1].tuned.params
    for name, one in params.items():
      pairs = dict(lora_A=one.a_RI, lora_B=one.b_RO.T, lora_E=one.e_R[:, None])
      for kind, want in pairs.items():
        got = trainer.factor(name, kind).detach().numpy()
        np.testing.assert_allclose(want, got, atol=5e-5, err_msg=f'{name} {kind} {t}')
      zero = trainer.factor(name, 'lora_E').detach().numpy()[:, 0] == 0
      np.testing.assert_array_equal(one.e_R == 0, zero, err_msg=f'{name} {t}')
    cuts.add(tuple(int((one.e_R == 0).sum()) for one in params.values()))
  assert len(cuts) > 3, 'the case must cut at several steps'
  assert any(len(set(cut)) > 1 for cut in cuts), 'and by unequal numbers'
  assert run.states[STEPS].tuned.auxiliary.kept_MR.sum() == 6


def test_budget_falls_on_a_cubic_curve():
  settings = AdaLoRASettings(**SETTINGS)
  budgets = settings.budgets(3, STEPS)
  assert (budgets[:7] == 12).all() and (budgets[36:] == 6).all()
  assert budgets[21] == int(6 + 6 * (1 - 15 / 30) ** 3)
  assert (np.diff(budgets) <= 0).all()


def test_zeros_are_filled_in_from_the_run():
  resolved = AdaLoRASettings().resolve(modules=36, steps=1400)
  assert (resolved.budget, resolved.initial) == (72, 3)
  assert (resolved.start, resolved.final, resolved.interval) == (175, 700, 2)


def test_nothing_is_cut_up_to_the_start_and_something_right_after():
  method, run = ours()
  kept = lambda t: int(run.states[t].tuned.auxiliary.kept_MR.sum())
  budgets = method.rule.settings.budgets(3, STEPS)
  # State t + 1 is what step t left behind; 9 is the first multiple of 3 beyond 6.
  assert [kept(t + 1) for t in (5, 6, 7, 8)] == [12] * 4
  assert kept(10) == budgets[9] == int(6 * (1 - 3 / 30) ** 3) + 6
  assert method.timeline()[:2] == [(0, 12), (10, budgets[9])]


def test_a_run_that_leaves_no_step_to_prune_is_refused():
  settings = AdaLoRASettings(**SETTINGS)
  settings.check(3, 21)  # start 6 + final 14, and one step for the budget to fall
  with pytest.raises(ValueError, match='start 6 and adalora.final 14 leave none of 20'):
    settings.check(3, 20)
