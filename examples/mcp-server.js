#!/usr/bin/env node
/**
 * An MCP server with one tool, `search`: the passages of a corpus that share most words with the query. `node examples/mcp-server.js corpus.jsonl`
 * serves over standard input and output; a run starts it itself:
 *
 *     node train.js --config configs/quickstart.yaml search.engine=mcp mcp.command=node 'mcp.args=["examples/mcp-server.js", "corpus.jsonl"]'
 */
import { readFileSync } from "node:fs";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

/** @param {string} text */
const words = (text) => new Set(text.toLowerCase().match(/\w+/g));

const corpus = process.argv[2] ?? "corpus.jsonl";
/** @type {{ id: string | number, title?: string, text: string }[]} */
const passages = readFileSync(corpus, "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));

const server = new McpServer({ name: "shared-words", version: "1.0.0" });
const inputSchema = { query: z.string().describe("What to look for"), limit: z.number().int().min(1).max(100).default(5) };
server.registerTool("search", { description: `Searches ${passages.length} passages.`, inputSchema }, ({ query, limit }) => {
  const asked = words(query);
  const scored = passages.map(({ id, title, text }) => {
    return { id: String(id), title, text, score: [...words(text)].filter((word) => asked.has(word)).length };
  });
  const results = scored
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score)
    .slice(0, limit);
  return { content: [{ type: "text", text: JSON.stringify(results) }], structuredContent: { results } };
});
await server.connect(new StdioServerTransport());
