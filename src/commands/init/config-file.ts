/** The configuration of a new project: configs/qwen2.5-0.5b-lora.yaml with other names and data in it, comments and all. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isScalar, parseDocument, type Document } from "yaml";
import { packageFolder, resolveConfig, type Config, type Tree } from "../../config/index.ts";
import { isUrl, type Answers } from "./answers.ts";

export interface Project {
  /** Of the run. */
  readonly name: string;
  /** The file's own place, as commands will name it. */
  readonly file: string;
  readonly answers: Answers;
  readonly data: { readonly train: string; readonly validation: string; readonly test: string; readonly corpus: string | null };
  /** Training questions there are. */
  readonly trainingQuestions: number;
}

export class ConfigFile {
  readonly #document: Document;

  constructor(project: Project) {
    const text = readFileSync(join(packageFolder, "configs", "qwen2.5-0.5b-lora.yaml"), "utf8");
    this.#document = parseDocument(text);
    this.#fill(project);
  }

  /** Sets a key, `train.steps`; null takes it out. The comment is the reason, without which the old one stays. */
  set(key: string, value: string | number | boolean | null, comment?: string): void {
    const path = key.split(".");
    const node: unknown = this.#document.getIn(path, true);
    if (value === null) this.#document.deleteIn(path);
    else {
      const scalar = isScalar(node) ? node : this.#document.createNode(value);
      scalar.value = value;
      if (comment !== undefined) scalar.comment = ` ${comment}`;
      this.#document.setIn(path, scalar);
    }
  }

  get text(): string {
    return this.#document.toString({ lineWidth: 0 });
  }

  /** @throws ConfigError */
  config(): Config {
    return resolveConfig([{ tree: this.#document.toJS() as Tree, locate: () => undefined }]);
  }

  #fill({ name, file, answers, data, trainingQuestions }: Project): void {
    const { model, simulator, "gpu-memory": memory } = answers;
    const program = `npx zerosearch train --config ${file}`;
    this.#document.commentBefore = [
      ` Written by \`npx zerosearch init\`: ${model} learns by LoRA to search for answers. Start it with \`${program}\`.`,
      " Every setting may be changed here, or behind the command as key=value; `npx zerosearch train --help all` lists them all.",
      " Paths are relative to the folder that commands are typed in. Where the comments name sources: the paper (arXiv 2505.04588), its",
      " script, TRL's page on LoRA Without Regret, and ours.",
    ].join("\n");
    this.set("name", name);
    this.set("model.policy", model, "what learns");
    if (!/0\.5B/i.test(model)) this.#otherSize();
    if (Number(memory) > 0) this.set("device.memoryGiB", Number(memory), "what the plan (--dry-run) measures against");
    else {
      this.set("device.kind", "cpu", "there is no GPU; models of half a billion parameters take minutes for a rollout");
      this.set("device.memoryGiB", null);
    }
    this.#simulator(model, simulator);
    const few = trainingQuestions < Number(this.#document.getIn(["train", "questionsPerStep"]));
    if (few) this.set("train.questionsPerStep", trainingQuestions, "as many as data.train has; 16 where there are more");
    for (const part of ["train", "validation", "test"] as const) this.set(`data.${part}`, data[part]);
    this.set("data.corpus", data.corpus);
    if (data.corpus === null)
      this.set("evaluation.engine", "simulated", "there is no corpus; bm25 and data.corpus judge by a real search engine");
  }

  /** What the preset says of Qwen2.5-0.5B alone. */
  #otherSize(): void {
    const { document } = { document: this.#document };
    const same = (key: string): number => Number(document.getIn(key.split(".")));
    this.set("lora.rank", same("lora.rank"), "TRL: even rank 1 holds the little that a reward tells");
    this.set("rollout.maxNewTokens", 500, "script, for models of 3B and more");
    this.set("rollout.maxContextTokens", 4096, "a prompt of 200, three searches of about 1,000, and a last turn");
    this.set("rollout.cacheMiB", same("rollout.cacheMiB"), "more decodes more rollouts at once");
    this.set("optimizer.learningRate", 1e-5, "the paper's 1e-6 times 10 for LoRA (TRL)");
  }

  #simulator(model: string, simulator: string): void {
    if (simulator === "same") this.set("simulator.path", model, "the model that learns: one copy of the weights serves both");
    else if (isUrl(simulator)) {
      this.set("simulator.path", null);
      this.set("simulator.endpoint", simulator, "an OpenAI-compatible server; simulator.endpointModel names the model there");
    } else {
      this.set("simulator.path", simulator, "a model of its own beside the policy");
      // The paper's own were tuned for the task, and know its prompt.
      if (/Simulation_LLM/i.test(simulator)) this.set("simulator.prompt", "paper", "what simulators that were tuned for it are asked");
    }
  }
}
