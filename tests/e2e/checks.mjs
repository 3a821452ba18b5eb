// What is checked, in the order it runs. Each check has its own browser context and stands alone.
import assert from "node:assert/strict";
import { createPublicKey, randomBytes, verify } from "node:crypto";
import { ADMIN, DEMO, cookieText, http, until } from "./stack.mjs";

const WEEK_S = 604_800;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const CHECKS = [];
const check = (name, run, more = {}) => CHECKS.push({ name, run, ...more });
/** What the gateway is meant to do and does not yet: told, not counted, until it passes. */
const todo = (name, run) => CHECKS.push({ name, run, todo: true });

/** Path and query of where a page is. */
const at = (page) => page.url().replace(new URL(page.url()).origin, "");
const arrives = (page, path) => page.waitForURL((url) => url.pathname + url.search === path);
const signInAt = (path) => `/sign-in?callbackURL=${encodeURIComponent(path)}`;

/** A context whose cookies are those of a signed-in account. */
async function signedIn({ stack, open }, account = DEMO, options = {}) {
  const context = await open(options);
  const { cookie, token } = await stack.signIn(account);
  await adopt(context, stack, cookie);
  return { context, cookie, token };
}

function adopt(context, stack, cookie) {
  return context.addCookies(
    cookie.split("; ").map((pair) => {
      const cut = pair.indexOf("=");
      return { name: pair.slice(0, cut), value: pair.slice(cut + 1), url: stack.origin, httpOnly: true, sameSite: "Lax" };
    }),
  );
}

async function fillSignIn(page, { email, password }) {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Marks the document, so that a full navigation can be told from one by the client router. */
const mark = (page) => page.evaluate(() => void (window.sameDocument = true));
const isMarked = (page) => page.evaluate(() => window.sameDocument === true);

/** Everything the client router fetched: status by URL. */
function recordRsc(page) {
  const seen = [];
  page.on("response", (response) => {
    const headers = response.request().headers();
    if (headers.rsc === "1") {
      seen.push({
        url: new URL(response.url()).pathname,
        status: response.status(),
        prefetch: Boolean(headers["next-router-prefetch"]),
        noStore: (response.headers()["cache-control"] ?? "").includes("no-store"),
      });
    }
  });
  return seen;
}

const signOut = (stack, cookie) =>
  stack.call("/api/auth/sign-out", { method: "POST", headers: { cookie, "content-type": "application/json" }, body: "{}" });

// --- signed out ---------------------------------------------------------------------------------------------------------------

check("a public page is served to anybody, with its scripts and styles", async ({ open }) => {
  const page = await (await open()).newPage();
  const broken = [];
  page.on("response", (response) => {
    if (new URL(response.url()).pathname.startsWith("/_next/static/") && response.status() !== 200) broken.push(response.url());
  });
  const response = await page.goto("/");
  assert.equal(response.status(), 200);
  await page.getByRole("link", { name: "Sign in" }).waitFor(); // drawn by script
  assert.deepEqual(broken, []);
});

check("a document is redirected to sign-in, and the answer is not stored", async ({ stack }) => {
  const answer = await stack.through("/dashboard?tab=1&q=a%26b", { headers: { accept: "text/html", "sec-fetch-mode": "navigate" } });
  assert.equal(answer.status, 302);
  assert.equal(answer.headers.location, signInAt("/dashboard?tab=1&q=a%26b"));
  assert.match(answer.headers["cache-control"], /no-store/);
});

check("a program gets a plain 401, not a redirect", async ({ stack }) => {
  for (const path of ["/api/hello", "/api/events"]) {
    const answer = await stack.call(path);
    assert.equal(answer.status, 401, path);
    assert.match(answer.headers["content-type"], /application\/problem\+json/);
    assert.match(answer.headers["cache-control"], /no-store/);
  }
});

check("identity headers sent from outside sign nobody in", async ({ stack }) => {
  const forged = { "x-auth-user-id": "mallory", "X-AUTH-Role": "admin", "x_auth_user_id": "mallory", "x-auth-assertion": "a.b.c" };
  const answer = await stack.call("/api/hello", { headers: forged });
  assert.equal(answer.status, 401);
});

check("a forged cookie signs nobody in and is not cleared", async ({ stack }) => {
  const token = randomBytes(16).toString("hex");
  const cookie = `better-auth.session_token=${encodeURIComponent(`${token}.${randomBytes(32).toString("base64")}`)}`;
  const answer = await stack.through("/dashboard", { headers: { cookie, accept: "text/html" } });
  assert.equal(answer.status, 302);
  assert.deepEqual(answer.setCookie, []);
});

check("a host that is not ours is refused", async ({ stack }) => {
  const answer = await stack.through("/", { headers: { host: "elsewhere.example" } });
  assert.equal(answer.status, 421);
});

check("prefetches of protected pages are refused, never redirected", async ({ open }) => {
  const page = await (await open()).newPage();
  const rsc = recordRsc(page);
  await page.goto("/");
  await page.getByRole("link", { name: "Dashboard" }).hover();
  await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard") && rsc.some(({ url }) => url === "/dashboard/activity"));
  const guarded = rsc.filter(({ url }) => url.startsWith("/dashboard") || url.startsWith("/admin"));
  for (const one of guarded) assert.deepEqual({ ...one, prefetch: true }, { ...one, prefetch: true, status: 401, noStore: true });
});

check("a click on a guarded link leads to sign-in with the way back", async ({ open }) => {
  const page = await (await open()).newPage();
  await page.goto("/");
  await page.getByRole("link", { name: "Sign in" }).waitFor();
  await page.getByRole("link", { name: "Activity" }).click();
  await arrives(page, signInAt("/dashboard/activity?from=home"));
});

// --- signing up, in and out ---------------------------------------------------------------------------------------------------

check("signing up leads to the dashboard", async ({ open }) => {
  const page = await (await open()).newPage();
  const email = `new-${randomBytes(4).toString("hex")}@example.com`;
  await page.goto("/sign-up");
  await page.getByLabel("Name").fill("Zoë 新");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill("a-long-enough-password");
  await page.getByRole("button", { name: "Sign up" }).click();
  await arrives(page, "/dashboard");
  await page.getByRole("heading", { name: "Hello, Zoë 新." }).waitFor();
  assert.equal(await page.locator('[data-header="x-auth-user-email"]').textContent(), email);
});

check("signing in leads back to where one was", async ({ open }) => {
  const page = await (await open()).newPage();
  await page.goto("/dashboard/settings?tab=a%26b&x=1");
  assert.equal(at(page), signInAt("/dashboard/settings?tab=a%26b&x=1"));
  await fillSignIn(page, DEMO);
  await arrives(page, "/dashboard/settings?tab=a%26b&x=1");
  assert.equal(await page.locator("#settings-email").textContent(), DEMO.email);
});

check("a wrong password is told, and leads nowhere", async ({ open }) => {
  const page = await (await open()).newPage();
  await page.goto("/sign-in");
  await fillSignIn(page, { ...DEMO, password: "not-the-password" });
  await page.locator('p[role="alert"]').waitFor();
  assert.equal(at(page), "/sign-in");
});

check("the way back never leaves the site", async ({ open }) => {
  for (const evil of ["//elsewhere.example/", "https://elsewhere.example/", "/\\elsewhere.example"]) {
    const page = await (await open()).newPage();
    await page.goto(signInAt(evil));
    await fillSignIn(page, DEMO);
    await arrives(page, "/dashboard");
  }
});

check("who is signed in does not see the sign-in page", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  for (const path of ["/sign-in", "/sign-up"]) {
    await page.goto(path);
    assert.equal(at(page), "/dashboard");
  }
});

check("signing out is felt at once, also by a copy of the cookie", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.locator("#identity").waitFor();
  assert.equal((await stack.call("/api/hello", { headers: { cookie } })).status, 200);
  await page.getByRole("button", { name: "Sign out" }).click();
  await arrives(page, "/");
  await page.goto("/dashboard");
  assert.equal(at(page), signInAt("/dashboard"));
  assert.equal((await stack.call("/api/hello", { headers: { cookie } })).status, 401);
  await adopt(context, stack, cookie);
  await page.goto("/dashboard");
  assert.equal(at(page), signInAt("/dashboard"));
});

check("a dead cookie is cleared on the way to sign-in", async ({ stack }) => {
  // Signed in past the gateway: a token that it has just seen being set is not called dead, since replicas may lag.
  const { cookie, token } = await stack.signIn(DEMO, {}, (path, options) => http(stack.upstream + path, options));
  stack.database.prepare('delete from "session" where "token" = ?').run(token);
  const answer = await stack.through("/dashboard", { headers: { cookie, accept: "text/html" } });
  assert.equal(answer.status, 302);
  assert.ok(answer.setCookie.some((line) => /^better-auth\.session_token=;.*max-age=0/i.test(line)), answer.setCookie.join("\n"));
});

check("the back button after signing out shows nothing", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.getByRole("button", { name: "Sign out" }).click();
  await arrives(page, "/");
  await page.goBack();
  await until("the sign-in page", () => at(page).startsWith("/sign-in"));
  assert.equal(await page.locator("#identity").count(), 0);
});

check("signing out elsewhere is felt here at once", async ({ stack }) => {
  const here = await stack.signIn(DEMO);
  const there = await stack.signIn(DEMO);
  assert.equal((await stack.call("/api/hello", { headers: { cookie: here.cookie } })).status, 200);
  const answer = await stack.call("/api/auth/revoke-session", {
    method: "POST",
    headers: { cookie: there.cookie, "content-type": "application/json" },
    body: JSON.stringify({ token: here.token }),
  });
  assert.equal(answer.status, 200);
  assert.equal((await stack.call("/api/hello", { headers: { cookie: here.cookie } })).status, 401);
  assert.equal((await stack.call("/api/hello", { headers: { cookie: there.cookie } })).status, 200);
});

check("Set-Cookie lines stay apart", async ({ stack }) => {
  const through = await stack.signIn(DEMO, { rememberMe: false });
  const direct = await stack.signIn(DEMO, { rememberMe: false }, (path, options) => http(stack.upstream + path, options));
  const names = ({ answer }) => answer.setCookie.map((line) => line.split("=")[0]);
  assert.ok(names(direct).length >= 2, "the app sets two cookies");
  assert.deepEqual(names(through), names(direct));
});

// --- the client router --------------------------------------------------------------------------------------------------------

check("a link prefetched while signed out works after signing in", async ({ open }) => {
  const context = await open();
  const [first, second] = [await context.newPage(), await context.newPage()];
  const rsc = recordRsc(first);
  await first.goto("/");
  await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard/activity"));
  await second.goto("/sign-in");
  await fillSignIn(second, DEMO);
  await arrives(second, "/dashboard");
  await first.bringToFront();
  await first.getByRole("link", { name: "Activity" }).click();
  await arrives(first, "/dashboard/activity?from=home");
  assert.equal(await first.locator("#activity-email").textContent(), DEMO.email);
});

check("the same after signing out and in again in one tab", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.getByRole("button", { name: "Sign out" }).click();
  await arrives(page, "/");
  const rsc = recordRsc(page);
  await page.reload();
  await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard/activity"));
  await page.getByRole("link", { name: "Sign in" }).click();
  await fillSignIn(page, DEMO);
  await arrives(page, "/dashboard");
  await page.getByRole("link", { name: "Vestibule example" }).click();
  await arrives(page, "/");
  await page.getByRole("main").getByRole("link", { name: "Activity" }).click();
  await arrives(page, "/dashboard/activity?from=home");
  assert.equal(await page.locator("#activity-email").textContent(), DEMO.email);
});

check("navigation stays in the client router, and no fetch is redirected", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  const rsc = recordRsc(page);
  await page.goto("/dashboard");
  await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard/settings") && rsc.some(({ url }) => url === "/dashboard/activity"));
  await mark(page);
  await page.getByRole("link", { name: "Settings" }).click();
  await arrives(page, "/dashboard/settings");
  assert.equal(await page.locator("#settings-email").textContent(), DEMO.email);
  await page.getByRole("link", { name: "Activity" }).click();
  await arrives(page, "/dashboard/activity");
  assert.equal(await page.locator("#activity-email").textContent(), DEMO.email);
  assert.ok(await isMarked(page), "the document was loaded anew");
  for (const { url, status } of rsc.filter(({ url }) => url.startsWith("/dashboard"))) assert.equal(status, 200, url);
});

check("the session ends while a page is open: the next click asks to sign in", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.locator("#identity").waitFor();
  await signOut(stack, cookie);
  await page.getByRole("link", { name: "Admin" }).click();
  await arrives(page, signInAt("/admin"));
});

check("pages router: client navigation works, and asks to sign in when the session is gone", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/legacy");
  await mark(page);
  await page.getByRole("link", { name: "Number 7" }).click();
  await arrives(page, "/legacy/7");
  await page.getByRole("heading", { name: "Legacy 7" }).waitFor();
  assert.equal(await page.locator("#legacy-email").textContent(), DEMO.email);
  assert.ok(await isMarked(page), "the document was loaded anew");
  await signOut(stack, cookie);
  await page.getByRole("link", { name: "All" }).click();
  await arrives(page, signInAt("/legacy"));
});

// --- server actions -----------------------------------------------------------------------------------------------------------

check("a server action runs, by a form and by a call", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  for (const [origin, label, button] of [
    ["form", "Note", "Add"],
    ["client", "Quick note", "Call"],
  ]) {
    const text = `${origin} ${randomBytes(4).toString("hex")}`;
    await page.getByLabel(label, { exact: true }).fill(text);
    await page.getByRole("button", { name: button }).click();
    await page.locator("#notes li", { hasText: `${text} (${origin})` }).waitFor();
  }
  assert.equal(at(page), "/dashboard");
});

check("a server action runs without script, and signed out it is sent to sign-in", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env, DEMO, { javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto("/dashboard");
  const text = `plain ${randomBytes(4).toString("hex")}`;
  await page.getByLabel("Note", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Add" }).click();
  await page.locator("#notes li", { hasText: text }).waitFor();
  await signOut(stack, cookie);
  const before = stack.notes().length;
  await page.getByLabel("Note", { exact: true }).fill("too late");
  await page.getByRole("button", { name: "Add" }).click();
  await arrives(page, signInAt("/dashboard"));
  assert.equal(stack.notes().length, before);
});

check("a server action called after the session ended leads to sign-in", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.getByLabel("Quick note").fill("too late");
  await signOut(stack, cookie);
  const before = stack.notes().length;
  await page.getByRole("button", { name: "Call" }).click();
  await arrives(page, signInAt("/dashboard"));
  assert.equal(stack.notes().length, before);
});

/** The id of the action behind the dashboard's notes. */
async function actionOfNotes(context) {
  const page = await context.newPage();
  await page.goto("/dashboard");
  await page.getByLabel("Quick note").fill("to learn the action's id");
  const [sent] = await Promise.all([
    page.waitForRequest((request) => Boolean(request.headers()["next-action"])),
    page.getByRole("button", { name: "Call" }).click(),
  ]);
  await page.locator("#notes li", { hasText: "to learn" }).first().waitFor();
  return sent.headers()["next-action"];
}

const calling = (id, origin, text) => ({
  method: "POST",
  headers: { origin, "next-action": id, accept: "text/x-component", "content-type": "text/plain;charset=UTF-8" },
  body: JSON.stringify([text]),
});

check("a server action posted to a public page runs for those who may see its own page, and for nobody else", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const { headers, ...call } = calling(await actionOfNotes(context), stack.origin, "posted to the public page");
  const before = stack.notes().length;
  for (const said of [{}, { "x-auth-user-id": "mallory" }]) {
    const answer = await stack.through("/", { ...call, headers: { ...headers, ...said } });
    assert.equal(answer.status, 401);
    assert.match(answer.headers["x-action-redirect"] ?? "", /^\/sign-in/);
  }
  assert.equal(stack.notes().length, before);
  const answer = await stack.through("/", { ...call, headers: { ...headers, cookie } });
  assert.equal(answer.status, 200);
  assert.equal(stack.notes().length, before + 1);
});

check("without the app's build a server action posted to a public page knows no caller and does nothing", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const id = await actionOfNotes(context);
  const { origin, running } = await stack.gateway("gateway without a build", {});
  try {
    const { headers, ...call } = calling(id, origin, "smuggled");
    const before = stack.notes().length;
    for (const said of [{}, { cookie }, { "x-auth-user-id": "mallory" }]) {
      await fetch(`${origin}/`, { ...call, redirect: "manual", headers: { ...headers, ...said } });
    }
    assert.equal(stack.notes().length, before);
  } finally {
    await running.stop();
  }
});

// --- identity -----------------------------------------------------------------------------------------------------------------

check("the app is told who is here, and what the browser claims is dropped", async (env) => {
  const { stack } = env;
  const forged = { "x-auth-user-id": "mallory", "x-auth-role": "admin", x_auth_user_email: "mallory@example.com", "x-auth-org-id": "mallory" };
  const { context, cookie, token } = await signedIn(env, DEMO, { extraHTTPHeaders: forged });
  const page = await context.newPage();
  await page.goto("/dashboard");
  const { userId, id } = stack.session(token);
  const shown = (name) => page.locator(`[data-header="${name}"]`).textContent();
  assert.equal(await shown("x-auth-user-id"), userId);
  assert.equal(await shown("x-auth-user-email"), DEMO.email);
  assert.equal(await shown("x-auth-user-name"), "Demo User");
  assert.equal(await shown("x-auth-role"), "user");
  assert.equal(await shown("x-auth-session-id"), id);
  assert.equal(await shown("x-auth-method"), "session");
  assert.ok(!(await page.content()).includes("mallory"));
  const echo = await stack.call("/api/hello", { headers: { ...forged, cookie } });
  assert.equal(echo.json().headers["x-auth-user-id"], userId);
  assert.ok(!echo.text.includes("mallory"));
});

check("the assertion holds against the published keys", async ({ stack }) => {
  const { cookie, token } = await stack.signIn(DEMO);
  const echo = await stack.call("/api/hello", { headers: { cookie } });
  const assertion = echo.json().headers["x-auth-assertion"];
  const [head, body, signature] = assertion.split(".");
  const read = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
  const { alg, kid } = read(head);
  assert.equal(alg, "EdDSA");
  const { keys } = (await stack.through("/.well-known/vestibule/jwks.json")).json();
  const key = keys.find((one) => one.kid === kid);
  assert.ok(key, "its key is published");
  assert.ok(!("d" in key), "only the public half");
  const good = verify(null, Buffer.from(`${head}.${body}`), createPublicKey({ key, format: "jwk" }), Buffer.from(signature, "base64url"));
  assert.ok(good);
  const claims = read(body);
  assert.equal(claims.sub, stack.session(token).userId);
  assert.ok(claims.iss && claims.aud);
  assert.ok(claims.exp - claims.iat <= 60);
});

check("pages with an identity are not stored", async ({ stack }) => {
  const { cookie } = await stack.signIn(DEMO);
  for (const path of ["/dashboard", "/api/hello", "/legacy"]) {
    const { headers } = await stack.through(path, { headers: { cookie, accept: "text/html" } });
    assert.match(headers["cache-control"], /private/, path);
    assert.match(headers["cache-control"], /no-store/, path);
  }
});

// --- roles --------------------------------------------------------------------------------------------------------------------

check("a role-guarded page is refused to who lacks the role", async (env) => {
  const { stack } = env;
  const { context, cookie } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/admin");
  await page.getByRole("heading", { name: "Not for this account." }).waitFor();
  assert.equal(await page.locator("#users").count(), 0);
  assert.equal((await stack.call("/admin", { headers: { cookie } })).status, 403);
  await page.goto("/dashboard");
  await page.getByRole("link", { name: "Admin" }).click();
  await page.getByRole("heading", { name: "Not for this account." }).waitFor();
});

check("a role-guarded page is shown to who has the role, until it is taken away", async (env) => {
  const { stack } = env;
  const { context } = await signedIn(env, ADMIN);
  const page = await context.newPage();
  await page.goto("/admin");
  await page.locator("#users", { hasText: DEMO.email }).waitFor();
  stack.setRole(ADMIN.email, "user");
  try {
    await page.goto("/admin");
    await page.getByRole("heading", { name: "Not for this account." }).waitFor();
  } finally {
    stack.setRole(ADMIN.email, "admin");
  }
});

// --- streams ------------------------------------------------------------------------------------------------------------------

check("server-sent events arrive one by one", async (env) => {
  const { context } = await signedIn(env);
  const page = await context.newPage();
  await page.goto("/dashboard/activity");
  await page.getByText(/^Tick [3-9]/).waitFor();
  const times = await page.evaluate(async () => {
    const begun = performance.now();
    const reader = (await fetch("/api/events")).body.getReader();
    const times = [];
    while (times.length < 4) {
      const { done } = await reader.read();
      if (done) break;
      times.push(performance.now() - begun);
    }
    await reader.cancel();
    return times;
  });
  assert.equal(times.length, 4);
  assert.ok(times[0] < 2000, `the first came after ${times[0]} ms`);
  assert.ok(times[3] - times[0] > 600, `they came together: ${times}`);
});

check("an open stream ends when its session does", async ({ stack }) => {
  const { cookie } = await stack.signIn(DEMO);
  let ended = false;
  let received = 0;
  const close = await stack.through("/api/events", {
    headers: { cookie, accept: "text/event-stream" },
    onResponse: (response, request) => {
      response.on("data", () => (received += 1));
      for (const event of ["end", "close", "error"]) response.on(event, () => (ended = true));
      return () => request.destroy();
    },
  });
  try {
    await until("events come", () => received > 1);
    await signOut(stack, cookie);
    await until("the stream has ended", () => ended, 4_000);
  } finally {
    close();
  }
});

// --- sliding sessions ---------------------------------------------------------------------------------------------------------

check("reading an aged session through the gateway prolongs it", async ({ stack }) => {
  const { cookie, token } = await stack.signIn(DEMO);
  stack.setExpiry(token, Date.now() + 5 * DAY_MS); // two days old, of seven
  const answer = await stack.call("/api/auth/get-session", { headers: { cookie } });
  assert.equal(answer.status, 200);
  assert.equal(answer.json().session.token, token);
  assert.ok(stack.session(token).expiresAtMs > Date.now() + 7 * DAY_MS - HOUR_MS, "the row was not prolonged");
  const line = answer.setCookie.find((one) => one.startsWith("better-auth.session_token="));
  assert.match(line ?? "", new RegExp(`max-age=${WEEK_S}`, "i"));
  assert.ok(cookieText(answer.setCookie).startsWith(cookie.split("; ")[0]), "the token stays the same");
});

check("a page view alone keeps an aged session alive", async (env) => {
  const { stack } = env;
  const { context, token } = await signedIn(env);
  stack.setExpiry(token, Date.now() + 5 * DAY_MS);
  const page = await context.newPage();
  await page.goto("/dashboard");
  await until("the row is prolonged", () => stack.session(token).expiresAtMs > Date.now() + 7 * DAY_MS - HOUR_MS);
  const kept = await until("the cookie is sent anew", async () =>
    (await context.cookies()).find(({ name, expires }) => name === "better-auth.session_token" && expires > 0),
  );
  assert.ok(kept.expires * 1000 > Date.now() + 7 * DAY_MS - HOUR_MS);
});

check("a session that is not to be remembered is not prolonged", async ({ stack }) => {
  const { answer, cookie, token } = await stack.signIn(DEMO, { rememberMe: false });
  for (const line of answer.setCookie.filter((one) => !/max-age=0/i.test(one))) assert.doesNotMatch(line, /max-age/i);
  stack.setExpiry(token, Date.now() + HOUR_MS);
  const read = await stack.call("/api/auth/get-session", { headers: { cookie } });
  assert.equal(read.json().session.token, token);
  assert.equal((await stack.through("/dashboard", { headers: { cookie, accept: "text/html" } })).status, 200);
  assert.ok(stack.session(token).expiresAtMs <= Date.now() + HOUR_MS, "the row was prolonged");
  assert.ok(!read.setCookie.some((line) => /session_token=.*max-age=[1-9]/i.test(line)), "the cookie became a lasting one");
});

// --- a session that is over while a page is open --------------------------------------------------------------------------------

/** A page of somebody whose session is about to be over. Not to be remembered, so that nothing prolongs it. */
async function aboutToExpire({ stack, open }, path, options = {}) {
  const context = await open(options);
  const { cookie, token } = await stack.signIn(DEMO, { rememberMe: false });
  await adopt(context, stack, cookie);
  const page = await context.newPage();
  await page.goto(path);
  assert.equal(at(page), path);
  return { page, context, cookie, expire: () => stack.expire(token) };
}

check("expired: a server action called by script leads to sign-in and back to the very page", async (env) => {
  const path = "/dashboard?tab=a%26b&x=1";
  const { page, expire } = await aboutToExpire(env, path);
  await page.getByLabel("Quick note").fill("too late");
  await expire();
  const before = env.stack.notes().length;
  const [answer] = await Promise.all([
    page.waitForResponse((response) => Boolean(response.request().headers()["next-action"])),
    page.getByRole("button", { name: "Call" }).click(),
  ]);
  assert.equal(answer.status(), 401);
  assert.equal(answer.headers()["x-action-redirect"], `${signInAt(path)};push`);
  await arrives(page, signInAt(path));
  assert.equal(env.stack.notes().length, before);
  await fillSignIn(page, DEMO);
  await arrives(page, path);
  await page.locator("#identity").waitFor();
});

check("expired: a form without script leads to sign-in with the way back", async (env) => {
  const path = "/dashboard?tab=1";
  const { page, expire } = await aboutToExpire(env, path, { javaScriptEnabled: false });
  await page.getByLabel("Note", { exact: true }).fill("too late");
  await expire();
  const before = env.stack.notes().length;
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.request().method() === "POST"),
    page.getByRole("button", { name: "Add" }).click(),
  ]);
  assert.equal(answer.status(), 303);
  await arrives(page, signInAt(path));
  assert.equal(env.stack.notes().length, before);
});

check("expired: a navigation of the client router leads to sign-in with the page's own address", async (env) => {
  const { page, expire } = await aboutToExpire(env, "/dashboard");
  const rsc = recordRsc(page);
  await expire();
  await page.getByRole("link", { name: "Settings" }).click();
  await arrives(page, signInAt("/dashboard/settings"));
  const navigated = rsc.filter(({ url, prefetch }) => url === "/dashboard/settings" && !prefetch);
  assert.ok(navigated.length > 0 && navigated.every(({ status }) => status === 401), JSON.stringify(rsc));
  await fillSignIn(page, DEMO);
  await arrives(page, "/dashboard/settings");
});

check("expired: a data navigation of the pages router leads to sign-in with the page's own address", async (env) => {
  const { page, expire } = await aboutToExpire(env, "/legacy");
  await expire();
  const [answer] = await Promise.all([
    page.waitForResponse((response) => new URL(response.url()).pathname.startsWith("/_next/data/")),
    page.getByRole("link", { name: "Number 7" }).click(),
  ]);
  assert.equal(answer.status(), 401);
  await arrives(page, signInAt("/legacy/7"));
  await fillSignIn(page, DEMO);
  await arrives(page, "/legacy/7");
});

check("expired: an event stream is closed, asked for once more, and left alone", async (env) => {
  const { page, cookie } = await aboutToExpire(env, "/dashboard/activity");
  const asked = [];
  page.on("response", (response) => {
    if (new URL(response.url()).pathname === "/api/events") asked.push(response.status());
  });
  await page.getByText(/^Tick \d+/).waitFor();
  await signOut(env.stack, cookie);
  await page.getByText("The stream is closed.").waitFor();
  assert.deepEqual(asked.filter((status) => status !== 200), [401]);
  assert.equal(at(page), "/dashboard/activity");
});

check("expired: a fetch and an image get a plain 401 and no redirect", async (env) => {
  const { page, expire } = await aboutToExpire(env, "/dashboard");
  await expire();
  const urls = [];
  page.on("request", (request) => urls.push(new URL(request.url()).pathname));
  const answer = await page.evaluate(async () => {
    const { status, redirected, headers } = await fetch("/api/hello");
    return { status, redirected, type: headers.get("content-type") };
  });
  assert.deepEqual(answer, { status: 401, redirected: false, type: "application/problem+json" });
  for (const source of ["/api/hello", "/_next/image?url=%2Fprivate.png&w=64&q=75"]) {
    const [response] = await Promise.all([
      page.waitForResponse((response) => response.request().resourceType() === "image"),
      page.evaluate((source) => new Promise((resolve) => Object.assign(new Image(), { onerror: resolve, onload: resolve, src: source })), source),
    ]);
    assert.equal(response.status(), 401, source);
  }
  assert.ok(!urls.includes("/sign-in"), urls.join(" "));
  assert.equal(at(page), "/dashboard");
});

check("expired: the back button shows nothing of the page", async (env) => {
  const { page, expire } = await aboutToExpire(env, "/dashboard");
  await page.goto("/");
  await expire();
  await page.goBack();
  await until("the sign-in page", () => at(page).startsWith("/sign-in"));
  assert.equal(await page.locator("#identity").count(), 0);
});

check("a prefetch begins no sign-in: no cookie, no navigation, no document", async ({ open }) => {
  const context = await open();
  const page = await context.newPage();
  const rsc = recordRsc(page);
  await page.goto("/");
  const documents = [];
  page.on("request", (request) => request.isNavigationRequest() && documents.push(request.url()));
  await page.getByRole("link", { name: "Dashboard" }).hover();
  await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard") && rsc.some(({ url }) => url === "/dashboard/activity"));
  assert.deepEqual(await context.cookies(), []);
  assert.deepEqual(documents, []);
  assert.equal(at(page), "/");
});

// --- a sign-in page on another origin -------------------------------------------------------------------------------------------

check("a sign-in page on another origin: documents are sent there, and nothing else ever is", async ({ stack, open }) => {
  const elsewhere = await stack.signInElsewhere();
  const { origin, running } = await stack.gateway("gateway with a sign-in page elsewhere", { VESTIBULE_ROUTES__SIGN_IN: elsewhere.url });
  try {
    const page = await (await open({ baseURL: origin })).newPage();
    const rsc = recordRsc(page);
    await page.goto("/");
    await page.getByRole("link", { name: "Dashboard" }).hover();
    await until("the links are prefetched", () => rsc.some(({ url }) => url === "/dashboard") && rsc.some(({ url }) => url === "/dashboard/activity"));
    const answers = await page.evaluate(async () => {
      const { status, redirected } = await fetch("/api/hello");
      const stream = new EventSource("/api/events");
      const closed = await new Promise((resolve) => (stream.onerror = () => resolve(stream.readyState === EventSource.CLOSED)));
      const image = await new Promise((resolve) => Object.assign(new Image(), { onerror: () => resolve("refused"), onload: resolve, src: "/api/hello" }));
      return { status, redirected, closed, image };
    });
    assert.deepEqual(answers, { status: 401, redirected: false, closed: true, image: "refused" });
    assert.deepEqual(elsewhere.asked, []);
    await page.getByRole("link", { name: "Activity" }).click();
    await page.getByRole("heading", { name: "Sign in elsewhere" }).waitFor();
    assert.equal(page.url(), `${elsewhere.url}?callbackURL=${encodeURIComponent("/dashboard/activity?from=home")}`);
    const asked = elsewhere.asked.filter(({ url }) => url.startsWith("/login"));
    assert.ok(asked.every(({ dest }) => dest === "document"), JSON.stringify(asked));
  } finally {
    await running.stop();
    await elsewhere.stop();
  }
});

check("going round: a sign-in page elsewhere that sends everybody back is stopped and explained", async ({ stack, open }) => {
  const elsewhere = await stack.signInElsewhere();
  const { origin, running } = await stack.gateway("gateway that is gone round", { VESTIBULE_ROUTES__SIGN_IN: elsewhere.url });
  elsewhere.sendsBackTo = origin;
  try {
    const page = await (await open({ baseURL: origin })).newPage();
    const response = await page.goto("/dashboard?tab=1");
    assert.equal(response.status(), 401);
    await page.getByRole("heading", { name: "Signing in goes round in circles" }).waitFor();
    await page.getByText("no_credential").waitFor();
    const rounds = elsewhere.asked.length;
    assert.ok(rounds <= 5, `${rounds} rounds`);
    // By now it is right: trying again leads to the page that was asked for.
    elsewhere.sendsBackTo = undefined;
    await page.getByRole("link", { name: "Try again" }).click();
    await page.getByRole("heading", { name: "Sign in elsewhere" }).waitFor();
    assert.equal(page.url(), `${elsewhere.url}?callbackURL=${encodeURIComponent("/dashboard?tab=1")}`);
  } finally {
    await running.stop();
    await elsewhere.stop();
  }
});

check("going round: with another secret the third sign-in in vain says so", async ({ stack, open }) => {
  const secret = randomBytes(33).toString("base64");
  const { origin, running } = await stack.gateway("gateway with another secret", { BETTER_AUTH_SECRET: secret });
  try {
    const context = await open({ baseURL: origin });
    const page = await context.newPage();
    await page.goto("/dashboard");
    for (let round = 1; ; round += 1) {
      const [response] = await Promise.all([
        page.waitForResponse((response) => new URL(response.url()).pathname === "/dashboard" && response.request().isNavigationRequest()),
        fillSignIn(page, DEMO),
      ]);
      if (response.status() === 401) {
        assert.equal(round, 3);
        break;
      }
      assert.equal(response.status(), 302);
      await arrives(page, signInAt("/dashboard"));
    }
    await page.getByRole("heading", { name: "Signing in goes round in circles" }).waitFor();
    const text = await page.locator("body").innerText();
    for (const shown of ["bad_signature", "BETTER_AUTH_SECRET", "better-auth.session_token"]) assert.ok(text.includes(shown), text);
    for (const { value } of await context.cookies()) assert.ok(!text.includes(value), "a cookie's value is shown");
    assert.ok(running.log.includes("goes round"), "the operator is warned");
    await page.getByRole("link", { name: "Try again" }).click();
    await arrives(page, signInAt("/dashboard"));
  } finally {
    await running.stop();
  }
});

// --- developing -----------------------------------------------------------------------------------------------------------------

check(
  "dev: an edit shows in a protected page through the gateway, without a reload, and all of it ends together",
  async ({ stack, open }) => {
    const dev = await stack.develop();
    let end;
    try {
      const context = await open({ baseURL: dev.origin });
      const { cookie } = await stack.signIn(DEMO);
      const page = await context.newPage();
      page.setDefaultTimeout(90_000); // the first page is compiled when it is asked for
      const sockets = [];
      page.on("websocket", (socket) => sockets.push(socket.url()));
      const stranger = await http(`${dev.address}/made-by-a-test`, { headers: { host: new URL(dev.origin).host, accept: "text/html" } });
      assert.deepEqual([stranger.status, stranger.headers.location], [302, signInAt("/made-by-a-test")]);
      await adopt(context, stack, cookie);
      await page.goto("/made-by-a-test", { timeout: 90_000 });
      await page.locator("#made", { hasText: "before" }).waitFor();
      await until("the development server's socket is open", () => sockets.some((url) => /^ws:\/\/localhost:\d+\/_next\/(webpack-)?hmr/.test(url)), 60_000);
      assert.ok(sockets.every((url) => url.startsWith(dev.origin.replace("http", "ws"))), sockets.join(" "));
      await mark(page);
      dev.write("after");
      await page.locator("#made", { hasText: "after" }).waitFor();
      assert.ok(await isMarked(page), "the document was loaded anew");
    } finally {
      end = await dev.stop();
    }
    assert.ok(end.code !== null, `ended by ${end.signal}`);
    await assert.rejects(http(`${dev.upstream}/`), "the development server is gone");
  },
  { ms: 240_000 },
);
