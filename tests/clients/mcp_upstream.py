"""The other side of a gateway: calls another MCP server with the SDK's own client, one session for each call."""

import json

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


class Upstream:
    def __init__(self, port, tokens, ways):
        self.url, self.tokens, self.ways = f"http://127.0.0.1:{port}/mcp", tokens, ways

    async def orders(self, tenant, headers, arguments):
        if "pass-through" in self.ways:
            authorization = headers["authorization"]
        else:
            # One for everybody is a text, one for each tenant a table.
            token = self.tokens if isinstance(self.tokens, str) else self.tokens[tenant]
            authorization = f"Bearer {token}"
        async with streamablehttp_client(self.url, headers={"authorization": authorization}) as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                result = await session.call_tool("list_orders", {"ref": arguments["ref"]})
        return json.loads(result.content[0].text)
