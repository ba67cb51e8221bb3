// The arithmetic that AdamW's kernels share, four elements at a time.
//
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101
import { madd } from "./math";

// beta * old + rest * x, with rest = 1 - beta
// @ts-ignore: decorator
@inline export function moment(beta: v128, old: v128, rest: v128, x: v128): v128 { return madd(rest, x, f32x4.mul(beta, old)); }
// p * keep + rate * m / (|v|^(1/2) * root + eps), with keep = 1 - lr weightDecay, rate = -lr / correction1, root = correction2^(-1/2)
// @ts-ignore: decorator
@inline export function step(p: v128, m: v128, rootOfV: v128, keep: v128, rate: v128, root: v128, eps: v128): v128 {
  return madd(rate, f32x4.div(m, madd(rootOfV, root, eps)), f32x4.mul(p, keep));
}
