/** The address of a server, as a setting gives it. */
import { ConfigError } from "../util/errors.ts";

/**
 * @param where - the setting
 * @param keyPlace - where a key goes instead of into the address
 * @throws ConfigError where it is no address of http or https, or holds a user or a password, which are not shown
 */
export function serverUrl(where: string, text: string, expected: string, keyPlace: string): URL {
  const fault = (what: string, got?: string): ConfigError => new ConfigError({ where, what, expected, got });
  if (!URL.canParse(text)) throw fault("is no URL", JSON.stringify(text));
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") throw fault(`holds a user or a password: a key goes into the variable ${keyPlace}`);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw fault("is not http or https", url.protocol);
  return url;
}
