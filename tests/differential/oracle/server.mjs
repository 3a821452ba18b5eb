// A real Better Auth server. Its configuration is the first line of standard input; its port is the first line of standard
// output; it ends when standard input does, so that it never outlives the test that started it.
import { createHash, createHmac, createSecretKey } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { apiKey } from "@better-auth/api-key";
import { redisStorage } from "@better-auth/redis-storage";
import { betterAuth } from "better-auth";
import { symmetricDecrypt, symmetricEncodeJWT } from "better-auth/crypto";
import { getMigrations } from "better-auth/db/migration";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { admin, bearer, jwt, multiSession, organization, phoneNumber, twoFactor, username } from "better-auth/plugins";
import Database from "better-sqlite3";
import { Redis } from "ioredis";
import { SignJWT, importJWK } from "jose";
import { Kysely, MysqlDialect, PostgresDialect, SqliteDialect } from "kysely";

const { Pool } = createRequire(import.meta.url)("pg");
const { createPool } = createRequire(import.meta.url)("mysql2");

/** Codes a user would find in their mail, by address. */
const mailed = new Map();

/** Links to a new password that a user would find there. */
const links = [];

const PLUGINS = {
  admin,
  apiKey,
  bearer,
  jwt,
  multiSession,
  organization: (options) => organization({ ...options, async sendInvitationEmail() {} }),
  phoneNumber: (options) => phoneNumber({ ...options, async sendOTP() {} }),
  username,
  twoFactor: (options) =>
    twoFactor({ ...options, otpOptions: { async sendOTP({ user, otp }) { mailed.set(user.email, otp); } } }),
};

/** What the test asks for: `options` as Better Auth takes them, `plugins` by name, and where things are stored. */
async function start({ options, plugins, sqlite, postgres, mysql, redis, redisPrefix, origins, realPasswords, sendsLinks }) {
  const stores = {};
  let query = async () => { throw new Error("there is no database"); };
  if (sqlite) {
    const file = new Database(sqlite);
    // The gateway reads while we write.
    file.pragma("journal_mode = WAL");
    file.pragma("busy_timeout = 5000");
    stores.database = { db: new Kysely({ dialect: new SqliteDialect({ database: file }) }), type: "sqlite" };
    query = async (sql) => {
      const statement = file.prepare(sql);
      return statement.reader ? statement.all() : [statement.run()];
    };
  } else if (postgres) {
    const pool = new Pool({ connectionString: postgres });
    stores.database = { db: new Kysely({ dialect: new PostgresDialect({ pool }) }), type: "postgres" };
    query = async (sql) => (await pool.query(sql)).rows;
  } else if (mysql) {
    // As the framework's documentation has it: dates are written in UTC whatever the server's own zone is.
    const pool = createPool({ uri: mysql, timezone: "Z" });
    stores.database = { db: new Kysely({ dialect: new MysqlDialect({ pool }) }), type: "mysql" };
    query = async (sql) => (await pool.promise().query(sql))[0];
  }
  const client = redis ? new Redis(redis, { lazyConnect: true }) : undefined;
  if (client) {
    await client.connect();
    const keyPrefix = redisPrefix === undefined ? {} : { keyPrefix: redisPrefix };
    stores.secondaryStorage = redisStorage({ client, ...keyPrefix });
  }
  const configured = {
    ...options,
    ...stores,
    // Passwords are not what is compared here, and the usual hash is meant to be slow.
    emailAndPassword: {
      enabled: true,
      ...(realPasswords ? {} : { password: { hash: async (password) => sum(password), verify: async ({ hash, password }) => hash === sum(password) } }),
      ...(sendsLinks ? { async sendResetPassword({ user, token }, request) { links.push({ email: user.email, token, client: request?.headers.get("x-forwarded-for"), origin: request?.headers.get("origin"), host: request?.headers.get("host") }); } } : {}),
      ...options?.emailAndPassword,
    },
    plugins: Object.entries(plugins ?? {}).map(([name, settings]) => PLUGINS[name](settings)),
    // The test asks thousands of questions a minute.
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    logger: { level: "error", disabled: true },
  };
  if (stores.database) await (await getMigrations(configured)).runMigrations();
  const auth = betterAuth(configured);
  const context = await auth.$context;
  const handler = toNodeHandler(auth);

  /** What only the test may ask: it is never reached through the gateway. */
  const asked = {
    sql: ({ sql }) => query(sql),
    redis: ({ command }) => client.call(...command),
    mailed: ({ email }) => mailed.get(email) ?? null,
    links: () => links,
    /** Whom a JWT names, by the server's own judgement. */
    verifyJwt: async ({ token }) => {
      try {
        return (await auth.api.verifyJWT({ body: { token } })).payload?.sub ?? null;
      } catch {
        return null;
      }
    },
    /** A JWT with a payload of the test's choice, signed with the server's own key. */
    signJwt: async ({ payload }) => (await auth.api.signJWT({ body: { payload } })).token,
    createApiKey: ({ body }) => auth.api.createApiKey({ body }),
    seal: (wanted) => seal(context, wanted),
    cookies: () => Object.fromEntries(Object.entries(context.authCookies).map(([key, cookie]) => [key, cookie.name])),
  };

  const server = createServer(async (request, response) => {
    const path = request.url.split("?")[0];
    if (path === "/oracle") {
      let text = "";
      for await (const piece of request) text += piece;
      const { ask, ...rest } = JSON.parse(text);
      try {
        answer(response, 200, { answer: (await asked[ask](rest)) ?? null });
      } catch (error) {
        answer(response, 500, { error: String(error?.stack ?? error) });
      }
      return;
    }
    // An app that browsers on other origins may use.
    const origin = request.headers.origin;
    if (origins?.includes(origin)) {
      response.setHeader("access-control-allow-origin", origin);
      response.setHeader("access-control-allow-credentials", "true");
      response.setHeader("vary", "origin");
      if (request.method === "OPTIONS") {
        response.setHeader("access-control-allow-methods", "GET, POST");
        response.setHeader("access-control-allow-headers", "authorization, content-type");
        response.writeHead(204).end();
        return;
      }
    }
    if (path.startsWith("/api/auth")) {
      await handler(request, response);
      return;
    }
    // The app behind the gateway: says whom it was told about.
    const told = Object.entries(request.headers).filter(([name]) => name.startsWith("x-auth-"));
    const said = { told: Object.fromEntries(told) };
    // And, where the test wants to know, whom it finds itself.
    if (path.endsWith("/whoami")) {
      said.found = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
      said.cookies = request.headers.cookie ?? "";
    }
    answer(response, 200, said);
  });
  // The test keeps connections open as long as it likes.
  server.keepAliveTimeout = 0;
  server.maxHeaderSize = 64 * 1024;
  server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
}

/** A session cache with a payload of the test's choice: sealed as the framework does it, or almost. */
async function seal(context, { strategy, payload, expiresIn, secret = context.secret, alg = "HS256", salt = "better-auth-session", header, claims, notBefore }) {
  const expiresAt = Date.now() + expiresIn * 1000;
  if (strategy === "compact") {
    const signature = createHmac("sha256", secret).update(JSON.stringify({ ...payload, expiresAt })).digest("base64url");
    return Buffer.from(JSON.stringify({ session: payload, expiresAt, signature })).toString("base64url");
  }
  if (strategy === "jwe") return symmetricEncodeJWT(payload, secret === context.secret ? context.secretConfig : secret, salt, expiresIn);
  if (strategy === "jwks") {
    // As the framework's own signer does it, which takes nothing for granted that is not there.
    const [row] = await context.adapter.findMany({ model: "jwks" });
    const key = await symmetricDecrypt({ key: context.secretConfig, data: JSON.parse(row.privateKey) });
    const issued = { iat: Math.floor(Date.now() / 1000), exp: Math.floor(expiresAt / 1000), iss: "http://app.test", aud: "better-auth:session-cache" };
    const subject = { sub: payload.user?.id, sid: payload.session?.token };
    // Nothing: the claim is missing.
    const all = Object.entries({ ...payload, ...issued, ...subject, ...claims }).filter(([name, value]) => value !== null || name in payload);
    return new SignJWT(Object.fromEntries(all))
      .setProtectedHeader({ alg: "EdDSA", kid: row.id, typ: "better-auth.session-cache+jwt", ...header })
      .sign(await importJWK(JSON.parse(key), "EdDSA"));
  }
  let token = new SignJWT(payload).setProtectedHeader({ alg, ...header }).setIssuedAt();
  if (expiresIn !== null) token = token.setExpirationTime(Math.floor(expiresAt / 1000));
  if (notBefore) token = token.setNotBefore(Math.floor(Date.now() / 1000) + notBefore);
  return token.sign(createSecretKey(Buffer.from(secret)));
}

const sum = (text) => createHash("sha256").update(text).digest("hex");

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) }).end(text);
}

let started = false;
createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (started) return;
    started = true;
    start(JSON.parse(line)).catch((error) => {
      console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
      process.exit(1);
    });
  })
  .on("close", () => process.exit(0));
