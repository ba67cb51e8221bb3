// advance_record: what a step of the stop automaton leaves behind: positions, stop codes, and a row of the record
//
// Shapes    ids, logProb, codes (as advance leaves them), positions, status: vectors of R   outIds, outLogProbs: one shard, the step's row at `at`
// Dispatch  one invocation per row
// Limits    an inactive row only gets 0xffffffff in outIds
struct Params { rows: u32, ids_at: u32, log_probs_at: u32 }

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> log_prob: array<u32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> positions: array<u32>;
@group(0) @binding(4) var<storage, read_write> status: array<u32>;
@group(0) @binding(5) var<storage, read_write> out_ids: array<u32>;
@group(0) @binding(6) var<storage, read_write> out_log_probs: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let r = id.x;
  if (r >= p.rows) { return; }
  let position = positions[r];
  if (position == NONE) {
    out_ids[p.ids_at + r] = NONE;
    return;
  }
  out_ids[p.ids_at + r] = ids[r];
  out_log_probs[p.log_probs_at + r] = log_prob[r];
  let code = codes[r];
  if (code != 0u) { status[r] = code; }
  positions[r] = select(position + 1u, NONE, code != 0u);
}
