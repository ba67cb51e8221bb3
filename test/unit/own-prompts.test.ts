import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { direct } from "../../src/agent/dialects/direct.ts";
import { rag } from "../../src/agent/dialects/rag.ts";
import { zerosearch } from "../../src/agent/dialects/zerosearch.ts";
import { checkText, promptOf, withoutText } from "../../src/agent/prompts.ts";
import { findKey } from "../../src/config/keys.ts";
import { portable, readOverride, resolveConfig, type Config } from "../../src/config/index.ts";
import { hashInputs } from "../../src/run/inputs.ts";
import { simulatorTemplateOf } from "../../src/search/simulator-prompt.ts";
import { promptSettings } from "../../src/setup/open-agents.ts";
import { promptSet } from "../../src/data/prompt-set.ts";
import type { ChatTemplate } from "../../src/text/chat-template.ts";
import { ours, partsOf, promptText, type Prompt } from "../../src/text/prompt.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-prompts-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const write = (name: string, text: string | Uint8Array): string => {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
};
const asking = (prompt: string) => promptSettings({ model: { chatTemplate: null }, rollout: { prompt } } as Config, { chatTemplate: null });
const configured = (...settings: string[]): Config =>
  resolveConfig(["model.policy=x", "data.train=y", "simulator.path=z", ...settings].map(readOverride));

describe("rollout.prompt as a file", () => {
  it("is the words of the method's dialect, byte for byte, and the baselines keep theirs", () => {
    const prompts = asking(write("prompt.md", "# Ask\n\nBraces {stay}. Q: {question}\n\n"));
    expect(promptText(promptOf(zerosearch, { question: " Who <answer> " }, prompts))).toBe("# Ask\n\nBraces {stay}. Q: Who [answer]?\n\n");
    expect(promptText(promptOf(direct, { question: "Who" }, withoutText(prompts)))).toBe(
      promptText(promptOf(direct, { question: "Who" }, asking("paper"))),
    );
  });

  it("goes through the policy's chat template as the paper's prompt does", () => {
    const renderPrompt = ([message]: readonly { content: Prompt }[]) => [ours("<user>"), ...partsOf(message!.content), ours("</user>")];
    const chatTemplate = { renderPrompt } as unknown as ChatTemplate;
    const prompts = promptSettings({ model: { chatTemplate: null }, rollout: { prompt: write("chat.txt", "{question}") } } as Config, {
      chatTemplate,
    });
    expect(promptText(promptOf(zerosearch, { question: "Who" }, prompts))).toBe("<user>Who?</user>");
  });

  it("without {question} is an error that names the file", () => {
    const file = write("none.md", "Answer: {Question}");
    expect(() => asking(file)).toThrow(`rollout.prompt=${file}: has no {question}; expected {question} where it is to stand`);
  });

  it("has {documents} where the method shows some before it asks, and nowhere else", () => {
    const [without, both] = [write("without.md", "{question}"), write("both.md", "{documents} {question}")];
    expect(() => checkText(rag, asking(without))).toThrow(`rollout.prompt=${without}: has no {documents}; expected {documents} where rag`);
    expect(() => checkText(zerosearch, asking(both))).toThrow(
      `rollout.prompt=${both}: has {documents}, and zerosearch has none before it is asked`,
    );
    checkText(rag, asking(both));
    checkText(zerosearch, asking(without));
    expect(promptText(promptOf(rag, { question: "Who?", documents: "Doc 1: x" }, asking(both)))).toBe("Doc 1: x Who?");
  });

  it("is refused by a dialect that reads no text but its own", () => {
    const deaf = { ...zerosearch, name: "deaf", prompt: () => [ours("always this")] };
    expect(() => checkText(deaf, asking(write("unread.md", "{question}")))).toThrow(
      "the dialect deaf has its own words and takes no others; expected paper",
    );
  });

  it("that is missing, or no text, is an error that names it", () => {
    expect(() => asking("./nowhere.md")).toThrow("./nowhere.md: there is no such prompt; expected a text in UTF-8");
    const file = write("latin1.md", Uint8Array.of(0x7b, 0xe9, 0x7d));
    expect(() => asking(file)).toThrow(`${file}: cannot be read as a prompt`);
  });

  it("is told from a misspelt name", () => {
    expect(configured("rollout.prompt=./my-prompt.md").rollout.prompt).toBe("./my-prompt.md");
    for (const wrong of ["papr", "my-prompt.md", "./my-prompt.js"])
      expect(() => configured(`rollout.prompt=${wrong}`)).toThrow(
        `wrong value for rollout.prompt; expected one of paper, quickstart, or a text file such as ./my-prompt.md, got "${wrong}"`,
      );
    expect(findKey("reward.kind")?.expected).toContain("or a module such as ./my-module.js");
  });

  it("is hashed into the receipt, and a name is never taken for a file", async () => {
    const file = write("hashed.md", "{question}");
    expect(await hashInputs(configured(`rollout.prompt=${file}`))).toHaveProperty(["rollout.prompt"]);
    const before = process.cwd();
    process.chdir(join(import.meta.dirname, "../../configs"));
    try {
      // There is a folder of that name here.
      expect(await hashInputs(configured())).not.toHaveProperty(["rollout.prompt"]);
      expect(portable(configured())).toMatchObject({ rollout: { prompt: "paper" } });
    } finally {
      process.chdir(before);
    }
  });
});

describe("simulator.prompt as a file", () => {
  it("has a place for query and kind, or is an error that names it", () => {
    const file = write("simulator.md", "{Kind} documents for {query}, {kind}");
    expect(simulatorTemplateOf(file, promptSet)).toMatchObject({ useful: "{Kind} documents for {query}, {kind}" });
    const wrong = write("wrong.md", "{kind} documents");
    expect(() => simulatorTemplateOf(wrong, promptSet)).toThrow(
      `simulator.prompt=${wrong}: a placeholder is missing; expected {query}, got "{kind} documents"`,
    );
  });
});
