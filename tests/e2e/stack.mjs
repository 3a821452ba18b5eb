// The stack under test: the built example app, the gateway in front of it, a scratch database. All of it is gone afterwards.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request as httpRequest } from "node:http";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const APP = join(ROOT, "examples/nextjs");
const CONFIG = join(ROOT, "config/examples/nextjs.toml");
const READY_MS = 60_000;
const STOP_MS = 10_000;
const LOG_BYTES_MAX = 256 * 1024;
const LOG_LINES_SHOWN = 40;

export const DEMO = { email: "demo@example.com", password: "demo-password-1" };
export const ADMIN = { email: "admin@example.com", password: "admin-password-1" };

/** Waits until `ask` gives something truthy, asking again and again, and gives that. */
export async function until(what, ask, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

/** One HTTP request, nothing followed, nothing added. `onResponse` may take over the body. */
export function http(url, { method = "GET", headers = {}, body, onResponse } = {}) {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers, agent: false, timeout: 20_000 }, (response) => {
      if (onResponse) return resolve(onResponse(response, request));
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        resolve({
          status: response.statusCode,
          headers: response.headers,
          setCookie: response.headers["set-cookie"] ?? [],
          text,
          json: () => JSON.parse(text),
        });
      });
    });
    request.on("timeout", () => request.destroy(new Error(`no answer: ${method} ${url}`)));
    request.on("error", reject);
    request.end(body);
  });
}

/** A port that is free now. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A process with the tail of what it said. */
class Process {
  constructor(name, command, args, options) {
    this.name = name;
    this.log = "";
    this.child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk) => (this.log = (this.log + chunk).slice(-LOG_BYTES_MAX));
    this.child.stdout.on("data", keep);
    this.child.stderr.on("data", keep);
    this.ended = new Promise((resolve) => {
      this.child.on("error", (error) => {
        keep(`${error}\n`);
        resolve({ code: null });
      });
      this.child.on("exit", (code, signal) => resolve({ code, signal }));
    });
    this.ended.then((end) => (this.end = end));
  }

  tail() {
    const lines = this.log.trimEnd().split("\n");
    return [`--- ${this.name}, last lines ---`, ...lines.slice(-LOG_LINES_SHOWN)].join("\n");
  }

  async stop() {
    if (this.end || !this.child.pid) return;
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    await this.ended;
    clearTimeout(timer);
  }
}

export class Stack {
  processes = [];

  static async start() {
    const stack = new Stack();
    try {
      await stack.#start();
      return stack;
    } catch (error) {
      error.message += `\n${stack.tails()}`;
      await stack.stop();
      throw error;
    }
  }

  async #start() {
    const gateway = gatewayBinary();
    if (!existsSync(join(APP, ".next/BUILD_ID"))) {
      throw new Error("the example app is not built: (cd examples/nextjs && npm ci && npm run build)");
    }
    this.directory = mkdtempSync(join(tmpdir(), "vestibule-e2e-"));
    const [listen, admin, upstream] = await Promise.all([freePort(), freePort(), freePort()]);
    this.origin = `http://localhost:${listen}`;
    this.address = `http://127.0.0.1:${listen}`; // where it really listens
    this.host = `localhost:${listen}`;
    this.admin = `http://127.0.0.1:${admin}`;
    this.upstream = `http://127.0.0.1:${upstream}`;
    const file = join(this.directory, "app.db");
    const inherited = Object.fromEntries(["PATH", "HOME", "TMPDIR", "LANG", "RUST_LOG"].map((key) => [key, process.env[key]]));
    const secret = randomBytes(33).toString("base64");
    this.adminToken = randomBytes(16).toString("hex");
    this.gatewayEnv = {
      ...inherited,
      BETTER_AUTH_SECRET: secret,
      VESTIBULE_UPSTREAM__URL: this.upstream,
      VESTIBULE_SESSIONS__SOURCE: `sqlite:${file}`,
      VESTIBULE_ADMIN_TOKEN: this.adminToken,
    };
    const appEnv = {
      ...inherited,
      NODE_ENV: "production",
      NEXT_TELEMETRY_DISABLED: "1",
      BETTER_AUTH_SECRET: secret,
      BETTER_AUTH_URL: this.origin,
      DATABASE_URL: `sqlite:${file}`,
      AUTH_RATE_LIMIT: "off",
      // Some checks put gateways of their own in front of it.
      BETTER_AUTH_TRUSTED_ORIGINS: "http://localhost:*",
    };
    this.appEnv = appEnv;

    for (const script of ["migrate", "seed"]) {
      const run = this.#spawn(script, process.execPath, [`scripts/${script}.mjs`], { cwd: APP, env: appEnv });
      const { code } = await run.ended;
      if (code !== 0) throw new Error(`${script} failed`);
    }
    const Database = createRequire(join(APP, "package.json"))("better-sqlite3");
    this.database = new Database(file);
    this.database.pragma("busy_timeout = 5000");

    this.#spawn("app", process.execPath, ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", String(upstream)], {
      cwd: APP,
      env: appEnv,
    });
    this.#spawn("gateway", gateway, ["serve", "--config", CONFIG], {
      cwd: this.directory,
      env: {
        ...this.gatewayEnv,
        VESTIBULE_NEXTJS__APP: APP, // its build: routes and Server Actions
        VESTIBULE_LISTEN: `127.0.0.1:${listen}`,
        VESTIBULE_ADMIN: `127.0.0.1:${admin}`,
        VESTIBULE_PUBLIC_URL: this.origin,
      },
    });
    await this.#ready("app", `${this.upstream}/`);
    await this.#ready("gateway", `${this.admin}/readyz`);
  }

  /** Another gateway in front of the same app, with other settings, and without the app's build. */
  async gateway(name, env) {
    const [listen, admin] = await Promise.all([freePort(), freePort()]);
    const origin = `http://localhost:${listen}`;
    const running = this.#spawn(name, gatewayBinary(), ["serve", "--config", CONFIG], {
      cwd: this.directory,
      env: {
        ...this.gatewayEnv,
        VESTIBULE_LISTEN: `127.0.0.1:${listen}`,
        VESTIBULE_ADMIN: `127.0.0.1:${admin}`,
        VESTIBULE_PUBLIC_URL: origin,
        ...env,
      },
    });
    await this.#ready(name, `http://127.0.0.1:${admin}/readyz`);
    return { origin, running };
  }

  /** The app's development server behind `vestibule dev`, with a page of its own. */
  async develop() {
    const [listen, admin, upstream] = await Promise.all([freePort(), freePort(), freePort()]);
    const origin = `http://localhost:${listen}`;
    const folder = join(APP, "app/made-by-a-test");
    const write = (text) => {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "page.tsx"), `export default function Page() {\n  return <p id="made">${text}</p>;\n}\n`);
    };
    const next = join(APP, "node_modules/next/dist/bin/next");
    write("before");
    const running = this.#spawn("dev", gatewayBinary(), ["dev", "--config", CONFIG, "--wait", "120", "--", process.execPath, next, "dev", "-H", "127.0.0.1"], {
      cwd: APP,
      env: {
        ...this.appEnv,
        ...this.gatewayEnv,
        NODE_ENV: "development",
        BETTER_AUTH_URL: origin,
        VESTIBULE_LISTEN: `127.0.0.1:${listen}`,
        VESTIBULE_ADMIN: `127.0.0.1:${admin}`,
        VESTIBULE_UPSTREAM__URL: `http://127.0.0.1:${upstream}`,
      },
    });
    const stop = async () => {
      await running.stop();
      rmSync(folder, { recursive: true, force: true });
      return running.end;
    };
    try {
      await this.#ready("dev", `http://127.0.0.1:${admin}/readyz`, 120_000);
    } catch (error) {
      await stop();
      error.message += `\n${running.tail()}`;
      throw error;
    }
    return { origin, address: `http://127.0.0.1:${listen}`, write, stop, upstream: `http://127.0.0.1:${upstream}` };
  }

  /** A server on another origin that looks like a sign-in page, or sends everybody straight back. It remembers what it was asked. */
  async signInElsewhere() {
    const asked = [];
    const server = createHttpServer((request, response) => {
      asked.push({ url: request.url, dest: request.headers["sec-fetch-dest"] });
      const back = new URL(request.url, "http://here.invalid").searchParams.get("callbackURL");
      if (elsewhere.sendsBackTo && back) {
        response.writeHead(302, { location: elsewhere.sendsBackTo + back });
        return response.end();
      }
      response.writeHead(200, { "content-type": "text/html" });
      response.end("<!doctype html><title>Sign in</title><h1>Sign in elsewhere</h1>");
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const elsewhere = {
      asked,
      url: `http://127.0.0.1:${server.address().port}/login`,
      stop: () => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()),
    };
    return elsewhere;
  }

  #spawn(name, command, args, options) {
    const started = new Process(name, command, args, options);
    this.processes.push(started);
    return started;
  }

  #ready(name, url, ms = READY_MS) {
    return until(
      `${name} is ready`,
      async () => {
        const ended = this.processes.find((one) => one.name === name).end;
        if (ended) throw new Error(`${name} ended with ${ended.code ?? ended.signal}`);
        return http(url).then(
          ({ status }) => status === 200,
          () => false,
        );
      },
      ms,
    );
  }

  tails() {
    return this.processes.map((one) => one.tail()).join("\n");
  }

  async stop() {
    for (const one of [...this.processes].reverse()) await one.stop();
    this.database?.close();
    if (this.directory) rmSync(this.directory, { recursive: true, force: true });
  }

  /** A request through the gateway, as a browser's address bar would send it. */
  through(path, { headers, ...rest } = {}) {
    return http(this.address + path, { ...rest, headers: { host: this.host, ...headers } });
  }

  /** The same, as a script of the page would send it. */
  call(path, { headers, ...rest } = {}) {
    return this.through(path, {
      ...rest,
      headers: { accept: "application/json", origin: this.origin, "sec-fetch-mode": "cors", "sec-fetch-site": "same-origin", ...headers },
    });
  }

  /** Signs in without a browser; gives the answer and the `Cookie` text that it leads to. */
  async signIn(account, extra = {}, send = (path, options) => this.call(path, options)) {
    const answer = await send("/api/auth/sign-in/email", {
      method: "POST",
      headers: { "content-type": "application/json", origin: this.origin },
      body: JSON.stringify({ ...account, ...extra }),
    });
    if (answer.status !== 200) throw new Error(`sign-in answered ${answer.status}: ${answer.text.slice(0, 200)}`);
    return { answer, cookie: cookieText(answer.setCookie), token: answer.json().token };
  }

  /** The row of a session. */
  session(token) {
    const row = this.database.prepare('select * from "session" where "token" = ?').get(token);
    return row && { ...row, expiresAtMs: new Date(row.expiresAt).getTime() };
  }

  /** Moves a session's expiry, in the shape that the column has. */
  setExpiry(token, ms) {
    const { expiresAt } = this.session(token);
    const value = typeof expiresAt === "number" ? ms : new Date(ms).toISOString();
    this.database.prepare('update "session" set "expiresAt" = ? where "token" = ?').run(value, token);
  }

  /** Lets a session be over, and the gateway look at it again. */
  async expire(token) {
    this.setExpiry(token, Date.now() - 60_000);
    const { status } = await http(`${this.admin}/sessions/evict`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.adminToken}`, "content-type": "application/json" },
      body: '{"all":true}',
    });
    if (status !== 204) throw new Error(`evicting answered ${status}`);
  }

  setRole(email, role) {
    this.database.prepare('update "user" set "role" = ? where "email" = ?').run(role, email);
  }

  notes() {
    return this.database.prepare('select * from "note"').all();
  }
}

/** `Set-Cookie` lines to the `Cookie` text a browser would send back. */
export function cookieText(setCookie) {
  return setCookie
    .filter((line) => !/;\s*max-age=0/i.test(line))
    .map((line) => line.split(";")[0])
    .join("; ");
}

function gatewayBinary() {
  const target = process.env.CARGO_TARGET_DIR || join(ROOT, "target");
  const candidates = process.env.VESTIBULE_BIN ? [process.env.VESTIBULE_BIN] : [join(target, "release/vestibule"), join(target, "debug/vestibule")];
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error(`no gateway at ${candidates.join(" or ")}: run cargo build, or set VESTIBULE_BIN`);
  return resolve(found);
}
