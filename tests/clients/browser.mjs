// A browser whose pages hold WebSockets and EventSources over upgrades of their server.
//
//     node browser.mjs http://127.0.0.1:PORT WEBSOCKETS EVENTSOURCES MILLISECONDS
//     node browser.mjs https://localhost:PORT WEBSOCKETS EVENTSOURCES MILLISECONDS
//
// Each asks, or is sent an event, after so many milliseconds. A WebSocket that is closed comes back
// after the time in the reason of its close; an EventSource by itself. When every one of them has been
// told to go N times and has heard something since, the line `all N` is printed; when stdin ends, one
// line of JSON says what came of it. Where the scheme is https, certificates are not looked at.
//
// The browser is that of chromium.mjs.

import { launch } from './chromium.mjs';

// A browser opens six connections to one host over HTTP/1, and 256 for all pages of a profile, and as
// many for WebSockets. So the clients of one profile are dealt out to frames, each with a host of its own.
const OF_A_FRAME = 5;
const OF_A_PROFILE = 200;
const HOSTS = 'clients.test';

const [base, ...numbers] = process.argv.slice(2);
const [websockets, eventsources, pause] = numbers.map(Number);
const { protocol, port } = new URL(base);
const failures = [];
const latest = Array(websockets + eventsources).fill(-1);
let agreed = -1;

function failed(failure) {
  console.error(failure);
  failures.push(failure);
}

function arrived(number, told) {
  latest[number] = told;
  if (told !== agreed && latest.every((other) => other === told)) {
    agreed = told;
    console.log(`all ${told}`);
  }
}

// Runs in a frame, which has nothing of what is around this function.
function live({ websockets, eventsources, pause }) {
  const seen = { codes: [], ends: 0, came: 0, reconnects: [], waits: [] };
  window.seen = seen;

  function client(number) {
    let heardAt = -1;
    return {
      told: 0,
      heard() {
        seen.came += 1;
        if (heardAt !== this.told) window.arrived(number, (heardAt = this.told));
      },
    };
  }

  // Asks one thing after another, and again what was not answered.
  function talk(number) {
    const self = client(number);
    let asked = 0;
    function open() {
      const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws`);
      const ask = () => socket.readyState === WebSocket.OPEN && socket.send(String(asked));
      socket.onopen = ask;
      socket.onmessage = ({ data }) => {
        if (data !== String(asked)) window.failed(`WebSocket ${number}: ${data} for ${asked}`);
        asked += 1;
        self.heard();
        setTimeout(ask, pause);
      };
      socket.onclose = ({ code, reason, wasClean }) => {
        seen.codes.push(code);
        const time = /, retry in ([0-9.]+) s$/.exec(reason);
        if (!wasClean || !time) {
          window.failed(`WebSocket ${number}: ${code} ${JSON.stringify(reason)}, clean: ${wasClean}`);
          return;
        }
        self.told += 1;
        setTimeout(() => {
          seen.reconnects.push(Date.now());
          open();
        }, 1000 * time[1]);
      };
    }
    open();
  }

  // Comes back by itself, after the time that it was told; and it sends the id of its last event.
  function listen(number) {
    const self = client(number);
    const source = new EventSource(`/sse?ms=${pause}`);
    let [last, pid, ended] = [null, null, null];
    source.onopen = () => {
      if (ended === null) return;
      const now = Date.now();
      seen.reconnects.push(now);
      seen.waits.push(now - ended);
      [pid, ended] = [null, null];
    };
    source.onmessage = ({ data, lastEventId }) => {
      const id = Number(lastEventId);
      if (last !== null && id !== last + 1) window.failed(`EventSource ${number}: ${id} after ${last}`);
      if (pid !== null && pid !== data) window.failed(`EventSource ${number}: ${data} within ${pid}`);
      [last, pid] = [id, data];
      self.heard();
    };
    // Once for an end, and once more for each attempt to come back that fails.
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) {
        window.failed(`EventSource ${number} has given up, after ${last}`);
        return;
      }
      seen.ends += 1;
      self.told += 1;
      ended = Date.now();
    };
  }

  websockets.forEach(talk);
  eventsources.forEach(listen);
}

// So many of all numbers, as evenly as that goes.
function deal(numbers, piles) {
  return Array.from({ length: piles }, (_, pile) => numbers.filter((_, at) => at % piles === pile));
}

async function profile(browser, at, sockets, sources) {
  const context = await browser.newContext({ ignoreHTTPSErrors: protocol === 'https:' });
  await context.exposeFunction('arrived', arrived);
  await context.exposeFunction('failed', failed);
  const page = await context.newPage();
  page.on('crash', () => failed(`page ${at} has crashed`));
  const host = (name) => `${protocol}//${name}.${HOSTS}:${port}/`;
  await page.goto(host(`page${at}`));
  const frames = Math.max(1, Math.ceil(sources.length / OF_A_FRAME));
  const [talkers, listeners] = [deal(sockets, frames), deal(sources, frames)];
  for (let number = 0; number < frames; number += 1) {
    const element = await page.evaluateHandle((address) => {
      const frame = document.createElement('iframe');
      frame.src = address;
      return new Promise((loaded) => {
        frame.onload = () => loaded(frame);
        document.body.append(frame);
      });
    }, host(`frame${number}.page${at}`));
    const frame = await element.contentFrame();
    await frame.evaluate(live, { websockets: talkers[number], eventsources: listeners[number], pause });
    console.log(`frame ${number} of page ${at}`);
  }
  return page.frames().slice(1);
}

const browser = await launch(`--host-resolver-rules=MAP *.${HOSTS} 127.0.0.1`, '--renderer-process-limit=2');
const profiles = Math.max(1, Math.ceil(Math.max(websockets, eventsources) / OF_A_PROFILE));
const all = [...latest.keys()];
const sockets = deal(all.slice(0, websockets), profiles);
const sources = deal(all.slice(websockets), profiles);
const frames = [];
for (let at = 0; at < profiles; at += 1) {
  frames.push(...(await profile(browser, at, sockets[at], sources[at])));
}
console.log(`Chromium ${browser.version()}`);
for await (const _ of process.stdin);
const seen = await Promise.all(frames.map((frame) => frame.evaluate(() => window.seen)));
const every = (name) => seen.flatMap((one) => one[name]);
const sum = (name) => every(name).reduce((all, one) => all + one, 0);
const [codes, reconnects, waits] = [every('codes'), every('reconnects'), every('waits')];
await browser.close();
console.log(JSON.stringify({ codes, ends: sum('ends'), came: sum('came'), reconnects, waits, failures }));
