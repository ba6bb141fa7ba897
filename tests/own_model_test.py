"""Tests ../adapad_jax/own_model.py by the example of its documentation, and beyond."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.adapters import Targets, linear_shapes, merge
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.optim import Optimizer
from adapad_jax.own_model import Recipe, adapt
from adapad_jax.training import Diverged

DOCUMENT = pathlib.Path(__file__).parents[1] / 'docs' / 'your_own_model.md'


@pytest.fixture(scope='module')
def example():
  """What the document's program leaves behind."""
  program = DOCUMENT.read_text().split('```python\n')[1].split('```')[0]
  names = {}
  exec(compile(program, str(DOCUMENT), 'exec'), names)
  return names


@pytest.mark.slow
def test_the_documented_example_adapts_a_model_never_seen_before(example):
  outcome = example['outcome']
  assert example['before'] < 0.5 < 0.8 < example['after']
  assert sum(outcome.adapter.ranks.values()) == 24
  assert set(outcome.adapter.ranks) == {
    f'{name}.{i}' for name in ('tokens', 'up', 'down') for i in range(3)
  }
  assert len(set(outcome.adapter.ranks.values())) > 1
  assert set(outcome.adapter.head) == {'classifier'}
  assert outcome.traces == 1
  assert np.mean(outcome.loss_T[-20:]) < np.mean(outcome.loss_T[:20]) / 2
  assert example['accuracy'](example['model'], example['test']) == example['before']


class Curve(nnx.Module):
  """Another model: a scalar function of two numbers, two layers sharing a name."""

  def __init__(self, seed=0):
    rngs = nnx.Rngs(seed)
    self.first = nnx.Linear(2, 6, rngs=rngs)
    self.second = nnx.Linear(6, 6, use_bias=False, rngs=rngs)
    self.out = nnx.Linear(6, 1, rngs=rngs)

  def __call__(self, x_BI):
    return self.out(jnp.tanh(self.second(jnp.tanh(self.first(x_BI)))))[:, 0]


def squared(model, batch, keys_B):
  return jnp.square(model(batch['x']) - batch['y'])


@pytest.fixture(scope='module')
def columns():
  """Values of a curve whose two kernels differ from the model's by rank one each."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((64, 2)).astype(np.float32)
  teacher = Curve()
  for linear in (teacher.first, teacher.second):
    a, b = (rng.standard_normal(n).astype(np.float32) for n in linear.kernel.shape)
    linear.kernel[...] += np.outer(a, b)
  return {'x': x, 'y': np.asarray(teacher(jnp.asarray(x)))}


def recipe(**changes):
  fields = dict(
    steps=60,
    batch=16,
    targets=Targets(patterns=('first', 'second')),
    adapad=AdaPaDSettings(budget=5, r_max=3),
    optimizer=Optimizer(learning_rate=3e-2),
  )
  return Recipe(**fields | changes)


def test_the_model_stays_and_its_merged_copy_has_learned(columns):
  model = Curve()
  before = nnx.clone(model)
  outcome = adapt(model, squared, columns, recipe())
  merged = merge(nnx.clone(model), outcome.adapter)
  error = lambda model: float(squared(model, columns, None).mean())
  assert error(model) == error(before)
  assert error(merged) < 0.5 * error(model)
  assert outcome.adapter.head == {}
  # A hand-made sum of the components is what was trained and merged.
  update = outcome.adapter.modules['second']
  delta = sum(np.outer(a, b) for a, b in zip(update.a_RI, update.b_RO, strict=True))
  np.testing.assert_allclose(
    merged.second.kernel[...], model.second.kernel[...] + delta, atol=1e-6
  )


def test_a_layer_gets_no_more_components_than_it_has_dimensions(columns):
  # Two grants at a time: without a bound both layers would grow alike.
  growing = dict(r_max=6, start=1, interval=1, grants_per_event=2)
  whole = AdaPaDSettings(budget=8, **growing)
  outcome = adapt(Curve(), squared, columns, recipe(steps=20, adapad=whole))
  assert outcome.adapter.ranks == {'first': 2, 'second': 6}
  more = recipe(steps=20, adapad=AdaPaDSettings(budget=9, **growing))
  with pytest.raises(ValueError, match='9 exceeds the 8 components that the 2 modules'):
    adapt(Curve(), squared, columns, more)


def test_another_mesh_gives_the_same_adapter(columns):
  one = adapt(Curve(), squared, columns, recipe(steps=20))
  four = adapt(Curve(), squared, columns, recipe(steps=20, worker=2, data=2))
  assert one.adapter.ranks == four.adapter.ranks
  np.testing.assert_allclose(one.loss_T, four.loss_T, rtol=1e-3)


def test_idle_workers_are_left_out(columns):
  growing = dict(budget=5, r_max=3, start=4, interval=4, feeding='replicate')
  few, all_of_them = (
    adapt(
      Curve(), squared, columns, recipe(steps=20, adapad=AdaPaDSettings(**settings))
    )
    for settings in (growing, growing | {'live_buckets': (3,)})
  )
  assert all_of_them.traces == 1 < few.traces
  np.testing.assert_allclose(few.loss_T, all_of_them.loss_T, rtol=1e-4)
  assert few.adapter.ranks == all_of_them.adapter.ranks


def test_a_round_that_takes_long_is_named(columns, capfd):
  """The first one compiles, which takes longer than this watchdog waits."""
  quiet = adapt(Curve(), squared, columns, recipe(steps=20))
  assert 'round' not in capfd.readouterr().err
  heard = adapt(Curve(), squared, columns, recipe(steps=20, watchdog=0.01))
  told = capfd.readouterr().err
  assert 'round 1, sending it off: its program has been compiling' in told
  np.testing.assert_array_equal(heard.loss_T, quiet.loss_T)


class Between(Curve):
  """A curve with something between its layers that flax rewrites in every call."""

  def __init__(self, make):
    super().__init__()
    self.between = make(nnx.Rngs(1))

  def __call__(self, x_BI):
    hidden_BH = self.between(jnp.tanh(self.first(x_BI)))
    return self.out(jnp.tanh(self.second(hidden_BH)))[:, 0]


class Recomputed(Curve):
  """A curve whose layers are computed again in the backward pass."""

  __call__ = nnx.remat(Curve.__call__)


class Compiled(Curve):
  """A curve with a call that is compiled by itself."""

  __call__ = nnx.jit(Curve.__call__)


@pytest.mark.parametrize('kind', [Recomputed, Compiled])
def test_a_transformed_call_is_adapted_like_a_plain_one(columns, kind):
  plain, other = (
    adapt(m, squared, columns, recipe(steps=8)) for m in (Curve(), kind())
  )
  np.testing.assert_allclose(other.loss_T, plain.loss_T, rtol=1e-4)


def test_state_that_the_forward_pass_writes_stays_frozen(columns):
  model = Between(lambda rngs: nnx.BatchNorm(6, rngs=rngs))
  outcome = adapt(model, squared, columns, recipe(steps=8))
  assert np.isfinite(outcome.loss_T).all()
  norm = merge(nnx.clone(model), outcome.adapter).between
  assert not norm.mean[...].any() and not (norm.var[...] - 1).any()


def test_dropout_of_the_model_itself_draws_anew_in_every_step(columns):
  model = Between(lambda rngs: nnx.Dropout(0.5, rngs=rngs))
  same = {name: column[:1].repeat(16, 0) for name, column in columns.items()}
  still = recipe(steps=8, optimizer=Optimizer(learning_rate=1e-9))
  one, again = (adapt(model, squared, same, still).loss_T for _ in range(2))
  np.testing.assert_array_equal(one, again)
  assert len(set(one.round(5))) == 8
  assert not model.between.rngs.count[...]
  model.eval()
  assert np.ptp(adapt(model, squared, same, still).loss_T) < 1e-5


def test_mistakes_are_refused_by_name(columns):
  model = Curve()
  with pytest.raises(ValueError, match="'third' matches no.*first"):
    adapt(model, squared, columns, recipe(targets=Targets(patterns=('third',))))
  with pytest.raises(ValueError, match=r"same number .* \{'x': 64, 'y': 3\}"):
    adapt(model, squared, columns | {'y': columns['y'][:3]}, recipe())
  mean = lambda model, batch, keys_B: squared(model, batch, keys_B).mean()
  with pytest.raises(ValueError, match=r'each of the 16 rows, it gave shape \(\)'):
    adapt(model, mean, columns, recipe())
  for wrap, kind in [
    (lambda loss_B: (loss_B, {}), 'tuple of 2'),
    (list, 'list of 16'),
    (lambda loss_B: None, 'NoneType'),
  ]:
    wrapped = lambda model, batch, keys_B: wrap(squared(model, batch, keys_B))  # noqa: B023
    with pytest.raises(ValueError, match=f'one array, .* 16 rows, it gave a {kind}'):
      adapt(model, wrapped, columns, recipe())
  endless = lambda model, batch, keys_B: squared(model, batch, keys_B) / 0.0
  with pytest.raises(Diverged, match='round 1 was not finite'):
    adapt(model, endless, columns, recipe())
  assert linear_shapes(model) == {'first': (2, 6), 'out': (6, 1), 'second': (6, 6)}


@pytest.mark.parametrize(
  ('change', 'match'),
  [
    ({'x': np.zeros((0, 2)), 'y': np.zeros((0, 2))}, "one at least, got {'x': 0, 'y'"),
    ({'y': 3}, r"column 'y' is no array of numbers .* shape \(\)"),
    ({'y': np.array(['a'] * 64)}, "column 'y' is no array of numbers .* dtype is <U1"),
    ({'y': np.zeros((3, 2))}, "same number of rows, .* got {'x': 64, 'y': 3}"),
  ],
)
def test_columns_that_do_not_fit_are_named(columns, change, match):
  with pytest.raises(ValueError, match=match):
    adapt(Curve(), squared, columns | change, recipe())


def test_a_model_without_layers_to_adapt_is_named(columns):
  of_head = recipe(head=('first', 'second', 'out'), targets=Targets())
  with pytest.raises(ValueError, match=r"no linear layer .*\['first', 'second'"):
    adapt(Curve(), squared, columns, of_head)


def test_a_batch_that_workers_cannot_share_is_told_in_rows(columns):
  federated = AdaPaDSettings(budget=5, r_max=3, feeding='federated')
  with pytest.raises(ValueError, match='a batch of 16 rows is no multiple of 3 work'):
    adapt(Curve(), squared, columns, recipe(adapad=federated))


def test_an_adapter_of_another_model_is_not_merged(columns):
  outcome = adapt(Curve(), squared, columns, recipe(steps=4))
  with pytest.raises(ValueError, match='another model: .* no linear layer first'):
    merge(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), outcome.adapter)
