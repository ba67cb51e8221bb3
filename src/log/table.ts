/** Plain aligned tables. */

export type Cell = string | number | null | undefined;

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => Cell;
}

/**
 * A table of text: titles, a rule, one line a row; columns two spaces apart. A column whose cells are all numbers (or look like one:
 * "0.41 ± 0.02", "73 %") is aligned to the right. No value is shown as "-".
 */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => show(column.value(row))));
  const widths = columns.map((column, c) => Math.max(...[column.title, ...cells.map((line) => line[c] ?? "")].map(length)));
  const right = columns.map((_, c) => cells.length > 0 && cells.every((line) => /^(-|[-+]?\.?\d.*)$/.test(line[c] ?? "")));
  const line = (texts: readonly string[]) =>
    texts
      .map((text, c) => pad(text, widths[c] ?? 0, right[c] ?? false))
      .join("  ")
      .trimEnd();
  return [line(columns.map((column) => column.title)), widths.map((width) => "─".repeat(width)).join("  "), ...cells.map(line)].join("\n");
}

function show(cell: Cell): string {
  if (cell === null || cell === undefined || (typeof cell === "number" && Number.isNaN(cell))) return "-";
  // A terminal would obey them.
  return String(cell).replaceAll(/[\x00-\x1f\x7f-\x9f]+/g, " ");
}

/** Columns a text takes: code points, good enough for names in Latin letters. */
function length(text: string): number {
  return Array.from(text).length;
}

function pad(text: string, width: number, right: boolean): string {
  const space = " ".repeat(Math.max(0, width - length(text)));
  return right ? space + text : text + space;
}
