"""Tests ../../adapad_jax/training/curve.py against scores of all rows."""

import dataclasses

import jax
import numpy as np
import pytest

from adapad_jax import finetune_config, restore, train
from adapad_jax.training import curve
from adapad_jax.training.evaluate import Validation
from tests import tiny


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
  """A short run, opened at its best state."""
  values = tiny.values(data, train={'steps': 40, 'evaluations': 1})
  workdir = tmp_path_factory.mktemp('curve') / 'run'
  train(finetune_config(values), workdir)
  return restore(workdir)


class Counted:
  """A session's curve under other settings, and the prefixes that the model ran for."""

  def __init__(self, run, **fields):
    plan = run.plan
    train = dataclasses.replace(plan.config.train, **fields)
    config = dataclasses.replace(plan.config, train=train)
    plan = dataclasses.replace(plan, config=config)
    self.session = dataclasses.replace(run.session, plan=plan)
    self.batches, evaluator = [], run.session.evaluator

    def predict(params, deployed, prefix, batch):
      self.batches.append(int(prefix))
      return evaluator.program.predict(params, deployed, prefix, batch)

    program = dataclasses.replace(evaluator.program, predict=predict)
    counting = dataclasses.replace(evaluator, program=program)
    self.session.__dict__['evaluator'] = counting
    self.deployed = run.deployed

  def __call__(self, known=None):
    with jax.set_mesh(self.session.plan.mesh):
      return curve.truncation_curve(self.session, self.deployed, known)


def rights_of(run, prefix):
  """Whether each validation row is right, with the update cut to a prefix."""
  split = run.plan.task.splits['validation']
  with jax.set_mesh(run.plan.mesh):
    session = run.session
    found = session.evaluator.outputs(session.params, run.deployed, split, prefix)
  return found, found['logits_BC'].argmax(axis=1) == split.columns['label_B']


def known_of(outputs):
  """What the last evaluation has found."""
  return Validation({}, {'validation': outputs})


def test_every_prefix_is_scored_on_all_rows_of_a_small_split(run):
  counted = Counted(run)
  found = counted()
  rights_K = [rights_of(run, k)[1] for k in range(4)]
  assert found.values == [right_N.mean() for right_N in rights_K]
  wanted = [(p * (1 - p) / 39) ** 0.5 for p in found.values]
  np.testing.assert_allclose(found.errors, wanted)
  assert (found.split, found.rows, found.rows_in_all) == ('validation', 40, 40)
  assert counted.batches == [0, 1, 2, 3]


@pytest.mark.parametrize(
  'values, wanted',
  [
    ([0.1, 0.5, 0.7], 0.6),
    # 1 to 2 and 2 to 4 components are as wide on a logarithmic axis.
    ([0.1, 0.0, 0.8, None, 0.4], 0.5),
    ([None, 0.3, 0.5, 0.5, 0.5], 0.45),
    ([0.1, None, 0.8], None),
    ([0.1, 0.5], None),
    ([], None),
  ],
)
def test_the_mean_over_ranks_is_a_trapezoid_over_their_logarithm(values, wanted):
  assert curve.aurac(values) == (wanted and pytest.approx(wanted))


def test_what_is_known_of_the_whole_update_is_not_scored_again(run):
  whole = Counted(run)()
  counted = Counted(run)
  assert counted(known_of(rights_of(run, 3)[0])) == whole
  assert counted.batches == [0, 1, 2]
  known = rights_of(run, 3)[0]
  wrong = {name: -x for name, x in known.items()}
  assert Counted(run)(known_of(wrong)).values[3] == pytest.approx(1 - whole.values[3])


@pytest.mark.parametrize('is_known', [True, False])
def test_a_sample_is_the_same_rows_for_every_prefix(run, is_known):
  counted = Counted(run, curve_rows=12, curve_from=2)
  known = known_of(rights_of(run, 3)[0]) if is_known else None
  found = counted(known)
  assert (found.rows, found.rows_in_all) == (12, 40)
  assert found.values[:2] == found.errors[:2] == [None, None]
  assert counted.batches == ([2] if is_known else [2, 3])
  task, split = run.plan.task, run.plan.task.splits['validation']
  rows_M, _ = task.sample(split, 12, run.plan.config.seed)
  assert len(set(rows_M)) == 12 and (np.diff(rows_M) > 0).all()
  assert (rows_M != np.arange(12)).any()
  for k in (2, 3):
    right_M = rights_of(run, k)[1][rows_M]
    assert found.values[k] == right_M.mean()
    assert found.errors[k] == pytest.approx(right_M.std(ddof=1) / 12**0.5)


def test_the_split_is_the_one_whose_suffix_the_metric_has(run):
  task = run.plan.task
  split = task.splits['validation']
  other = dataclasses.replace(split, name='validation_mm')
  splits = {'train': None, 'validation': split, 'validation_mm': other}
  found = lambda metric: curve.split_of_metric(
    dataclasses.replace(task, splits=splits, metric=metric)
  )
  assert found('accuracy') is split and found('accuracy_mm') is other
