"""Tests ../../experiments/hlo.py on the ways in which XLA writes groups of devices."""

import jax
import pytest

from experiments import hlo

NAMED = "mesh['worker'=2,'data'=2] "
GROUPS = {
  ('data',): ('{{0,1},{2,3}}', '[2,2]<=[4]', NAMED + "{'data'}"),
  ('worker',): ('{{0,2},{1,3}}', '[2,2]<=[2,2]T(1,0)', NAMED + "{'worker'}"),
  ('worker', 'data'): ('{{0,1,2,3}}', '[1,4]<=[4]', NAMED + "{'worker','data'}"),
}


@pytest.mark.parametrize('axes', GROUPS, ids='+'.join)
def test_axes_are_read_off_every_way_to_write_groups(axes):
  mesh = jax.make_mesh((2, 2), ('worker', 'data'), devices=jax.devices()[:4])
  for groups in GROUPS[axes]:
    sums = f'%y = f32[2] all-reduce(%x), replica_groups={groups}, to_apply=%sum'
    text = f'ENTRY %main (x: f32[2]) -> f32[2] {{\n  {sums}\n}}\n'
    assert hlo.traffic(text, mesh) == [('all-reduce', 0, axes)], groups
