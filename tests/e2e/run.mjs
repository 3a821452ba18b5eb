// Drives a real browser through the gateway. One line per check; the last line says how many passed and failed.
//
//   VESTIBULE_BIN=target/release/vestibule node tests/e2e/run.mjs [WORDS…]
//
// WORDS narrow it to the checks whose names hold one of them. CHROMIUM names the browser (default: /usr/bin/chromium).
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import { CHECKS } from "./checks.mjs";
import { Stack } from "./stack.mjs";

const ALL_MS = 12 * 60_000;
const ONE_MS = 45_000;
const STEP_MS = 15_000;

const only = process.argv.slice(2);
const chosen = CHECKS.filter(({ name }) => only.length === 0 || only.some((word) => name.includes(word)));

let stack;
let browser;
let passed = 0;
let failed = 0;

async function close() {
  await browser?.close().catch(() => {});
  await stack?.stop();
}

async function finish() {
  if (failed > 0 && stack) console.log(stack.tails());
  await close();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed > 0 || passed === 0 ? 1 : 0);
}

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => close().finally(() => process.exit(130)));
setTimeout(() => {
  console.log(`FAIL  not finished after ${ALL_MS / 1000} s`);
  failed += 1;
  finish();
}, ALL_MS).unref();

try {
  const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";
  if (!existsSync(executablePath)) throw new Error(`no browser at ${executablePath}: apt-get install chromium, or set CHROMIUM`);
  stack = await Stack.start();
  browser = await chromium.launch({
    executablePath,
    headless: true,
    chromiumSandbox: process.getuid?.() !== 0, // Chromium refuses to sandbox itself for root
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
} catch (error) {
  console.log(`FAIL  the stack starts\n      ${error.message.replaceAll("\n", "\n      ")}`);
  failed += 1;
  await close();
  stack = undefined;
  await finish();
}

for (const { name, run, todo, ms = ONE_MS } of chosen) {
  const contexts = [];
  /** A browser of its own for this check: no cookies, no cache. */
  const open = async (options = {}) => {
    const context = await browser.newContext({ baseURL: stack.origin, ...options });
    context.setDefaultTimeout(STEP_MS);
    contexts.push(context);
    return context;
  };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${ms / 1000} s`)), ms);
  });
  const begun = Date.now();
  try {
    await Promise.race([run({ stack, open }), late]);
    passed += 1;
    console.log(`ok    ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    if (todo) {
      console.log(`todo  ${name}: ${error.message}`);
      continue;
    }
    failed += 1;
    console.log(`FAIL  ${name}\n      ${String(error?.stack ?? error).replaceAll("\n", "\n      ")}`);
  } finally {
    clearTimeout(timer);
    for (const context of contexts) await context.close().catch(() => {});
  }
}
await finish();
