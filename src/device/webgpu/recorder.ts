/**
 * Work on its way to the queue: dispatches and copies are appended to one command encoder as they are asked for, and submitted when
 * somebody wants to read, when the parameter buffer is full, or after so many dispatches that the GPU should start.
 */
import { DeviceError } from "../../util/errors.ts";
import type { PooledBuffer } from "./buffer-pool.ts";
import { bufferUsage } from "./constants.ts";
import type { Dispatch, GpuBuffer } from "./kernel.ts";
import type { Pipeline, Pipelines } from "./pipelines.ts";

/** Bytes from one dispatch's parameters to the next: the largest alignment an adapter may ask for. */
const slotBytes = 256;
/** Dispatches of one submission, at most. */
const slots = 1024;
const maxWords = 60;
const maxBindGroups = 20_000;

/** What a dispatch runs, and its grid. */
interface Launch {
  readonly pipeline: GPUComputePipeline;
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

/** A dispatch as it was encoded, to be encoded again. */
interface CapturedDispatch extends Launch {
  readonly group: GPUBindGroup;
  /** Of its parameters. */
  readonly offset: readonly [number];
}

interface CapturedCopy {
  readonly from: GPUBuffer;
  readonly fromByte: number;
  readonly to: GPUBuffer;
  readonly toByte: number;
  readonly bytes: number;
}

/** Commands in order, with their parameters in a buffer of their own. */
export interface Captured {
  readonly commands: readonly (CapturedDispatch | CapturedCopy)[];
  readonly buffers: readonly PooledBuffer[];
  readonly params: GPUBuffer | null;
}

/** A dispatch on the tape, before it has a bind group. */
interface TapedDispatch extends Launch {
  readonly layout: GPUBindGroupLayout;
  /** Names layout and buffers. */
  readonly key: string;
  readonly buffers: readonly GpuBuffer[];
}

interface Tape {
  readonly commands: (TapedDispatch | CapturedCopy)[];
  readonly buffers: Set<PooledBuffer>;
  words: number[];
}

export interface RecorderCounts {
  dispatches: number;
  submissions: number;
  bindGroupsMade: number;
}

export class Recorder {
  readonly counts: RecorderCounts = { dispatches: 0, submissions: 0, bindGroupsMade: 0 };
  /** Names the recording under way: buffers used in it must not be written by the queue before it is submitted. */
  serial = 0;
  /** Is told of every dispatch. */
  witness: ((pipeline: Pipeline, buffers: readonly GpuBuffer[]) => void) | null = null;
  readonly #device: GPUDevice;
  readonly #pipelines: Pipelines;
  readonly #maxBinding: number;
  /** Parameters of the recording under way. The queue writes them after all that was submitted before has read its own. */
  readonly #params: GPUBuffer;
  readonly #words = new Uint32Array((slots * slotBytes) / 4);
  readonly #floats = new Float32Array(this.#words.buffer);
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  /** Keys of the bind groups that name a buffer, by its id. */
  readonly #groupsOf = new Map<number, string[]>();
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #lastPipeline: GPUComputePipeline | null = null;
  #used = 0;
  #tape: Tape | null = null;

  /** @param maxBinding bytes of a buffer that a kernel may see */
  constructor(device: GPUDevice, pipelines: Pipelines, maxBinding: number) {
    this.#device = device;
    this.#pipelines = pipelines;
    this.#maxBinding = maxBinding;
    this.#params = device.createBuffer({ size: slots * slotBytes, usage: bufferUsage.uniform | bufferUsage.copyDst, label: "parameters" });
  }

  dispatch(dispatch: Dispatch): void {
    const { grid, uints = [], floats = [], buffers } = dispatch;
    if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return;
    const pipeline = this.#pipelines.get(dispatch);
    if (buffers.length !== pipeline.writes.length)
      throw new DeviceError({
        where: `dispatch of ${pipeline.key}`,
        what: "wrong number of buffers",
        expected: String(pipeline.writes.length),
        got: String(buffers.length),
      });
    if (grid[0] > 65535 || grid[1] > 65535 || grid[2] > 65535 || uints.length + floats.length > maxWords)
      throw new DeviceError({
        where: `dispatch of ${pipeline.key}`,
        what: "the grid or the parameters are too large",
        expected: `at most 65535 workgroups a dimension and ${maxWords} words`,
        got: `${grid.join(" x ")}, ${uints.length + floats.length} words`,
      });
    if (this.#used === slots) this.flush();
    this.witness?.(pipeline, buffers);
    const pass = this.#passWith(pipeline.pipeline);
    const at = (this.#used * slotBytes) / 4;
    this.#words.set(uints, at);
    this.#floats.set(floats, at + uints.length);
    let key = String(pipeline.layoutId);
    for (const buffer of buffers) {
      key += `,${buffer.id}`;
      (buffer as PooledBuffer).usedIn = this.serial;
    }
    const group = this.#bindGroups.get(key) ?? this.#keepBindGroup(key, pipeline.layout, buffers);
    pass.setBindGroup(0, group, [this.#used * slotBytes]);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    if (this.#tape !== null) {
      const { layout } = pipeline;
      const bound = buffers.map((buffer) => ({ ...buffer })); // a guarded one is bound otherwise when it is taken again
      this.#tape.commands.push({ pipeline: pipeline.pipeline, layout, key, buffers: bound, x: grid[0], y: grid[1], z: grid[2] });
      for (let i = 0; i < slotBytes / 4; i++) this.#tape.words.push(i < uints.length + floats.length ? (this.#words[at + i] ?? 0) : 0);
      for (const buffer of buffers) this.#tape.buffers.add(buffer as PooledBuffer);
    }
    this.#used += 1;
    this.counts.dispatches += 1;
  }

  get capturing(): boolean {
    return this.#tape !== null;
  }

  /** Keeps what `fn` records, beside recording it. */
  capture(fn: () => void): Captured {
    const tape: Tape = { commands: [], buffers: new Set(), words: [] };
    this.#tape = tape;
    try {
      fn();
    } finally {
      this.#tape = null;
    }
    const buffers = [...tape.buffers];
    const words = Uint32Array.from(tape.words);
    let params: GPUBuffer | null = null;
    if (words.length > 0) {
      const usage = bufferUsage.uniform | bufferUsage.copyDst;
      params = this.#device.createBuffer({ size: words.byteLength, usage, label: "captured parameters" });
      this.#device.queue.writeBuffer(params, 0, words);
    }
    const groups = new Map<string, GPUBindGroup>();
    let slot = 0;
    const commands = tape.commands.map((command) => {
      if (!("key" in command)) return command;
      const { pipeline, layout, key, x, y, z } = command;
      const group = groups.get(key) ?? this.#makeBindGroup(layout, command.buffers, params!);
      groups.set(key, group);
      const offset = [slot * slotBytes] as const;
      slot += 1;
      return { pipeline, group, offset, x, y, z };
    });
    return { commands, buffers, params };
  }

  /** Records what `fn` asks for without keeping it. */
  uncaptured(fn: () => void): void {
    const tape = this.#tape;
    this.#tape = null;
    try {
      fn();
    } finally {
      this.#tape = tape;
    }
  }

  /** Encodes captured commands once more, in submissions of `submitEvery`. */
  replay({ commands, buffers }: Captured, submitEvery: number): void {
    let slot = 0;
    for (const command of commands) {
      if ("bytes" in command) {
        this.#endPass().copyBufferToBuffer(command.from, command.fromByte, command.to, command.toByte, command.bytes);
        continue;
      }
      const pass = this.#passWith(command.pipeline);
      pass.setBindGroup(0, command.group, command.offset);
      pass.dispatchWorkgroups(command.x, command.y, command.z);
      slot += 1;
      if (slot % submitEvery === 0) this.flush();
    }
    this.counts.dispatches += slot;
    for (const buffer of buffers) buffer.usedIn = this.serial;
    this.flush();
  }

  /** Copies bytes (multiples of 4) from one buffer to another. */
  copy(from: GpuBuffer, at: number, to: GpuBuffer | { readonly buffer: GPUBuffer }, toAt: number, bytes: number): void {
    const encoder = this.#endPass();
    const fromByte = from.offset + at;
    const toByte = toAt + ("id" in to ? to.offset : 0);
    encoder.copyBufferToBuffer(from.buffer, fromByte, to.buffer, toByte, bytes);
    (from as PooledBuffer).usedIn = this.serial;
    if ("id" in to) (to as PooledBuffer).usedIn = this.serial;
    if (this.#tape === null) return;
    this.#tape.commands.push({ from: from.buffer, fromByte, to: to.buffer, toByte, bytes });
    this.#tape.buffers.add(from as PooledBuffer);
  }

  /** Hands everything recorded to the GPU. */
  flush(): void {
    if (this.#encoder === null) return;
    const encoder = this.#endPass();
    if (this.#used > 0) {
      this.#device.queue.writeBuffer(this.#params, 0, this.#words, 0, (this.#used * slotBytes) / 4);
      this.#used = 0;
    }
    this.#device.queue.submit([encoder.finish()]);
    this.#encoder = null;
    this.serial += 1;
    this.counts.submissions += 1;
  }

  /** Forgets a buffer that is being destroyed. */
  forget({ id }: GpuBuffer): void {
    for (const key of this.#groupsOf.get(id) ?? []) this.#bindGroups.delete(key);
    this.#groupsOf.delete(id);
  }

  #passWith(pipeline: GPUComputePipeline): GPUComputePassEncoder {
    if (this.#pass === null) {
      this.#encoder ??= this.#device.createCommandEncoder();
      this.#pass = this.#encoder.beginComputePass();
      this.#lastPipeline = null;
    }
    if (this.#lastPipeline !== pipeline) this.#pass.setPipeline(pipeline);
    this.#lastPipeline = pipeline;
    return this.#pass;
  }

  #endPass(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = null;
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #keepBindGroup(key: string, layout: GPUBindGroupLayout, buffers: readonly GpuBuffer[]): GPUBindGroup {
    if (this.#bindGroups.size >= maxBindGroups) {
      this.#bindGroups.clear();
      this.#groupsOf.clear();
    }
    const group = this.#makeBindGroup(layout, buffers, this.#params);
    this.#bindGroups.set(key, group);
    for (const { id } of buffers) {
      const keys = this.#groupsOf.get(id);
      if (keys === undefined) this.#groupsOf.set(id, [key]);
      else keys.push(key);
    }
    this.counts.bindGroupsMade += 1;
    return group;
  }

  #makeBindGroup(layout: GPUBindGroupLayout, buffers: readonly GpuBuffer[], params: GPUBuffer): GPUBindGroup {
    return this.#device.createBindGroup({
      layout,
      entries: [
        ...buffers.map(({ buffer, offset, bound }, binding) => ({
          binding,
          resource: { buffer, offset, size: Math.min(bound, this.#maxBinding) },
        })),
        { binding: buffers.length, resource: { buffer: params, offset: 0, size: slotBytes } },
      ],
    });
  }
}
