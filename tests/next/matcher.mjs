// Asks Next.js itself when its middleware would run. One question a line on standard input, one answer a line on standard output.
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

// Next.js expects its own runtime to have put it there.
globalThis.AsyncLocalStorage = AsyncLocalStorage;
const require = createRequire(path.join(process.cwd(), 'package.json'));
const { unstable_doesMiddlewareMatch: matches } = require('next/experimental/testing/server');

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { matcher, nextConfig, url, headers, cookies } = JSON.parse(line);
  let answer;
  try {
    answer = { matches: matches({ config: { matcher }, nextConfig, url, headers, cookies }) };
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
