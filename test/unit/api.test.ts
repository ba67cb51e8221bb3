/** The public API is what `docs/api.md` lists, and is whole: every type that it names can be named by a program. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { beforeAll, describe, expect, it } from "vitest";
import * as main from "../../src/index.ts";
import * as browser from "../../src/webgpu.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const entries = { zerosearch: ["index", main], "zerosearch/webgpu": ["webgpu", browser] } as const;

/** Declarations as `npm run build` writes them, by file, made in memory. */
function declarations(): ReadonlyMap<string, string> {
  const { config } = ts.readConfigFile(join(root, "tsconfig.build.json"), (file) => readFileSync(file, "utf8"));
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const files = Object.values(entries).map(([name]) => join(root, "src", `${name}.ts`));
  const made = new Map<string, string>();
  ts.createProgram(files, { ...options, noCheck: true, emitDeclarationOnly: true }).emit(undefined, (file, text) => made.set(file, text));
  return made;
}

let program: ts.Program;
let checker: ts.TypeChecker;
let exported: ReadonlyMap<string, ReadonlyMap<string, ts.Symbol>>;

beforeAll(() => {
  const made = declarations();
  const lib = ["lib.es2022.d.ts"];
  const options: ts.CompilerOptions = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, lib, strict: true, types: [] };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (file) => made.get(file) ?? readFile(file);
  host.fileExists = (file) => made.has(file) || fileExists(file);
  host.getSourceFile = (file, target) => {
    const text = host.readFile(file);
    return text === undefined ? undefined : ts.createSourceFile(file, text, target, true);
  };
  const files = Object.entries(entries).map(([entry, [name]]) => [entry, join(root, "dist", `${name}.d.ts`)] as const);
  program = ts.createProgram({ rootNames: files.map(([, file]) => file), options, host });
  checker = program.getTypeChecker();
  exported = new Map(
    files.map(([entry, file]) => {
      const module = checker.getSymbolAtLocation(program.getSourceFile(file) as ts.SourceFile) as ts.Symbol;
      return [entry, new Map(checker.getExportsOfModule(module).map((one) => [one.name, aliased(one)]))];
    }),
  );
}, 120_000);

function aliased(symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

/** What the page lists for an entry: `name` or `type name`. */
function listed(entry: string): string[] {
  const page = readFileSync(join(root, "docs", "api.md"), "utf8");
  return page
    .split("\n## ")
    .slice(1)
    .filter((section) => (section.split("\n")[0] as string).split(" and ").includes(`\`${entry}\``))
    .flatMap((section) => [...section.matchAll(/^- (type )?`(\w+)`: \S/gm)].map(([, type = "", name]) => `${type}${name}`));
}

/** Every symbol of this package that a declaration names as a type. */
function* named(symbol: ts.Symbol): Generator<ts.Symbol> {
  const within = function* (node: ts.Node): Generator<ts.Symbol> {
    const name = ts.isTypeReferenceNode(node) ? node.typeName : ts.isExpressionWithTypeArguments(node) ? node.expression : undefined;
    const found = name === undefined ? undefined : checker.getSymbolAtLocation(name);
    if (found !== undefined) {
      const type = aliased(found);
      const ours = type.declarations?.some((one) => one.getSourceFile().fileName.startsWith(join(root, "dist"))) === true;
      if (ours && !(type.flags & ts.SymbolFlags.TypeParameter)) yield type;
    }
    for (const child of node.getChildren()) yield* within(child);
  };
  for (const declaration of symbol.declarations ?? []) yield* within(declaration);
}

describe.each(Object.entries(entries))("%s", (entry, [, module]) => {
  it("exports what docs/api.md lists, and the page lists what it exports, types as types", () => {
    const names = [...(exported.get(entry) as ReadonlyMap<string, ts.Symbol>).keys()];
    const real = names.map((name) => (name in module ? name : `type ${name}`));
    expect(names.length).toBeGreaterThan(80);
    expect(names).toEqual(expect.arrayContaining(Object.keys(module)));
    expect(listed(entry).sort()).toEqual(real.sort());
  });

  it("exports every type that its declarations name", () => {
    const symbols = exported.get(entry) as ReadonlyMap<string, ts.Symbol>;
    const known = new Set(symbols.values());
    const missing = [...symbols].flatMap(([name, symbol]) =>
      [...named(symbol)].filter((type) => !known.has(type)).map((type) => `${type.name}, which ${name} names`),
    );
    expect(missing).toEqual([]);
  });
});

it("declares what compiles with the types of Node and nothing else, without what is internal", () => {
  const files = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(join(root, "dist")));
  const wrong = files.flatMap((file) => program.getSemanticDiagnostics(file));
  expect(files.length).toBeGreaterThan(80);
  expect(wrong.map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`)).toEqual([]);
}, 60_000);
