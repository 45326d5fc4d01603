// An official TypeScript client that is connected as the command line says: @modelcontextprotocol/sdk speaks 2025-11-25,
// @modelcontextprotocol/client 2026-07-28.
//
// usage: node SCRIPT REVISION stdio SERVER ARGUMENT...  |  node SCRIPT REVISION http URL TOKEN

import assert from "node:assert/strict";
import path from "node:path";

const [, script, ...words] = process.argv;
const [kind, ...rest] = words.slice(1);
export const revision = words[0];
export const current = revision === "2026-07-28";
const library = current ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client";
const { Client, ...others } = await import(current ? library : `${library}/index.js`);
const { StdioClientTransport } = await import(current ? `${library}/stdio` : `${library}/stdio.js`);
const { StreamableHTTPClientTransport } = current ? others : await import(`${library}/streamableHttp.js`);

const transport =
  kind === "stdio"
    ? new StdioClientTransport({ command: rest[0], args: rest.slice(1) })
    : new StreamableHTTPClientTransport(new URL(rest[0]), {
        requestInit: { headers: { Authorization: `Bearer ${rest[1]}` } },
      });
export const client = new Client({ name: path.basename(script, ".mjs"), version: "0" }, { versionNegotiation: { mode: "auto" } });
await client.connect(transport);
if (current) {
  assert.equal(client.getNegotiatedProtocolVersion(), revision);
}
