/**
 * The results in a plain text, as search tools write them for models: blocks of `Title: ...`, `URL: ...`, `Text: ...`; numbered results; `Doc i:`; parts
 * between lines of dashes; headings of Markdown. What is none of these is one document. In time that grows with the text's length alone.
 */
import { parseDocuments } from "../documents.ts";
import type { SearchDocument } from "../search-engine.ts";

/** A line `Label: value`, its label perhaps in bold or after a dash. */
const label =
  /^[ \t]*(?:[-*+] )?(?:\*\*)?(title|name|url|link|href|source|text|content|contents|snippet|description|summary|body|extract)(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*(.*)$/i;
const numbered = /^[ \t]*(?:\*\*|#{1,4} )?\[?(\d{1,3})(?:[.)]|\])[ \t]+(.*)$/;
const rule = /^[ \t]*(?:-{3,}|\*{3,}|={3,}|_{3,})[ \t]*$/;
const heading = /^#{1,4}[ \t]+(.*)$/;
/** How tools say that there is nothing. */
const nothing = /^(?:no|0) (?:\w+ ){0,3}(?:results?|documents?|matches|passages|information)\b[^\n]{0,200}$/i;

export function resultsInText(text: string): readonly SearchDocument[] {
  const whole = text.trim();
  if (whole === "" || nothing.test(whole)) return [];
  const lines = whole.split(/\r?\n/);
  for (const parts of [titled(lines), counted(lines), ruled(lines), headed(lines)]) {
    const found = parts.map(documentOf).filter((one) => one !== null);
    if (found.length > 0) return found;
  }
  return parseDocuments(whole);
}

/** Each from a line with a title on; what comes before the first is no result. */
function titled(lines: readonly string[]): string[][] {
  return partsFrom(lines, (line) => /^(title|name)$/i.test(label.exec(line)?.[1] ?? ""));
}

/** From 1, 2, ... on: a number in a text is no head unless it is the next one. */
function counted(lines: readonly string[]): string[][] {
  let next = 1;
  const parts = partsFrom(lines, (line) => {
    if (Number(numbered.exec(line)?.[1]) !== next) return false;
    next++;
    return true;
  });
  return parts.length < 2 ? [] : parts.map(([first = "", ...rest]) => [withoutMarks(numbered.exec(first)?.[2] ?? ""), ...rest]);
}

function ruled(lines: readonly string[]): string[][] {
  const parts: string[][] = [[]];
  for (const line of lines) {
    if (rule.test(line)) parts.push([]);
    else parts.at(-1)?.push(line);
  }
  const full = parts.filter((part) => part.some((line) => line.trim() !== ""));
  return full.length < 2 ? [] : full;
}

function headed(lines: readonly string[]): string[][] {
  const parts = partsFrom(lines, (line) => heading.test(line));
  return parts.length < 2 ? [] : parts.map(([first = "", ...rest]) => [withoutMarks(heading.exec(first)?.[1] ?? ""), ...rest]);
}

/** Parts that each begin with a line that is a head. */
function partsFrom(lines: readonly string[], isHead: (line: string) => boolean): string[][] {
  const parts: string[][] = [];
  for (const line of lines) {
    if (isHead(line)) parts.push([line]);
    else parts.at(-1)?.push(line);
  }
  return parts;
}

/** Labelled lines say what they are; else the first line is the title, where more follows. Null where no text is left. */
function documentOf(lines: readonly string[]): SearchDocument | null {
  let [title, url] = ["", ""];
  const text: string[] = [];
  for (const line of lines) {
    const [, name = "", value = ""] = label.exec(line) ?? [];
    if (name === "") text.push(line);
    else if (/^(title|name)$/i.test(name)) title ||= withoutMarks(value);
    else if (/^(url|link|href|source)$/i.test(name)) url ||= value.trim();
    else text.push(value);
  }
  const first = text.findIndex((line) => line.trim() !== "");
  if (title === "" && first >= 0 && text.slice(first + 1).some((line) => line.trim() !== "")) {
    title = withoutMarks(text[first] as string);
    text.splice(0, first + 1);
  }
  const body = text
    .filter((line) => !rule.test(line))
    .join("\n")
    .trim();
  if (body === "" && title === "") return null;
  return { text: body || title, ...(title === "" || body === "" ? {} : { title }), ...(url === "" ? {} : { url }) };
}

function withoutMarks(text: string): string {
  return text.replace(/^[*_#\s]+|[*_\s]+$/g, "");
}
