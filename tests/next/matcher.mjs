// Asks Next.js itself when its middleware would run. One question a line on standard input, one answer a line on standard output.
//
// The helper made for tests takes a path to the matchers as it is. A running server does not: its router first puts the default locale in
// front of a path that names none, takes the address of a page's data for the page, and tries every path decoded too
// (server/lib/router-utils/resolve-routes.js). It has all values of a query key where the helper has the last one. Asked as it is, the helper says that `/docs` covers `/de/docs` where `de` is no locale,
// since its expressions let any first segment pass for one; a server never runs its middleware there. So the helper is asked what a
// server asks, with Next.js's own functions in between; a server with the same matchers proves the choice (tests/next_matcher.rs).
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import path from 'node:path';
import querystring from 'node:querystring';
import readline from 'node:readline';

// Next.js expects its own runtime to have put it there.
globalThis.AsyncLocalStorage = AsyncLocalStorage;
const require = createRequire(path.join(process.cwd(), 'package.json'));
const { unstable_doesMiddlewareMatch: matches } = require('next/experimental/testing/server');
const { constructRequest } = require('next/dist/experimental/testing/server/utils');
const { getMiddlewareMatchers } = require('next/dist/build/analysis/get-page-static-info');
const { getMiddlewareRouteMatcher } = require('next/dist/shared/lib/router/utils/middleware-route-matcher');
const { normalizeLocalePath } = require('next/dist/shared/lib/i18n/normalize-locale-path');
const { addPathPrefix } = require('next/dist/shared/lib/router/utils/add-path-prefix');
const { pathHasPrefix } = require('next/dist/shared/lib/router/utils/path-has-prefix');
const { removePathPrefix } = require('next/dist/shared/lib/router/utils/remove-path-prefix');
const { NextDataPathnameNormalizer } = require('next/dist/server/normalizers/request/next-data');

// With the default locale in front, when there are locales and the path (below the base path) names none.
function inLocale(inner, { i18n }) {
  if (!i18n) return inner;
  const { detectedLocale, pathname } = normalizeLocalePath(inner, i18n.locales);
  if (detectedLocale || pathname.startsWith('/_next/')) return inner;
  const implied = `/${i18n.defaultLocale}`;
  return pathname === '/' ? implied : addPathPrefix(pathname, implied);
}

// The paths a server asks about: the one received, and the page whose data it is, should that be the build it names.
function asked(pathname, nextConfig) {
  const { basePath = '', trailingSlash } = nextConfig;
  const below = basePath !== '' && pathHasPrefix(pathname, basePath);
  const slashed = (found) => (trailingSlash && !found.endsWith('/') ? `${found}/` : found);
  const inner = below ? removePathPrefix(pathname, basePath) : pathname;
  const located = inLocale(inner || '/', nextConfig);
  let first = pathname;
  if (located !== (inner || '/')) {
    first = addPathPrefix(located, below ? basePath : '');
    if (pathname.endsWith('/')) first = slashed(first);
  }
  const found = [first];
  const build = /^\/_next\/data\/([^/]+)/.exec(inner)?.[1];
  if (build !== undefined && (below || basePath === '')) {
    const data = new NextDataPathnameNormalizer(build);
    if (data.match(inner)) {
      const page = inLocale(data.normalize(inner, true) || '/', nextConfig);
      found.push(slashed(page === '/' && basePath !== '' ? basePath : path.posix.join(basePath || '/', page)));
    }
  }
  return found;
}

function answer({ matcher, nextConfig, url, headers, cookies }) {
  const request = constructRequest({ url, headers, cookies });
  const covers = getMiddlewareRouteMatcher(getMiddlewareMatchers(matcher, nextConfig));
  const { pathname, search } = new URL(url);
  const query = querystring.parse(search.slice(1));
  return asked(pathname, nextConfig).some((found) => {
    const address = new URL(url);
    address.pathname = found;
    if (matches({ config: { matcher }, nextConfig, url: address.href, headers, cookies })) return true;
    let decoded = found;
    try {
      decoded = decodeURIComponent(found);
    } catch {
      // It stays as it is, as in the server.
    }
    return covers(found, request, query) || covers(decoded, request, query);
  });
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let said;
  try {
    said = question.compile
      ? { matchers: getMiddlewareMatchers(question.compile, question.nextConfig) }
      : { matches: answer(question) };
  } catch (error) {
    said = { error: String(error?.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
