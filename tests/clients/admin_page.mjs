// Somebody who looks at the admin page of a service, and presses its buttons.
//
//     node admin_page.mjs http://127.0.0.1:PORT/
//
// Each line of stdin is something to do, as JSON: {"look": true}; {"press": "upgrade"}, which says yes to
// what is asked back; {"token": "…"}, which is typed; {"shot": "file.png"}. Each is answered by a line
// of JSON with what can be seen on the page then. The browser is that of chromium.mjs.

import readline from 'node:readline';

import { launch } from './chromium.mjs';

// Runs in the page, which has nothing of what is around this function.
function seen() {
  const all = (selector, of) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility()).map(of);
  const text = (selector) => all(selector, (one) => one.textContent)[0] ?? '';
  const table = (id) => all(`#${id} tr`, (row) => [...row.cells].map((cell) => cell.textContent));
  // At the right, where the newest is, how much of the height has the colour of a kind, in percent: the
  // first half of the points is the lower edge, from the left, the second the upper one, from the right.
  const height = ({ points }) => points[points.length / 2 - 1].y - points[points.length / 2].y;
  const drawn = all('#chart polygon', (shape) => [shape.textContent, Math.round(height(shape))]);
  return {
    title: text('#title'),
    standing: text('#standing'),
    remaining: text('#remaining'),
    reason: text('#reason'),
    step: text('#steps .now'),
    progress: text('#upgrade-progress'),
    failed: text('#failed'),
    outcome: text('#outcome'),
    token: all('#token', () => true).length > 0,
    buttons: all('#buttons button', (button) => [button.name, !button.disabled]),
    generations: table('generations'),
    holders: table('holders'),
    upgrades: table('upgrades'),
    listeners: table('listeners'),
    drawn: Object.fromEntries(drawn),
    wider: document.documentElement.scrollWidth > innerWidth,
  };
}

const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
const faults = [];
page.on('pageerror', (error) => faults.push(String(error)));
page.on('console', (message) => /Content Security Policy/.test(message.text()) && faults.push(message.text()));
page.on('dialog', (dialog) => dialog.accept());
await page.goto(process.argv[2]);
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { press, token, shot } = JSON.parse(line);
  if (press) await page.click(`button[name=${press}]`);
  if (token) await page.fill('#token', token);
  if (shot) await page.screenshot({ path: shot, fullPage: true });
  console.log(JSON.stringify({ ...(await page.evaluate(seen)), faults }));
}
await browser.close();
