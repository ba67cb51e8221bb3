/** What a data file is, by its first bytes: names lie, and a download that failed often left a page of HTML under the right one. */
import { isUtf8 } from "node:buffer";

/** How many bytes of a file are enough to tell. */
export const HEAD_BYTES = 4096;

/** `lines`: JSON Lines. `list`: one JSON list. `empty`: nothing but blanks. */
export type FileKind = "lines" | "list" | "parquet" | "gzip" | "zstd" | "empty" | OtherKind;

/** A kind that holds no rows that can be read here. */
export interface OtherKind {
  /** With its article: "a zip archive". */
  readonly is: string;
  readonly hint?: string | undefined;
}

const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

/** The text without the mark that some editors put before UTF-8. */
export function withoutBom(head: Buffer): Buffer {
  return head.subarray(0, 3).equals(BOM) ? head.subarray(3) : head;
}

/** First bytes of files, as latin1, and what they are. */
const signatures: readonly (readonly [string, FileKind])[] = [
  ["PAR1", "parquet"],
  ["\x1f\x8b", "gzip"],
  ["\x28\xb5\x2f\xfd", "zstd"],
  ["PARE", { is: "an encrypted parquet file" }],
  ["PK\x03\x04", { is: "a zip archive", hint: "Unpack it, and name the file inside." }],
  ["BZh", { is: "a bzip2 archive", hint: "Unpack it: bunzip2 FILE." }],
  ["\xfd7zXZ\0", { is: "an xz archive", hint: "Unpack it: unxz FILE." }],
  ["7z\xbc\xaf\x27\x1c", { is: "a 7z archive", hint: "Unpack it, and name the file inside." }],
  ["\x04\x22\x4d\x18", { is: "an lz4 archive", hint: "Unpack it: unlz4 FILE." }],
  ["SQLite format 3\0", { is: "an SQLite database" }],
  ["ARROW1", { is: "an Arrow file", hint: "datasets writes the same rows as parquet: dataset.to_parquet(FILE)." }],
  ["\xff\xff\xff\xff", { is: "an Arrow stream", hint: "datasets writes the same rows as parquet: dataset.to_parquet(FILE)." }],
  ["ORC", { is: "an ORC file" }],
  ["Obj\x01", { is: "an Avro file" }],
  ["\x80\x02", { is: "a Python pickle" }],
  ["\x80\x03", { is: "a Python pickle" }],
  ["\x80\x04", { is: "a Python pickle" }],
  ["\x80\x05", { is: "a Python pickle" }],
  ["\x93NUMPY", { is: "a NumPy array" }],
  ["\x89HDF", { is: "an HDF5 file" }],
  ["%PDF", { is: "a PDF" }],
  ["GGUF", { is: "a GGUF model" }],
  ["\xff\xfe", { is: "text in UTF-16", hint: "Save it as UTF-8: iconv -f UTF-16 -t UTF-8." }],
  ["\xfe\xff", { is: "text in UTF-16", hint: "Save it as UTF-8: iconv -f UTF-16 -t UTF-8." }],
  [
    "version https://git-lfs.github.com/spec/",
    { is: "a pointer of Git LFS, not the file itself", hint: "Fetch the file: git lfs pull; or name it as hf://datasets/OWNER/NAME/FILE." },
  ],
];

/** @param head - the first bytes of a file; at least `HEAD_BYTES`, or all there are */
export function kindOf(head: Buffer): FileKind {
  const latin1 = head.toString("latin1");
  const known = signatures.find(([signature]) => latin1.startsWith(signature));
  if (known !== undefined) return known[1];
  if (latin1.slice(257, 262) === "ustar") return { is: "a tar archive", hint: "Unpack it, and name the file inside." };
  const text = withoutBom(head).toString("latin1").trimStart();
  if (text === "") return head.length < HEAD_BYTES ? "empty" : "lines";
  // No JSON has a zero byte in it.
  if (text.includes("\0")) return /^[{[]\0|^\0/.test(text) ? { is: "text in UTF-16, or binary data" } : { is: "binary data" };
  if (text.startsWith("{")) return "lines";
  if (text.startsWith("[")) return "list";
  return textKind(text, head);
}

function textKind(text: string, head: Buffer): OtherKind {
  if (/^<(?:!doctype html|html|head|body)/i.test(text))
    return { is: "an HTML page", hint: "A login or error page was saved in place of the file: download it again." };
  if (text.startsWith("<")) return { is: "an XML file" };
  const separator = separatorOf(text);
  if (separator !== null)
    return {
      is: `a ${separator === "\t" ? "TSV" : "CSV"} file`,
      hint: 'Write each row as a line: {"question": "...", "golden_answers": ["..."]}.',
    };
  // The end of the head may be in the middle of a letter.
  return isUtf8(head) || isUtf8(head.subarray(0, -3)) ? { is: "text that is no JSON" } : { is: "binary data" };
}

/** What separates the names of columns in the first line, where it looks like such names: two or more, short, without sentences' marks. */
function separatorOf(text: string): string | null {
  const line = text.split("\n", 1)[0]?.trimEnd() ?? "";
  return (
    ["\t", ",", ";"].find((separator) => {
      const names = line.split(separator);
      return names.length >= 2 && names.every((name) => /^"?[\w .-]{0,40}"?$/.test(name));
    }) ?? null
  );
}
