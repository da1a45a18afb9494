// Asks a server over persistent connections, and tells what was lost.
//
//     node keepalive.mjs http://127.0.0.1:PORT
//     node keepalive.mjs https://localhost:PORT authority.pem
//
// Each connection belongs to an http.Agent of its own, which keeps it open. Node retries nothing by
// itself. Pauses between two requests are mostly short, and long, up to two seconds, for every other
// connection. When every connection has had an answer, the line `started` is printed; when stdin
// ends, each finishes its request, and one line of JSON says what came of it.

import { setMaxListeners } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';

const CONNECTIONS = 12;
const SHORT = [0, 50];
const LONG = [100, 2000];
const TIME_LIMIT = 15_000;

const base = new URL(process.argv[2]);
// Who vouches for the server, over TLS.
const ca = process.argv[3] && fs.readFileSync(process.argv[3]);
const scheme = ca ? https : http;
const stop = new AbortController();
setMaxListeners(0, stop.signal);
const result = { requests: 0, told: 0, failures: [] };
const latest = Array(CONNECTIONS).fill(null);
let agreed = null;

function ask(agent, path) {
  return new Promise((resolve, reject) => {
    const request = scheme.get(new URL(path, base), { agent, timeout: TIME_LIMIT }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('error', reject);
      // Also comes when the body is cut short; `complete` tells the two apart.
      response.on('close', () => {
        if (!response.complete) reject(new Error('the body was cut short'));
        else resolve({ response, body: Buffer.concat(pieces).toString() });
      });
    });
    request.on('timeout', () => request.destroy(new Error(`no answer in ${TIME_LIMIT} ms`)));
    request.on('error', (error) => {
      error.message += request.reusedSocket ? ' (on a kept connection)' : ' (on a new connection)';
      reject(error);
    });
  });
}

function take(number, { response, body }) {
  const pid = response.headers['x-pid'];
  if (response.statusCode !== 200 || body !== `pid=${pid}\nok\n`) {
    throw new Error(`status ${response.statusCode}, ${JSON.stringify(body)}`);
  }
  if (response.headers.connection === 'close') result.told += 1;
  latest[number] = pid;
  if (pid !== agreed && latest.every((other) => other === pid)) {
    agreed = pid;
    console.log(`all ${pid}`);
  }
}

async function drive(number) {
  const [from, to] = number % 2 ? LONG : SHORT;
  const agent = new scheme.Agent({ keepAlive: true, maxSockets: 1, ca });
  for (let n = 1; !stop.signal.aborted; n += 1) {
    result.requests += 1;
    try {
      take(number, await ask(agent, n % 4 === 0 ? '/slow?ms=20' : '/'));
    } catch (error) {
      result.failures.push(`request ${n}: ${error.code ?? ''} ${error.message}`);
      await pause(10);
    }
    await pause(from + Math.random() * (to - from), undefined, { signal: stop.signal }).catch(() => {});
  }
  agent.destroy();
}

const drives = Array.from({ length: CONNECTIONS }, (_, number) => drive(number));
for await (const _ of process.stdin);
stop.abort();
await Promise.all(drives);
console.log(JSON.stringify(result));
