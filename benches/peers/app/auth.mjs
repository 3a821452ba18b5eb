// Better Auth as both peers have it: the fewest plugins (none), no logs, no rate limits, the fastest database it has.
import { betterAuth } from "better-auth";
import Database from "better-sqlite3";
import { Kysely, SqliteDialect } from "kysely";

/** The file's one connection; readers and the writer do not wait for each other. */
function open(path) {
  const file = new Database(path);
  file.pragma("journal_mode = WAL");
  file.pragma("synchronous = NORMAL");
  file.pragma("busy_timeout = 5000");
  return { db: new Kysely({ dialect: new SqliteDialect({ database: file }) }), type: "sqlite" };
}

/** What Better Auth is told. `PEERS_COOKIE_CACHE=1` has it believe the sealed cookie for an hour. */
export function options() {
  return {
    baseURL: process.env.PEERS_URL,
    secret: process.env.BETTER_AUTH_SECRET,
    database: open(process.env.PEERS_DATABASE),
    session: { cookieCache: { enabled: process.env.PEERS_COOKIE_CACHE === "1", maxAge: 3600, strategy: "compact" } },
    logger: { disabled: true },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
  };
}

let made;

/** Made when it is first asked for: a build has neither secret nor database. */
export function auth() {
  made ??= betterAuth(options());
  return made;
}
