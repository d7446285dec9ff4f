// What recipes on Node.js have in common: their arguments, whose a token is, and how they serve. /orders/REF does the work
// as the library's documentation has it; /peek/REF is the path that somebody forgot.
'use strict';

const { parseArgs } = require('node:util');

const text = { type: 'string' };
const { values } = parseArgs({ options: { upstream: text, truth: text, tokens: text, mode: text, pool: text } });
const options = { ...values, upstream: Number(values.upstream), pool: Number(values.pool), tokens: JSON.parse(values.tokens) };
const numbers = { acme: 1842, globex: 2077 };
const url = `postgres://app@127.0.0.1:${options.upstream}/shop`;

function bearer(headers) {
  return (headers.authorization ?? '').replace('Bearer ', '');
}

// `work(tenant, ref, forgot, token)` gives rows.
function serve(work) {
  const app = require('express')();
  app.get('/:kind/:ref', async (request, response) => {
    const token = bearer(request.headers);
    try {
      const rows = await work(options.tokens[token], request.params.ref, request.params.kind, token);
      response.json({ rows, ref: request.params.ref });
    } catch (error) {
      response.status(500).json({ error: String(error), stack: error.stack });
    }
  });
  const server = app.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
  server.keepAliveTimeout = 300_000;
}

module.exports = { options, numbers, url, bearer, serve };
