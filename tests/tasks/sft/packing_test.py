"""Documents that share rows: which do, and that nothing is learned differently."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from adapad_jax.models.decoder import DecoderModel
from adapad_jax.tasks.sft.loss import token_loss
from adapad_jax.tasks.sft.packing import pack, padding
from tests.tasks.sft.loss_test import make_model


def packed_by_a_plain_loop(lengths, room):
  """Best fit, decreasing: looks at every row for every document."""
  rows, free = [], []
  for document in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    fits = [i for i in range(len(rows)) if free[i] >= lengths[document]]
    if not fits:
      rows.append([])
      free.append(room)
      fits = [len(rows) - 1]
    best = min(fits, key=lambda i: free[i])
    rows[best].append(document)
    free[best] -= lengths[document]
  return rows


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), max_size=40))
def test_rows_are_as_full_as_best_fit_makes_them(lengths):
  room = 12
  rows = pack(np.array(lengths, int), room)
  assert sorted(i for row in rows for i in row.tolist()) == list(range(len(lengths)))
  total = lambda rows: sorted(sum(lengths[i] for i in row) for row in rows)
  assert max(total(rows), default=0) <= room
  # Of rows with as much room it does not matter which one is taken.
  assert total(rows) == total(packed_by_a_plain_loop(lengths, room))


def test_packing_is_the_same_every_time():
  lengths = np.random.default_rng(0).integers(1, 200, 500)
  first, second = pack(lengths, 256), pack(lengths, 256)
  assert all((a == b).all() for a, b in zip(first, second, strict=True))
  assert padding(lengths, len(first), 256) < 0.02 < padding(lengths, 500, 256)


@pytest.mark.parametrize('lengths', [[3, 0], [3, 9]])
def test_documents_that_do_not_fit(lengths):
  with pytest.raises(ValueError, match='cannot be packed into rows of 8'):
    pack(np.array(lengths), 8)


DOCUMENTS = 6
LENGTHS = (7, 5, 3, 9, 6, 4)
ROOM = 17


def unpacked_batch():
  rng = np.random.default_rng(1)
  width = max(LENGTHS)
  mask = np.arange(width) < np.array(LENGTHS)[:, None]
  learned = rng.integers(0, 2, (DOCUMENTS, width)) * mask
  learned[:, 0] = 0
  learned[:, 1] = 1
  ids = rng.integers(1, 97, (DOCUMENTS, width)) * mask
  return {'ids_BL': ids, 'mask_BL': mask.astype(int), 'learned_BL': learned}


def packed_batch(batch, groups):
  """The same documents, several a row."""
  shape = (len(groups), ROOM)
  names = (*batch, 'segments_BL')
  packed = {name: np.zeros(shape, int) for name in names}
  for row, group in enumerate(groups):
    at = 0
    for number, document in enumerate(group, start=1):
      place = slice(at, at + LENGTHS[document])
      for name, column in batch.items():
        packed[name][row, place] = column[document, : LENGTHS[document]]
      packed['segments_BL'][row, place] = number
      at = place.stop
  return packed


@pytest.fixture(scope='module')
def grouped():
  return [row.tolist() for row in pack(np.array(LENGTHS), ROOM)]


def test_states_inside_a_row_are_those_of_documents_alone(grouped):
  model, batch = make_model(), unpacked_batch()
  packed = packed_batch(batch, grouped)
  as_jax = lambda columns: {name: jnp.asarray(x) for name, x in columns.items()}
  alone_BLD, _ = model.model(as_jax(batch))
  shared_BLD, _ = model.model(as_jax(packed))
  for row, group in enumerate(grouped):
    at = 0
    for document in group:
      size = LENGTHS[document]
      np.testing.assert_allclose(
        shared_BLD[row, at : at + size], alone_BLD[document, :size], atol=1e-5
      )
      at += size
  assert np.isfinite(shared_BLD).all()
  assert any(len(group) > 1 for group in grouped)
  # Without the numbers of documents it would be another text.
  whole = {k: v for k, v in as_jax(packed).items() if k != 'segments_BL'}
  assert not np.allclose(model.model(whole)[0], shared_BLD, atol=1e-3)


def test_loss_and_gradients_equal_those_of_unpacked_rows(grouped):
  model, batch = make_model(), unpacked_batch()
  graph, state = nnx.split(model)

  def of(columns):
    columns = {name: jnp.asarray(x) for name, x in columns.items()}

    def total(state):
      loss_B, weight_B = token_loss(nnx.merge(graph, state), columns, None, 8)
      return jnp.sum(loss_B), weight_B

    (loss, weight_B), grads = jax.value_and_grad(total, has_aux=True)(state)
    return loss / weight_B.sum(), jax.tree.map(lambda g: g / weight_B.sum(), grads)

  close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5)
  jax.tree.map(close, of(packed_batch(batch, grouped)), of(batch))


def test_packed_rows_are_not_read_into_a_cache():
  model: DecoderModel = make_model()
  ones = jnp.ones((1, 4), jnp.int32)
  batch = {'ids_BL': ones, 'mask_BL': ones, 'segments_BL': ones}
  with pytest.raises(ValueError, match='cannot be read into a cache'):
    model.model(batch, cache=model.model.empty_cache(1, 4))
