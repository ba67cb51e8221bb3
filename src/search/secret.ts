/** Keys: read from the environment, sent, and taken out of every text that a server answers with. */
import { ConfigError } from "../util/errors.ts";

/**
 * The key in an environment variable.
 * @param where - the setting that names the variable
 * @throws ConfigError where there is none, or one that no header can carry. It is not shown.
 */
export function keyIn(variable: string, where: string, hint: string): string {
  const key = process.env[variable]?.trim() ?? "";
  const fault = (what: string, expected: string): ConfigError =>
    new ConfigError({ where, what: `the environment variable ${variable} ${what}`, expected, hint });
  if (key === "") throw fault("is not set", "the endpoint's API key in it");
  if (!/^[\x20-\x7e]+$/.test(key)) throw fault("holds no key", "printable ASCII characters on one line");
  return key;
}

/** Puts `[key]` in place of a secret, in the forms in which a server may repeat it: as it is, inside JSON, inside an address, in Base64. */
export function hider(secret: string | undefined): (text: string) => string {
  if (secret === undefined || secret === "") return (text) => text;
  const inAddress = encodeURIComponent(secret);
  const forms = [
    secret,
    JSON.stringify(secret).slice(1, -1),
    inAddress,
    inAddress.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
    new URLSearchParams([["", secret]]).toString().slice(1),
    Buffer.from(secret).toString("base64"),
  ].sort((a, b) => b.length - a.length);
  return (text) => forms.reduce((rest, form) => rest.replaceAll(form, "[key]"), text);
}
