"""Prompts and answers in columns of their own, as a task that writes answers has them.

They weigh as the same rows in one column of tokens, of which the answers are learned.
"""

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.models import Head, load
from adapad_jax.reranking import input_moments, kronecker_factors, text_lengths
from adapad_jax.tasks.ragged import Ragged

NAME = 'model.layers.2.self_attn.q_proj'
PROMPTS = [(5, 6, 7), (8, 9, 10, 11, 12, 13), (14, 15)]
ANSWERS = [(20, 21), (), (22, 23, 24)]


@pytest.fixture(scope='module')
def model(shared):
  return load(str(shared / 'models/stories260k'), Head('lm')).model


def split(answers=ANSWERS, dense=False):
  prompts, said = Ragged.of(PROMPTS, 8), Ragged.of(answers, 4)
  found = {'ids_BL': prompts, 'mask_BL': prompts.mask()}
  found |= {'answer_BA': said, 'said_BA': said.mask()}
  return {name: x[:] for name, x in found.items()} if dense else found


def joined():
  """The same as one text, in rows as long as those that come of it."""
  rows = [[*p, *a] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
  whole = Ragged.of(rows, 12)
  learned = [[0] * len(p) + [1] * len(a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
  found = {
    'ids_BL': whole,
    'mask_BL': whole.mask(),
    'learned_BL': Ragged.of(learned, 12),
  }
  return {name: x[:] for name, x in found.items()}


@pytest.mark.parametrize('dense', [False, True])
def test_answers_count_and_prompts_do_not(model, monkeypatch, dense):
  monkeypatch.setattr('adapad_jax.reranking.activations.trimmed', dict)
  mesh = sharding.make_mesh(1, 1)
  for look in (
    lambda columns: (
      kronecker_factors(model, [NAME], columns, mesh, kind='lm')[NAME].s_II
    ),
    lambda columns: input_moments(model, [NAME], columns, mesh)[NAME],
  ):
    want, found = look(joined()), look(split(dense=dense))
    np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())
  np.testing.assert_array_equal(text_lengths(split(dense=dense)), [5, 6, 5])


def test_questions_without_a_single_answer_are_refused(model):
  with pytest.raises(ValueError, match='with their answers, but none of the 3 rows'):
    kronecker_factors(
      model, [NAME], split([()] * 3), sharding.make_mesh(1, 1), kind='lm'
    )
