// A whole coding task through an official TypeScript client (connected.mjs).

import assert from "node:assert/strict";

import { client, current } from "./connected.mjs";

async function done(name, args = {}, options = {}) {
  const parameters = { name, arguments: args };
  const result = await (current
    ? client.callTool(parameters, options)
    : client.callTool(parameters, undefined, options));
  assert.ok(!result.isError, JSON.stringify(result.content));
  return result.structuredContent;
}

// Listing first makes the client check every structured result against the tool's schema.
const { tools } = await client.listTools();
assert.equal(tools.length, 21);

const { environment } = await done("environment_create", { from: { packages: ["gcc"] } });
await done("file_write", { environment, path: "check.sh", content: "test 1 -eq 2\n" });
const failed = await done("command_run", { environment, command: "sh check.sh" });
assert.deepEqual([failed.state, failed.exit_code], ["exited", 1]);
await done("file_edit", { environment, path: "check.sh", edits: [{ old: "-eq 2", new: "-eq 1" }] });

// The command goes on when its first output was heard.
const heard = [];
const passed = await done(
  "command_run",
  { environment, command: "echo begun; until test -e go; do sleep 0.02; done; sh check.sh && echo passed" },
  {
    onprogress: async (progress) => {
      heard.push(progress.message);
      await done("file_write", { environment, path: "go", content: "" });
    },
  },
);
assert.equal(passed.stdout.head, "begun\npassed\n");
assert.equal(heard[0], "begun\n");
await done("command_run", { environment, command: ["rm", "go"] });

const abort = new AbortController();
const running = done("command_run", { environment, command: "sleep 1000" }, { signal: abort.signal });
while ((await done("environment_list")).environments[0].running_commands === 0) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
abort.abort();
await assert.rejects(running);
while ((await done("environment_list")).environments[0].running_commands > 0) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}

const { contents } = await client.readResource({ uri: passed.stdout.resource });
assert.equal(contents[0].text, "begun\npassed\n");
const diff = await done("changes_diff", { environment });
assert.deepEqual(diff.changes, [{ path: "check.sh", kind: "added" }]);
const applied = await done("changes_apply", { environment });
assert.deepEqual(applied.applied, ["check.sh"]);
await done("environment_destroy", { environment });

// Left behind on purpose: the server must not leave it behind.
const left = await done("environment_create");
await done("command_start", { environment: left.environment, command: "sleep 1000" });
await client.close();
console.log(tools.length, "tools");
