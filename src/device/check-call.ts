/** Checks one kernel call against the table in `kernels.ts`, before an address reaches a kernel. */
import { DeviceError } from "../util/errors.ts";
import { kernels, type KernelName } from "./kernels.ts";
import type { Operands } from "./device.ts";
import { checkShapes } from "./kernel-shapes.ts";

interface Parameter {
  readonly name: string;
  readonly optional: boolean;
  /** `any` float type, or one. */
  readonly dtype: "any" | "f32" | "bf16" | "u32";
}
export interface KernelSignature {
  readonly id: number;
  readonly name: KernelName;
  readonly dims: readonly string[];
  readonly inputs: readonly Parameter[];
  readonly outputs: readonly Parameter[];
}

function parameter(text: string): Parameter {
  const [name = "", ...words] = text.split(" ");
  return {
    name: name.replace("?", ""),
    optional: name.endsWith("?"),
    dtype: (["any", "bf16", "u32"] as const).find((dtype) => words.includes(dtype)) ?? "f32",
  };
}

/** All rows of the table by name; `id` is the row's number. */
const signatures: ReadonlyMap<string, KernelSignature> = new Map(
  Object.entries(kernels).map(([name, row], id) => [
    name,
    {
      id,
      name: name as KernelName,
      dims: row.dims,
      inputs: row.inputs.map(parameter),
      outputs: row.outputs.map(parameter),
    },
  ]),
);

/** The kernel's row. @throws DeviceError if there is none, or counts, null-ness, dtypes, dims or shapes differ from the table, or an output is also an input. */
export function checkCall(name: string, dims: Readonly<Record<string, number>>, inputs: Operands, outputs: Operands): KernelSignature {
  const signature = signatures.get(name);
  if (signature === undefined) throw new DeviceError({ where: "run", what: `there is no kernel ${name}` });
  const where = `kernel ${signature.name}`;
  for (const name of signature.dims) {
    const value = dims[name];
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new DeviceError({ where, what: `dim ${name} is wrong`, expected: "a finite number", got: String(value) });
  }
  for (const name in dims) {
    if (!signature.dims.includes(name))
      throw new DeviceError({ where, what: `there is no dim ${name}`, expected: signature.dims.join(", ") || "none" });
  }
  checkList(where, "input", signature.inputs, inputs);
  checkList(where, "output", signature.outputs, outputs);
  for (const output of outputs) {
    if (output !== null && inputs.includes(output))
      throw new DeviceError({
        where,
        what: `output ${output.label} is also an input`,
        hint: "Outputs never alias inputs; what is read and written is an output marked inout.",
      });
  }
  checkShapes(signature.name, dims, inputs, outputs);
  return signature;
}

function checkList(where: string, kind: string, parameters: readonly Parameter[], storages: Operands): void {
  if (storages.length !== parameters.length) {
    throw new DeviceError({
      where,
      what: `wrong number of ${kind}s`,
      expected: `${parameters.length} (${parameters.map((p) => p.name).join(", ")})`,
      got: String(storages.length),
    });
  }
  parameters.forEach((parameter, i) => {
    const storage = storages[i];
    if (storage === undefined || storage === null) {
      if (!parameter.optional)
        throw new DeviceError({ where, what: `${kind} ${parameter.name} is missing`, expected: "a storage", got: String(storage) });
      return;
    }
    const right = parameter.dtype === "any" ? storage.dtype !== "u32" : storage.dtype === parameter.dtype;
    if (!right)
      throw new DeviceError({
        where,
        what: `${kind} ${parameter.name} (${storage.label}) has the wrong dtype`,
        expected: parameter.dtype === "any" ? "f32, f16 or bf16" : parameter.dtype,
        got: storage.dtype,
      });
  });
}
