"""On how many devices, of what size, a run would fit: from shapes alone.

The devices need not be here. The run's programs are traced for them, the weights
divided over all of them, and what they hold at once is followed through
(`liveness.py`).
"""

import dataclasses

import jax

from adapad_jax.sharding import DATA, MODEL, WORKER
from adapad_jax.training import liveness
from adapad_jax.training.memory import Memory, added_up
from adapad_jax.training.plan import Plan, bind
from adapad_jax.training.terminal import table

DEVICES = (1, 4, 8)
# Of common cards, in GB that are 2**30 bytes.
CARDS = (24, 80)
# What JAX takes of a GPU's memory by default, and what it may be told to take.
_BY_DEFAULT, _AT_MOST = 0.75, 0.95
_ON_CPU = (
  "\n  a lower bound here: a CPU's compiler keeps far more temporaries, and compiled"
  ' programs lie in the same memory'
)


def needs(plan: Plan, devices: int) -> Memory:
  """What one of so many devices would hold, which share weights and rows.

  Where all weights are trained, every device has them whole.

  Raises:
    ValueError: if the rows cannot be shared by so many.
  """
  rows = plan.config.train.batch // plan.config.train.accumulate
  if rows % devices:
    raise ValueError(f'{devices} devices do not divide {rows} rows')
  parts = 1 if plan.config.method == 'full' else devices
  attachment, method = bind(
    plan.config,
    plan.task,
    plan.outlined,
    plan.shapes,
    plan.train_rows,
    parts,
    plan.begins,
  )
  mesh = jax.sharding.AbstractMesh(
    (1, devices // parts, parts),
    (WORKER, DATA, MODEL),
    axis_types=plan.mesh.axis_types,
  )
  there = dataclasses.replace(plan, attachment=attachment, method=method, mesh=mesh)
  with jax.sharding.use_abstract_mesh(mesh):
    return added_up(there, lambda traced: liveness.peak(traced.jaxpr))


def needed_here(plan: Plan) -> Memory:
  """What one of the devices at hand will hold, without a compiler's word for it."""
  with jax.set_mesh(plan.mesh):
    return added_up(plan, lambda traced: liveness.peak(traced.jaxpr))


def verdict(memory: Memory, card: int) -> str:
  """Whether a device of so many GB holds that: 'yes', 'barely' or 'no'."""
  share = memory.peak / (card * 2**30)
  if share <= _BY_DEFAULT:
    return 'yes'
  return 'barely' if share <= _AT_MOST else 'no'


def fits(plan: Plan) -> str:
  """What a device needs, here and as one of several, and which cards have that much.

  Tracing takes a while, so no more devices are asked for than every card suffices for.
  """
  found: dict[int, Memory] = {}
  refused: dict[int, str] = {}
  for devices in DEVICES:
    try:
      found[devices] = needs(plan, devices)
    except ValueError as error:
      refused[devices] = str(error)
      continue
    if all(verdict(found[devices], card) == 'yes' for card in CARDS):
      break
  alone = plan.mesh.size == 1 and found.get(1)
  told = f'{_table(found, refused)}\n{alone or needed_here(plan)}'
  return told + (_ON_CPU if jax.default_backend() == 'cpu' else '')


def _table(found: dict[int, Memory], refused: dict[int, str]) -> str:
  """A line for every number of devices that was asked for."""
  gib = lambda size: f'{size / 2**30:.1f}'
  rows = []
  for devices in sorted(found | refused):
    if devices in refused:
      rows.append([devices, *[''] * (4 + len(CARDS)), refused[devices]])
      continue
    one = found[devices]
    parts = (one.weights, one.state, one.round, one.evaluation)
    fit = [verdict(one, card) for card in CARDS]
    rows.append([devices, *map(gib, parts), gib(one.peak), *fit])
  header = ['devices', 'weights', 'state', 'round', 'evaluation', 'GiB at the peak']
  cards = [f'{card} GB' for card in CARDS]
  return (
    'what a device would need if so many shared the weights (mesh.model), in GiB:\n'
    f'{table([*header, *cards], rows)}\n'
    '  yes: within the three quarters of a GPU that JAX takes by default; barely: with'
    f' XLA_PYTHON_CLIENT_MEM_FRACTION={_AT_MOST}'
  )
