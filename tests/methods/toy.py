"""A small network, data for it, and runs of any method on it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.methods import METHODS, Problem
from adapad_jax.optim import Optimizer
from adapad_jax.sharding import shard_order
from adapad_jax.training.progress import beginning

SHAPES = {'up': (6, 10), 'mid': (10, 10), 'down': (10, 8)}
CLASSES, BATCH, STEPS = 3, 16, 30


def logits(model, head, deltas, x_BI):
  """Three layers with tanh, and a linear head."""
  h_BLD = x_BI[:, None]
  for name in SHAPES:
    y_BLD = h_BLD @ model[name]
    if name in deltas:
      y_BLD = y_BLD + deltas[name](h_BLD)
    h_BLD = jnp.tanh(y_BLD)
  return (h_BLD @ head['out']['kernel'])[:, 0] + head['out']['bias'][None]


def loss(model, head, deltas, head_weight_B, batch, keys_B):
  """Cross-entropy of rows; `head_weight_B` is for adapad, whose head rows it zeroes."""
  del keys_B
  if head_weight_B is not None:
    one = logits(model, head, deltas, batch['x'])
    rest = logits(model, jax.lax.stop_gradient(head), deltas, batch['x'])
    logits_BC = jnp.where(head_weight_B[:, None] > 0, one, rest)
  else:
    logits_BC = logits(model, head, deltas, batch['x'])
  loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, batch['y'])
  return loss_B * batch['weight'], batch['weight']


@functools.cache
def network(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda s: (rng.normal(size=s) / np.sqrt(s[0])).astype('f4')
  model = {name: draw(shape) for name, shape in SHAPES.items()}
  head = {'out': {'kernel': draw((8, CLASSES)), 'bias': np.zeros(CLASSES, 'f4')}}
  return model, head


@functools.cache
def batches(seed=1, steps=STEPS):
  """Labels that the frozen network cannot give: another network's."""
  rng = np.random.default_rng(seed)
  model, head = network(seed=7)
  x = rng.normal(size=(steps, BATCH, 6)).astype('f4')
  h = x
  for name in SHAPES:
    h = np.tanh(h @ model[name])
  y = np.argmax(h @ head['out']['kernel'], -1)
  weight = np.where(rng.random((steps, BATCH)) < 0.1, 0.5, 1.0).astype('f4')
  return {'x': x, 'y': y.astype('i4'), 'weight': weight}


def problem(**changes):
  model, _ = network()
  params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model)
  values = dict(
    shapes=SHAPES,
    params=params,
    loss=loss,
    optimizer=Optimizer(learning_rate=0.05, warmup=3, weight_decay=0.01),
    head_optimizer=Optimizer(learning_rate=0.02, warmup=3),
    steps=STEPS,
    batch=BATCH,
    scale=2.0,
    init='kaiming',
    seed=3,
  )
  return Problem(**values | changes)


def build(name, settings=None, **changes):
  kind, make = METHODS[name]
  return make(kind(**settings or {}), problem(**changes))


def mesh_of(shape):
  devices = jax.devices()[: shape[0] * shape[1]]
  return jax.make_mesh(shape, ('worker', 'data'), devices=devices)


@dataclasses.dataclass
class Run:
  """Some steps of a method on a mesh: portable states by step, metrics, the round."""

  method: object
  states: dict
  history: list
  round: object


_ROUNDS = {}


def compiled(method, shape):
  """The round of a method on a mesh, the same one for all tests."""
  # The method is kept too, lest another one gets its id.
  key = id(method), shape
  if key not in _ROUNDS:
    _ROUNDS[key] = method, method.make_round(mesh_of(shape))
  return _ROUNDS[key][1]


def run(method, shape=(1, 1), start=None, first=0, keep=(), data=None):
  """Runs steps `first`..STEPS from a portable state, keeping some on the way."""
  mesh, data = mesh_of(shape), data or batches()
  model, head = network()
  order = shard_order(BATCH, shape[1])
  with jax.set_mesh(mesh):
    whole = jax.NamedSharding(mesh, jax.P())
    model = jax.device_put(model, whole)
    step = compiled(method, shape)
    rows = jax.NamedSharding(mesh, jax.P(None, 'data'))

    def batch_of(t):
      return jax.device_put({k: x[t][None][:, order] for k, x in data.items()}, rows)

    if start is None:
      head = jax.device_put(head, whole)
      state = beginning(method, head, mesh, model, batch_of).state
    else:
      state = method.place(start, mesh)
    found = Run(method, {first: jax.device_get(method.portable(state))}, [], step)
    for t in range(first, len(data['x'])):
      batch = batch_of(t)
      with jax.transfer_guard('disallow'):
        state, metrics = step(state, model, batch)
      found.history.append(jax.device_get(metrics))
      if t + 1 in keep or t + 1 == len(data['x']):
        found.states[t + 1] = jax.device_get(method.portable(state))
  return found


def deployed(method, state):
  """The update on the host, made as the training loop makes it."""
  return _read(method, state, method.deploy)


def report(method, state):
  return _read(method, state, method.report)


def _read(method, state, what):
  mesh = mesh_of((1, 1))
  with jax.set_mesh(mesh):
    placed = method.place(state, mesh)
    with jax.transfer_guard('disallow'):
      return jax.device_get(what(placed))


def deployed_logits(method, found, x_BI, prefix=None):
  """The forward pass of evaluation."""
  model, _ = network()
  prefix = method.capacity if prefix is None else prefix
  return np.asarray(_logits(model, found, x_BI, prefix))


@jax.jit
def _logits(model, found, x_BI, prefix):
  deltas = found.deltas(tuple(SHAPES), len(x_BI), prefix)
  return logits(found.backbone(model), found.head, deltas, x_BI)


def mean_loss(method, found, batch, prefix=None):
  logits_BC = deployed_logits(method, found, batch['x'], prefix)
  loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, batch['y'])
  return float((loss_B * batch['weight']).sum() / batch['weight'].sum())
