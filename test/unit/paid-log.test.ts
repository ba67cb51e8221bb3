/** What is kept of paid searches, whatever ends the program. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { notePaid, readPaid, withPaid } from "../../src/setup/paid-log.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "zerosearch-paid-"))));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the log of paid searches", () => {
  it("counts by engine those that were answered, and for a budget those that were given up on the way too", () => {
    const file = join(folder, "paid.log");
    expect(readPaid(file, { givenUp: true })).toEqual({ http: 0, mcp: 0 });
    for (const engine of ["http", "http", "mcp"]) notePaid(file, engine);
    notePaid(file, "http", { givenUp: true });
    // What a killed program left half written is none.
    writeFileSync(file, "ht", { flag: "a" });
    expect(readFileSync(file, "utf8")).toBe("http\nhttp\nmcp\nhttp?\nht");
    expect(readPaid(file, { givenUp: false })).toEqual({ http: 2, mcp: 1 });
    expect(readPaid(file, { givenUp: true })).toEqual({ http: 3, mcp: 1 });
  });

  it("makes up for what a killed program could not write into its rows, and takes nothing from them", () => {
    const file = join(folder, "paid.log");
    expect(withPaid({ http_requests: 1, simulator_requests: 9 }, file)).toEqual({
      http_requests: 2,
      mcp_requests: 1,
      simulator_requests: 9,
    });
    expect(withPaid({ http_requests: 5, mcp_requests: 1 }, file)).toEqual({ http_requests: 5, mcp_requests: 1 });
    expect(withPaid({ http_requests: 5 }, join(folder, "none"))).toEqual({ http_requests: 5 });
    // A cannot-be-written log ends nothing.
    expect(() => notePaid(folder, "http")).not.toThrow();
  });
});
