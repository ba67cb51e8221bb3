// advance: one step of the stop automaton and of the budgets of R decode rows; advance_record keeps what came of it
//          state' = transitions[state, id]; remaining -= 1; done if accepts[state'] or no budget is left
//
// Shapes    ids, positions, last, states, remaining, codes: vectors of R   accepts: vector of S   transitions: rows first_state.. of [S, V]
// Dispatch  one invocation per row; once per shard of the table, the first shard first
// Saves     codes: the stop code of the row, 0 while it runs, WAITING until its state's shard has come
// Limits    an inactive row (position 0xffffffff) is left alone; an id or state outside the table leads to state 0
struct Params { rows: u32, states: u32, vocabulary: u32, stride: u32, first_state: u32, shard_states: u32, first: u32 }

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> transitions: array<u32>;
@group(0) @binding(3) var<storage, read> accepts: array<u32>;
@group(0) @binding(4) var<storage, read_write> last: array<u32>;
@group(0) @binding(5) var<storage, read_write> states: array<u32>;
@group(0) @binding(6) var<storage, read_write> remaining: array<u32>;
@group(0) @binding(7) var<storage, read_write> codes: array<u32>;
@group(0) @binding(8) var<uniform> p: Params;

const NONE: u32 = 0xffffffffu;
const WAITING: u32 = 0xfffffffeu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let r = id.x;
  if (r >= p.rows || positions[r] == NONE) { return; }
  if (p.first == 0u && codes[r] != WAITING) { return; }
  let state = states[r];
  let token = ids[r];
  var next = 0u;
  if (state < p.states && token < p.vocabulary) {
    if (state - p.first_state >= p.shard_states) {
      if (p.first != 0u) { codes[r] = WAITING; }
      return;
    }
    next = transitions[(state - p.first_state) * p.stride + token];
  }
  let budget = remaining[r] - 1u;
  last[r] = token;
  states[r] = next;
  remaining[r] = budget;
  var code = accepts[next];
  if (code == 0u && budget == 0u) { code = 1u; }
  codes[r] = code;
}
