"""Tests ../../../experiments/speed/kernels.py: what is counted in a program."""

import pytest

from experiments.speed.kernels import frames, kernels, parse

PROGRAM = """HloModule jit_run, entry_computation_layout={(f32[3,8]{1,0})->f32[8]{0}}

FileNames
1 "/somewhere/model.py"
2 "/somewhere/layers.py"

FunctionNames
1 "Layer.__call__"
2 "dropout"

FileLocations
1 {file_name_id=1 function_name_id=1 line=18 end_line=18 column=6 end_column=77}
2 {file_name_id=2 function_name_id=2 line=18 end_line=18 column=26 end_column=65}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}


%fused_product (p.0: bf16[4,16], p.1: bf16[16,8]) -> f32[4,8] {
  %p.0 = bf16[4,16]{1,0} parameter(0)
  %p.1 = bf16[16,8]{1,0} parameter(1)
  %dot.1 = f32[4,8]{1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(run)/dot" stack_frame_id=2}
  ROOT %exp.1 = f32[4,8]{1,0} exponential(%dot.1)
}

%fused_slice (p.2: f32[12,8], p.3: s32[]) -> f32[1,8] {
  %p.2 = f32[12,8]{1,0} parameter(0)
  %p.3 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %slice.1 = f32[1,8]{1,0} dynamic-slice(%p.2, %p.3, %zero), dynamic_slice_sizes={1,8}
  ROOT %neg.1 = f32[1,8]{1,0} negate(%slice.1)
}

%fused_update (p.4: f32[12,8], p.5: f32[1,8], p.6: s32[]) -> f32[12,8] {
  %p.4 = f32[12,8]{1,0} parameter(0)
  %p.5 = f32[1,8]{1,0} parameter(1)
  %p.6 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %update.1 = f32[12,8]{1,0} dynamic-update-slice(%p.4, %p.5, %p.6, %zero.1)
}

%body (carried: (s32[], f32[12,8], /*index=2*/bf16[4,16], bf16[16,8])) -> (s32[], f32[12,8], bf16[4,16], bf16[16,8]) {
  %carried = (s32[], f32[12,8]{1,0}, /*index=2*/bf16[4,16]{1,0}, bf16[16,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carried), index=0
  %all = f32[12,8]{1,0} get-tuple-element(%carried), index=1
  %x = bf16[4,16]{1,0} get-tuple-element(%carried), index=2
  %w = bf16[16,8]{1,0} get-tuple-element(%carried), index=3
  %product = f32[4,8]{1,0} fusion(%x, %w), kind=kCustom, calls=%fused_product
  %sliced = f32[1,8]{1,0} fusion(%all, %i), kind=kLoop, calls=%fused_slice
  %updated = f32[12,8]{1,0} fusion(%all, %sliced, %i), kind=kLoop, calls=%fused_update
  ROOT %result = (s32[], f32[12,8]{1,0}, bf16[4,16]{1,0}, bf16[16,8]{1,0}) tuple(%i, %updated, %x, %w)
}

%condition (carried.1: (s32[], f32[12,8], bf16[4,16], bf16[16,8])) -> pred[] {
  %carried.1 = (s32[], f32[12,8]{1,0}, bf16[4,16]{1,0}, bf16[16,8]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (arg.0: (s32[], f32[12,8], bf16[4,16], bf16[16,8])) -> f32[8] {
  %arg.0 = (s32[], f32[12,8]{1,0}, bf16[4,16]{1,0}, bf16[16,8]{1,0}) parameter(0)
  %loop = (s32[], f32[12,8]{1,0}, bf16[4,16]{1,0}, bf16[16,8]{1,0}) while(%arg.0), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"},"known_init_step":{"init":"0","step":"1"}}
  %left = f32[12,8]{1,0} get-tuple-element(%loop), index=1
  %gemm = (f32[12,12]{1,0}, s8[64]{0}) custom-call(%left, %left), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["1"]}}}
  ROOT %end = f32[12,8]{0,1} copy(%left)
}
"""  # noqa: E501


@pytest.fixture(scope='module')
def found():
  return {one.name: one for one in kernels(PROGRAM)}


def test_every_kernel_is_there_as_often_as_its_loop_turns(found):
  times = {name: one.times for name, one in found.items()}
  inside = dict.fromkeys(('product', 'sliced', 'updated'), 12)
  assert times == inside | {'gemm': 1, 'end': 1}


def test_a_fused_product_has_its_operations_and_what_follows_it(found):
  one = found['product']
  assert one.flops == {'bf16': 2 * 4 * 8 * 16}
  assert one.work == 8 * 4 * 8, 'an exponential takes as long as eight additions'
  assert (one.read, one.written) == (2 * (4 * 16 + 16 * 8), 4 * 4 * 8)
  assert one.hero.op == 'dot'


def test_of_stacked_arrays_a_slice_is_read_and_written(found):
  assert (found['sliced'].read, found['sliced'].written) == (4 * 8 + 4, 4 * 8)
  # The array is written to in its place.
  assert (found['updated'].read, found['updated'].written) == (4 * 8 + 4, 4 * 8)


def test_products_of_the_library_are_read_off_its_call(found):
  assert found['gemm'].flops == {'f32': 2 * 12 * 12 * 8}
  assert found['gemm'].read == 2 * 4 * 12 * 8
  assert found['gemm'].written == 4 * 12 * 12, 'without its scratch space'
  assert found['end'].flops == {} and found['end'].work == 0
  assert (found['end'].read, found['end'].written) == (4 * 12 * 8, 4 * 12 * 8)


def test_calls_are_told_from_the_innermost(found):
  calls = frames(PROGRAM)
  assert calls[1] == ('model.py:Layer.__call__',)
  assert calls[2] == ('layers.py:dropout', 'model.py:Layer.__call__')
  assert calls[found['product'].hero.frame] == calls[2]


def test_a_loop_of_unknown_length_is_refused():
  text = PROGRAM.replace('known_trip_count', 'trip_count')
  with pytest.raises(ValueError, match='loop turns an unknown number of times'):
    kernels(text)


def test_tuples_and_comments_are_read():
  computations, entry = parse(PROGRAM)
  assert entry == 'main'
  carried = computations['body']['carried']
  assert [kind for kind, _ in carried.shapes] == ['s32', 'f32', 'bf16', 'bf16']
  assert carried.bytes == 4 + 4 * 12 * 8 + 2 * (4 * 16 + 16 * 8)
