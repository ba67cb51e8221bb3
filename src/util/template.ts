/** Filling of `{name}` placeholders. */

/**
 * Puts values into placeholders in one pass, so that braces (or `$`) inside a value mean nothing. Names without a value stay as
 * they are.
 */
export function fillTemplate(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => (Object.hasOwn(values, name) ? (values[name] as string) : whole));
}
