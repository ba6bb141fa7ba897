"""Tests ../../adapad_jax/interchange/labels.py."""

import pytest

from adapad_jax.interchange import names_of_config, require_same_labels


def test_equal_and_unknown_labels_pass():
  require_same_labels(('NO', 'Yes'), ('no', 'yes'), 'lora')
  require_same_labels(None, ('no', 'yes'), 'lora')
  require_same_labels(('no', 'yes'), None, 'lora')


def test_another_order_is_refused_and_called_so():
  message = (
    r"lora was .* \['yes', 'no'\], the task has \['no', 'yes'\] in another order"
  )
  with pytest.raises(ValueError, match=message):
    require_same_labels(('yes', 'no'), ('no', 'yes'), 'lora')


def test_other_labels_are_refused_whatever_their_number():
  for theirs in (('pos', 'neg'), ('no', 'maybe', 'yes')):
    with pytest.raises(ValueError, match=r"the task has \['no', 'yes'\]: its head"):
      require_same_labels(theirs, ('no', 'yes'), 'lora')


def test_names_of_a_config_come_by_number_and_placeholders_are_none():
  named = {str(i): f'class {i}' for i in (10, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8)}
  assert names_of_config({'id2label': named}) == tuple(f'class {i}' for i in range(11))
  assert names_of_config({'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'}}) is None
  assert names_of_config({}) is None
