"""Work on parts of something by threads, its results in order."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterator
from typing import Any


def in_order(work: Callable[[Any], Any], parts: Iterator[Any]) -> Iterator[Any]:
  """Results of `work` in the order of the parts, a few of which are done ahead.

  Of use where some of the work gives Python's lock away, as tokenising does.
  """
  threads = min(os.cpu_count() or 1, 8) + 1
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    waiting: collections.deque[Any] = collections.deque()
    try:
      for part in parts:
        waiting.append(pool.submit(work, part))
        if len(waiting) > 2 * threads:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()
