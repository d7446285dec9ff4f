// node shot.mjs DASHBOARD.json PROMETHEUS-URL OUT.png SECONDS [variable=value ...]: serves the page to a headless Chromium,
// takes its picture, and fails when a panel has an error or has drawn nothing.
import fs from 'node:fs';
import http from 'node:http';
import puppeteer from 'puppeteer-core';

const [, , file, prometheus, out, seconds, ...set] = process.argv;
const dash = JSON.parse(fs.readFileSync(file, 'utf8'));
const values = Object.fromEntries(set.map((s) => s.split(/=(.*)/s).slice(0, 2)));
const own = (name) => fs.readFileSync(new URL(name, import.meta.url));
const inline = (value) => JSON.stringify(value).replaceAll('<', '\\u003c');
const page = `<!doctype html><meta charset=utf-8><link rel=stylesheet href=/render.css>
<body style="background:#111217;margin:0"><div id=root></div>
<script>window.DASH=${inline(dash)};window.SECONDS=${Number(seconds)};window.VALUES=${inline(values)}</script>
<script src=/render.js></script>`;
const server = http.createServer(async (request, response) => {
  if (request.url.startsWith('/prometheus/')) {
    const answer = await fetch(prometheus + request.url.slice('/prometheus'.length));
    response.end(await answer.text());
  } else if (request.url === '/render.css' || request.url === '/render.js') {
    response.setHeader('content-type', request.url.endsWith('css') ? 'text/css' : 'text/javascript');
    response.end(own('.' + request.url));
  } else {
    response.setHeader('content-type', 'text/html');
    response.end(page);
  }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

const rows = Math.max(...dash.panels.map((p) => p.gridPos.y + p.gridPos.h));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
const problems = [];
try {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 24 * 60 + 8, height: rows * 36 + 56 });
  tab.on('pageerror', (e) => problems.push(`page: ${String(e.message).slice(0, 300)}`));
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.waitForSelector('body[data-ready="1"]', { timeout: 60_000 });
  await tab.screenshot({ path: out });
  const panels = await tab.$$eval('[data-panel]', (all) => all.map((e) => ({
    title: e.dataset.panel, frames: +e.dataset.frames, error: e.dataset.error,
    broken: e.querySelector('[data-broken]')?.textContent, text: e.innerText.replace(/\s+/g, ' ').slice(0, 100),
  })));
  for (const p of panels) {
    if (p.error || p.broken) problems.push(`${p.title}: ${p.error || p.broken}`);
    console.log(`${p.frames > 0 ? 'drawn' : 'EMPTY'}  ${p.title}: ${p.text}`);
  }
} finally {
  await browser.close();
  server.close();
}
for (const p of problems) console.error(p);
process.exit(problems.length ? 1 : 0);
