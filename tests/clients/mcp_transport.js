// An MCP server on the official TypeScript SDK, in the version that its argument names, with one transport for everybody
// that connects: CVE-2026-25536, where replies are routed by the request's id alone. Prints PORT N when it listens.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");

const sdk = `mcp-sdk-${process.argv[2]}`;
const { Server } = require(`${sdk}/server/index.js`);
const { StreamableHTTPServerTransport } = require(`${sdk}/server/streamableHttp.js`);
const { CallToolRequestSchema, ListToolsRequestSchema } = require(`${sdk}/types.js`);

const schema = { type: "object", properties: { order_id: { type: "string" } } };

async function main() {
  const server = new Server({ name: "lab-echo", version: "1.0.0" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, async () => ({
    tools: [{ name: "slow", description: "Give back the reference, later.", inputSchema: schema }],
  }));
  server.setRequestHandler(CallToolRequestSchema, async (request) => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    const text = JSON.stringify({ order_id: request.params.arguments.order_id });
    return { content: [{ type: "text", text }] };
  });
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await server.connect(transport);

  const certificate = process.env.LAB_CERTIFICATE;
  const tls = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(process.env.LAB_KEY) } : {};
  const web = (certificate ? https : http).createServer(tls, async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
    try {
      await transport.handleRequest(request, response, body);
    } catch (error) {
      if (!response.headersSent) response.writeHead(500).end();
    }
  });
  web.listen(0, "127.0.0.1", () => console.log(`PORT ${web.address().port}`));
}

main();
