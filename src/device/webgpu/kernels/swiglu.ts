/** The gated activation of the MLP and its backward pass. */
import type { KernelHost } from "../kernel.ts";
import { flat } from "./elementwise.ts";

export const swiglu: KernelHost = (context, { inputs: [gate, up], outputs: [y] }) => {
  flat(context, [gate!, up!, y!], { kernel: "swiglu" });
};

export const swigluBackward: KernelHost = (context, { inputs: [gate, up, dy], outputs: [dgate, dup] }) => {
  flat(context, [gate!, up!, dy!, dgate!, dup!], { kernel: "swiglu_backward" });
};
