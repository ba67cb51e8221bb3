// The module: a table from kernel number (the order of src/device/kernels.ts) to its functions, and fork-join over the threads.
//
// The calling thread publishes a phase as one 64-bit word, (sequence number, items left); every thread takes items from it by
// compare-and-swap, the calling thread too, so that it waits only for items in flight and never for a thread that has not woken. The
// word is what makes a late thread harmless: what it read of an older phase is void when its compare-and-swap fails.
//
// Control block (512 bytes)   0 u32 items left, 4 u32 sequence number   64 sleeping workers   128 items done by workers, 132 caller sleeps
//                             192 kernel, args, phase, items   256 stop, 260 failed   320.. text of the failure (written by the worker's host)
//
// A new kernel is an import and a `define` line, in the order of the table.
import { fill_items, fill_work } from "./fill";
import { copy_items, copy_work } from "./copy";
import { round_items, round_work } from "./round";
import { add_items, add_work } from "./add";
import { accumulate_items, accumulate_work } from "./accumulate";
import { matmul_items, matmul_work, matmul_scratch } from "./matmul";
import { column_sum_items, column_sum_work } from "./column_sum";
import { embedding_items, embedding_work, embedding_backward_items, embedding_backward_work } from "./embedding";
import { rms_norm_items, rms_norm_work, rms_norm_backward_items, rms_norm_backward_work, rms_norm_backward_scratch } from "./rms_norm";
import { rope_items, rope_work } from "./rope";
import { attention_items, attention_work } from "./attention";
import { attention_backward_items, attention_backward_work } from "./attention_backward";
import { kv_write_items, kv_write_work, kv_copy_items, kv_copy_work, attention_paged_items, attention_paged_work } from "./attention_paged";
import { swiglu_items, swiglu_work, swiglu_backward_items, swiglu_backward_work } from "./swiglu";
import { gather_rows_items, gather_rows_work, scatter_rows_items, scatter_rows_work } from "./gather_rows";
import { log_prob_items, log_prob_work, log_prob_scratch } from "./log_prob";
import { log_prob_backward_items, log_prob_backward_work, log_prob_backward_scratch } from "./log_prob_backward";
import { sequence_ratio_items, sequence_ratio_work } from "./sequence_ratio";
import { policy_loss_items, policy_loss_work, policy_loss_scratch } from "./policy_loss";
import { value_loss_items, value_loss_work, value_loss_scratch } from "./value_loss";
import { weighted_nll_items, weighted_nll_work, weighted_nll_scratch } from "./weighted_nll";
import { sum_squares_items, sum_squares_work, sum_squares_scratch } from "./sum_squares";
import { clip_scale_items, clip_scale_work } from "./clip_scale";
import { adamw_items, adamw_work } from "./adamw";
import { adamw_bf16_items, adamw_bf16_work } from "./adamw_bf16";
import { adamw_8bit_items, adamw_8bit_work } from "./adamw_8bit";
import { sample_items, sample_work } from "./sample";
import { advance_items, advance_work } from "./advance";

export { useNative, isFused } from "./lib/native";
export { useThreads } from "./lib/threads";

const STATE: usize = 0, SEQUENCE: usize = 4, SLEEPERS: usize = 64, DONE: usize = 128, CALLER_SLEEPS: usize = 132;
const KERNEL: usize = 192, ARGS: usize = 196, PHASE: usize = 200, ITEMS: usize = 204, STOP: usize = 256, FAILED: usize = 260;

// ---- table: 16 bytes each: items, work, scratch (function indices), present ----

const MAX_KERNELS = 64;
const table: usize = memory.data(16 * 64);

function noScratch(args: usize): usize { return 0; }

function define(kernel: i32, items: u32, work: u32, scratch: u32 = noScratch.index): void {
  const at = table + (<usize>kernel << 4);
  store<u32>(at, items, 0); store<u32>(at, work, 4); store<u32>(at, scratch, 8); store<u32>(at, 1, 12);
}
// Every instance writes the same words.
define(0, fill_items.index, fill_work.index);
define(1, copy_items.index, copy_work.index);
define(2, round_items.index, round_work.index);
define(3, add_items.index, add_work.index);
define(4, accumulate_items.index, accumulate_work.index);
define(5, matmul_items.index, matmul_work.index, matmul_scratch.index);
define(6, column_sum_items.index, column_sum_work.index);
define(7, embedding_items.index, embedding_work.index);
define(8, embedding_backward_items.index, embedding_backward_work.index);
define(9, rms_norm_items.index, rms_norm_work.index);
define(10, rms_norm_backward_items.index, rms_norm_backward_work.index, rms_norm_backward_scratch.index);
define(11, rope_items.index, rope_work.index);
define(12, attention_items.index, attention_work.index);
define(13, attention_backward_items.index, attention_backward_work.index);
define(14, kv_write_items.index, kv_write_work.index);
define(15, kv_copy_items.index, kv_copy_work.index);
define(16, attention_paged_items.index, attention_paged_work.index);
define(17, swiglu_items.index, swiglu_work.index);
define(18, swiglu_backward_items.index, swiglu_backward_work.index);
define(19, gather_rows_items.index, gather_rows_work.index);
define(20, scatter_rows_items.index, scatter_rows_work.index);
define(21, log_prob_items.index, log_prob_work.index, log_prob_scratch.index);
define(22, log_prob_backward_items.index, log_prob_backward_work.index, log_prob_backward_scratch.index);
define(23, sequence_ratio_items.index, sequence_ratio_work.index);
define(24, policy_loss_items.index, policy_loss_work.index, policy_loss_scratch.index);
define(25, value_loss_items.index, value_loss_work.index, value_loss_scratch.index);
define(26, weighted_nll_items.index, weighted_nll_work.index, weighted_nll_scratch.index);
define(27, sum_squares_items.index, sum_squares_work.index, sum_squares_scratch.index);
define(28, clip_scale_items.index, clip_scale_work.index);
define(29, adamw_items.index, adamw_work.index);
define(30, adamw_bf16_items.index, adamw_bf16_work.index);
define(31, adamw_8bit_items.index, adamw_8bit_work.index);
define(32, sample_items.index, sample_work.index);
define(33, advance_items.index, advance_work.index);

export function hasKernel(kernel: i32): bool { return kernel >= 0 && kernel < MAX_KERNELS && load<u32>(table + (<usize>kernel << 4), 12) == 1; }
/** Bytes of shared scratch that a call asks for. */
export function scratchBytes(kernel: i32, args: usize): usize { return call_indirect<usize>(load<u32>(table + (<usize>kernel << 4), 8), args); }

// ---- fork-join ----

// Takes one item of the current phase; -1 if none is left.
// @ts-ignore: decorator
@inline function claim(control: usize): i32 {
  while (true) {
    const state = atomic.load<u64>(control, STATE);
    const left = <u32>state;
    if (left == 0) return -1;
    const items = load<u32>(control, ITEMS);
    if (atomic.cmpxchg<u64>(control, state, state - 1, STATE) == state) return <i32>(items - left);
  }
  return -1;
}

/** Runs one kernel call to its end on the calling thread and as many workers as wake in time; 1 if a worker failed. */
export function run(control: usize, kernel: i32, args: usize, scratch: usize, workers: i32, spin: i32): i32 {
  const itemsOf = load<u32>(table + (<usize>kernel << 4), 0), work = load<u32>(table + (<usize>kernel << 4), 4);
  for (let phase = 0; ; phase++) {
    const items = call_indirect<i32>(itemsOf, args, phase);
    if (items < 0) return 0;
    if (items < 2 || workers == 0) {
      for (let i = 0; i < items; i++) call_indirect<void>(work, args, phase, i, scratch);
      continue;
    }
    store<i32>(control, kernel, KERNEL); store<u32>(control, <u32>args, ARGS); store<i32>(control, phase, PHASE); store<i32>(control, items, ITEMS);
    atomic.store<i32>(control, 0, DONE);
    const sequence = load<u32>(control, SEQUENCE) + 1;
    atomic.store<u64>(control, (<u64>sequence << 32) | <u64>items, STATE);
    if (atomic.load<i32>(control, SLEEPERS) > 0) atomic.notify(control + SEQUENCE, items - 1);
    let mine = 0;
    for (let i = claim(control); i >= 0; i = claim(control)) {
      call_indirect<void>(work, args, phase, i, scratch);
      mine++;
    }
    if (join(control, items - mine, spin)) return 1;
  }
  return 0;
}

/**
 * Runs `count` calls one after another, as `run` would: `list` holds two words each, the kernel and the address of its call block. 1 if a
 * worker failed.
 */
export function replay(control: usize, list: usize, count: i32, scratch: usize, workers: i32, spin: i32): i32 {
  for (const end = list + (<usize>count << 3); list < end; list += 8) {
    if (run(control, load<i32>(list), <usize>load<u32>(list, 4), scratch, workers, spin) != 0) return 1;
  }
  return 0;
}

// What `replayApart` gives the threads: lists of calls as items, each run from end to end by one of them.
const LISTS: i32 = 63;
define(LISTS, lists_items.index, lists_work.index);

function lists_items(args: usize, phase: i32): i32 { return phase == 0 ? load<i32>(args) : -1; }

function lists_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const at = args + 8 + (<usize>item << 3);
  replay(0, load<u32>(at), load<i32>(at, 4), scratch, 0, 0);
}

/**
 * Runs lists of calls side by side, each by one thread alone, which nobody waits for in between. `lists` holds their number, a word that is
 * free, and for each the address and the number of its calls. 1 if a worker failed.
 */
export function replayApart(control: usize, lists: usize, scratch: usize, workers: i32, spin: i32): i32 {
  return run(control, LISTS, lists, scratch, workers, spin);
}

// Waits until workers have done `count` items; true if one failed.
function join(control: usize, count: i32, spin: i32): bool {
  for (let n = 0; atomic.load<i32>(control, DONE) < count; n++) {
    if (n < spin) continue;
    if (atomic.load<i32>(control, FAILED) != 0) return true;
    atomic.store<i32>(control, 1, CALLER_SLEEPS);
    const done = atomic.load<i32>(control, DONE);
    if (done < count) atomic.wait<i32>(control + DONE, done, 100000000);
    atomic.store<i32>(control, 0, CALLER_SLEEPS);
  }
  return false;
}

/** A worker's life: ends when `stop` is set. */
export function serve(control: usize, scratch: usize, spin: i32): void {
  while (atomic.load<i32>(control, STOP) == 0) {
    const state = atomic.load<u64>(control, STATE);
    const left = <u32>state;
    if (left == 0) { rest(control, state, spin); continue; }
    const kernel = load<i32>(control, KERNEL), args = <usize>load<u32>(control, ARGS);
    const phase = load<i32>(control, PHASE), items = load<i32>(control, ITEMS);
    if (atomic.cmpxchg<u64>(control, state, state - 1, STATE) != state) continue;
    call_indirect<void>(load<u32>(table + (<usize>kernel << 4), 4), args, phase, <i32>(<u32>items - left), scratch);
    atomic.add<i32>(control, 1, DONE);
    if (atomic.load<i32>(control, CALLER_SLEEPS) != 0) atomic.notify(control + DONE, 1);
  }
}

// Spins for a while in the hope of the next phase, then sleeps until the sequence number changes.
function rest(control: usize, state: u64, spin: i32): void {
  for (let n = 0; n < spin; n++) if (atomic.load<u64>(control, STATE) != state) return;
  atomic.add<i32>(control, 1, SLEEPERS);
  atomic.wait<i32>(control + SEQUENCE, <i32>(state >> 32), -1);
  atomic.sub<i32>(control, 1, SLEEPERS);
}
