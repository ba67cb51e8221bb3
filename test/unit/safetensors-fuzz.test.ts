/** Whatever bytes a safetensors file has: it is read as what it says, or refused by a FileError. Nothing else ever happens. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { SafetensorsFile, type ByteSource } from "../../src/checkpoint/safetensors.ts";
import { FileError } from "../../src/util/errors.ts";

const bits = { F64: 64, I64: 64, F32: 32, U32: 32, BF16: 16, F16: 16, I16: 16, U8: 8, BOOL: 8, F8_E4M3: 8, F4: 4, F6_E2M3: 6 } as const;

interface Described {
  readonly name: string;
  readonly dtype: keyof typeof bits;
  readonly shape: readonly number[];
}

/** The file as text and bytes that can still be spoilt. */
interface Parts {
  /** Names and values of the header, as JSON texts. */
  readonly fields: readonly (readonly [string, string])[];
  readonly padding: string;
  readonly dataBytes: number;
}

const awkward = ["__proto__", "constructor", "toString", "", "0", "a.b", "\u00e9", "\u{1f600}", '"', "\\", "\n"];
const name = fc.oneof(fc.constantFrom(...awkward), fc.string({ unit: "grapheme", maxLength: 8 })).filter((one) => one !== "__metadata__");
const described: fc.Arbitrary<Described> = fc
  .record({
    name,
    dtype: fc.constantFrom(...(Object.keys(bits) as (keyof typeof bits)[])),
    shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }),
  })
  .filter(({ dtype, shape }) => (elements(shape) * bits[dtype]) % 8 === 0);

/** Valid files: tensors end to end in one order, and told of in another. */
const valid = fc
  .record({
    tensors: fc.uniqueArray(described, { maxLength: 6, selector: (one) => one.name }),
    metadata: fc.option(fc.dictionary(fc.string({ unit: "grapheme", maxLength: 5 }), fc.string({ unit: "grapheme", maxLength: 5 }))),
    padding: fc.constantFrom("", " ", "       ", "\n"),
    order: fc.infiniteStream(fc.nat(1000)),
  })
  .map(({ tensors, metadata, padding, order }) => {
    let dataBytes = 0;
    const fields = tensors.map(({ name: key, dtype, shape }): [string, string] => {
      const begin = dataBytes;
      dataBytes += (elements(shape) * bits[dtype]) / 8;
      return [JSON.stringify(key), JSON.stringify({ dtype, shape, data_offsets: [begin, dataBytes] })];
    });
    if (metadata !== null) fields.push(['"__metadata__"', JSON.stringify(metadata)]);
    const shuffled = fields.map((field) => [order.next().value, field] as const).sort(([a], [b]) => a - b);
    const parts: Parts = { fields: shuffled.map(([, field]) => field), padding, dataBytes };
    return { tensors, metadata, parts };
  });

/** Numbers, and things that are none, to stand where a number should. */
const wrongNumber = fc.oneof(
  fc.integer({ min: -3, max: 40 }).map(String),
  fc.constantFrom("-0", "1.0", "0.5", "1e2", "9007199254740991", "9007199254740993", "18446744073709551615", "18446744073709551616"),
  fc.constantFrom("1e999", "-1e999", "4294967296", "2147483648", "null", "true", '"3"', "[]", "{}", "9".repeat(400)),
);

type Spoil = (parts: Parts) => Uint8Array;
const at = (parts: Parts, place: number): number => (parts.fields.length === 0 ? 0 : place % parts.fields.length);
const withField = (parts: Parts, place: number, change: (value: string) => string): Parts => ({
  ...parts,
  fields: parts.fields.map(([key, value], i) => [key, i === at(parts, place) ? change(value) : value]),
});

/** Ways to spoil a file; many leave it valid, which is as good a case. */
const spoil: fc.Arbitrary<Spoil> = fc.oneof(
  // One of the numbers of one tensor.
  fc.tuple(fc.nat(5), fc.nat(5), wrongNumber).map(
    ([place, which, by]): Spoil =>
      (parts) =>
        assemble(
          withField(parts, place, (value) => {
            let seen = 0;
            return value.replaceAll(/(?<=[[,])\d+/g, (digits) => (seen++ === which ? by : digits));
          }),
        ),
  ),
  // A piece of its text by another.
  fc
    .tuple(
      fc.nat(5),
      fc.constantFrom('"shape"', '"dtype"', '"data_offsets"', "{", "}", "[", "]", ":", ",", "BF16", "F32", "U8"),
      fc.oneof(fc.constantFrom("", "null", '"shape"', '"dtype"', "F32", "F99", "[[", '"x":1,'), fc.string({ maxLength: 3 })),
    )
    .map(
      ([place, from, to]): Spoil =>
        (parts) =>
          assemble(withField(parts, place, (value) => value.replace(from, () => to))),
    ),
  // A tensor twice, under its own name or with its data.
  fc.tuple(fc.nat(5), fc.boolean(), name).map(([place, sameName, other]): Spoil => (parts) => {
    const field = parts.fields[at(parts, place)];
    if (field === undefined) return assemble(parts);
    return assemble({ ...parts, fields: [...parts.fields, sameName ? field : [JSON.stringify(other), field[1]]] });
  }),
  // A tensor less; the offsets of two changed over.
  fc.nat(5).map(
    (place): Spoil =>
      (parts) =>
        assemble({ ...parts, fields: parts.fields.filter((_, i) => i !== at(parts, place)) }),
  ),
  fc.tuple(fc.nat(5), fc.nat(5)).map(([a, b]): Spoil => (parts) => {
    const [first, second] = [parts.fields[at(parts, a)]?.[1] ?? "{}", parts.fields[at(parts, b)]?.[1] ?? "{}"];
    return assemble(
      withField(
        withField(parts, a, () => second),
        b,
        () => first,
      ),
    );
  }),
  // Metadata that are none.
  fc.json({ maxDepth: 2 }).map(
    (text): Spoil =>
      (parts) =>
        assemble({ ...parts, fields: [...parts.fields, ['"__metadata__"', text]] }),
  ),
  // More or less data.
  fc.integer({ min: -9, max: 9 }).map(
    (more): Spoil =>
      (parts) =>
        assemble({ ...parts, dataBytes: Math.max(0, parts.dataBytes + more) }),
  ),
  // Another length of the header.
  fc
    .oneof(
      fc.integer({ min: -12, max: 12 }).map(BigInt),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.bigInt({ min: 0n, max: 100_000_001n }),
    )
    .map((by): Spoil => (parts) => {
      const bytes = assemble(parts);
      const view = new DataView(bytes.buffer);
      const small = by < 13n;
      view.setBigUint64(0, BigInt.asUintN(64, small ? view.getBigUint64(0, true) + by : by), true);
      return bytes;
    }),
  // Cut off, or some bytes changed.
  fc.nat(300).map(
    (length): Spoil =>
      (parts) =>
        assemble(parts).slice(0, length),
  ),
  fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes): Spoil => (parts) => {
    const bytes = assemble(parts);
    for (const [place, value] of changes) bytes[place % bytes.length] = value;
    return bytes;
  }),
);

/** Bytes of any kind, and any text as a header. */
const raw = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.tuple(fc.uint8Array({ maxLength: 100 }), fc.nat(20)).map(([header, dataBytes]) => withLength(header, dataBytes)),
  fc.tuple(fc.json({ maxDepth: 4 }), fc.nat(20)).map(([text, dataBytes]) => withLength(new TextEncoder().encode(text), dataBytes)),
  fc
    .tuple(fc.array(fc.constantFrom(...'{}[]:,"0123456789-.eE\\ untrfals', '"shape":', '"x"'), { maxLength: 40 }), fc.nat(20))
    .map(([tokens, dataBytes]) => withLength(new TextEncoder().encode(`{${tokens.join("")}`), dataBytes)),
);

function elements(shape: readonly number[]): number {
  return shape.reduce((total, n) => total * n, 1);
}

function assemble({ fields, padding, dataBytes }: Parts): Uint8Array {
  const text = `{${fields.map(([key, value]) => `${key}:${value}`).join(",")}}${padding}`;
  return withLength(new TextEncoder().encode(text), dataBytes);
}

function withLength(header: Uint8Array, dataBytes: number): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  return bytes;
}

/** A file in memory that lets nobody read outside. */
class Watched implements ByteSource {
  readonly bytes: number;
  asked = 0;
  private readonly content: Uint8Array;

  constructor(content: Uint8Array) {
    this.content = content;
    this.bytes = content.length;
  }

  read(into: Uint8Array, position: number): Promise<void> {
    expect(Number.isSafeInteger(position) && position >= 0 && position + into.length <= this.bytes, "reads inside the file").toBe(true);
    this.asked += into.length;
    into.set(this.content.subarray(position, position + into.length));
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Opens the bytes; null where they are refused, which only a FileError may do. */
async function openOrRefuse(bytes: Uint8Array): Promise<SafetensorsFile | null> {
  const source = new Watched(bytes);
  let file: SafetensorsFile;
  try {
    file = await SafetensorsFile.from("fuzzed", source);
  } catch (error) {
    if (error instanceof FileError && error.message.length < 600) return null;
    throw error;
  }
  expect(source.asked).toBeLessThanOrEqual(bytes.length);
  return file;
}

/** The format's own rules, worked out apart: JSON.parse and whole numbers of any size. */
function mustHold(bytes: Uint8Array, file: SafetensorsFile): void {
  const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, 8 + headerBytes));
  expect(text.startsWith("{")).toBe(true);
  // Node 24.21 reads such a name, of one escaped character, as a backslash: JSON.parse cannot judge there.
  if (/"\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})"\s*:/.test(text)) return;
  const header = JSON.parse(text) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const names = Object.keys(header).filter((key) => key !== "__metadata__");
  expect([...file.tensors.keys()].sort()).toEqual(names.sort());
  const spans: [number, number][] = [];
  for (const [key, { dtype, shape, start, end }] of file.tensors) {
    const told = header[key]!;
    expect({ dtype, shape, data_offsets: [start - 8 - headerBytes, end - 8 - headerBytes] }).toEqual({
      dtype: told.dtype,
      shape: told.shape,
      data_offsets: told.data_offsets,
    });
    const size = shape.reduce((total, n) => total * BigInt(n), BigInt(bits[dtype as keyof typeof bits]));
    expect(size).toBe(8n * BigInt(end - start));
    spans.push([start, end]);
  }
  spans.sort(([a, b], [c, d]) => a - c || b - d);
  let reached = 8 + headerBytes;
  for (const [start, end] of spans) {
    expect(start).toBe(reached);
    reached = end;
  }
  expect(reached).toBe(bytes.length);
}

async function readAll(file: SafetensorsFile): Promise<void> {
  for (const [key, { dtype, start, end }] of file.tensors)
    if (!/^F[46]/.test(dtype)) expect((await file.read(key)).byteLength).toBe(end - start);
}

// Some 10,000 cases together; a failure prints the seed that repeats it.

it("a valid safetensors file is read as what it says, whatever its order, names and shapes", async () => {
  await fc.assert(
    fc.asyncProperty(valid, async ({ tensors, metadata, parts }) => {
      const bytes = assemble(parts);
      const file = await openOrRefuse(bytes);
      expect(file).not.toBeNull();
      mustHold(bytes, file!);
      expect([...file!.tensors.values()].map(({ name: key, dtype, shape }) => ({ name: key, dtype, shape })).sort(byName)).toEqual(
        [...tensors].sort(byName),
      );
      expect(Object.entries(file!.metadata)).toEqual(Object.entries(metadata ?? {}));
      await readAll(file!);
    }),
    { numRuns: 1500 },
  );
});

it("a spoilt safetensors file is read as the format's rules allow, or refused by a FileError", async () => {
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(valid, spoil, async ({ parts }, change) => {
      const bytes = change(parts);
      const file = await openOrRefuse(bytes);
      if (file === null) refused += 1;
      else {
        mustHold(bytes, file);
        await readAll(file);
      }
    }),
    { numRuns: 6000 },
  );
  expect(refused).toBeGreaterThan(2000);
});

it("bytes of any kind are refused as a safetensors file, or follow its rules", async () => {
  await fc.assert(
    fc.asyncProperty(raw, async (bytes) => {
      const file = await openOrRefuse(bytes);
      if (file !== null) mustHold(bytes, file);
    }),
    { numRuns: 2500 },
  );
});

it("a header's length that is a lie makes nobody allocate it", async () => {
  const lies = Array.from({ length: 50 }, (_, i) => {
    const bytes = new Uint8Array(64);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(99_000_000 + i), true);
    return bytes;
  });
  const before = process.memoryUsage().arrayBuffers;
  for (const bytes of lies) expect(await openOrRefuse(bytes)).toBeNull();
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e6);
});

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}
