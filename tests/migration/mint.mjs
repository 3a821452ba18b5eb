// Mints live sessions with the SDKs of the old systems. Reads a JSON list of jobs from stdin, writes the list of results to stdout:
//
//   echo '[{"sdk":"authjs","secret":"…","cookie":"authjs.session-token","token":{"sub":"u1"}}]' | node mint.mjs
//
// Every result has `cookies` (name to value, as a browser would send it back, still encoded), or `token`, or what its job says.
// `npm ci` beside this file first; MINT_MODULES names another folder that holds `node_modules`.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// The result alone goes to stdout; some kits print warnings there.
for (const word of ["log", "info", "debug", "warn"]) console[word] = console.error;

const folder = process.env.MINT_MODULES ?? dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(folder, "package.json"));
/** A module by its package name. */
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
/** A file of a package that its `exports` do not list. */
const inside = (path) => import(pathToFileURL(join(folder, "node_modules", path)).href);
/** An ES module by its package name: `require.resolve` would choose its CommonJS twin. */
const jose = () => inside("jose/dist/webapi/index.js");

/** What `Set-Cookie` lines leave in a browser's jar. */
function jar(lines) {
  const cookies = {};
  for (const line of lines) {
    const [pair, ...attributes] = line.split(";");
    const at = pair.indexOf("=");
    const [name, value] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    const gone = value === "" || attributes.some((each) => /^\s*max-age=0$/i.test(each));
    if (gone) delete cookies[name];
    else cookies[name] = value;
  }
  return cookies;
}

const makers = {
  /** A key pair: {alg, kid} to {private, jwks}. */
  async key({ alg = "RS256", kid = "kid-1" }) {
    const { generateKeyPair, exportJWK } = await jose();
    const pair = await generateKeyPair(alg, { extractable: true });
    const named = { kid, alg, use: "sig" };
    return {
      private: { ...(await exportJWK(pair.privateKey)), ...named },
      jwks: { keys: [{ ...(await exportJWK(pair.publicKey)), ...named }] },
    };
  },

  /** A signed token: {private | secret, claims, header?}, for every vendor that hands out plain JWTs. */
  async jwt({ private: jwk, secret, claims, header = {} }) {
    const { SignJWT, importJWK } = await jose();
    const alg = header.alg ?? jwk?.alg ?? "HS256";
    const key = jwk ? await importJWK(jwk, alg) : new TextEncoder().encode(secret);
    const head = { alg, typ: "JWT", ...(jwk?.kid ? { kid: jwk.kid } : {}), ...header };
    return { token: await new SignJWT(claims).setProtectedHeader(head).sign(key) };
  },

  /** Auth.js v5: {secret, cookie, token, maxAge?}. Chunked as the library chunks. */
  async authjs({ secret, cookie = "authjs.session-token", token, maxAge }) {
    const { encode } = await inside("@auth/core/jwt.js");
    const { SessionStore } = await inside("@auth/core/lib/utils/cookie.js");
    const value = await encode({ token, secret, salt: cookie, maxAge });
    const store = new SessionStore({ name: cookie, options: {} }, {}, console);
    const chunks = store.chunk(value, {});
    return { cookies: Object.fromEntries(chunks.map((each) => [each.name, each.value])) };
  },

  /** NextAuth v4: {secret, cookie, token, maxAge?}. */
  async nextauth({ secret, cookie = "next-auth.session-token", token, maxAge }) {
    const { encode } = require("next-auth/jwt");
    return { cookies: { [cookie]: await encode({ token, secret, maxAge }) } };
  },

  /** Supabase: {url, key, access_token, refresh_token, user, cookieEncoding?}, written by @supabase/ssr. */
  async supabase({ url, key = "anon", access_token, refresh_token = "refresh", user, cookieEncoding }) {
    const { createServerClient } = require("@supabase/ssr");
    const lines = [];
    const client = createServerClient(url, key, {
      cookieEncoding,
      cookies: {
        getAll: () => [],
        // The app's own framework encodes what it is given.
        setAll: (all) => lines.push(...all.map((each) => `${each.name}=${encodeURIComponent(each.value)}`)),
      },
      global: { fetch: async () => Response.json(user) },
    });
    const { error } = await client.auth.setSession({ access_token, refresh_token });
    if (error) throw error;
    // The library writes its cookies when it tells its listeners.
    await new Promise((done) => setTimeout(done, 50));
    return { cookies: jar(lines) };
  },

  /** WorkOS: {cookiePassword, response, cookie?}, sealed by @workos-inc/node from an answer of /authenticate. */
  async workos({ cookiePassword, response, cookie = "wos-session" }) {
    const { WorkOS } = require("@workos-inc/node");
    const workos = new WorkOS("sk_test", { clientId: "client", fetchFn: async () => Response.json(response) });
    const made = await workos.userManagement.authenticateWithCode({
      clientId: "client",
      code: "code",
      session: { sealSession: true, cookiePassword },
    });
    return { cookies: { [cookie]: made.sealedSession } };
  },

  /** iron-session: {password, data, cookie, ttl?}. */
  async iron({ password, data, cookie = "session", ttl }) {
    const { sealData } = require("iron-session");
    return { cookies: { [cookie]: await sealData(data, { password, ttl }) } };
  },

  /** @auth0/nextjs-auth0 v4: {secret, session, cookie?}. `session.internal.createdAt` is in seconds. */
  async auth0({ secret, session, cookie = "__session" }) {
    const { StatelessSessionStore } = await inside("@auth0/nextjs-auth0/dist/server/session/stateless-session-store.js");
    const { RequestCookies, ResponseCookies } = require("@edge-runtime/cookies");
    const store = new StatelessSessionStore({ secret, cookieOptions: { name: cookie } });
    const headers = new Headers();
    await store.set(new RequestCookies(new Headers()), new ResponseCookies(headers), session);
    return { cookies: jar(headers.getSetCookie()) };
  },

  /** express-openid-connect, as nextjs-auth0 v3: {secret, session, header: {iat, uat, exp}, cookie?}. */
  async auth0_express({ secret, session, header, cookie = "appSession" }) {
    const { getKeyStore, encryptSync } = require(join(folder, "node_modules/express-openid-connect/lib/crypto.js"));
    const [key] = getKeyStore(secret, true);
    return { cookies: { [cookie]: encryptSync(JSON.stringify(session), key, header) } };
  },

  /** express-session: {secret, session, cookie?} to {cookies, sid, stored}. A real server sets the cookie. */
  async express({ secret, session, cookie = "connect.sid", maxAge = 86_400_000 }) {
    const expressSession = require("express-session");
    const store = new expressSession.MemoryStore();
    const handle = expressSession({ secret, name: cookie, store, resave: false, saveUninitialized: false, cookie: { maxAge } });
    const server = createServer((request, response) => {
      handle(request, response, () => {
        Object.assign(request.session, session);
        response.end();
      });
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    try {
      const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
      const cookies = jar(answer.headers.getSetCookie());
      const [sid] = Object.keys(store.sessions);
      return { cookies, sid, stored: store.sessions[sid] };
    } finally {
      server.close();
    }
  },

  /** A random id, for whatever keeps sessions in a table. */
  async id() {
    return { id: randomUUID() };
  },
};

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const jobs = JSON.parse(Buffer.concat(chunks).toString("utf8"));
const made = [];
for (const job of jobs) {
  const maker = makers[job.sdk];
  if (!maker) throw new Error(`unknown sdk ${job.sdk}; known are ${Object.keys(makers).join(", ")}`);
  made.push(await maker(job));
}
process.stdout.write(JSON.stringify(made));
process.exit(0);
