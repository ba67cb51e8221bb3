/** Lines of a table of costs: an amount, the price of a unit where it is known, and what both make. */
import type { Config } from "../config/index.ts";
import { readHttpApi } from "../search/http-api.ts";
import { priceOf } from "../search/prices.ts";

export interface PricedLine {
  readonly what: string;
  readonly amount: string;
  readonly price: string | null;
  readonly cost: string | null;
  /** The cost as a number; null where no price is known. */
  readonly sum: { readonly value: number; readonly currency: string } | null;
}

/** What a unit costs; `per` is what it is called. */
export interface UnitPrice {
  readonly price: number;
  readonly per: string;
  readonly currency: string;
}

export const thousands = (value: number): string => Math.round(value).toLocaleString("en-US");
export const money = (value: number, currency: string): string => `${value.toFixed(value < 10 ? 3 : 2)} ${currency}`;

/** @param units - of the amount, as the price counts them */
export function pricedLine(what: string, amount: string, units: number, each: UnitPrice | null): PricedLine {
  return {
    what,
    amount,
    price: each === null ? null : shownPrice(each),
    cost: each === null ? null : money(units * each.price, each.currency),
    sum: each === null ? null : { value: units * each.price, currency: each.currency },
  };
}

export function shownPrice({ price, currency, per }: UnitPrice): string {
  return `${price} ${currency} / ${per}`;
}

/** A price of the section `cost`; null where it is 0, which is not known. */
export function own({ cost: { currency } }: Pick<Config, "cost">, price: number, per: string): UnitPrice | null {
  return price === 0 ? null : { price, per, currency };
}

/** Of 1,000 searches; null where nobody says. */
export function ofSearches(config: Config, engine: string): UnitPrice | null {
  const price = priceOf(config, engine);
  return price === null ? null : { price: price.perThousand, per: "1,000", currency: price.currency };
}

/** What a line calls an engine: a service by its own name. */
export function engineTitle({ http }: Config, engine: string): string {
  return engine === "http" && http.api !== null ? readHttpApi(http.api).name : engine;
}

/** What lines come to, by currency. */
export function sumsOf(lines: readonly PricedLine[]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const { sum } of lines) if (sum !== null) sums.set(sum.currency, (sums.get(sum.currency) ?? 0) + sum.value);
  return sums;
}
