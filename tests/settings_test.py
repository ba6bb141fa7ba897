"""Tests ../adapad_jax/settings.py: the border between config dicts and dataclasses."""

import pytest

from adapad_jax.settings import build
from adapad_jax.tasks import DataConfig
from adapad_jax.training.config import TrainConfig


@pytest.mark.parametrize('given', [(), ('',), '', []])
def test_a_list_can_be_emptied_from_the_command_line(given):
  assert build(TrainConfig, {'buckets': given}).buckets == ()


def test_lists_come_as_tuples_or_as_text_with_commas():
  assert build(DataConfig, {'text': 'title, body'}).text == ('title', 'body')
  assert build(TrainConfig, {'buckets': [16, 32]}).buckets == (16, 32)
  with pytest.raises(ValueError, match=r"config.train.buckets must be .* got '16'"):
    build(TrainConfig, {'buckets': ('16',)}, 'config.train')
