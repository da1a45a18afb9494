// Calls a gRPC server over upgrades, and tells what was not OK.
//
//     node grpc_calls.mjs 127.0.0.1:PORT proto/echo.proto
//     node grpc_calls.mjs localhost:PORT proto/echo.proto authority.pem    over TLS
//
// Some callers do unary calls, some hold streams open. Each client has a connection of its own,
// shared by its callers, and no retry policy: what is repeated is what the library repeats by
// itself. A stream that ends with UNAVAILABLE, with trailers, is opened again. When all callers have
// been answered by one process, and it is another one than before, the line `all PID` is printed;
// when stdin ends, one line of JSON says what came of it. The packages are looked for below
// HANDOVER_TEST_TOOLS.

import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const tools = process.env.HANDOVER_TEST_TOOLS;
const require = createRequire(path.join(tools, 'node', 'package.json'));
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const CLIENTS = 4;
const UNARY = 5; // of each client
const STREAMS = 5;
const TIME_LIMIT = 15_000;

const [address, proto, authority] = process.argv.slice(2);
const credentials = authority
  ? grpc.credentials.createSsl(fs.readFileSync(authority))
  : grpc.credentials.createInsecure();
const definition = protoLoader.loadSync(proto, { keepCase: true });
const { Echo } = grpc.loadPackageDefinition(definition).handover.reference.v1;
const result = { calls: 0, streams: 0, resumed: 0, failures: [] };
const latest = Array(CLIENTS * (UNARY + STREAMS)).fill(null);
let stopped = false;
let agreed = null;

function answered(number, pid) {
  latest[number] = pid;
  if (pid !== agreed && latest.every((other) => other === pid)) {
    agreed = pid;
    console.log(`all ${pid}`);
  }
}

async function failed(what, error) {
  result.failures.push(`${what}: ${error.code ?? ''} ${error.details ?? error.message}`);
  await pause(10);
}

async function call(number, echo) {
  while (!stopped) {
    result.calls += 1;
    const request = { message: `${number}`, delay_ms: [0, 0, 5, 20][Math.floor(Math.random() * 4)] };
    const deadline = Date.now() + TIME_LIMIT;
    try {
      const reply = await new Promise((resolve, reject) => {
        echo.Unary(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
      });
      if (reply.message !== request.message) throw new Error(`answered ${reply.message}`);
      answered(number, reply.pid);
    } catch (error) {
      await failed('unary', error);
    }
    await pause(Math.random() * 50);
  }
}

async function follow(number, echo) {
  while (!stopped) {
    result.streams += 1;
    // Some have an end of their own, and come to it.
    const count = Math.random() < 0.3 ? 40 : 0;
    const ticks = echo.Ticks({ count, interval_ms: 10 });
    let seen = 0;
    try {
      for await (const tick of ticks) {
        if ((tick.index ?? 0) !== seen) throw new Error(`tick ${tick.index} in place of ${seen}`);
        seen += 1;
        answered(number, tick.pid);
        if (stopped) {
          ticks.on('error', () => {});
          ticks.cancel();
          return;
        }
      }
      if (seen !== count) throw new Error(`ended with OK after ${seen} of ${count}`);
    } catch (error) {
      const polite = error.details === 'server draining' && error.metadata !== undefined;
      if (error.code !== grpc.status.UNAVAILABLE || !polite) await failed('stream', error);
      result.resumed += 1;
    }
  }
}

const callers = [];
const clients = Array.from({ length: CLIENTS }, () => {
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  return new Echo(address, credentials, options);
});
for (const echo of clients) {
  for (let caller = 0; caller < UNARY + STREAMS; caller += 1) {
    callers.push((caller < UNARY ? call : follow)(callers.length, echo));
  }
}
for await (const _ of process.stdin);
stopped = true;
await Promise.all(callers);
for (const echo of clients) echo.close();
console.log(JSON.stringify(result));
