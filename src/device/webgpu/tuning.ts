/** Which tiles products are cut into where that was measured on a device, as plain data. Only speed depends on it: any tuning gives the same bits. */

/** Upper bounds of the rows of a product, by the kernels that compute it: without subgroup matrices, and with them. */
const bounds = { plain: [8, 32, 64], matrix: [16, 32, 64] } as const;
export type ProductKind = keyof typeof bounds;

export interface Tuning {
  /** When it was measured, for people. */
  readonly measured?: string | undefined;
  /** Workgroups that fill the device: one for each of its multiprocessors. */
  readonly groups: number;
  /** Tiles by name ("64x64x16": rows, columns and depth) for classes of rows ("rows8", "rows32", "rows64", "more"), where they are not those of the rule. */
  readonly plain: Readonly<Record<string, string>>;
  /** As `plain`, for products by subgroup matrices: "rows16", "rows32", "rows64", "more". */
  readonly matrix: Readonly<Record<string, string>>;
}

/** By arithmetic, for a GPU of 132 multiprocessors (NVIDIA H200). */
export const defaultTuning: Tuning = { groups: 132, plain: {}, matrix: {} };

/** Where a tuning was measured: on another adapter, driver or set of kernels another may be the fastest. */
export interface TuningPlace {
  readonly adapter: string;
  /** With the way to the GPU, which drivers say in their names. */
  readonly driver: string;
  readonly precision: "f32" | "f16";
  /** The tiers in use. */
  readonly kernels: string;
}

/** Most workgroups that a tuning may say: more than any GPU has. */
export const mostGroups = 65536;

/** `groups` of a tuning, or the default where that is no count: what a file or a page gives is not trusted. */
export function groupsOf({ groups }: Tuning): number {
  return Number.isInteger(groups) && groups > 0 && groups <= mostGroups ? groups : defaultTuning.groups;
}

/** The class of products of so many rows. */
export function rowClass(kind: ProductKind, rows: number): string {
  const bound = bounds[kind].find((most) => rows <= most);
  return bound === undefined ? "more" : `rows${bound}`;
}

/** The name of the tile that a tuning has for so many rows; undefined where it has none. */
export function tunedTile(tuning: Tuning, kind: ProductKind, rows: number): string | undefined {
  const tiles = tuning[kind] as Tuning[ProductKind] | undefined;
  const name = rowClass(kind, rows);
  return tiles !== undefined && Object.hasOwn(tiles, name) ? tiles[name] : undefined;
}

/** Whether it says what the rule does without it. */
export function isDefault(tuning: Tuning): boolean {
  const named = Object.keys({ ...tuning.plain, ...tuning.matrix }).length > 0;
  return groupsOf(tuning) === defaultTuning.groups && !named;
}

/** A tuning in words, for the line that says what a device is. */
export function tuningText({ measured }: Tuning): string {
  return measured === undefined ? "tuned" : `tuned ${measured}`;
}

/** A tile's name. */
export function tileName({ BM, BN, BK }: { readonly BM: number; readonly BN: number; readonly BK: number }): string {
  return `${BM}x${BN}x${BK}`;
}
