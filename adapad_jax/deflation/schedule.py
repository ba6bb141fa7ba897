"""How long growth can take: full modules take no part in it."""

from collections.abc import Sequence


def most_allocations(rooms: Sequence[int], wanted: int, grants: int) -> int:
  """Allocations after which so much is granted, whatever the scores say.

  An allocation falls short where fewer modules than it serves have room left. That
  comes soonest if the modules with the least room are served first.

  Args:
    rooms: how often each module may still be served.
    wanted: how often in all; no more than there is room for.
    grants: modules that an allocation serves, each once.
  """
  done, left = 0, sorted(room for room in rooms if room > 0)
  while wanted > 0 and left:
    served = min(grants, len(left))
    left = [room - (place < served) for place, room in enumerate(left)]
    left = [room for room in left if room]
    wanted -= served
    done += 1
  return done
