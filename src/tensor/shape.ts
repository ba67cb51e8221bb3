/**
 * Shapes, and how they fold into the two dimensions of a storage: [n] is 1 x n, [N, C] is N x C, higher ranks keep the first
 * dimension as rows.
 */
import { ShapeError } from "../util/errors.ts";

export type Shape = readonly number[];

export function elements(shape: Shape): number {
  let product = 1;
  for (const n of shape) product *= n;
  return product;
}

/** Rows of the storage of this shape. */
export function foldedRows(shape: Shape): number {
  return shape.length < 2 ? 1 : shape[0]!;
}

/** Columns of the storage of this shape. */
export function foldedCols(shape: Shape): number {
  if (shape.length < 2) return shape[0] ?? 1;
  return elements(shape.slice(1));
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** @throws ShapeError unless every dimension is a positive integer. */
export function checkShape(where: string, shape: Shape): void {
  if (shape.length === 0 || shape.some((n) => !Number.isInteger(n) || n < 1))
    throw new ShapeError({ where, what: "not a shape", expected: "one or more positive integers", got: formatShape(shape) });
}
