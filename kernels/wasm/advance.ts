// advance: one step of the stop automaton and the budgets of R decode rows
//          state' = transitions[state, id]; remaining -= 1; position += 1; done if accepts[state'] or no budget is left
//
// Shapes    ids, last, positions, states, remaining, status u32 [1, R]   logProb [1, R]   transitions u32 [S, V]   accepts u32 [1, S]
//           outIds u32 [steps, R]   outLogProbs [steps, R]; row `step` is written
// Items     one: a few words a row
// Status    the stop code of the accepting state, else 1 when the budget is used up; a finished row's position becomes 0xffffffff
// Limits    a row that is inactive on entry only gets 0xffffffff in outIds; an id or state outside the table leads to state 0
import { dimI, tensor, rowsOf, colsOf, rowPtr } from "./lib/call";

const NONE: u32 = 0xffffffff;

export function advance_items(args: usize, phase: i32): i32 { return phase == 0 ? 1 : -1; }

export function advance_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const R = colsOf(tensor(args, 1, 0)), step = dimI(args, 0);
  const ids = rowPtr(tensor(args, 1, 0), 0), logProb = rowPtr(tensor(args, 1, 1), 0), transitions = tensor(args, 1, 2), accepts = rowPtr(tensor(args, 1, 3), 0);
  const last = rowPtr(tensor(args, 1, 4), 0), positions = rowPtr(tensor(args, 1, 5), 0), states = rowPtr(tensor(args, 1, 6), 0);
  const remaining = rowPtr(tensor(args, 1, 7), 0), status = rowPtr(tensor(args, 1, 8), 0);
  const outIds = rowPtr(tensor(args, 1, 9), step), outLogProbs = rowPtr(tensor(args, 1, 10), step);
  for (let r = 0; r < R; r++) {
    const at = <usize>r << 2, position = load<u32>(positions + at);
    if (position == NONE) { store<u32>(outIds + at, NONE); continue; }
    const id = load<u32>(ids + at), state = load<u32>(states + at);
    const known = state < <u32>rowsOf(transitions) && id < <u32>colsOf(transitions);
    const next: u32 = known ? load<u32>(rowPtr(transitions, state) + (<usize>id << 2)) : 0;
    const budget = load<u32>(remaining + at) - 1;
    store<u32>(last + at, id);
    store<u32>(states + at, next);
    store<u32>(remaining + at, budget);
    store<u32>(outIds + at, id);
    store<f32>(outLogProbs + at, load<f32>(logProb + at));
    let code = load<u32>(accepts + (<usize>next << 2));
    if (code == 0 && budget == 0) code = 1;
    if (code != 0) store<u32>(status + at, code);
    store<u32>(positions + at, code != 0 ? NONE : position + 1);
  }
}
