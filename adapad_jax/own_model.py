"""AdaPaD for a flax nnx model of your own, which this project has never seen.

    outcome = adapt(model, loss, columns, Recipe(steps=500, batch=32))
    merge(model, outcome.adapter)

See docs/your_own_model.md.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters import Targets, adapted_problem, choose, split_model
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.lowrank import INITIALIZERS, Adapter, host_adapter
from adapad_jax.methods import RankReport
from adapad_jax.methods.adapad import AdaPaD, build
from adapad_jax.optim import Optimizer
from adapad_jax.ranges import Count, NonNegative, OneOf, Positive, Seed, Text
from adapad_jax.settings import check
from adapad_jax.sharding import make_mesh, put
from adapad_jax.training.loop import Diverged, batches, rounds
from adapad_jax.training.partition import make_order
from adapad_jax.training.progress import beginning
from adapad_jax.training.watchdog import Watchdog

# loss(model, batch, keys_B) -> loss_B: one value for every row of the batch.
RowLoss = Callable[[Any, dict[str, jax.Array], jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How to adapt a model.

  Attributes:
    steps: batches of the whole run.
    batch: rows of a batch.
    targets: which `nnx.Linear` layers get components.
    head: paths of modules whose linear layers are trained whole.
    adapad: ranks, budget and feeding; zeros are derived from the run's length.
    optimizer: of the components.
    head_optimizer: of the head.
    scale: constant in front of every update.
    init: how input directions start, see `lowrank.initialize`.
    worker, data: devices along the two axes of the mesh.
    seed: of every random draw and of the order of the rows.
    watchdog: seconds without progress after which a round is named on stderr, with what
      it waits for; it is not ended. 0: never.
  """

  steps: Count
  batch: Count = 32
  targets: Targets = Targets()
  head: tuple[Text, ...] = ()
  adapad: AdaPaDSettings = AdaPaDSettings()
  optimizer: Optimizer = Optimizer()
  head_optimizer: Optimizer = Optimizer()
  scale: Positive = 1.0
  init: Annotated[str, OneOf(INITIALIZERS)] = 'kaiming'
  worker: Count = 1
  data: Count = 1
  seed: Seed = 0
  watchdog: NonNegative = 300.0

  def __post_init__(self) -> None:
    check(self, 'Recipe')


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of it.

  Attributes:
    adapter: the update and the head, for `adapters.merge`.
    loss_T: training loss of each round, that of the last live worker.
    report: ranks, importance, and who got which component when.
    traces: compilations of rounds: one, or where idle workers are left out at most one
      for each range of live ones.
  """

  adapter: Adapter
  loss_T: np.ndarray
  report: RankReport
  traces: int


def adapt(
  model: nnx.Module, loss: RowLoss, columns: Mapping[str, np.ndarray], recipe: Recipe
) -> Outcome:
  """Trains components of the model's linear layers; the model itself stays as it is.

  Args:
    model: inputs of its adapted layers have the rows of the batch in front.
    loss: of each row, (B,); `keys_B` holds one PRNG key a row for dropout. It is
      traced, and the model it gets is the adapted one.
    columns: the training data by name, rows first.
    recipe: how to train.

  Raises:
    ValueError: if a target or the budget does not fit, the columns are no numbers or
      differ in length, or the loss does not give one value for each row.
    Diverged: if the loss or a gradient is not finite.
  """
  columns = _checked(columns)
  shapes = choose(model, recipe.targets, head_modules=recipe.head)
  attachment, params, head = split_model(model, recipe.head)
  problem = adapted_problem(
    attachment,
    model,
    shapes,
    functools.partial(_loss_of_rows, loss),
    optimizer=recipe.optimizer,
    head_optimizer=recipe.head_optimizer,
    steps=recipe.steps,
    batch=recipe.batch,
    scale=recipe.scale,
    init=recipe.init,
    seed=recipe.seed,
  )
  method = build(recipe.adapad, problem)
  method.require_kept()
  mesh = make_mesh(recipe.worker, recipe.data)
  with jax.set_mesh(mesh):
    return _train(method, params, head, columns, recipe, mesh)


def _checked(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The columns as arrays of numbers, all of the same rows.

  Raises:
    ValueError: naming the column that is not.
  """
  arrays = {name: np.asarray(column) for name, column in columns.items()}
  for name, column in arrays.items():
    if not column.ndim or column.dtype.kind not in 'biufV':  # V is bfloat16
      raise ValueError(
        f'column {name!r} is no array of numbers with an axis of rows: its dtype is'
        f' {column.dtype}, its shape {column.shape}'
      )
  lengths = {name: len(column) for name, column in arrays.items()}
  if len(set(lengths.values())) != 1 or not all(lengths.values()):
    raise ValueError(
      f'columns need the same number of rows, one at least, got {lengths}'
    )
  return arrays


def _train(
  method: AdaPaD,
  params: Any,
  head: Any,
  columns: Mapping[str, np.ndarray],
  recipe: Recipe,
  mesh: jax.sharding.Mesh,
) -> Outcome:
  params, compiled = put(params), method.live_rounds(mesh)
  advance = lambda state, batch: compiled(state, params, batch)
  order = make_order(method.private, columns, recipe.batch, recipe.seed)
  batch_of = batches(method, mesh, columns, order)
  progress = beginning(method, head, mesh, params, batch_of)
  watchdog, losses = Watchdog(recipe.watchdog), []
  with watchdog.over('the first round'):
    for _, metrics in rounds(advance, batch_of, progress, method.rounds, watchdog):
      if (failed := int(metrics['failed'])) >= 0:
        raise Diverged(
          f'round {failed + 1} was not finite; lower optimizer.learning_rate'
        )
      losses.append(metrics['loss'])
  return Outcome(
    adapter=host_adapter(method.problem.modules, method.deploy(progress.state)),
    loss_T=np.asarray(losses),
    report=method.report(progress.state),
    traces=compiled._cache_size(),
  )


def _loss_of_rows(
  loss: RowLoss, model: Any, batch: Any, keys_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The caller's loss, every row weighing one; see `adapters.ModelLoss`."""
  _reseed(model, keys_B[0])
  loss_B = loss(model, batch, keys_B)
  if not isinstance(loss_B, jax.Array | np.ndarray):
    raise ValueError(
      f'the loss must give one array, a value for each of the {len(keys_B)} rows, it'
      f' gave {_kind(loss_B)}'
    )
  if loss_B.shape != keys_B.shape:
    raise ValueError(
      f'the loss must give one value for each of the {len(keys_B)} rows, it gave'
      f' shape {loss_B.shape}; leave the mean over rows out'
    )
  return loss_B, jnp.ones_like(loss_B)


def _kind(result: Any) -> str:
  """What a loss gave, in a word or two."""
  several = isinstance(result, tuple | list | dict)
  return f'a {type(result).__name__}{f" of {len(result)}" if several else ""}'


def _reseed(model: nnx.Module, key: jax.Array) -> None:
  """Has the model's own random streams, which stay frozen, begin anew with a key."""
  streams = (
    node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)
  )
  for index, stream in enumerate(streams):
    own = jax.random.fold_in(key, index)
    shape = stream.key.shape
    stream.key[...] = jax.random.split(own, shape) if shape else own
