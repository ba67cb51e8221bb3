/** Compute pipelines: one per WGSL file and prologue, made once; every one in an error scope. */
import { DeviceError } from "../../util/errors.ts";
import { sizeControl } from "./capabilities.ts";
import { computeStage } from "./constants.ts";
import type { Dispatch } from "./kernel.ts";
import { expandWgsl, type TextLine } from "./wgsl-text.ts";

/** What a pipeline depends on. */
export type Specialisation = Pick<Dispatch, "kernel" | "constants" | "aliases" | "enables">;

/** A pipeline and what its dispatches need to know. */
export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Number of `layout`, for keys. */
  readonly layoutId: number;
  /** Per storage binding: whether the kernel writes it. The parameters follow. */
  readonly writes: readonly boolean[];
  readonly key: string;
}

/** A module's text and what its `var<storage>` lines say. */
interface Module {
  readonly lines: readonly TextLine[];
  readonly writes: readonly boolean[];
}

/**
 * Sums in the order that is written: Metal's compiler may else reorder them. Heard by Chromium with its developers' features; Dawn in Node
 * has no way to say it. Nothing asks Vulkan's drivers either: the self-test looks whether they keep it.
 */
const strict = { strictMath: true };

const bindingLine = /^\s*@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>/;

/** The text of a specialisation behind its prologue. @throws DeviceError that names file and line */
function moduleOf({ kernel, constants }: Specialisation, sources: ReadonlyMap<string, string>): Module {
  const lines = expandWgsl(kernel, sources, constants);
  const writes: boolean[] = [];
  for (const { text } of lines) {
    const [, binding, access] = bindingLine.exec(text) ?? [];
    if (binding !== undefined) writes[Number(binding)] = access === "read_write";
  }
  if (writes.length === 0 || Array.from(writes).includes(undefined as unknown as boolean))
    throw new DeviceError({ where: `kernels/wgsl/${kernel}.wgsl`, what: "its storage bindings are not numbered 0, 1, 2 ..." });
  return { lines, writes };
}

/** A file that may ask for a size of subgroups gets the attribute, of its constant SG. */
function withSize(text: string, { enables = [] }: Specialisation): string {
  return enables.includes(sizeControl) ? text.replace("@compute", "@compute @subgroup_size(SG)") : text;
}

/** The lines in front of the file. */
export function prologue({ constants = {}, aliases = {}, enables = [] }: Specialisation): string[] {
  return [
    ...enables.map((name) => `enable ${name};`),
    ...Object.entries(aliases).map(([name, type]) => `alias ${name} = ${type};`),
    ...Object.entries(constants).map(([name, value]) =>
      typeof value === "boolean" ? `const ${name}: bool = ${String(value)};` : `const ${name}: u32 = ${value}u;`,
    ),
  ];
}

/** Names a specialisation, for caches and messages. */
export function specialisationKey({ kernel, constants, aliases, enables }: Specialisation): string {
  let key = kernel;
  for (const name in constants) key += ` ${name}=${String(constants[name])}`;
  for (const name in aliases) key += ` ${name}=${aliases[name] ?? ""}`;
  if (enables !== undefined && enables.length > 0) key += ` enable ${enables.join(",")}`;
  return key;
}

export class Pipelines {
  readonly #device: GPUDevice;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, { readonly layout: GPUBindGroupLayout; readonly pipeline: GPUPipelineLayout; readonly id: number }>();
  readonly #onError: (error: DeviceError) => void;
  readonly #rewrite: (code: string) => string;
  /** Pipelines of which it is not known yet whether they compiled. */
  readonly #checks = new Set<Promise<void>>();

  /**
   * @param sources WGSL text by stem @param onError told of pipelines that failed to compile, which happens after `get` has returned
   * @param rewrite the last word on what is compiled; lines must keep their numbers
   */
  constructor(
    device: GPUDevice,
    sources: ReadonlyMap<string, string>,
    onError: (error: DeviceError) => void,
    rewrite: (code: string) => string = (code) => code,
  ) {
    this.#rewrite = rewrite;
    this.#device = device;
    this.#onError = onError;
    this.#sources = sources;
  }

  /** Resolves when it is known of every pipeline whether it compiled. */
  async settled(): Promise<void> {
    await Promise.all(this.#checks);
  }

  get count(): number {
    return this.#pipelines.size;
  }

  has(specialisation: Specialisation): boolean {
    return this.#pipelines.has(specialisationKey(specialisation));
  }

  /** The pipeline, compiled now if it is new. */
  get(specialisation: Specialisation): Pipeline {
    const key = specialisationKey(specialisation);
    const known = this.#pipelines.get(key);
    if (known !== undefined) return known;
    const text = moduleOf(specialisation, this.#sources);
    this.#device.pushErrorScope("validation");
    const { descriptor, explained, parts } = this.#describe(specialisation, text);
    const pipeline = this.#device.createComputePipeline(descriptor);
    const check = this.#device.popErrorScope().then(
      async (error) => {
        if (error !== null) this.#onError(await explain(explained, error.message));
      },
      () => undefined, // a lost device is reported by itself
    );
    this.#checks.add(check);
    void check.finally(() => this.#checks.delete(check));
    const made = { ...parts, pipeline, key };
    this.#pipelines.set(key, made);
    return made;
  }

  /**
   * Compiles without stopping the program.
   * @throws DeviceError that quotes the line.
   */
  async prepare(specialisation: Specialisation): Promise<void> {
    const key = specialisationKey(specialisation);
    if (this.#pipelines.has(key)) return;
    const text = moduleOf(specialisation, this.#sources);
    this.#device.pushErrorScope("validation");
    const { descriptor, explained, parts } = this.#describe(specialisation, text);
    const scope = this.#device.popErrorScope();
    try {
      const pipeline = await this.#device.createComputePipelineAsync(descriptor);
      if (!this.#pipelines.has(key)) this.#pipelines.set(key, { ...parts, pipeline, key });
    } catch (error) {
      await scope.catch(() => null);
      throw await explain(explained, error instanceof Error ? error.message : String(error));
    }
    const invalid = await scope;
    if (invalid !== null) throw await explain(explained, invalid.message);
  }

  /**
   * Compiles the WGSL only, whatever the adapter's limits.
   * @throws DeviceError that quotes the line.
   */
  async check(specialisation: Specialisation): Promise<void> {
    const text = moduleOf(specialisation, this.#sources);
    this.#device.pushErrorScope("validation");
    const explained = this.#module(specialisation, text);
    const error = await this.#device.popErrorScope();
    if (error !== null) throw await explain(explained, error.message);
  }

  #module(specialisation: Specialisation, { lines }: Module): Explained {
    const code = this.#rewrite([...prologue(specialisation), ...lines.map(({ text }) => withSize(text, specialisation))].join("\n"));
    const label = specialisationKey(specialisation);
    return { specialisation, lines, module: this.#device.createShaderModule({ code, label, ...strict }) };
  }

  #describe(specialisation: Specialisation, text: Module) {
    const explained = this.#module(specialisation, text);
    const { layout, pipeline, id } = this.#layoutFor(text.writes);
    return {
      explained,
      descriptor: {
        layout: pipeline,
        compute: { module: explained.module, entryPoint: "main" },
        label: specialisationKey(specialisation),
      },
      parts: { layout, layoutId: id, writes: text.writes },
    };
  }

  #layoutFor(writes: readonly boolean[]) {
    const key = writes.map((write) => (write ? "w" : "r")).join("");
    let entry = this.#layouts.get(key);
    if (entry === undefined) {
      const layout = this.#device.createBindGroupLayout({
        entries: [
          ...writes.map((write, binding) => ({
            binding,
            visibility: computeStage,
            buffer: { type: write ? ("storage" as const) : ("read-only-storage" as const) },
          })),
          // The parameters: in the same group, since setting a second one costs a quarter of a dispatch.
          { binding: writes.length, visibility: computeStage, buffer: { type: "uniform", hasDynamicOffset: true } },
        ],
      });
      const pipeline = this.#device.createPipelineLayout({ bindGroupLayouts: [layout] });
      entry = { layout, pipeline, id: this.#layouts.size };
      this.#layouts.set(key, entry);
    }
    return entry;
  }
}

interface Explained {
  readonly specialisation: Specialisation;
  readonly module: GPUShaderModule;
  readonly lines: readonly TextLine[];
}

/** The compiler's complaint with the file's own line numbers, and the line itself. */
async function explain({ specialisation, module, lines }: Explained, message: string): Promise<DeviceError> {
  const before = prologue(specialisation).length;
  const info = await module.getCompilationInfo().catch(() => null);
  const first = info?.messages.find(({ type }) => type === "error");
  const line = first === undefined ? undefined : lines[first.lineNum - 1 - before];
  const where = line === undefined ? `kernels/wgsl/${specialisation.kernel}.wgsl` : `kernels/wgsl/${line.file}.wgsl:${line.line}`;
  return new DeviceError({
    where,
    what: `does not compile: ${first?.message ?? message}`,
    ...(line === undefined ? {} : { hint: `${line.text}\n  in ${specialisationKey(specialisation)}` }),
  });
}
