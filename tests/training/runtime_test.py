"""How a run's model computes: what it may change and what it may not."""

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.sharding import put
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.batches import round_batch, trimmed
from adapad_jax.training.partition import make_order
from adapad_jax.training.session import open_session
from tests import tiny


def advance(data, rounds=1, **groups):
  """The first rounds of a run: its session, and the states before and after them."""
  plan = make_plan(finetune_config(tiny.values(data, **groups)))
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    columns = trimmed(plan.task.splits['train'].columns)
    rows, order = plan.method.rows(plan.mesh), make_order(None, columns, 16, 0)
    before = jax.device_get(jax.jit(plan.method.init)(session.head))
    state, step = (
      plan.method.place(before, plan.mesh),
      plan.method.make_round(plan.mesh),
    )
    for i in range(rounds):
      host = round_batch(columns, order, i, 1, rows.order_B)
      state, metrics = step(state, session.params, put(host, rows.spec))
      assert int(metrics['failed']) == -1
    return session, before, jax.device_get(plan.method.portable(state))


def test_a_run_with_fused_attention_equals_the_plain_one(data):
  states = []
  for fused in (False, True):
    # The step of plain descent is as close as the gradients are.
    session, before, after = advance(
      data,
      rounds=3,
      model={'fused': fused, 'attention_dropout': 0.0},
      optimizer={'rule': 'sgd', 'learning_rate': 0.5},
      head_optimizer={'rule': 'sgd', 'learning_rate': 0.5},
    )
    layer = session.pretrained.model.bert.encoder.layer[0]
    assert layer.attention.self.fused == fused
    states.append(after)
  moved = [
    np.abs(a - b).max()
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    if a.dtype == np.float32
  ]
  assert max(moved) > 1e-2
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *states)


def test_a_round_in_bfloat16_keeps_adapters_and_optimisers_in_float32(data):
  session, before, after = advance(data, model={'dtype': 'bfloat16'})
  assert jnp.dtype('bfloat16') in {x.dtype for x in jax.tree.leaves(session.params)}
  kinds = {x.dtype for x in jax.tree.leaves(after)}
  assert {kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)} == {
    jnp.dtype('float32')
  }
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
  assert sum(jax.tree.leaves(changed)) > 10
