/** The guards around buffers see what a kernel does outside of them, and workgroup memory starts as garbage. */
import { describe, expect, it } from "vitest";
import { loadWgsl } from "../../../src/device/dawn.ts";
import type { Device } from "../../../src/device/device.ts";
import { scrambled } from "../../../src/device/webgpu/scramble.ts";
import { withDevice } from "../../helpers/device.ts";

/** y = a + b on a device whose kernel `add` has been changed; 5 x 7 in rows of 8 are 40 elements, 10 units of 4. */
async function add(
  change: (text: string) => string,
  robust: boolean,
  then: (device: Device, sum: () => Promise<Float32Array>) => Promise<void>,
) {
  const sources = new Map(await loadWgsl());
  const before = sources.get("add")!;
  sources.set("add", change(before));
  await withDevice(
    async (device) => {
      const x = device.allocate(5, 7, "f32", "activation", "x");
      const y = device.allocate(5, 7, "f32", "activation", "the sum");
      device.write(x, new Float32Array(35).fill(1));
      device.run("add", {}, [x, x], [y]);
      await then(device, async () => (await device.read(y)) as Float32Array);
    },
    { sources, robust },
  );
}

const twos = new Float32Array(35).fill(2);
const further = (units: string) => (text: string) => text.replace("if (i < p.units) {", `if (i < ${units}) {`);

describe.each([{ robust: true }, { robust: false }])("a guarded buffer, Dawn's own checks on: $robust", ({ robust }) => {
  it("lets a kernel pass that keeps to its elements", () =>
    add(
      (text) => text,
      robust,
      async (_, sum) => expect(await sum()).toEqual(twos),
    ));

  it("names buffer, place and kernel where one element behind the end is written", () =>
    expect(add(further("p.units + 1u"), robust, async (_, sum) => expect(await sum()).toEqual(twos))).rejects.toThrow(
      /wrote outside of a buffer: the sum \[5, 7\] f32, 0 bytes behind its 160 bytes \(0x[0-9a-f]+\), written last by add/,
    ));

  it("says so when memory is given back, and when the device is waited for", async () => {
    await expect(
      add(further("p.units + 1u"), robust, async (device) => {
        await device.synchronize();
      }),
    ).rejects.toThrow(/wrote outside of a buffer: the sum/);
  });

  it("says so at the device's end at the latest", () =>
    expect(add(further("p.units + 1u"), robust, () => Promise.resolve())).rejects.toThrow(/wrote outside of a buffer: the sum/));

  it("gives NaN where a kernel reads behind the end", () =>
    add(
      (text) => text.replace("a[p.a_start + i]", "a[p.a_start + i + 2u]"),
      robust,
      async (_, sum) => {
        const got = await sum();
        expect(got.subarray(0, 28)).toEqual(twos.subarray(0, 28));
        // the last two of ten units; of each row's 8 elements 7 are seen
        expect([...got.subarray(28)]).toEqual(new Array(7).fill(NaN));
      },
    ));
});

it.each([
  ["before the start", "i - 1u"],
  ["far behind the end", "i * 100000u"],
])("where Dawn's own checks move it to the end of the buffer, an access %s is seen", (_, place) =>
  expect(
    add(
      (text) => text.replace("y[p.y_start + i] =", `y[p.y_start + ${place}] =`),
      true,
      async (_device, sum) => {
        await sum();
      },
    ),
  ).rejects.toThrow(/the sum .* bytes behind its 160 bytes/),
);

describe("workgroup memory", () => {
  it("is filled before a kernel starts, each array and number of it, on the line of main", () => {
    const code = [
      "var<workgroup> parts: array<vec2<f32>, 2u * N>; // a comment",
      "var<workgroup> count: atomic<u32>;",
      "@compute @workgroup_size(64)",
      "fn main(@builtin(local_invocation_index) lane: u32) {",
      "  parts[lane] = vec2(0.0);",
      "}",
    ].join("\n");
    const lines = scrambled(code).split("\n");
    expect(lines).toHaveLength(6);
    expect(lines[3]).toMatch(
      /\{ if \(lane < 32u\) \{ for \(var scramble_at = lane; scramble_at < 2u \* N; .*parts\[scramble_at\] = vec2<f32>\(.*atomicStore\(&count, .*workgroupBarrier\(\);$/,
    );
    expect(scrambled("fn main() {}")).toBe("fn main() {}");
  });

  it("shows where a kernel counts on zeros in it", async () => {
    const sources = new Map(await loadWgsl());
    const text = sources.get("log_softmax")!;
    sources.set("log_softmax", text.replace("if (lane == 0u) { atomicStore(&unusable, 0u); }", ""));
    expect(sources.get("log_softmax")).not.toBe(text);
    const logProbs = (given: ReadonlyMap<string, string>): Promise<Float32Array> =>
      withDevice(
        async (device) => {
          const storage = (rows: number, cols: number, values: readonly number[]) => {
            const one = device.allocate(rows, cols, "f32", "activation", "values");
            device.write(one, Float32Array.from(values));
            return one;
          };
          const ids = device.allocate(1, 1, "u32", "activation", "ids");
          device.write(ids, Uint32Array.of(1));
          const [x, w] = [storage(1, 2, [1, 0]), storage(2, 2, [0, 0, 0, 0])];
          const out = ["log-probability", "entropy", "lse"].map((label) => device.allocate(1, 1, "f32", "activation", label));
          device.run("log_prob", { temperature: 1 }, [x, w, ids], out);
          return (await device.read(out[0]!)) as Float32Array;
        },
        { sources: given },
      );
    expect((await logProbs(await loadWgsl()))[0]).toBeCloseTo(Math.log(0.5), 6);
    expect((await logProbs(sources))[0]).toBeNaN();
  });
});
