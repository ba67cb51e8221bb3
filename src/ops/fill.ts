/** Sets every element. */
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDtype } from "./check.ts";

/** y = value, in place; y f32. @throws ShapeError for another type. */
export function fill(y: Tensor, value: number): void {
  expectDtype("fill", "y", y, "f32");
  runKernel("fill", { value }, [], [y]);
}
