/** Where to go after signing in: a path of this site, and nothing else, whoever wrote the query. */
export function safeReturnTo(value: string | string[] | undefined, fallback = "/dashboard"): string {
  if (typeof value !== "string" || !/^\/(?![/\\])[^\\\u0000-\u001f\u007f]*$/.test(value)) return fallback;
  const url = new URL(value, "http://here.invalid");
  return url.origin === "http://here.invalid" ? url.pathname + url.search + url.hash : fallback;
}
