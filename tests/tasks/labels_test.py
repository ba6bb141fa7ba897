"""Label sets: discovery, order, encoding and every refusal."""

import decimal
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

MISSING = ('nan', 'NaN', 'NA', 'N/A', 'null', 'NULL', 'None', '<NA>')


def table(values):
  return Table({'label': values}, 'file.csv')


@pytest.mark.parametrize(
  'values, names',
  [
    (['b', 'a', 'b'], ('a', 'b')),
    (['10', '9', '-1'], ('-1', '9', '10')),
    ([2, 0, 1.0], ('0', '1', '2')),
    ([True, False], ('False', 'True')),
    (['true', 'TRUE', 'False', False], ('False', 'true')),
    ([True, 'true'], ('True',)),
    (['true', 'True', 'no'], ('True', 'no', 'true')),
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


def test_truth_values_are_the_same_however_a_file_spells_them():
  classes = discover(table([True, False]), 'label')
  said = classes.encode(table(['true', 'FALSE', 'True', False]), 'label')
  assert said.label_N.tolist() == [1, 0, 1, 0]
  said = Classes(('true', 'false')).encode(table([True, 'False']), 'label')
  assert said.label_N.tolist() == [0, 1]
  mixed = table(['true', 'TRUE', 'False', False])
  found = discover(mixed, 'label').encode(mixed, 'label')
  assert found.label_N.tolist() == [1, 1, 0, 0]
  for others in (('True', 'False', 'unsure'), ('True', 'no')):
    with pytest.raises(ValueError, match="label 'true' .* is not one of"):
      Classes(others).encode(table(['true']), 'label')


def test_discover_refuses_two_names_that_look_the_same():
  with pytest.raises(ValueError, match=r"labels '\\xe9' in row 0 .* and 'e\\u0301' in"):
    discover(table(['\u00e9', 'a', 'e\u0301']), 'label')


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


@pytest.mark.parametrize(
  'values, names',
  [
    (['1', '1.0', '0', '0.0'], ('0', '1')),
    ([1, 1.0, '0', '0.0'], ('0', '1')),
    ([decimal.Decimal('1.0'), '1', 0], ('0', '1')),
    (['1e0', '0E0', '-0.0'], ('0', '1')),
    (['-1', '+1', '0'], ('-1', '0', '+1')),
    (['v1.0', 'v2.5'], ('v1.0', 'v2.5')),
    (['--1', '1'], ('--1', '1')),
    (['\u00b2', '1'], ('1', '\u00b2')),
    ([True, 1, 'True'], ('1', 'True')),
    (['none', 'some'], ('none', 'some')),
  ],
)
def test_files_without_types_are_judged_like_those_with(values, names):
  assert discover(table(values), 'label').names == names


@pytest.mark.parametrize(
  'value, message',
  [
    *((name, 'stands for a missing value .*data.labels') for name in MISSING),
    ('0.5', "is not a class; data.task='regression'.*data.labels"),
    ('1e-3', "is not a class; data.task='regression'"),
    (decimal.Decimal('1.5'), "is not a class; data.task='regression'"),
    ('inf', 'is infinite'),
    (float('-inf'), 'is infinite'),
    ('9' * 400, r'is a number above 3.4e\+38'),
    (int('9' * 400), 'is a number above'),
    ('9' * 5000, 'is a number above'),
    ('1e400', 'is a number above'),
  ],
  ids=lambda value: str(value)[:20],
)
def test_what_is_no_class_is_named_by_row(value, message):
  rows = Table({'label': ['1', value]}, 'file.csv', line_N=[2, 7])
  where = r'file.csv: label .* in row 1 \(counted from 0, line 7\) of column'
  with pytest.raises(ValueError, match=f"{where} 'label' .*{message}") as told:
    discover(rows, 'label')
  assert len(str(told.value)) < 350


def test_a_label_set_that_is_given_may_hold_what_is_no_class_by_itself():
  classes = Classes(('NA', '1.5', '2.0'))
  labels = classes.encode(table(['1.5', 'NA', 2, '2']), 'label')
  np.testing.assert_array_equal(labels.label_N, [1, 0, 2, 2])


@pytest.mark.parametrize('names', [('a', 'b', 'a'), ('1', '1.0'), ('a', ' ')])
def test_a_label_set_has_different_names(names):
  with pytest.raises(ValueError, match='not all different and not blank'):
    Classes(names)


@pytest.mark.parametrize('value', ['?', 'x', 7, 0.5, ['a'], {'a': 1}, b'a', '\ud83d'])
@pytest.mark.parametrize('classify', [True, False])
def test_labels_that_nobody_needs_may_be_anything(value, classify):
  encode = Classes(('1', '0')).encode if classify else encode_values
  value = '?' if isinstance(value, int | float) and not classify else value
  labels = encode(table(['1', value]), 'label', required=False)
  np.testing.assert_array_equal(labels.weight_N, [0, 0])
  assert 'row 1' in labels.fault
  with pytest.raises(ValueError, match='row 1'):
    encode(table(['1', value]), 'label')


@pytest.mark.parametrize(
  'value',
  ['1e39', -3.5e38, '9' * 400, int('9' * 400), '9' * 5000, '1_000', True, 'NA'],
  ids=lambda value: str(value)[:20],
)
def test_values_that_are_no_float32_are_named_by_row(value):
  rows = Table({'label': ['1', value]}, 'file.csv', line_N=[2, 7])
  where = r'file.csv: label .* in row 1 \(counted from 0, line 7\) of column'
  with pytest.raises(ValueError, match=f'{where} .*finite number of float32') as told:
    encode_values(rows, 'label')
  assert len(str(told.value)) < 300
  assert encode_values(table(['3.4028234e38', 1]), 'label').label_N[0] > 3.4e38
