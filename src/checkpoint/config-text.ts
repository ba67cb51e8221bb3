/** The text of config.json for a saved model: that of the original with only what changed, or one made from the decoder's configuration. */
import { fromHuggingFace, toHuggingFace, type DecoderConfig } from "../nn/config.ts";
import { ConfigError } from "../util/errors.ts";
import { configWithDtype, torchDtype, withField } from "./folder-files.ts";
import type { FloatDtype } from "./save-tensors.ts";

/** A folder that differs in one of these is another model's. */
const identity = [
  "model_type",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
];
const ropeFields = ["rope_theta", "rope_scaling"];
/** transformers warns of a factor that is no float, and Python tells 8.0 from 8. */
const floatLine = /^(\s*"(?:factor|low_freq_factor|high_freq_factor)": \d+)(,?)$/gm;

/** A config.json written anew. */
export function newConfigText(config: DecoderConfig, dtype: FloatDtype): string {
  const fields = toHuggingFace(config);
  fields["torch_dtype"] = torchDtype[dtype];
  // transformers 5 writes the same fact so.
  if ("dtype" in fields) fields["dtype"] = torchDtype[dtype];
  return `${JSON.stringify(fields, null, 2)}\n`.replace(floatLine, "$1.0$2");
}

/**
 * The original's text with the type of the weights, and whatever else is not so any more, put in place; all else stays as it is, to the
 * last space.
 * @param where the original's path, for errors
 * @throws ConfigError when the original is of another model
 */
export function changedConfigText(text: string, where: string, config: DecoderConfig, dtype: FloatDtype): string {
  const raw = JSON.parse(text) as Readonly<Record<string, unknown>>;
  const before = ownFields(fromHuggingFace(raw, where));
  const now = ownFields(config);
  const changed = Object.keys(now).filter((field) => !same(before[field], now[field]));
  for (const field of identity)
    if (changed.includes(field))
      throw new ConfigError({
        where,
        what: `${field} is not that of the model to be saved`,
        expected: JSON.stringify(now[field]),
        got: JSON.stringify(before[field]),
        hint: "give the folder that the model was loaded from",
      });
  const values = new Map<string, unknown>();
  for (const field of changed) {
    // transformers 5 keeps both RoPE fields in one object.
    if (ropeFields.includes(field) && "rope_parameters" in raw)
      values.set("rope_parameters", {
        ...(now["rope_scaling"] ?? { rope_type: "default" }),
        rope_theta: now["rope_theta"],
      });
    else values.set(field, now[field]);
  }
  let result = configWithDtype(text, dtype, where);
  for (const [field, value] of values) result = withField(result, field, JSON.stringify(value), where);
  if (!same(ownFields(fromHuggingFace(JSON.parse(result), where)), now))
    throw new ConfigError({ where, what: "its fields cannot be changed to those of the model to be saved", got: changed.join(", ") });
  return result;
}

/** What a decoder is made of, in Hugging Face's fields. */
function ownFields(config: DecoderConfig): Record<string, unknown> {
  return toHuggingFace({ ...config, extra: {} });
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
