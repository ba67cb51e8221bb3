/** `zerosearch evaluate`: judges a policy as a training run does before and after, without training. */
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import {
  argumentsHelp,
  packagedConfig,
  parseArguments,
  readOverride,
  readYaml,
  resolveConfig,
  type ArgumentSpec,
} from "../config/index.ts";
import { evaluationJson } from "../log/report.ts";
import { Closing } from "../setup/closing.ts";
import { documentedRows, evaluationText, judge } from "../run/judge.ts";
import { openRollouts, openRunData } from "../run/open-run.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import { ConfigError } from "../util/errors.ts";

const spec: ArgumentSpec = {
  program: "zerosearch evaluate",
  summary: "Judges a policy on test questions, greedy, with a real search engine, beside direct answers and RAG with the same model.",
  options: {
    config: { value: "FILE", doc: "YAML file as for training (configs/quickstart.yaml where it is left out)." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    when: { value: "WHEN", doc: "What the rows say of the policy: before or after training (after)." },
    json: { value: "FILE", doc: "Writes the rows there, as evaluation.json of a run." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const { options, settings } = parseArguments(argv, spec);
  if (options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  const device = options.get("device");
  const overrides = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])].map(readOverride);
  const config = resolveConfig([...readYaml(options.get("config") ?? packagedConfig("quickstart")), ...overrides]);
  const when = options.get("when") ?? "after";
  if (when !== "before" && when !== "after") {
    throw new ConfigError({ where: "--when", what: "wrong value", expected: "before or after", got: when });
  }
  const closing = new Closing();
  const interrupt = new AbortController();
  const onSignal = (): void => {
    interrupt.abort(new Error("interrupted"));
  };
  process.once("SIGINT", onSignal);
  closing.add(onSignal, () => process.off("SIGINT", onSignal));
  try {
    const parts = await openRollouts(config, await openRunData(config, closing), closing, { trains: false });
    const { policy, simulatorModel } = parts;
    const adapter = config.lora.from === null ? "" : ` with the LoRA adapter ${config.lora.from}`;
    process.stdout.write(`policy ${config.model.policy}${adapter} | seed ${config.seed}\n`);
    await prepareDevice(parts.device, config, { policy, simulator: simulatorModel, reference: null }, { trains: false });
    const evaluation = await judge({ ...parts, config, signal: interrupt.signal }, when);
    if (evaluation === null) {
      throw new ConfigError({
        where: "zerosearch evaluate",
        what: "there is nothing to judge by",
        expected: "data.test and data.corpus",
        got: "none",
      });
    }
    process.stdout.write(`${evaluationText([evaluation], parts.data.test)}\n`);
    const json = options.get("json");
    if (json !== undefined) await writeFileAtomic(json, evaluationJson(documentedRows(evaluation.rows)));
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    process.exitCode = 130;
  } finally {
    await closing.close();
  }
}
