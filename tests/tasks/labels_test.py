"""Label sets: discovery, order, encoding and every refusal."""

import re

import numpy as np
import pytest

from adapad_jax.tasks.labels import (
  Classes,
  check_train,
  discover,
  encode_values,
  majority,
)
from adapad_jax.tasks.table import Table


def table(values):
  return Table({'label': values}, 'file.csv')


@pytest.mark.parametrize(
  'values, names',
  [
    (['b', 'a', 'b'], ('a', 'b')),
    (['10', '9', '-1'], ('-1', '9', '10')),
    ([2, 0, 1.0], ('0', '1', '2')),
    ([True, False], ('False', 'True')),
    (['1', 'x', '0'], ('0', '1', 'x')),
  ],
)
def test_discover(values, names):
  assert discover(table(values), 'label').names == names


def test_discover_refuses_real_values_and_gaps():
  with pytest.raises(ValueError, match="0.5 in row 1 .*data.task='regression'"):
    discover(table([1.0, 0.5]), 'label')
  with pytest.raises(ValueError, match="row 1 .* has no label in column 'label'"):
    discover(table(['a', '']), 'label')


def test_encode_spells_numbers_alike_and_knows_codes():
  classes = Classes(('bad', 'good'), {'0': 'bad', '1': 'good'})
  labels = classes.encode(table(['good', 0, 1.0, '1', 'bad']), 'label')
  np.testing.assert_array_equal(labels.label_N, [1, 0, 1, 1, 0])
  assert labels.label_N.dtype == np.int32
  np.testing.assert_array_equal(labels.weight_N, np.ones(5))


def test_encode_refuses_a_label_outside_the_set():
  with pytest.raises(
    ValueError,
    match=re.escape("file.csv: label 'godo' in row 1 (counted from 0) of column")
    + r".* is not one of \['bad', 'good'\]; did you mean 'good'",
  ):
    Classes(('bad', 'good')).encode(table(['bad', 'godo']), 'label')


def test_missing_labels_weigh_nothing_where_they_are_allowed():
  classes = Classes(('a', 'b'))
  with pytest.raises(ValueError, match='row 1 .* has no label'):
    classes.encode(table(['a', None]), 'label')
  labels = classes.encode(
    table(['b', None, -1]), 'label', required=False, missing=('-1',)
  )
  np.testing.assert_array_equal(labels.label_N, [1, 0, 0])
  np.testing.assert_array_equal(labels.weight_N, [1, 0, 0])
  absent = classes.encode(Table({'text': ['x', 'y']}, 'f'), 'label', required=False)
  np.testing.assert_array_equal(absent.weight_N, [0, 0])
  with pytest.raises(ValueError, match="f has no column 'label'; it has"):
    classes.encode(Table({'text': ['x']}, 'f'), 'label')


def test_values():
  labels = encode_values(table(['1.5', 2, -1]), 'label')
  np.testing.assert_array_equal(labels.label_N, np.float32([1.5, 2, -1]))
  labels = encode_values(table([-1.0]), 'label', required=False, missing=('-1',))
  np.testing.assert_array_equal(labels.weight_N, [0])
  for bad in ('high', 'nan', 'inf'):
    with pytest.raises(ValueError, match=f"'{bad}' in row 0 .* finite number"):
      encode_values(table([bad]), 'label')
  with pytest.raises(ValueError, match='row 0 .* has no label'):
    encode_values(table([None]), 'label')


def test_training_data_must_hold_two_classes():
  classes = Classes(('a', 'b'))
  one = classes.encode(table(['b', 'b']), 'label')
  with pytest.raises(ValueError, match="all 2 training rows have the same class 'b'"):
    check_train(one, classes.names, 'file.csv')
  with pytest.raises(ValueError, match=r'same value 2\.5'):
    check_train(encode_values(table([2.5, 2.5]), 'label'), None, 'file.csv')
  with pytest.raises(ValueError, match='training data is empty'):
    check_train(classes.encode(table([]), 'label'), classes.names, 'file.csv')


def test_majority_breaks_ties_downwards():
  classes = Classes(('a', 'b', 'c'))
  assert majority(classes.encode(table(['c', 'b', 'c', 'b', 'a']), 'label')) == 1
