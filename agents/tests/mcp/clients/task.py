"""A whole coding task through the official Python client. It checks every structured result against the tool's schema itself.

usage: task.py MODE stdio SERVER ARGUMENT...  |  task.py MODE http URL TOKEN
"""

import asyncio
import sys

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

FAILING = "def total(numbers):\n    return sum(numbers) + 1\n"
TEST = "from total import total\nassert total([1, 2]) == 3, total([1, 2])\nprint('passed')\n"


async def done(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, result.content)
    return result.structured_content


async def fails(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert result.is_error, (tool, result.structured_content)
    return result.content[0].text


async def task(client):
    tools = (await client.list_tools()).tools
    assert len(tools) == 21, [tool.name for tool in tools]
    assert all(tool.output_schema and tool.annotations for tool in tools)

    found = await done(client, "package_search", query="python")
    assert found["packages"][0]["name"] == "python3", found
    told = await fails(client, "environment_create", **{"from": {"packages": ["pyhton3"]}})
    assert "Next: Did you mean python3" in told, told

    steps = []

    async def hear(progress, total, message):
        steps.append((progress, total, message))

    created = await client.call_tool(
        "environment_create", {"from": {"packages": ["python3"]}, "name": "task"}, progress_callback=hear
    )
    here = {"environment": created.structured_content["environment"]}
    assert steps and steps[0][2] == "realising", steps
    await done(client, "package_add", packages=["gcc"], **here)
    assert (await done(client, "environment_list"))["environments"][0]["name"] == "task"

    for path, content in [("total.py", FAILING), ("check.py", TEST)]:
        await done(client, "file_write", path=path, content=content, **here)
    snapshot = await done(client, "environment_snapshot", **here)
    assert snapshot["changes"] == 2, snapshot
    failed = await done(client, "command_run", command=["python3", "-B", "check.py"], **here)
    assert failed["state"] == "exited" and failed["exit_code"] == 1, failed
    assert "AssertionError: 4" in failed["stderr"]["head"], failed

    matches = await done(client, "file_search", pattern="sum(", **here)
    assert matches["matches"][0]["path"] == "total.py", matches
    await done(client, "file_edit", path="total.py", edits=[{"old": " + 1", "new": ""}], **here)
    assert "+ 1" not in (await done(client, "file_read", path="total.py", **here))["content"]
    passed = await done(client, "command_run", command="python3 -B check.py", **here)
    assert passed["exit_code"] == 0 and passed["stdout"]["head"] == "passed\n", passed
    output = await client.read_resource(passed["stdout"]["resource"])
    assert output.contents[0].text == "passed\n", output

    started = await done(client, "command_start", command="cat", keep_stdin_open=True, **here)
    command = {"command": started["command"]}
    await done(client, "command_signal", stdin="hello\n", close_stdin=True, **command)
    while (await done(client, "command_poll", wait_seconds=10, **command))["state"] == "running":
        pass
    assert (await done(client, "command_poll", **command))["stdout"]["text"] == "hello\n"

    listed = await done(client, "file_list", **here)
    assert [entry["path"] for entry in listed["entries"]] == ["README", "check.py", "total.py"], listed
    forked = await done(client, "environment_fork", **here)
    await done(client, "environment_destroy", environment=forked["environments"][0]["environment"])
    restored = await done(client, "environment_restore", snapshot=snapshot["snapshot"], as_new=True)
    again = await done(client, "command_run", command="python3 -B check.py", environment=restored["environment"])
    assert again["exit_code"] == 1, again
    await done(client, "environment_destroy", environment=restored["environment"])

    # A client that loses patience cancels; what it waited for must not go on.
    try:
        await client.call_tool("command_run", {"command": "sleep 1000", **here}, read_timeout_seconds=0.5)
        raise AssertionError("a call of 1000 seconds came back")
    except Exception as error:
        assert "imed out" in str(error), error
    while (await done(client, "environment_list"))["environments"][0]["running_commands"]:
        await asyncio.sleep(0.02)

    diff = await done(client, "changes_diff", **here)
    assert [change["path"] for change in diff["changes"]] == ["check.py", "total.py"], diff
    applied = await done(client, "changes_apply", **here)
    assert applied["applied"] == ["check.py", "total.py"], applied
    await done(client, "environment_destroy", **here)
    told = await fails(client, "file_read", path="README", **here)
    assert "there is no environment" in told, told

    # Left behind on purpose: the server must not leave it behind.
    left = await done(client, "environment_create")
    await done(client, "command_start", environment=left["environment"], command="sleep 1000")


async def main():
    mode, transport, *rest = sys.argv[1:]
    if transport == "stdio":
        async with Client(StdioServerParameters(command=rest[0], args=rest[1:]), mode=mode) as client:
            await task(client)
            print(client.protocol_version)
    else:
        url, token = rest
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                await task(client)
                print(client.protocol_version)


asyncio.run(main())
