"""Tests ../../../experiments/speed/collectives.py: what is counted."""

import pytest

from experiments.speed import collectives
from experiments.speed.collectives import NETWORK, NVLINK, Cost, Shape, payloads


def test_bytes_of_collectives_are_read_off_a_program():
  hlo = """
    %all-gather.1 = f32[8,3,5]{2,1,0} all-gather(f32[1,3,5]{2,1,0} %x), dimensions={0}
    %all-reduce.2 = f32[7]{0} all-reduce(f32[7]{0} %y), to_apply=%add
    %all-reduce.3 = bf16[2,2]{1,0} all-reduce(bf16[2,2]{1,0} %z), to_apply=%add
    %add.4 = f32[9]{0} add(f32[9]{0} %all-reduce.2, f32[9]{0} %w)
  """
  assert payloads(hlo) == [('all-gather', 480), ('all-reduce', 28), ('all-reduce', 8)]


def test_communication_takes_the_slowest_link():
  cost = Cost(flops=1e12, gathered=8_000_000, reduced=4_000_000, counts={})
  work, within = cost.seconds(4)
  _, beyond = cost.seconds(64)
  assert within == pytest.approx(0.75 * 16e6 / NVLINK)
  assert beyond == pytest.approx(63 / 64 * 16e6 / NETWORK)
  assert work == pytest.approx(1e12 / (0.4 * 989e12))


@pytest.mark.parametrize('feeding', ['split', 'replicate'])
def test_devices_share_the_work_and_gather_all_components(feeding):
  of = lambda devices: collectives.cost(
    collectives.lowered(Shape('MiniLM', feeding, 4, 8, 16, devices))
  )
  alone, four = of(1), of(4)
  assert (alone.gathered, alone.reduced, alone.counts) == (0, 0, {})
  assert four.counts == {'all-gather': 1, 'all-reduce': 1}
  # 36 modules, each padded to the widest: 384 + 1536 numbers, for four workers.
  assert four.gathered == 4 * 4 * 36 * (384 + 1536)
  assert 0.25 <= four.flops / alone.flops < 0.5
