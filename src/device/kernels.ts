/**
 * The table of kernels: the whole surface between `src/ops/` and a device. Every device implements every row; the same stem names
 * the op, the kernel files and the test.
 *
 * Shape letters: N packed tokens, B sequences, C width, H query heads, K key/value heads, D head width, F MLP width, V vocabulary,
 * R decode rows. A vector of n numbers is a storage of 1 row and n columns. `?` may be absent (null). `=` outputs are written, `+=` outputs are added to,
 * `inout` outputs are read and written. u32 0xffffffff as a position marks an inactive row: it reads and writes nothing.
 * Floats may be f32, f16 or bf16 where the row says `any`; else they are of the type it says, f32 where it says none.
 */

interface KernelRow {
  readonly dims: readonly string[];
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

export const kernels = {
  /** y = value */
  fill: { dims: ["value"], inputs: [], outputs: ["y ="] },
  /** y[toRow + i] = x[fromRow + i] for i < rows, converting between dtypes (round to nearest even). */
  copy: { dims: ["fromRow", "toRow", "rows"], inputs: ["x any"], outputs: ["y = any"] },
  /** y = x rounded to `bits` storage (16: f16, 17: bf16) and back to f32: what a cache of that type would return. */
  round: { dims: ["bits"], inputs: ["x"], outputs: ["y ="] },
  /** y = a + b, all [N, C] */
  add: { dims: [], inputs: ["a", "b"], outputs: ["y ="] },
  /** y += scale * x */
  accumulate: { dims: ["scale"], inputs: ["x any"], outputs: ["y +="] },
  /**
   * c[M,N] (= or +=, by `accumulate`) op(a)[M,K] op(b)[K,N] + bias[N]. transA: a is stored [K,M]; transB: b is stored [N,K].
   * The order in which K is summed depends on N and K only (promise 2): chunks, of 256 or as matrix units take them, each from 0, then in order.
   */
  matmul: { dims: ["M", "N", "K", "transA", "transB", "accumulate"], inputs: ["a any", "b any", "bias? any"], outputs: ["c ="] },
  /** y[c] += sum_n x[n,c], in an order that depends on N only */
  column_sum: { dims: [], inputs: ["x"], outputs: ["y +="] },
  /** y[n] = table[ids[n]] */
  embedding: { dims: [], inputs: ["ids u32", "table any"], outputs: ["y ="] },
  /** dtable[ids[n]] += dy[n], in token order */
  embedding_backward: { dims: [], inputs: ["ids u32", "dy"], outputs: ["dtable +="] },
  /** y[n,g,:] = x[n,g,:] * rstd[n,g] * weight, rstd = 1/sqrt(mean(x^2) + eps); groups = 1, or heads for a norm per head. rstd [N, groups] */
  rms_norm: { dims: ["groups", "eps"], inputs: ["x", "weight any"], outputs: ["y =", "rstd ="] },
  rms_norm_backward: { dims: ["groups"], inputs: ["x", "weight any", "rstd", "dy"], outputs: ["dx =", "dweight? +="] },
  /** Rotates pairs (d, d + D/2) of every head by positions[n]; table [maxPositions, D] holds cos then sin, D/2 each. inverse = 1 turns back (the backward pass). */
  rope: { dims: ["heads", "inverse"], inputs: ["x", "positions u32", "table"], outputs: ["y ="] },
  /**
   * Packed causal attention with grouped queries. q, out [N, H*D]; k, v [N, K*D]; offsets [1, B+1]; lse [N, H].
   * Keys are merged in blocks of 64 from each sequence's position 0 by the online-softmax formula, in the order `attention_paged` uses.
   */
  attention: { dims: ["heads", "kvHeads", "scale"], inputs: ["q", "k", "v", "offsets u32"], outputs: ["out =", "lse ="] },
  attention_backward: {
    dims: ["heads", "kvHeads", "scale"],
    inputs: ["q", "k", "v", "offsets u32", "out", "lse", "dout"],
    outputs: ["dq =", "dk =", "dv ="],
  },
  /**
   * Stores k, v [N, K*D] of tokens at their positions in the cache. One cache row is one 64-token block: kCache [blocks, K*D*64]
   * (per kv head: D rows of 64 positions), vCache [blocks, K*64*D] (per kv head: 64 positions of D). offsets [1, B+1] says which
   * tokens belong to which row of blockTable [B, maxBlocks]; positions [1, N].
   */
  kv_write: {
    dims: ["kvHeads"],
    inputs: ["k", "v", "positions u32", "offsets u32", "blockTable u32"],
    outputs: ["kCache inout any", "vCache inout any"],
  },
  /** Copies whole cache blocks: pairs [n, 2] of (from, to). */
  kv_copy: { dims: [], inputs: ["pairs u32"], outputs: ["kCache inout any", "vCache inout any"] },
  /** Attention of q [N, H*D] against the cache: token n sees positions 0..positions[n] of its sequence. Decode (one token a sequence) and prefill alike. */
  attention_paged: {
    dims: ["heads", "kvHeads", "scale"],
    inputs: ["q", "positions u32", "offsets u32", "blockTable u32", "kCache any", "vCache any"],
    outputs: ["out ="],
  },
  /** y = silu(gate) * up */
  swiglu: { dims: [], inputs: ["gate", "up"], outputs: ["y ="] },
  swiglu_backward: { dims: [], inputs: ["gate", "up", "dy"], outputs: ["dgate =", "dup ="] },
  /** y[i] = x[indices[i]] */
  gather_rows: { dims: [], inputs: ["x", "indices u32"], outputs: ["y ="] },
  /** y[indices[i]] += x[i]; indices are distinct */
  scatter_rows: { dims: [], inputs: ["x", "indices u32"], outputs: ["y +="] },
  /**
   * Language-model head in row chunks, never [N, V]: z = hidden weight^T / temperature; logProb = z[target] - lse,
   * entropy = lse - sum p z, lse = logsumexp(z). Vectors of N. The logits have the bits `matmul` gives.
   */
  log_prob: { dims: ["temperature"], inputs: ["hidden", "weight any", "targets u32"], outputs: ["logProb =", "entropy =", "lse ="] },
  /** With g = dLogProb, h = dEntropy: dz[v] = g (1[v = target] - p) - h p (z - lse + entropy) ... over temperature, then dhidden = dz weight, dweight += dz^T hidden. */
  log_prob_backward: {
    dims: ["temperature"],
    inputs: ["hidden", "weight any", "targets u32", "entropy", "lse", "dLogProb", "dEntropy?"],
    outputs: ["dhidden =", "dweight? +="],
  },
  /**
   * y[n] = logProb[n] - mean of (logProb - oldLogProb) over n's sequence: exp(logProb - y) is the geometric mean of its ratios. Vectors of N,
   * offsets [1, B+1]. Differences that are all 0 give the bits of logProb. Tokens of no sequence are undefined.
   */
  sequence_ratio: { dims: [], inputs: ["logProb", "oldLogProb", "offsets u32"], outputs: ["y ="] },
  /**
   * Policy loss, KL to a reference and entropy bonus over N policy tokens; a token of weight 0 has no say, whatever its other values (NaN
   * included). stats (1 x 9, +=): sums over tokens of other weights of loss, clip-low hits, clip-high hits, k1 old-to-new, k3 to reference,
   * entropy, |logProb - oldLogProb| maximum (max, not sum), token count, dual-clip hits.
   * loss = scale * sum_n weight * (policy + klCoef KL - entropyCoef H), policy by form: 0 -min(ratio A, clip(ratio) A), where A < 0 at most
   * -dualClip A if dualClip > 0; 1 -sg(clip(ratio)) A logProb; 2 -A logProb; KL by kl: k1, k2, k3. Gradients are those of the loss.
   */
  policy_loss: {
    dims: ["clipLow", "clipHigh", "klCoef", "entropyCoef", "scale", "dualClip", "form", "kl"],
    inputs: ["logProb", "oldLogProb", "referenceLogProb?", "entropy", "advantage", "weight"],
    outputs: ["dLogProb =", "dEntropy =", "stats +="],
  },
  /**
   * Loss of values, value and dValue [N, 1], the others vectors of N: loss = scale * sum_n weight * max(a^2, b^2) / 2, a = value - return,
   * b = clamp(value, oldValue - clip, oldValue + clip) - return, or a where clip is 0; dValue = scale * weight * a, 0 where b^2 is the larger.
   * Tokens of weight 0 have no say. stats (1 x 3, +=): loss, tokens whose b^2 is the larger, tokens.
   */
  value_loss: { dims: ["clip", "scale"], inputs: ["value", "oldValue", "returns", "weight"], outputs: ["dValue =", "stats +="] },
  /** loss = scale * sum_n weight[n] * -logProb[n]; tokens of weight 0 have no say. stats (1 x 2, +=): weighted loss sum, weight sum. */
  weighted_nll: { dims: ["scale"], inputs: ["logProb", "weights"], outputs: ["dLogProb =", "stats +="] },
  /** acc[slot] = sum x^2, in an order that depends on the shape only */
  sum_squares: { dims: ["slot"], inputs: ["x"], outputs: ["acc inout"] },
  /**
   * result = [norm, scale]: norm = sqrt(sum of acc's first `count`) / gradScale, scale = min(1, maxNorm / (norm + 1e-6)) / gradScale, or
   * 1 / gradScale if maxNorm is 0; both NaN if norm is not finite. gradScale, a power of two, is what the gradients are too large by.
   */
  clip_scale: { dims: ["count", "maxNorm", "gradScale"], inputs: ["acc"], outputs: ["result ="] },
  /** AdamW with decoupled decay (Loshchilov & Hutter 2019) on gradient * clip[1]; correction1 = 1 - beta1^t, correction2 = 1 - beta2^t. A clip of NaN leaves everything as it was. */
  adamw: {
    dims: ["lr", "beta1", "beta2", "eps", "weightDecay", "correction1", "correction2"],
    inputs: ["grad", "clip"],
    outputs: ["param inout", "m inout", "v inout"],
  },
  /** `adamw` with moments of 16 bits, rounded up or down at random by words of philox(key, (c / 4, n, 0, 0)); this step takes them unrounded. */
  adamw_bf16: {
    dims: ["lr", "beta1", "beta2", "eps", "weightDecay", "correction1", "correction2", "key0", "key1"],
    inputs: ["grad", "clip"],
    outputs: ["param inout", "m inout bf16", "v inout bf16"],
  },
  /**
   * `adamw` with moments of 8 bits, for param [N, C]: m, v [N, ceil(C / 4)] hold four codes a word, columns c in byte c mod 4; a code is a number
   * of `tables` [3, 256] (src/optim/dynamic-map.ts) times the scale of its 256 columns; scales [N, 2 ceil(C / 256)], of m and v in turn.
   * Rounded at random as in `adamw_bf16`, but that a v other than 0 never becomes 0.
   */
  adamw_8bit: {
    dims: ["lr", "beta1", "beta2", "eps", "weightDecay", "correction1", "correction2", "key0", "key1"],
    inputs: ["grad", "clip", "tables"],
    outputs: ["param inout", "m inout u32", "v inout u32", "scales inout"],
  },
  /**
   * One id per decode row. settings [R, 4]: temperature (0 = greedy), topK (0 = off), topP (1 = off), unused. keys u32 [R, 5]: Philox
   * key (2 words) and the first three counter words; the fourth is the position. logProb is that of softmax(logits / temperature)
   * over all V (temperature 1 where greedy), with the bits `log_prob` gives. Inactive rows (position 0xffffffff) are left alone.
   */
  sample: { dims: [], inputs: ["logits", "settings", "keys u32", "positions u32"], outputs: ["ids = u32", "logProb ="] },
  /**
   * One step of the stop automaton and the budgets, for R rows. transitions u32 [S, V]: next state of (state, id); accepts u32 [1, S]:
   * 0, or the stop code of an accepting state. For an active row: last = id, state = transitions[state, id], remaining -= 1,
   * position += 1, outIds[step, r] = id, outLogProbs[step, r] = logProb; on accept or remaining 0 (code 1, "length") status = code and
   * position = 0xffffffff. An inactive row writes 0xffffffff to outIds.
   */
  advance: {
    dims: ["step"],
    inputs: ["ids u32", "logProb", "transitions u32", "accepts u32"],
    outputs: [
      "last inout u32",
      "positions inout u32",
      "states inout u32",
      "remaining inout u32",
      "status inout u32",
      "outIds inout u32",
      "outLogProbs inout",
    ],
  },
} as const satisfies Record<string, KernelRow>;

export type KernelName = keyof typeof kernels;
export type KernelDims<K extends KernelName> = Readonly<Record<(typeof kernels)[K]["dims"][number], number>>;
