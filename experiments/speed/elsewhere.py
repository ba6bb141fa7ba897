"""Steps compiled for an H200 that is not here, from shapes alone.

XLA's compiler for CUDA works from a description of the device, so it needs none. It
comes with `jax-cuda12-plugin` and `jax-cuda12-pjrt` of jax's own version, and needs the
assembler of `nvidia-cuda-nvcc-cu12`; all three may lie in a folder of their own:

  pip install --no-deps --target=FOLDER jax-cuda12-plugin==0.10.2 \\
      jax-cuda12-pjrt==0.10.2 nvidia-cuda-nvcc-cu12

Without a card nothing is tried out, so XLA takes its first choice of tiles for every
product, where on a card it times several, cuBLAS among them.
"""

import pathlib
import sys
from typing import Any
from unittest import mock

import jax
from jax.experimental import topologies

from adapad_jax.adapters import split_model
from adapad_jax.sharding import DATA, MODEL, WORKER, laid
from experiments.speed import training_steps as steps
from experiments.speed.case import Case, bound

# Facts about an H200 SXM as CUDA tells them of its device (compute capability 9.0).
_H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  device_memory_size: 151397597184
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200"
"""


def environment(plugin: str) -> dict[str, str]:
  """Variables of a process that compiles so.

  Args:
    plugin: the folder.
  """
  toolkit = pathlib.Path(plugin).resolve() / 'nvidia' / 'cuda_nvcc'
  flags = f'--xla_gpu_cuda_data_dir={toolkit}'
  return {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}


def device(plugin: str) -> Any:
  """An H200 to compile for.

  Raises:
    NotImplementedError: if the folder has no plugin.
  """
  sys.path.append(str(pathlib.Path(plugin).resolve()))
  found = topologies.get_topology_desc(
    platform='cuda', target_config=_H200, topology='1x1x1'
  )
  return found.devices[0]


def compiled(case: Case, where: Any) -> str:
  """The optimised program of a step of ours, as text."""
  # Layers ask what products are to be computed on.
  with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
    return lowered(case, where).compile().as_text()


def lowered(case: Case, where: Any) -> jax.stages.Lowered:
  """A step of ours on one device, every worker live, for arrays that are not there."""
  model = steps.our_outline(case.model, **case.runtime)
  params, head = jax.eval_shape(
    lambda m: split_model(m, model.head_modules)[1:], model.model
  )
  mesh = jax.make_mesh((1, 1, 1), (WORKER, DATA, MODEL), devices=[where])
  alike = lambda tree, spec: laid(tree, jax.tree.map(lambda _: spec, tree), mesh)
  batch = steps.draw_batch(case.model, case.rows, case.length)
  with jax.set_mesh(mesh):
    method = bound(case, steps.our_problem(model, case.rows))
    inputs = {name: x[None] for name, x in batch.items()}
    inputs = alike(inputs, method.rows(mesh).spec)
    state = method.outline(head, mesh)
    return method.make_round(mesh).lower(state, alike(params, jax.P()), inputs)
