"""A coding task in C through the official Python client, against envd itself: from no compiler to an applied program.

It says the revision, and whether it heard how far the making of its tools was: nothing has to be made a second time.

usage: coding.py MODE stdio SERVER ARGUMENT...  |  coding.py MODE http URL TOKEN
"""

import asyncio
import sys

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

# Does not compile, and when it does, is wrong.
FAILING = """#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    long total = 1;
    for (int at = 1; at < count; at++) total += strtol(words[at], NULL, 10)
    printf("%ld\\n", total);
}
"""
CHECK = 'test "$(/tmp/sum 1 2 3)" = 6 || { echo "expected 6, not $(/tmp/sum 1 2 3)" >&2; exit 1; }\necho passed\n'
COMPILE = ["gcc", "-Wall", "-Werror", "-o", "/tmp/sum", "sum.c"]


async def done(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, result.content)
    return result.structured_content


async def fails(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert result.is_error, (tool, result.structured_content)
    return result.content[0].text


async def task(client):
    # Listing first makes the client check every structured result against the tool's schema.
    tools = (await client.list_tools()).tools
    assert all(tool.output_schema and tool.annotations for tool in tools)

    steps = []

    async def hear(progress, total, message):
        steps.append(message)

    created = await client.call_tool(
        "environment_create", {"from": {"packages": ["gcc", "libc6-dev"]}, "name": "sum"}, progress_callback=hear
    )
    assert not created.is_error, created.content
    created = created.structured_content
    assert created["root"] and created["network"] == "none", created
    here = {"environment": created["environment"]}

    for path, content in [("sum.c", FAILING), ("check.sh", CHECK)]:
        await done(client, "file_write", path=path, content=content, **here)
    failed = await done(client, "command_run", command=COMPILE, **here)
    assert failed["state"] == "exited" and failed["exit_code"] == 1, failed
    assert "sum.c:5:" in failed["stderr"]["head"] and "expected" in failed["stderr"]["head"], failed
    edits = [{"old": "NULL, 10)", "new": "NULL, 10);"}]
    await done(client, "file_edit", path="sum.c", edits=edits, **here)
    built = await done(client, "command_run", command=COMPILE, **here)
    assert built["exit_code"] == 0, built

    wrong = await done(client, "command_run", command="sh check.sh", **here)
    assert wrong["exit_code"] == 1 and wrong["stderr"]["head"] == "expected 6, not 7\n", wrong
    found = await done(client, "file_search", pattern="total = ", **here)
    assert [(match["path"], match["line"]) for match in found["matches"]] == [("sum.c", 4)], found
    await done(client, "file_edit", path="sum.c", edits=[{"old": "total = 1", "new": "total = 0"}], **here)
    passed = await done(client, "command_run", command="gcc -Wall -o /tmp/sum sum.c && sh check.sh", **here)
    assert passed["exit_code"] == 0 and passed["stdout"]["head"] == "passed\n", passed
    output = await client.read_resource(passed["stdout"]["resource"])
    assert output.contents[0].text == "passed\n", output

    diff = await done(client, "changes_diff", **here)
    changes = [(change["path"], change["kind"]) for change in diff["changes"]]
    assert changes == [("check.sh", "added"), ("sum.c", "added")], diff
    assert "+    long total = 0;" in diff["diff"]["head"], diff
    applied = await done(client, "changes_apply", **here)
    assert applied["applied"] == ["check.sh", "sum.c"], applied
    await done(client, "environment_destroy", **here)
    told = await fails(client, "command_run", command="true", **here)
    assert "there is no environment" in told, told
    assert (await done(client, "environment_list"))["environments"] == []
    return steps


def say(client, steps):
    print(client.protocol_version, "heard" if "fetching packages" in steps else "found all there")


async def main():
    mode, transport, *rest = sys.argv[1:]
    if transport == "stdio":
        async with Client(StdioServerParameters(command=rest[0], args=rest[1:]), mode=mode) as client:
            say(client, await task(client))
    else:
        url, token = rest
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                say(client, await task(client))


asyncio.run(main())
