// The built example app as `next start` serves it, on a database of its own. One line on standard output tells the port and the build;
// it ends when its standard input does, and takes the app with it.
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const APP = join(dirname(fileURLToPath(import.meta.url)), "../../examples/nextjs");
const directory = mkdtempSync(join(tmpdir(), "vestibule-next-"));
const inherited = Object.fromEntries(["PATH", "HOME", "TMPDIR", "LANG"].map((key) => [key, process.env[key]]));
const env = {
  ...inherited,
  NODE_ENV: "production",
  NEXT_TELEMETRY_DISABLED: "1",
  BETTER_AUTH_SECRET: randomBytes(33).toString("base64"),
  BETTER_AUTH_URL: "http://app.test",
  DATABASE_URL: `sqlite:${join(directory, "app.db")}`,
  AUTH_RATE_LIMIT: "off",
};

let app;
function stop(code) {
  app?.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
  process.exit(code);
}

for (const script of ["migrate", "seed"]) {
  const { status, stderr } = spawnSync(process.execPath, [`scripts/${script}.mjs`], { cwd: APP, env });
  if (status !== 0) {
    console.error(`${script} failed: ${stderr}`);
    stop(1);
  }
}

// Port 0: the system finds a free one, and the app says which.
app = spawn(process.execPath, ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", "0"], { cwd: APP, env, stdio: ["ignore", "pipe", "pipe"] });
// Told only when it does not start: what it says of odd addresses later is expected.
let complaints = "";
app.stderr.on("data", (piece) => (complaints = (complaints + piece).slice(-4096)));
app.on("exit", () => {
  if (said !== undefined) console.error(`the app ended: ${complaints}`);
  stop(1);
});
let said = "";
app.stdout.on("data", (piece) => {
  if (said === undefined) return;
  said += piece;
  const port = /http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
  if (!port || !/Ready/.test(said)) return;
  said = undefined;
  console.log(JSON.stringify({ port: Number(port), build: readFileSync(join(APP, ".next/BUILD_ID"), "utf8").trim() }));
});
process.stdin.on("end", () => stop(0)).resume();
