/** HTML as plain text: without tags, comments and character references. In time that grows with the text's length alone. */

const named: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: " ",
  ndash: "\u2013",
  mdash: "\u2014",
  hellip: "\u2026",
  lsquo: "\u2018",
  rsquo: "\u2019",
  ldquo: "\u201c",
  rdquo: "\u201d",
  middot: "\u00b7",
  copy: "\u00a9",
};
/** Tags inside a line; all others part what stands around them. */
const inline = /^<\/?(a|abbr|b|code|em|i|mark|q|s|small|span|strong|sub|sup|u|wbr)[\s/>]/i;

export function plainText(html: string): string {
  return html
    .replace(/<!--[^<>]*-->/g, "")
    .replace(/<\/?[a-z][^<>]*>/gi, (tag) => (inline.test(tag) ? "" : " "))
    .replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return (Object.hasOwn(named, name) ? named[name] : undefined) ?? whole;
      const code = decimal === undefined ? parseInt(hex as string, 16) : Number(decimal);
      return code > 0 && code < 0x110000 ? String.fromCodePoint(code) : whole;
    })
    .replace(/[ \t]{2,}/g, " ");
}
