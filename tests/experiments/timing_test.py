"""Turns are timed in pairs, and groups are waited for once."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments import timing


@dataclasses.dataclass
class FakeCall:
  """Takes the given times, one after another, on a clock that they share."""

  clock: list[float]
  seconds: itertools.cycle
  waited: int = 0

  def dispatch(self) -> int:
    """Moves the clock on."""
    self.clock[0] += next(self.seconds)
    return 7

  def wait(self, result: int) -> None:
    """Counts that it was waited for."""
    assert result == 7
    self.waited += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
  """A clock that only calls move."""
  now = [0.0]
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
  return now


def test_neighbouring_turns_are_compared(clock: list[float]) -> None:
  # The machine is ten times slower for some turns: the ratio of medians would be 1/3.
  ours = FakeCall(clock, itertools.cycle([9.0, 9.0, 1.0, 10.0, 1.0]))
  theirs = FakeCall(clock, itertools.cycle([9.0, 9.0, 2.0, 20.0, 3.0]))
  found = timing.side_by_side(ours, theirs, repeats=3)
  assert found == {
    'ours': 1.0, 'theirs': 3.0, 'ratio': 0.5, 'least': 1 / 3, 'most': 0.5
  }  # fmt: skip


def test_a_processor_has_a_name_where_the_system_tells_it(
  tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
  told = tmp_path / 'cpuinfo'
  told.write_text(
    'processor : 0\nmodel name\t: A 9: B\nprocessor : 1\nmodel name : C\n'
  )
  monkeypatch.setattr(timing, 'CPUINFO', told)
  assert timing.processor() == 'A 9: B'
  told.write_text('cpu family : 6\nmodel : 7\nmodel name : A\nmodel : 8\n')
  assert timing.processor() == 'A (family 6, model 7)'
  told.unlink()
  monkeypatch.setattr(timing.platform, 'processor', lambda: 'arm')
  assert timing.processor() == 'arm'


def test_a_group_is_waited_for_once(clock: list[float]) -> None:
  call = FakeCall(clock, itertools.cycle([1.0, 3.0]))
  assert timing.seconds_of(call, group=4) == 2.0
  assert call.waited == 1


def test_groups_last_as_long_as_asked(clock: list[float]) -> None:
  call = FakeCall(clock, itertools.cycle([0.5]))
  np.testing.assert_array_equal(timing.alone(call, seconds=10.0), np.full(5, 0.5))
  # Three calls to warm up, one to size the groups, five groups of two seconds each.
  assert clock[0] == 0.5 * (3 + 1 + 5 * 4)
