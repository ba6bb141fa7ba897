"""The loss without logits of all positions, against the plain form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from adapad_jax.models import Head
from adapad_jax.models.decoder import DecoderConfig, DecoderModel
from adapad_jax.models.family import Runtime
from adapad_jax.models.rotary import Rotary
from adapad_jax.tasks.sft import loss as sft_loss
from adapad_jax.tasks.sft.loss import chunk_size, predict_tokens, token_loss

B, L, V, D = 3, 20, 97, 16


def make_model(*, tied=True, dtype=jnp.float32, vocabulary=V):
  config = DecoderConfig(
    vocab_size=vocabulary,
    hidden_size=D,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=64,
    rope=Rotary(),
    qk_norm=True,
    tie_word_embeddings=tied,
    initializer_range=0.3,
  )
  return DecoderModel(config, Head('lm'), Runtime(dtype=dtype), nnx.Rngs(0))


def make_batch(vocabulary=V):
  rng = np.random.default_rng(0)
  learned = rng.integers(0, 2, (B, L))
  learned[1] = 0  # A row that pads a batch.
  return {
    'ids_BL': jnp.asarray(rng.integers(0, vocabulary, (B, L))),
    'mask_BL': jnp.ones((B, L), jnp.int32),
    'learned_BL': jnp.asarray(learned),
  }


def plain_loss(model, batch):
  logits_BLV = model(batch)[:, :-1]
  loss_BL = optax.softmax_cross_entropy_with_integer_labels(
    logits_BLV, batch['ids_BL'][:, 1:]
  )
  return jnp.sum(loss_BL * batch['learned_BL'][:, 1:], axis=1)


WEIGHT_B = jnp.array([1.0, 2.0, -0.5])


def value_and_gradients(loss, model):
  graph, state = nnx.split(model)
  total = lambda state: jnp.vdot(loss(nnx.merge(graph, state)), WEIGHT_B)
  return jax.value_and_grad(total)(state)


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('chunk', [7, 8, 1024])
def test_values_and_all_gradients_equal_the_plain_forms(tied, chunk):
  """Of the head's own matrix too, which method full trains."""
  model, batch = make_model(tied=tied), make_batch()
  ours = lambda model: token_loss(model, batch, None, chunk)[0]
  found = value_and_gradients(ours, model)
  expected = value_and_gradients(lambda model: plain_loss(model, batch), model)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, expected
  )
  loss_B, weight_B = token_loss(model, batch, None, chunk)
  np.testing.assert_allclose(loss_B, plain_loss(model, batch), rtol=1e-5)
  np.testing.assert_array_equal(weight_B, batch['learned_BL'][:, 1:].sum(axis=1))
  assert loss_B[1] == weight_B[1] == 0


def test_bfloat16_states_get_gradients_of_their_dtype():
  model, batch = make_model(dtype=jnp.bfloat16), make_batch()
  table = model.unembedding()
  states = jax.random.normal(jax.random.key(0), (B * (L - 1), D), jnp.bfloat16)
  target = batch['ids_BL'][:, 1:].reshape(-1)
  learned = batch['learned_BL'][:, 1:].reshape(-1) > 0
  ours = lambda x: jnp.sum(sft_loss._losses(8, table, x, target, learned))
  plain = lambda x: jnp.vdot(
    optax.softmax_cross_entropy_with_integer_labels(table(x), target), learned
  )
  found, expected = jax.grad(ours)(states), jax.grad(plain)(states)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    found.astype(np.float32), expected.astype(np.float32), atol=2e-2
  )


def test_predictions_equal_the_plain_forms():
  model, batch = make_model(), make_batch()
  found = predict_tokens(model, batch, chunk=8)
  right_BL = jnp.argmax(model(batch)[:, :-1], axis=-1) == batch['ids_BL'][:, 1:]
  learned_BL = batch['learned_BL'][:, 1:]
  np.testing.assert_allclose(found['loss_B'], plain_loss(model, batch), rtol=1e-5)
  np.testing.assert_array_equal(found['tokens_B'], learned_BL.sum(axis=1))
  np.testing.assert_array_equal(found['right_B'], (right_BL * learned_BL).sum(axis=1))


def sizes(jaxpr):
  """Elements of every array that a program makes, in its inner programs too."""
  for equation in jaxpr.eqns:
    for out in equation.outvars:
      yield int(np.prod(out.aval.shape))
    for inner in jaxprs_in_params(equation.params):
      yield from sizes(inner)


def test_no_array_has_logits_of_all_positions():
  """Neither forward nor backward, as traced and as compiled; the plain form has one."""
  vocabulary = 8192
  model, batch = make_model(vocabulary=vocabulary), make_batch(vocabulary)
  # The last norm is trained, the table is frozen.
  graph, norm, rest = nnx.split(model, nnx.PathContains('norm'), ...)
  ours = lambda model: token_loss(model, batch, None, 8)[0]
  grad = lambda loss: jax.value_and_grad(
    lambda norm, rest: jnp.sum(loss(nnx.merge(graph, norm, rest)))
  )
  everything = B * (L - 1) * vocabulary
  largest = lambda f: max(sizes(jax.make_jaxpr(grad(f))(norm, rest).jaxpr))
  plain = lambda model: plain_loss(model, batch)
  assert largest(ours) < everything <= largest(plain)
  text = jax.jit(grad(ours)).lower(norm, rest).compile().as_text()
  assert f'f32[{B},{L - 1},{vocabulary}]' not in text
  assert f'f32[{B * (L - 1)},{vocabulary}]' not in text
  # A frozen table has no gradient: no other array is as large as the table itself.
  made = [line for line in text.splitlines() if f' = f32[{vocabulary},{D}]' in line]
  assert all('parameter' in x or 'get-tuple-element' in x or 'constant' in x
             for x in made), made  # fmt: skip


def test_chunks_are_powers_of_two_that_fit():
  sizes = lambda positions: [chunk_size(v, positions) for v in (151936, 49152, 512)]
  assert sizes(2**20) == [256, 1024, 2**17]
  assert sizes(4096) == [256, 512, 512] and sizes(100) == [128, 128, 128]
