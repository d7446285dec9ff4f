// What the lab's shared services on Node.js have in common: their arguments, whose a bearer token is, the truth, and
// serving. As service_common.py.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { parseArgs } = require('node:util');

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: { upstream: text, truth: text, tokens: text, mode: text, pool: text, comment: { type: 'boolean' } },
});
const tokens = JSON.parse(options.tokens);
const truth = fs.openSync(options.truth, 'a');
const ordinals = new Map();
// Where what is said is encrypted.
const certificate = process.env.LAB_CERTIFICATE;

// Called right before an operation is sent.
function works(port, tenant) {
  const ordinal = ordinals.get(port) ?? 0;
  ordinals.set(port, ordinal + 1);
  fs.writeSync(truth, JSON.stringify({ port, ordinal, tenant, at: Date.now() / 1000 }) + '\n');
}

// The tenant that the request's token stands for; undefined when it stands for nobody.
function whose(request) {
  return tokens[(request.headers.authorization ?? '').replace('Bearer ', '')];
}

// Serves `answer`, which gives a status and a body for a request.
function serve(answer) {
  const own = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(process.env.LAB_KEY) } : {};
  const server = (certificate ? https : http).createServer(own, (request, response) => {
    answer(request)
      .catch((error) => [500, { error: String(error) }])
      .then(([status, body]) => {
        const whole = JSON.stringify(body);
        response.writeHead(status, {
          'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(whole),
        });
        response.end(whole);
      });
  });
  server.keepAliveTimeout = 300_000;
  server.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
}

module.exports = { certificate, options, serve, whose, works };
