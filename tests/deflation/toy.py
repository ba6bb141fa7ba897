"""A small adapted network, and the round as a plain Python loop over workers."""

import dataclasses
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.adapters.trained_head import row_weighted_linear
from adapad_jax.deflation.deflation import Deflation
from adapad_jax.deflation.round import make_round
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.deflation.state import placed, state_specs
from adapad_jax.lowrank import LowRank, Packing, init_updates
from adapad_jax.optim import Optimizer
from adapad_jax.problem import Problem

SHAPES = {'up': (6, 10), 'mid': (10, 10), 'down': (10, 5)}
CLASSES = 3


def network(rng):
  return {
    name: (rng.normal(size=s) / np.sqrt(s[0])).astype('f4')
    for name, s in SHAPES.items()
  }


def loss(model, head, deltas, head_weight_B, batch, keys_B):
  """Cross-entropy of a three-layer network; rows weigh what `weight` says."""
  h_BLD = batch['x'][:, None]
  for name in SHAPES:
    h_BLD = jnp.tanh(h_BLD @ model[name] + deltas[name](h_BLD))
  if head_weight_B is None:
    logits_BC = (h_BLD @ head['w'])[:, 0] + head['b'][None]
  else:
    logits_BC = row_weighted_linear(h_BLD, head['w'], head['b'], head_weight_B)[:, 0]
  loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, batch['y'])
  return loss_B * batch['weight'], batch['weight']


def data(rng, rounds, local_steps, batch):
  size = (rounds, local_steps, batch)
  return {
    'x': rng.normal(size=(*size, 6)).astype('f4'),
    'y': rng.integers(0, CLASSES, size).astype('i4'),
    'weight': np.ones(size, 'f4'),
  }


def method(workers=4, batch=24, rounds=6, **kw):
  settings = dict(budget=8, r_max=workers, start=1, interval=2, grants_per_event=2)
  settings |= dict(joint=0.0, polish=0.0, head_rows='last')
  settings = AdaPaDSettings(**settings | kw.pop('settings', {}))
  problem = Problem(
    shapes=SHAPES,
    params=None,
    optimizer=Optimizer(learning_rate=0.05, warmup=2, weight_decay=0.01, clip=0.5),
    head_optimizer=Optimizer(learning_rate=0.02, warmup=2),
    steps=rounds * settings.local_steps,
    batch=batch,
    init='kaiming',
    **(dict(loss=loss, scale=2.0, seed=0) | kw),
  )
  return Deflation(problem, settings)


def changed(m, **changes):
  """The method with other fields of its problem."""
  return dataclasses.replace(m, problem=dataclasses.replace(m.problem, **changes))


def start(m, seed=0, width=None):
  """Model, components with b != 0 (so that every term matters) and head."""
  rng = np.random.default_rng(seed)
  model = network(rng)
  width = width or m.settings.r_max
  components = init_updates(jax.random.key(seed), SHAPES, width, 'kaiming')
  components = {
    name: LowRank(
      c.a_RI, jnp.asarray(0.1 * rng.normal(size=(8, c.b_RO.shape[1]))[:width], 'f4')
    )
    for name, c in components.items()
  }
  head = {'w': (rng.normal(size=(5, CLASSES)) / 2).astype('f4'), 'b': np.zeros(3, 'f4')}
  return model, changed(m, seed=seed).init(m.packing.pack(components), head)


def components(state):
  return Packing.of(SHAPES).unpack(state.stack_RMP)


def on_mesh(state, mesh, packing):
  state = placed(state, packing.numbers)
  specs = state_specs(state)
  place = lambda x, spec: jax.device_put(np.array(x), jax.NamedSharding(mesh, spec))
  return jax.tree.map(place, state, specs)


def run(m, mesh_shape, batches, seed=0, capacity=None, make=None):
  """All rounds on one mesh; returns the final state and metrics as numpy."""
  devices = jax.devices()[: mesh_shape[0] * mesh_shape[1]]
  mesh = jax.make_mesh(mesh_shape, ('worker', 'data'), devices=devices)
  width = -(-m.settings.r_max // mesh_shape[0]) * mesh_shape[0]
  with jax.set_mesh(mesh):
    model, state = start(m, seed, width)
    state = on_mesh(state, mesh, m.packing)
    model = jax.device_put(model, jax.NamedSharding(mesh, jax.P()))
    step = make(m, mesh) if make else make_round(m, mesh, capacity)
    rows = m.feeding.rows(mesh)
    history = []
    for t in range(len(batches['x'])):
      batch = jax.tree.map(lambda x: x[t][:, rows.order_B], batches)  # noqa: B023
      batch = jax.device_put(batch, jax.NamedSharding(mesh, rows.spec))
      state, metrics = step(state, model, batch)
      history.append(jax.tree.map(np.asarray, metrics))
    return jax.tree.map(np.asarray, state), history, step


@jax.jit
def gradient(own, head, model, before, scale, x, y):
  """Gradients of one worker's mean loss, every weight matrix formed in full."""

  def value(own, head):
    h = x
    for name in SHAPES:
      w = model[name]
      for a, b in before[name]:
        w = w + scale * jnp.outer(a, b)
      if name in own:
        w = w + scale * jnp.outer(*own[name])
      h = jnp.tanh(h @ w)
    logits = h @ head['w'] + head['b'][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  return jax.grad(value, argnums=(0, 1))(own, head)


@dataclasses.dataclass
class Loop:
  """The oracle: dictionaries, `for k in workers`, one optax state a component."""

  m: Deflation
  model: dict
  a: dict
  b: dict
  head: dict

  def __post_init__(self):
    o, h = self.m.problem.optimizer, self.m.problem.head_optimizer
    decay = lambda x: optax.chain(
      optax.scale_by_adam(x.beta1, x.beta2, x.eps),
      optax.add_decayed_weights(x.weight_decay),
    )
    self.tx, self.head_tx = decay(o), decay(h)
    self.opt = {key: self.tx.init((self.a[key], self.b[key])) for key in self.a}
    self.age = dict.fromkeys(self.a, 0)
    self.head_opt = self.head_tx.init(self.head)
    self.rank = dict.fromkeys(SHAPES, 1)
    self.mean = dict.fromkeys(SHAPES, 0.0)
    self.spread = dict.fromkeys(SHAPES, 0.0)
    self.t = 0

  def live(self, name, k):
    d = self.m.settings
    growing = d.advance and sum(self.rank.values()) < d.budget
    return k < self.rank[name] + growing and k < min(d.r_max, *SHAPES[name])

  def rate(self, o, age, step, total):
    warm = min(1.0, (age + 1) / max(o.warmup, 1))
    span = max(total - (step - age) - o.warmup, 1)
    return o.learning_rate * warm * min(1.0, (total - step) / span)

  def round(self, batch):
    m, s = self.m, self.m.settings
    H, scale = s.local_steps, m.problem.scale
    frozen = {key: (self.a[key], self.b[key]) for key in self.a}
    self.start_a, self.start_b = dict(self.a), dict(self.b)
    workers = [k for k in range(s.r_max) if any(self.live(n, k) for n in SHAPES)]
    owner = np.zeros(0, int)
    if s.feeding == 'split':
      owner = np.repeat(workers, m.feeding.counts(len(workers)))
      if m.feeding.own_rows < s.r_max:  # Fewer rows than workers: they take turns.
        owner = (owner + self.t) % len(workers)
    head_grad, head_weight = jax.tree.map(np.zeros_like, self.head), 0.0
    impact = dict.fromkeys(SHAPES, 0.0)
    each = m.problem.batch // s.r_max
    polishing = self.t >= round((1 - s.polish) * m.rounds)
    if polishing:
      owner = owner[:0]
    self.own_rows = 0 if polishing else int(m.feeding.own_rows_at(0))
    for k in workers:
      rows = {
        'split': np.flatnonzero(owner == k),
        'replicate': slice(None),
        'federated': slice(k * each, (k + 1) * each),
      }[s.feeding]
      for h in range(H):
        own = {n: (self.a[n, k], self.b[n, k]) for n in SHAPES if self.live(n, k)}
        x, y = batch['x'][h][rows], batch['y'][h][rows]

        before = {
          n: [frozen[n, j] for j in range(min(k, self.rank[n]))] for n in SHAPES
        }
        grad = jax.tree.map(jnp.zeros_like, own)
        head_g = jax.tree.map(jnp.zeros_like, self.head)
        if len(y):
          grad, head_g = gradient(own, self.head, self.model, before, scale, x, y)
        if self.own_rows < m.problem.batch:
          grad, joint_head = self.with_joint_rows(k, grad, len(y), batch)
          if k == workers[-1]:
            joint = self.joint_head_rows(workers)
            head_grad = jax.tree.map(lambda s, g: s + g * joint, head_grad, joint_head)  # noqa: B023
            head_weight += joint
        if s.head_rows == 'all' or k == workers[-1]:
          head_grad = jax.tree.map(lambda s, g: s + g * len(y), head_grad, head_g)  # noqa: B023
          head_weight += len(y)
        for name, (a, b) in own.items():
          if k < self.rank[name]:
            ga, gb = grad[name]
            total = jnp.abs(a * ga).sum() + jnp.abs(b * gb).sum()
            impact[name] += float(total) / (a.size + b.size) / self.rank[name] / H
        if not len(y):  # Only joint rows train it, if there are any.
          has_joint = any(self.last_trained(len(workers)) >= k)
          grad = {n: g for n, g in grad.items() if has_joint and k < self.rank[n]}
        if grad:
          self.step_worker(k, grad, self.t * H + h)
    self.step_head(head_grad, head_weight)
    self.discover(impact)
    self.t += 1

  def step_worker(self, k, grad, step):
    """Clips a worker's gradient, and steps its components, each at its own age."""
    o, total = self.m.problem.optimizer, self.m.rounds * self.m.settings.local_steps
    norm = optax.tree.norm(grad)
    for name, g in grad.items():
      key = name, k
      g = jax.tree.map(lambda x: x * min(1.0, o.clip / norm), g)
      rate = self.rate(o, self.age[key], step, total) * self.rate_factor(name, k)
      params = (self.a[key], self.b[key])
      updates, self.opt[key] = self.tx.update(g, self.opt[key], params)
      self.a[key], self.b[key] = (
        p - rate * u for p, u in zip(params, updates, strict=True)
      )
      self.age[key] += 1

  def with_joint_rows(self, k, grad, rows, batch):
    """Worker k's mean gradients, each over the rows that train it, and the head's."""
    m, key = self.m, lambda n, j: (self.start_a[n, j], self.start_b[n, j])
    own = {n: key(n, k) for n in SHAPES if k < self.rank[n]}
    summed = jax.tree.map(lambda g: rows * g, grad)
    trained_by = dict.fromkeys(summed, rows)
    head = jax.tree.map(jnp.zeros_like, self.head)
    workers = [
      j for j in range(m.settings.r_max) if any(self.live(n, j) for n in SHAPES)
    ]
    last = self.last_trained(len(workers))
    for row, width in enumerate(last + 1, start=self.own_rows):
      x, y = (batch[name][0][row : row + 1] for name in 'xy')
      seen = {n: range(min(width, self.rank[n])) for n in SHAPES}
      others = {n: [key(n, j) for j in seen[n] if j != k] for n in SHAPES}
      trained = own if k < width else {}
      more, of_head = gradient(
        trained, self.head, self.model, others, m.problem.scale, x, y
      )
      if m.settings.head_rows == 'all' or width == len(workers):
        head = jax.tree.map(jnp.add, head, of_head)
      if k < width:
        trained_by |= {n: trained_by[n] + 1 for n in more}
        summed |= {n: jax.tree.map(jnp.add, summed[n], g) for n, g in more.items()}
    heads = max(self.joint_head_rows(workers), 1)
    head = jax.tree.map(lambda g: g / heads, head)
    mean = lambda n, g: jax.tree.map(lambda x: x / max(trained_by[n], 1), g)
    return {n: mean(n, g) for n, g in summed.items()}, head

  def joint_head_rows(self, workers):
    """How many joint rows train the head."""
    last = self.last_trained(len(workers))
    return len(last) if self.m.settings.head_rows == 'all' else sum(last == workers[-1])

  def last_trained(self, live):
    """The last worker that each joint row trains."""
    joint, widths = self.m.problem.batch - self.own_rows, self.widths(live)
    a_round = fractions.Fraction(self.m.settings.nested).limit_denominator(100) * joint
    before, after = int(a_round * self.t), int(a_round * (self.t + 1))
    nested, first = after - before, before // max(int(a_round), 1)
    turn = [widths[(i + first) % len(widths)] for i in range(nested)]
    return np.array(turn + [live] * (joint - nested)) - 1

  def widths(self, live):
    """How many workers a nested row trains."""
    return [n for n in (1, 2, 4, 8, 16) if n < live] + [live]

  def rate_factor(self, name, k):
    """The rows that train a component, over those that train one of worker 0's."""
    s, batch = self.m.settings, self.m.problem.batch
    if s.feeding != 'split':
      return 1.0
    live = sum(any(self.live(n, j) for n in SHAPES) for j in range(s.r_max))
    own, joint = [self.own_rows / live] * live, batch - self.own_rows
    if s.shares == 'first' and self.own_rows >= s.r_max:
      own = self.m.feeding.counts(live)
    widths = self.widths(live)
    reached = sum(width > k for width in widths) / len(widths)
    part = 0.0 if k >= self.rank[name] else 1 - s.nested + s.nested * reached
    return (own[k] + part * joint) / (own[0] + joint)

  def step_head(self, grad, weight):
    o = self.m.problem.head_optimizer
    grad = jax.tree.map(lambda g: g / weight, grad)
    grad = jax.tree.map(lambda g: g * min(1.0, o.clip / optax.tree.norm(grad)), grad)
    updates, self.head_opt = self.head_tx.update(grad, self.head_opt, self.head)
    H = self.m.settings.local_steps
    rate = self.rate(o, self.t * H, self.t * H, self.m.rounds * H)
    self.head = jax.tree.map(lambda p, u: p - rate * u, self.head, updates)

  def discover(self, impact):
    d = self.m.settings
    for name in SHAPES:
      self.mean[name] = d.beta1 * self.mean[name] + (1 - d.beta1) * impact[name]
      off = abs(impact[name] - self.mean[name])
      self.spread[name] = d.beta2 * self.spread[name] + (1 - d.beta2) * off
    if self.t < d.start or (self.t - d.start) % d.interval:
      return
    score = {n: self.mean[n] * self.spread[n] for n in SHAPES}
    if d.score == 'sum':
      score = {n: self.mean[n] + self.spread[n] for n in SHAPES}
    able = [n for n in SHAPES if self.rank[n] < min(d.r_max, *SHAPES[n])]
    for name in sorted(able, key=lambda n: -score[n])[: d.grants_per_event]:
      if sum(self.rank.values()) < d.budget:
        self.rank[name] += 1


def loop(m, batches, seed=0):
  model, state = start(m, seed)
  R = m.settings.r_max
  parts = components(state)
  a = {(n, k): parts[n].a_RI[k] for n in SHAPES for k in range(R)}
  b = {(n, k): parts[n].b_RO[k] for n in SHAPES for k in range(R)}
  oracle = Loop(m, model, a, b, state.head)
  for t in range(len(batches['x'])):
    oracle.round(jax.tree.map(lambda x: x[t], batches))  # noqa: B023
  return oracle
