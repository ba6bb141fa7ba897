"""IncreLoRA in plain NumPy: lists that grow, gradients by hand, Adam by component."""

import numpy as np

from tests.methods import toy


class Term:
  """One component: what it holds, and when its parts began to train."""

  def __init__(self, a, b, e):
    self.value = {'a': a.copy(), 'b': b.copy(), 'e': np.float64(e)}
    self.moment = {
      k: [np.zeros_like(v), np.zeros_like(v)] for k, v in self.value.items()
    }
    self.age = dict.fromkeys(self.value, 0)


def rate_at(o, age, step, total):
  """Warm-up from the part's own start, then linear decay to zero at the end."""
  if age < o.warmup:
    return o.learning_rate * (age + 1) / o.warmup
  created = step - age
  return o.learning_rate * max(0.0, (total - step) / (total - created - o.warmup))


class Oracle:
  """The formulas, one after the other."""

  def __init__(self, problem, settings, start):
    self.p, self.s = problem, settings
    self.draws = {
      n: (t.a_RI.astype('f8'), t.b_RO.astype('f8')) for n, t in start.items()
    }
    self.rank = dict.fromkeys(toy.SHAPES, 1)
    self.terms = {n: [Term(a[0], b[0], 0.0)] for n, (a, b) in self.draws.items()}
    for name in toy.SHAPES:
      self.reserve(name)
    self.mean, self.spread = (
      dict.fromkeys(toy.SHAPES, 0.0),
      dict.fromkeys(toy.SHAPES, 0.0),
    )
    model, head = toy.network()
    self.model = {n: w.astype('f8') for n, w in model.items()}
    self.head = {k: v.astype('f8') for k, v in head['out'].items()}
    self.head_moment = {
      k: [np.zeros_like(v), np.zeros_like(v)] for k, v in self.head.items()
    }
    self.t = 0

  def reserve(self, name):
    a, b = self.draws[name]
    k = len(self.terms[name])
    for j in range(k, min(self.rank[name] + self.s.gain, len(a))):
      self.terms[name].append(Term(a[j], b[j], 1e-5))

  @property
  def growing(self):
    return sum(self.rank.values()) < self.s.budget

  def delta(self, name):
    alpha = self.p.scale * self.s.budget / len(toy.SHAPES)
    s = alpha / (self.rank[name] + 1e-5)
    v = [t.value for t in self.terms[name]]
    return s, sum(s * x['e'] * np.outer(x['a'], x['b']) for x in v)

  def gradients(self, batch):
    """(G of every module, gradient of the head, mean loss)."""
    h = [batch['x'].astype('f8')]
    for name in toy.SHAPES:
      h.append(np.tanh(h[-1] @ (self.model[name] + self.delta(name)[1])))
    z = h[-1] @ self.head['kernel'] + self.head['bias']
    soft = np.exp(z - z.max(1, keepdims=True))
    soft /= soft.sum(1, keepdims=True)
    weight = batch['weight'].astype('f8') / batch['weight'].sum()
    rows = np.arange(len(z))
    loss = -(weight * np.log(soft[rows, batch['y']])).sum()
    soft[rows, batch['y']] -= 1
    dz = soft * weight[:, None]
    head = {'kernel': h[-1].T @ dz, 'bias': dz.sum(0)}
    dh, g = dz @ self.head['kernel'].T, {}
    for i, name in reversed(list(enumerate(toy.SHAPES))):
      dy = dh * (1 - h[i + 1] ** 2)
      g[name] = h[i].T @ dy
      dh = dy @ (self.model[name] + self.delta(name)[1]).T
    return g, head, loss

  def step(self, batch):
    g, head, loss = self.gradients(batch)
    growing = self.growing
    if growing:
      self.observe(g)
    grads = self.parts(g)
    scale = min(
      1.0, self.p.optimizer.clip / np.sqrt(sum((x**2).sum() for x in grads.values()))
    )
    for (name, k, part), grad in grads.items():
      self.adam(self.terms[name][k], part, grad * scale)
    self.step_head(head)
    if growing and self.t > self.s.start and self.t % self.s.interval == 0:
      self.grow()
    self.t += 1
    return loss

  def observe(self, g):
    for name, (wide, high) in toy.SHAPES.items():
      i = np.abs(self.delta(name)[1] * g[name]).sum() / np.sqrt(wide * high)
      self.mean[name] = self.s.beta1 * self.mean[name] + (1 - self.s.beta1) * i
      off = abs(i - self.mean[name])
      self.spread[name] = self.s.beta2 * self.spread[name] + (1 - self.s.beta2) * off

  def parts(self, g):
    """Gradient of loss + regulariser by (module, component, part)."""
    found = {}
    for name in toy.SHAPES:
      s, _ = self.delta(name)
      terms = [t.value for t in self.terms[name]]
      pull = {}
      for part in 'ab':
        x = np.stack([v[part] for v in terms])
        off = x @ x.T - np.eye(len(x))
        weight = self.s.orthogonal / (2 * len(toy.SHAPES))
        pull[part] = weight * 2 * off @ x / np.linalg.norm(off)
      for k, v in enumerate(terms):
        found[name, k, 'a'] = s * v['e'] * g[name] @ v['b'] + pull['a'][k]
        found[name, k, 'b'] = s * v['e'] * v['a'] @ g[name] + pull['b'][k]
        if k < self.rank[name]:
          found[name, k, 'e'] = s * v['a'] @ g[name] @ v['b']
    return found

  def adam(self, term, part, grad):
    o, moment = self.p.optimizer, term.moment[part]
    rate = rate_at(o, term.age[part], self.t, self.p.steps)
    term.age[part] += 1
    value = term.value[part]
    term.value[part] = value - rate * direction(o, moment, grad, term.age[part], value)

  def step_head(self, grads):
    o = self.p.head_optimizer
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    rate = rate_at(o, self.t, self.t, self.p.steps)
    for key, grad in grads.items():
      grad = grad * min(1.0, o.clip / norm)
      move = direction(o, self.head_moment[key], grad, self.t + 1, self.head[key])
      self.head[key] = self.head[key] - rate * move

  def grow(self):
    left = self.s.budget - sum(self.rank.values())
    score = {n: self.mean[n] * self.spread[n] for n in toy.SHAPES}
    able = [n for n in toy.SHAPES if self.rank[n] < self.s.r_max]
    for name in sorted(able, key=lambda n: -score[n])[
      : min(self.s.grants_per_event, left)
    ]:
      more = min(self.s.gain, self.s.r_max - self.rank[name])
      more = min(more, self.s.budget - sum(self.rank.values()))
      self.rank[name] += more
      self.reserve(name)
    if not self.growing:
      for name in toy.SHAPES:
        self.terms[name] = self.terms[name][: self.rank[name]]


def direction(o, moment, grad, count, value):
  """Adam with decoupled decay; `moment` is updated in place."""
  moment[0] = o.beta1 * moment[0] + (1 - o.beta1) * grad
  moment[1] = o.beta2 * moment[1] + (1 - o.beta2) * grad**2
  first = moment[0] / (1 - o.beta1**count)
  second = moment[1] / (1 - o.beta2**count)
  return first / (np.sqrt(second) + o.eps) + o.weight_decay * value
