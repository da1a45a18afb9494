// The browser of the tests: Chromium, which HANDOVER_CHROMIUM names, or `chromium` of the PATH. The
// package that drives it is looked for below HANDOVER_TEST_TOOLS.

import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.join(process.env.HANDOVER_TEST_TOOLS, 'node', 'package.json'));
const { chromium } = require('playwright-core');

function program() {
  if (process.env.HANDOVER_CHROMIUM) return process.env.HANDOVER_CHROMIUM;
  const found = process.env.PATH.split(':').map((directory) => path.join(directory, 'chromium'));
  return found.find((file) => fs.existsSync(file)) ?? 'chromium';
}

export function launch(...args) {
  return chromium.launch({ executablePath: program(), args });
}
