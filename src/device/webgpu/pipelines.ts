/** Compute pipelines: one per WGSL file and prologue, made once; every one in an error scope. */
import { DeviceError } from "../../util/errors.ts";
import { computeStage } from "./constants.ts";
import type { Dispatch } from "./kernel.ts";

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

/** A WGSL file and what its `var<storage>` lines say. */
interface Source {
  readonly text: string;
  readonly writes: readonly boolean[];
}

const bindingLine = /^\s*@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>/gm;

function parse(stem: string, text: string): Source {
  const writes: boolean[] = [];
  for (const [, binding, access] of text.matchAll(bindingLine)) writes[Number(binding)] = access === "read_write";
  if (writes.length === 0 || Array.from(writes).includes(undefined as unknown as boolean))
    throw new DeviceError({ where: `kernels/wgsl/${stem}.wgsl`, what: "its storage bindings are not numbered 0, 1, 2 ..." });
  return { text, writes };
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
  readonly #sources = new Map<string, Source>();
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, { readonly layout: GPUBindGroupLayout; readonly pipeline: GPUPipelineLayout; readonly id: number }>();
  readonly #onError: (error: DeviceError) => void;
  /** Pipelines of which it is not known yet whether they compiled. */
  readonly #checks = new Set<Promise<void>>();

  /** @param sources WGSL text by stem @param onError told of pipelines that failed to compile, which happens after `get` has returned */
  constructor(device: GPUDevice, sources: ReadonlyMap<string, string>, onError: (error: DeviceError) => void) {
    this.#device = device;
    this.#onError = onError;
    for (const [stem, text] of sources) this.#sources.set(stem, parse(stem, text));
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
    this.#device.pushErrorScope("validation");
    const { descriptor, module, parts } = this.#describe(specialisation, key);
    const pipeline = this.#device.createComputePipeline(descriptor);
    const check = this.#device.popErrorScope().then(
      async (error) => {
        if (error !== null) this.#onError(await this.#explain(specialisation, module, error.message));
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
    this.#device.pushErrorScope("validation");
    const { descriptor, module, parts } = this.#describe(specialisation, key);
    const scope = this.#device.popErrorScope();
    try {
      const pipeline = await this.#device.createComputePipelineAsync(descriptor);
      if (!this.#pipelines.has(key)) this.#pipelines.set(key, { ...parts, pipeline, key });
    } catch (error) {
      await scope.catch(() => null);
      throw await this.#explain(specialisation, module, error instanceof Error ? error.message : String(error));
    }
    const invalid = await scope;
    if (invalid !== null) throw await this.#explain(specialisation, module, invalid.message);
  }

  /**
   * Compiles the WGSL only, whatever the adapter's limits.
   * @throws DeviceError that quotes the line.
   */
  async check(specialisation: Specialisation): Promise<void> {
    this.#device.pushErrorScope("validation");
    const { module } = this.#describe(specialisation, specialisationKey(specialisation));
    const error = await this.#device.popErrorScope();
    if (error !== null) throw await this.#explain(specialisation, module, error.message);
  }

  #describe(specialisation: Specialisation, key: string) {
    const { kernel } = specialisation;
    const source = this.#sources.get(kernel);
    if (source === undefined) throw new DeviceError({ where: `kernel ${kernel}`, what: `kernels/wgsl/${kernel}.wgsl was not loaded` });
    const module = this.#device.createShaderModule({ code: [...prologue(specialisation), source.text].join("\n"), label: key });
    const { layout, pipeline, id } = this.#layoutFor(source.writes);
    return {
      module,
      descriptor: { layout: pipeline, compute: { module, entryPoint: "main" }, label: key },
      parts: { layout, layoutId: id, writes: source.writes },
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

  /** The compiler's complaint with the file's own line numbers, and the line itself. */
  async #explain(specialisation: Specialisation, module: GPUShaderModule, message: string): Promise<DeviceError> {
    const before = prologue(specialisation);
    const lines = [...before, ...(this.#sources.get(specialisation.kernel)?.text ?? "").split("\n")];
    const info = await module.getCompilationInfo().catch(() => null);
    const first = info?.messages.find(({ type }) => type === "error");
    const where = first === undefined || first.lineNum <= before.length ? "" : `:${first.lineNum - before.length}`;
    return new DeviceError({
      where: `kernels/wgsl/${specialisation.kernel}.wgsl${where}`,
      what: `does not compile: ${first?.message ?? message}`,
      ...(first === undefined ? {} : { hint: `${lines[first.lineNum - 1] ?? ""}\n  in ${specialisationKey(specialisation)}` }),
    });
  }
}
