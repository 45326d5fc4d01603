// A coding task in C through an official TypeScript client (connected.mjs), against envd itself.

import assert from "node:assert/strict";

import { client, current, revision } from "./connected.mjs";

// Making the tools may take longer than clients wait for an answer.
const options = { timeout: 280_000 };

async function call(name, args = {}) {
  const parameters = { name, arguments: args };
  return current ? client.callTool(parameters, options) : client.callTool(parameters, undefined, options);
}

async function done(name, args) {
  const result = await call(name, args);
  assert.ok(!result.isError, JSON.stringify(result.content));
  return result.structuredContent;
}

// Listing first makes the client check every structured result against the tool's schema.
await client.listTools();

const { environment } = await done("environment_create", { from: { packages: ["gcc", "libc6-dev"] } });

// Does not compile, and when it does, is wrong.
const failing = "int twice(int one) { return one + one + 1 }\nint main(void) { return twice(4) == 8 ? 0 : 1; }\n";
await done("file_write", { environment, path: "src/twice.c", content: failing });
const compile = { environment, command: ["gcc", "-Wall", "-Werror", "-o", "/tmp/twice", "src/twice.c"] };
const failed = await done("command_run", compile);
assert.deepEqual([failed.state, failed.exit_code], ["exited", 1]);
assert.match(failed.stderr.head, /src\/twice\.c:1:\d+: error: expected/);
const edit = (old, fresh) =>
  done("file_edit", { environment, path: "src/twice.c", edits: [{ old, new: fresh }] });
await edit("+ 1 }", "+ 1; }");
assert.equal((await done("command_run", compile)).exit_code, 0);
assert.equal((await done("command_run", { environment, command: "/tmp/twice" })).exit_code, 1);
await edit(" + 1;", ";");
assert.equal((await done("command_run", compile)).exit_code, 0);

// The test as a command of its own, whose end is waited for.
const { command } = await done("command_start", { environment, command: "/tmp/twice && echo passed" });
let polled;
do {
  polled = await done("command_poll", { command, wait_seconds: 10 });
} while (polled.state === "running");
assert.deepEqual([polled.exit_code, polled.stdout.text], [0, "passed\n"]);

const diff = await done("changes_diff", { environment });
assert.deepEqual(diff.changes.map((change) => change.path), ["src", "src/twice.c"]);
assert.match(diff.diff.head, /^\+int twice\(int one\) \{ return one \+ one; \}$/m);
const applied = await done("changes_apply", { environment, paths: ["src"] });
assert.deepEqual(applied.applied, ["src", "src/twice.c"]);
await done("environment_destroy", { environment });
assert.ok((await call("command_run", { environment, command: "true" })).isError);
assert.deepEqual((await done("environment_list")).environments, []);
await client.close();
console.log(revision);
