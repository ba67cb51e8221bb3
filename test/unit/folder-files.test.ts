import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configWithDtype, copyCompanions, planShards, refuseForeign, shardIndex, withField } from "../../src/checkpoint/folder-files.ts";
import { FileError } from "../../src/util/errors.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "folder-files-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

describe("config.json with another type of the weights", () => {
  for (const [before, after] of [
    ['{"a": 1.0,\n "torch_dtype": "float32" , "b": [ ]}\n', '{"a": 1.0,\n "torch_dtype": "bfloat16" , "b": [ ]}\n'],
    ['{"dtype":null}', '{"dtype":"bfloat16"}'],
    ['{"torch_dtype": "x", "dtype": "y"}', '{"torch_dtype": "bfloat16", "dtype": "bfloat16"}'],
    ['{"text": {"torch_dtype": "float32"}}', '{"text": {"torch_dtype": "float32"}, "torch_dtype": "bfloat16"}'],
    ['{"say": "\\"torch_dtype\\": \\"float32\\"}"}', '{"say": "\\"torch_dtype\\": \\"float32\\"}", "torch_dtype": "bfloat16"}'],
    ['{\n  "a": 1e-05\n}\n', '{\n  "a": 1e-05,\n  "torch_dtype": "bfloat16"\n}\n'],
    ["{}", '{"torch_dtype": "bfloat16"}'],
  ] as const)
    it(`keeps every other byte of ${JSON.stringify(before)}`, () => {
      expect(configWithDtype(before, "bf16", "config.json")).toBe(after);
    });

  it("is refused for what is no JSON object, and for a name that comes twice", () => {
    for (const text of ["", "[]", '{"a": }', '{"a": 1} 2', '{"a": 1, "a": 2}'])
      expect(() => withField(text, "a", "3", "config.json"), text).toThrow(FileError);
  });
});

describe("weight files", () => {
  const sized = (...bytes: readonly number[]): { name: string; bytes: number }[] => bytes.map((one, i) => ({ name: `t${i}`, bytes: one }));
  const names = (sizes: readonly number[], most: number): string[] =>
    planShards(sized(...sizes), most).map(({ file, tensors, bytes }) => `${file}: ${tensors.map(({ name }) => name).join(" ")} = ${bytes}`);

  it("take tensors in order, up to the limit and not beyond, and a larger tensor alone", () => {
    expect(names([3, 4, 3], 10)).toEqual(["model.safetensors: t0 t1 t2 = 10"]);
    expect(names([3, 4, 4, 25, 1], 10)).toEqual([
      "model-00001-of-00004.safetensors: t0 t1 = 7",
      "model-00002-of-00004.safetensors: t2 = 4",
      "model-00003-of-00004.safetensors: t3 = 25",
      "model-00004-of-00004.safetensors: t4 = 1",
    ]);
  });

  it("are listed in an index as transformers writes it: sorted names, all bytes", () => {
    const shards = planShards([...sized(3, 4), { name: "a", bytes: 9 }], 10);
    expect(shardIndex(shards)).toBe(
      `${JSON.stringify(
        {
          metadata: { total_size: 16 },
          weight_map: {
            a: "model-00002-of-00002.safetensors",
            t0: "model-00001-of-00002.safetensors",
            t1: "model-00001-of-00002.safetensors",
          },
        },
        null,
        2,
      )}\n`,
    );
  });
});

describe("a model's small files", () => {
  it("are copied through links, with chat templates, and without what is not theirs", async () => {
    const [from, to] = [join(folder, "from"), join(folder, "to")];
    for (const place of [join(from, "additional_chat_templates"), join(from, "LICENSE.d"), join(from, "NOTICE"), to])
      await mkdir(place, { recursive: true });
    await writeFile(join(folder, "blob"), "{ }\r\n");
    await symlink(join(folder, "blob"), join(from, "tokenizer.json"));
    for (const name of ["vocab.json", "LICENSE", "README.md", "config.json", "model.safetensors", "optimizer.pt"])
      await writeFile(join(from, name), name);
    await writeFile(join(from, "additional_chat_templates", "tool_use.jinja"), "{{ x }}");
    const copied = ["LICENSE", "tokenizer.json", "vocab.json", "additional_chat_templates/tool_use.jinja"];
    expect(await copyCompanions(from, to)).toEqual(copied);
    expect((await readdir(to)).sort()).toEqual(["LICENSE", "additional_chat_templates", "tokenizer.json", "vocab.json"]);
    expect(await readFile(join(to, "tokenizer.json"), "utf8")).toBe("{ }\r\n");
  });

  it("are all that may stand where a folder is replaced", async () => {
    const place = join(folder, "place");
    const check = (): Promise<void> => refuseForeign(place, (name) => name === "ours", "ours");
    await check();
    await mkdir(place);
    await check();
    await writeFile(join(place, "ours"), "");
    await check();
    for (let i = 0; i < 6; i++) await writeFile(join(place, `theirs${i}`), "");
    await expect(check()).rejects.toThrow(/will not be replaced.*got theirs0, theirs1, theirs2, theirs3 and 2 more/);
  });
});
