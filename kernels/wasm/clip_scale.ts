// clip_scale: result = [norm, scale]: norm = sqrt(sum of acc's first `count`) / gradScale,
//             scale = min(1, maxNorm / (norm + 1e-6)) / gradScale; 1 / gradScale where maxNorm is 0
//
// Source    Pascanu et al. 2013, arXiv:1211.5063; the 1e-6 is PyTorch's clip_grad_norm_
// Shapes    acc [1, slots]   result [1, 2]
// Items     one
// Numerics  f64, rounded once. A norm that is not finite makes both NaN, which adamw takes as "leave everything as it was"
import { dim, dimI, tensor, rowPtr } from "./lib/call";

export function clip_scale_items(args: usize, phase: i32): i32 { return phase == 0 ? 1 : -1; }

export function clip_scale_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const acc = rowPtr(tensor(args, 3, 0), 0), result = rowPtr(tensor(args, 3, 1), 0), maxNorm = dim(args, 1), gradScale = dim(args, 2);
  let sum: f64 = 0;
  for (let i = 0; i < dimI(args, 0); i++) sum += <f64>load<f32>(acc + (<usize>i << 2));
  const norm = sqrt<f64>(sum) / gradScale;
  const finite = isFinite<f64>(norm);
  store<f32>(result, finite ? <f32>norm : f32.NaN);
  store<f32>(result, !finite ? f32.NaN : <f32>((maxNorm == 0 ? 1 : min<f64>(1, maxNorm / (norm + 1e-6))) / gradScale), 4);
}
