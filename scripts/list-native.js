#!/usr/bin/env node
/**
 * Lists the machine code of the CPU device as instructions: `node scripts/list-native.js [AVX2|AVX-512] [sysv|win64]`, after
 * `npm run build`. objdump (binutils) disassembles; without it the bytes are printed.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attendBackwardCode } from "../dist/device/cpu/native/attend-backward.js";
import { attendCode } from "../dist/device/cpu/native/attend.js";
import { featureCode } from "../dist/device/cpu/native/features.js";
import { packCode, packColumnsCode } from "../dist/device/cpu/native/pack.js";
import { rowCode } from "../dist/device/cpu/native/rows.js";
import { productCode } from "../dist/device/cpu/native/products.js";

const [set = "AVX2", abi = "sysv"] = process.argv.slice(2);
if (!["AVX2", "AVX-512"].includes(set) || !["sysv", "win64"].includes(abi)) {
  console.error("usage: node scripts/list-native.js [AVX2|AVX-512] [sysv|win64]");
  process.exit(2);
}
for (const [name, code] of Object.entries({
  features: featureCode(abi),
  packRows: packCode(abi),
  packColumns: packColumnsCode(abi),
  rows: rowCode(abi),
  products: productCode(set, abi),
  attend: attendCode(set, abi),
  attendBackward: attendBackwardCode(set, abi),
})) {
  console.log(`== ${name}, ${set}, ${abi}: ${code.length} bytes, SHA-256 ${createHash("sha256").update(code).digest("hex")}`);
  console.log(disassemble(code));
}

function disassemble(code) {
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-native-"));
  try {
    const file = join(folder, "code.bin");
    writeFileSync(file, code);
    const { status, stdout } = spawnSync("objdump", ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", file], { encoding: "utf8" });
    if (status === 0) return stdout.slice(stdout.indexOf("<.data>:") + 8).trimStart();
  } finally {
    rmSync(folder, { recursive: true });
  }
  return Buffer.from(code).toString("hex").replace(/.{64}/g, "$&\n");
}
