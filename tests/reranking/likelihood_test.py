"""The likelihood of drawn tokens, against whole logits and real divergences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.adapters import split_model
from adapad_jax.models import Head, load
from adapad_jax.reranking import kronecker_factors, likelihood
from tests.interchange import kit
from tests.reranking.kfac_test import at

TEXTS = [*kit.TEXTS, 'One day, a girl named Lily went to the park.']


@pytest.fixture(scope='module')
def base(shared):
  return load(str(shared / 'models/stories260k'), Head('lm'))


@pytest.fixture(scope='module')
def columns(base):
  found = kit.encode(base, TEXTS)
  # The first four tokens of a row are a prompt.
  learned_BL = found['mask_BL'] * (np.arange(found['mask_BL'].shape[1]) >= 4)
  return found | {'learned_BL': learned_BL.astype(np.int32)}


def drawn(model, batch, key):
  """log p(y) of all positions that count, from whole logits."""
  logits_NV = model(batch)[:, :-1].reshape(-1, model.config.vocab_size)
  keys_N = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(len(logits_NV)))
  y_N = jax.vmap(jax.random.categorical)(keys_N, jax.lax.stop_gradient(logits_NV))
  log_NV = jax.nn.log_softmax(logits_NV)
  counts_N = batch['learned_BL'][:, 1:].ravel() > 0
  return jnp.sum(jnp.where(counts_N, log_NV[jnp.arange(len(y_N)), y_N], 0.0))


@pytest.mark.parametrize('logits', [2**24, 512 * 7])
def test_gradients_equal_those_of_whole_logits(base, columns, logits, monkeypatch):
  """Whether all positions go through the head at once, or seven at a time."""
  monkeypatch.setattr(likelihood, '_LOGITS', logits)
  attachment, params, _ = split_model(base.model)
  name = 'model.layers.2.mlp.down_proj'
  shape = (*columns['ids_BL'].shape, base.model.config.hidden_size)
  key = jax.random.key(3)

  def of(score):
    run = lambda bump: score(
      attachment(params, {name: lambda x: bump}, {}), columns, key
    )
    return jax.jit(jax.grad(run))(jnp.zeros(shape))

  want, found = of(drawn), of(likelihood.drawn_likelihood)
  np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


def test_what_is_not_learned_does_not_count(base, columns):
  name, mesh = 'model.layers.0.self_attn.q_proj', sharding.make_mesh()
  trace = lambda columns: np.trace(
    kronecker_factors(base.model, [name], columns, mesh, kind='lm')[name].s_II
  )
  nothing = columns | {'learned_BL': np.zeros_like(columns['learned_BL'])}
  plain = {k: x for k, x in columns.items() if k != 'learned_BL'}
  assert trace(nothing) == 0
  assert 0 < trace(columns) < trace(plain)


def test_the_prediction_is_the_divergence_that_errors_make(base, columns):
  """Noise in one layer at a time, small enough for a second order."""
  attachment, params, _ = split_model(base.model)
  columns = {k: np.tile(x, (16, 1)) for k, x in columns.items()}  # Sixteen draws.
  names = [
    f'model.layers.{layer}.{module}'
    for layer in (0, 2, 4)
    for module in ('self_attn.v_proj', 'self_attn.o_proj', 'mlp.up_proj')
  ]
  factors = kronecker_factors(
    base.model, names, columns, sharding.make_mesh(), kind='lm'
  )
  batch = {k: x[: len(TEXTS)] for k, x in columns.items()}
  counts_BL = jnp.asarray(batch['learned_BL'][:, 1:])
  log_p = jax.nn.log_softmax(attachment(params, {}, {})(batch))[:, :-1]

  def divergence(name, error_IO):
    log_q = jax.nn.log_softmax(attachment(params, at(name, error_IO), {})(batch))
    kl_BL = jnp.sum(jnp.exp(log_p) * (log_p - log_q[:, :-1]), axis=-1)
    return jnp.sum(kl_BL * counts_BL) / np.sum(batch['mask_BL'])

  rng, ratios = np.random.default_rng(0), []
  for name, one in factors.items():
    shape = len(one.s_II), len(one.f_OO)
    tries = 1e-2 * rng.standard_normal((64, *shape)).astype(np.float32)
    weighs = [np.trace(one.f_OO @ e.T @ one.s_II @ e) / 2 for e in tries]
    real = jax.jit(jax.vmap(lambda e: divergence(name, e)))(tries)  # noqa: B023
    ratios.append(np.mean(weighs) / np.mean(real))
  # Errors at several positions add up in what they do to one token, which the factors
  # leave out; attention's layers have little of it, the wide ones more.
  assert 0.75 < np.mean(ratios) < 1.1
  assert min(ratios) > 0.45 and max(ratios) < 1.2
