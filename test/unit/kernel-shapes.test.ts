import { describe, expect, it } from "vitest";
import type { Dtype, Storage } from "../../src/device/device.ts";
import { checkCall } from "../../src/device/check-call.ts";
import type { KernelName } from "../../src/device/kernels.ts";

function storage(rows: number, cols: number, dtype: Dtype = "f32"): Storage {
  return { rows, cols, dtype, usage: "activation", label: `[${rows},${cols}]`, shards: 1, rowsPerShard: rows, bytes: rows * cols * 4 };
}
const ids = (n: number): Storage => storage(1, n, "u32");

function call(kernel: KernelName, dims: Record<string, number>, inputs: (Storage | null)[], outputs: (Storage | null)[]): () => void {
  return () => checkCall(kernel, dims, inputs, outputs);
}

describe("a kernel call", () => {
  it("passes where all shapes fit", () => {
    expect(call("add", {}, [storage(3, 4), storage(3, 4)], [storage(3, 4)])).not.toThrow();
    expect(call("rope", { heads: 2, inverse: 0 }, [storage(5, 8), ids(5), storage(9, 4)], [storage(5, 8)])).not.toThrow();
    const attention = [storage(5, 8), storage(5, 4), storage(5, 4), ids(3)];
    expect(call("attention", { heads: 2, kvHeads: 1, scale: 1 }, attention, [storage(5, 8), storage(5, 2)])).not.toThrow();
  });

  it("is refused where one storage is too small, and the message names it and both shapes", () => {
    expect(call("add", {}, [storage(3, 4), storage(2, 4)], [storage(3, 4)])).toThrow(
      "kernel add: [2,4] does not fit the other storages; expected [3, 4], got [2, 4]",
    );
    expect(
      call(
        "adamw",
        { lr: 0, beta1: 0, beta2: 0, eps: 0, weightDecay: 0, correction1: 1, correction2: 1 },
        [storage(2, 2), storage(1, 2)],
        [storage(2, 2), storage(2, 2), storage(2, 1)],
      ),
    ).toThrow(/expected \[2, 2\], got \[2, 1\]/);
    expect(call("embedding", {}, [ids(3), storage(10, 4)], [storage(3, 5)])).toThrow(/expected \[3, 4\], got \[3, 5\]/);
  });

  it("of AdamW is refused where moments are of another kind or size", () => {
    const dims = { lr: 0, beta1: 0, beta2: 0, eps: 0, weightDecay: 0, correction1: 1, correction2: 1, key0: 0, key1: 0 };
    const bf16 = (m: Storage, v: Storage) => call("adamw_bf16", dims, [storage(2, 300), storage(1, 2)], [storage(2, 300), m, v]);
    expect(bf16(storage(2, 300, "bf16"), storage(2, 300, "bf16"))).not.toThrow();
    expect(bf16(storage(2, 300, "bf16"), storage(2, 300))).toThrow(/output v .* wrong dtype; expected bf16, got f32/);
    const inputs = [storage(2, 300), storage(1, 2), storage(3, 256)];
    const eight = (words: number, scales: number) => {
      const codes = storage(2, words, "u32");
      return call("adamw_8bit", dims, inputs, [storage(2, 300), codes, codes, storage(2, scales)]);
    };
    expect(eight(75, 4)).not.toThrow();
    expect(eight(74, 4)).toThrow(/codes of ceil\(C \/ 4\) words/);
    expect(eight(75, 2)).toThrow(/two scales for each 256 columns/);
  });

  it("is refused where dims do not fit the storages", () => {
    expect(call("copy", { fromRow: 2, toRow: 0, rows: 2 }, [storage(3, 4)], [storage(3, 4)])).toThrow(/rows that both have/);
    expect(call("rope", { heads: 4, inverse: 0 }, [storage(5, 8), ids(5), storage(9, 4)], [storage(5, 8)])).toThrow(/cols \/ heads/);
    expect(call("sum_squares", { slot: 2 }, [storage(5, 8)], [storage(1, 2)])).toThrow(/slot/);
    const attention = [storage(5, 8), storage(5, 3), storage(5, 3), ids(3)];
    expect(call("attention", { heads: 2, kvHeads: 1, scale: 1 }, attention, [storage(5, 8), storage(5, 2)])).toThrow(/kvHeads \* D/);
  });
});
