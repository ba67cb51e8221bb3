/** The bytes of a file piece by piece, unpacked where it is packed; memory does not grow with the file. */
import { createReadStream } from "node:fs";
import { pipeline, type Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { Decompress } from "fzstd";
import { FileError } from "../util/errors.ts";

export type Packing = "gzip" | "zstd" | null;

/** Of a piece read from disk. */
const PIECE = 2 ** 18;
/** Of what is given to the zstd decoder at once: four bytes can stand for a block of 128 KiB. */
const ZSTD_PIECE = 1024;

/**
 * @param onRead - told how many bytes of the file have been read
 * @throws FileError where the file cannot be read, or what is packed is damaged or cut off.
 */
export async function* unpackedChunks(file: string, packing: Packing, onRead?: (bytes: number) => void): AsyncGenerator<Buffer> {
  const source = createReadStream(file, { highWaterMark: PIECE });
  const gunzip = (): AsyncIterable<Buffer> => pipeline(source, createGunzip({ chunkSize: PIECE }), () => undefined);
  try {
    for await (const chunk of packing === "zstd" ? unzstd(source) : packing === "gzip" ? gunzip() : (source as AsyncIterable<Buffer>)) {
      onRead?.(source.bytesRead);
      yield chunk;
    }
  } catch (cause) {
    const { code, syscall, message } = cause as NodeJS.ErrnoException;
    if (cause instanceof FileError) throw cause;
    if (packing === null || (code !== undefined && syscall !== undefined))
      throw new FileError({ where: file, what: "cannot be read", got: message }, { cause });
    throw new FileError({ where: file, what: `its ${packing} data is damaged or cut off`, got: message }, { cause });
  } finally {
    source.destroy();
  }
}

async function* unzstd(source: Readable): AsyncGenerator<Buffer> {
  let out: Uint8Array[] = [];
  const decoder = new Decompress((piece) => out.push(piece));
  for await (const chunk of source as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += ZSTD_PIECE) {
      decoder.push(new Uint8Array(chunk.buffer, chunk.byteOffset + at, Math.min(ZSTD_PIECE, chunk.length - at)));
      const pieces = out;
      out = [];
      for (const { buffer, byteOffset, byteLength } of pieces) if (byteLength > 0) yield Buffer.from(buffer, byteOffset, byteLength);
    }
  }
  decoder.push(new Uint8Array(0), true);
  for (const piece of out) if (piece.length > 0) yield Buffer.from(piece);
}
