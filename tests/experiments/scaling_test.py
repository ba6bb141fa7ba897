"""Tests ../../experiments/scaling: what is counted, not what is timed."""

import json

import jax
import pytest

from experiments.record import record, recorded
from experiments.scaling import allocator, collectives, growth, turns
from experiments.scaling.case import Case
from experiments.scaling.collectives import NETWORK, NVLINK, Cost, Shape, payloads
from experiments.scaling.gpu import cases, name_of


def test_unknown_method_is_refused():
  with pytest.raises(ValueError, match="unknown method 'spilt'"):
    Case(method='spilt')


def test_every_case_has_a_name_of_its_own():
  base = Case(dtype='bfloat16')
  found = list(cases(base, ['DeBERTa-v3-base', 'MiniLM']))
  assert len({name_of(case) for case in found}) == len(found)
  names = [turns.figure_of(*pair) for pair in turns.pairs(base, [2, 4, 8])]
  assert len(set(names)) == len(names) == 12
  sizes = growth.sizes(base)
  assert len({name_of(case) for case in sizes}) == len(sizes)


def test_bytes_of_collectives_are_read_off_a_program():
  hlo = """
    %all-gather.1 = f32[8,3,5]{2,1,0} all-gather(f32[1,3,5]{2,1,0} %x), dimensions={0}
    %all-reduce.2 = f32[7]{0} all-reduce(f32[7]{0} %y), to_apply=%add
    %all-reduce.3 = bf16[2,2]{1,0} all-reduce(bf16[2,2]{1,0} %z), to_apply=%add
    %add.4 = f32[9]{0} add(f32[9]{0} %all-reduce.2, f32[9]{0} %w)
  """
  assert payloads(hlo) == [('all-gather', 480), ('all-reduce', 28), ('all-reduce', 8)]


def test_talk_takes_the_slowest_link():
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


def test_what_is_recorded_is_not_measured_again(tmp_path, monkeypatch):
  shape = Shape('MiniLM', 'split', 4, 8, 16, 4)
  found = Cost(flops=1e12, gathered=8, reduced=4, counts={'all-gather': 1})
  monkeypatch.setattr(collectives, 'lowered', lambda shape: shape)
  monkeypatch.setattr(collectives, 'cost', lambda program: found)
  collectives.run(tmp_path, [shape])
  collectives.run(tmp_path, [shape])
  assert len(recorded(tmp_path)) == 1
  ran = []
  measured = dict(tokens_per_second=1.0, step_ms=1.0, peak_gib=1.0, peak_of='process')
  monkeypatch.setattr(
    growth, 'in_process', lambda case, _: ran.append(case) or measured | {'device': 'x'}
  )
  sizes = growth.sizes(Case())
  growth.grow(tmp_path, sizes[:2], 100.0)
  growth.grow(tmp_path, sizes[:3], 100.0)
  assert ran == sizes[:3]
  device = jax.devices()[0].device_kind
  [pair, *_] = turns.pairs(Case(), [2])
  record(tmp_path, turns.figure_of(*pair), 1.0, '', device=device)
  turns.compare(tmp_path, [pair], repeats=1, group=1, limit=0.0)
  assert json.loads((tmp_path / 'results.jsonl').read_text().splitlines()[-1])


def test_a_case_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
  first, *rest = growth.sizes(Case())[:3]

  def in_process(case, timeout):
    if case == first:
      raise RuntimeError('out of memory')
    return dict(
      tokens_per_second=1.0, step_ms=1.0, peak_gib=1.0, peak_of='process', device='x'
    )

  monkeypatch.setattr(growth, 'in_process', in_process)
  growth.grow(tmp_path, [first, *rest], 100.0)
  assert f'# {name_of(first)}: out of memory' in capsys.readouterr().out
  assert [row['length'] for row in recorded(tmp_path)] == [case.length for case in rest]


def test_kept_memory_is_timed_by_turns_with_the_usual_way(tmp_path, monkeypatch):
  ran = []

  def call(module, given, env):
    ran.append((json.loads(given)['length'], env))
    kept = env == allocator.KEPT
    return {
      'step_ms': 6.0 if kept else 8.0,
      'peak_gib': 3.0 if kept else 1.0,
      'device': 'x',
    }

  monkeypatch.setattr(allocator, 'call', call)
  case, longer, _ = allocator.sizes(Case(length=64))
  allocator.compare(tmp_path, [case], 2)
  allocator.compare(tmp_path, [case, longer], 2)
  assert ran == [(n, env) for n in (64, 256) for env in (allocator.KEPT, {}) * 2]
  assert [row['value'] for row in recorded(tmp_path)] == [0.75, 0.75]
  assert [row['kept_peak_gib'] for row in recorded(tmp_path)] == [3.0, 3.0]
