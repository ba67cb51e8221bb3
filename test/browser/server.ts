/** Serves src/ to a browser as it is written, types stripped file by file: nothing is bundled. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import ts from "typescript";
import { loadWgsl } from "../../src/device/dawn.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const page = `<!doctype html><meta charset="utf-8"><title>ZeroSearch</title><link rel="icon" href="data:,"><script type="module" src="/test/browser/page.ts"></script>`;

/** Only what runs in a browser is served. */
const served = /^\/(src|test\/browser)\/[\w/-]+\.ts$/;

export async function serve(): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    answer(pathname).then(
      ({ type, body }) => response.writeHead(200, { "content-type": type }).end(body),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, close: () => close(server) };
}

async function answer(path: string): Promise<{ type: string; body: string }> {
  if (path === "/") return { type: "text/html", body: page };
  if (path === "/wgsl.json") return { type: "application/json", body: JSON.stringify(Object.fromEntries(await loadWgsl())) };
  if (!served.test(path) || extname(path) !== ".ts") throw new Error(`${path} is not served`);
  const source = await readFile(join(root, path), "utf8");
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
  });
  return { type: "text/javascript", body: outputText };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
