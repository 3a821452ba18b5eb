// Writes the corpora beside it: requests.jsonl (HTTP/1 requests, most of which are none) and redirects.jsonl (addresses that look like
// ours and are not). Made from the grammar of RFC 9112, RFC 9110 and RFC 3986 and from the ways in which parsers are known to differ;
// nothing is taken from elsewhere.
//
//   node tests/corpora/generate.mjs            writes both
//   node tests/corpora/generate.mjs --check    fails when what is there is something else
//
// A request is one line of JSON: `bytes` holds one letter for each byte (U+0000 to U+00FF). `must` is what has to become of it: "refuse"
// (nothing of it reaches the app), "pass" (it arrives), or absent (either, as long as both sides read the same). `incomplete` marks
// those after which a server waits for more.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const HOST = "Host: app.test\r\n";
/** What would be seen if a body or a header were taken for the next request. */
const INNER = "GET /vault/inner HTTP/1.1\r\nHost: app.test\r\nX-Inner: 1\r\n\r\n";

const requests = [];
const names = new Set();

function add(rule, name, bytes, options = {}) {
  const full = `${rule}: ${name}`;
  if (names.has(full)) throw new Error(`twice: ${full}`);
  names.add(full);
  for (const letter of bytes) if (letter.charCodeAt(0) > 0xff) throw new Error(`not a byte in ${full}`);
  requests.push({ name: full, bytes, ...options });
}
const refuse = { must: "refuse" };
const pass = { must: "pass" };

const hex = (byte) => byte.toString(16).padStart(2, "0");
const byte = (code) => String.fromCharCode(code);
const get = (headers = "", target = "/public/case", version = "HTTP/1.1") => `GET ${target} ${version}\r\n${HOST}${headers}\r\n`;
const post = (headers, body, method = "POST", version = "HTTP/1.1") => `${method} /public/case ${version}\r\n${HOST}${headers}\r\n${body}`;
const chunked = (...pieces) => pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join("") + "0\r\n\r\n";

// --- RFC 9112, 3: the request line -------------------------------------------------------------------------------------------------

for (const method of ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
  add("request line", `method ${method}`, `${method} /public/case HTTP/1.1\r\n${HOST}\r\n`, pass);
}
// A token, but what an app's parser makes of it is the app's business.
for (const method of ["get", "Get", "GETS", "G", "M-SEARCH", "PROPFIND", "TRACE", "FOO-BAR", "!#$%&'*+.^_`|~", "A".repeat(64), "PRI", "QUERY"]) {
  add("request line", `method ${method}`, `${method} /public/case HTTP/1.1\r\n${HOST}\r\n`);
}
for (const [what, method] of Object.entries({
  empty: "", colon: "GE:T", parenthesis: "GE(T", brace: "{GET}", bracket: "[GET]", quote: 'GE"T', comma: "GET,", slash: "GE/T", equals: "GE=T", at: "@GET",
  backslash: "GE\\T", semicolon: "GET;", NUL: "GE\0T", DEL: "GE\x7fT", "high byte": "GE\xe9T", "byte order mark": "\xef\xbb\xbfGET", escape: "\x1bGET", quoted: '"GET"',
})) {
  add("request line", `method with ${what}`, `${method} /public/case HTTP/1.1\r\n${HOST}\r\n`, refuse);
}
const SPACES = { "two spaces": "  ", tab: "\t", "space and tab": " \t", "vertical tab": "\x0b", "form feed": "\x0c", "no-break space": "\xa0", "carriage return": "\r" };
for (const [what, space] of Object.entries(SPACES)) {
  add("request line", `${what} after the method`, `GET${space}/public/case HTTP/1.1\r\n${HOST}\r\n`);
  add("request line", `${what} before the version`, `GET /public/case${space}HTTP/1.1\r\n${HOST}\r\n`);
}
for (const [what, line] of Object.entries({
  "space in front": " GET /public/case HTTP/1.1", "tab in front": "\tGET /public/case HTTP/1.1", "space behind": "GET /public/case HTTP/1.1 ", "tab behind": "GET /public/case HTTP/1.1\t",
  "word behind": "GET /public/case HTTP/1.1 x", "two versions": "GET /public/case HTTP/1.1 HTTP/1.1", "space in the target": "GET /public/case x HTTP/1.1",
  "second target": "GET /public/case /vault/x HTTP/1.1", "no version": "GET /public/case", "no version, a space": "GET /public/case ", "no target": "GET HTTP/1.1",
  "empty target": "GET  HTTP/1.1", "method only": "GET", "version first": "HTTP/1.1 GET /public/case", "no spaces": "GET/public/caseHTTP/1.1",
})) {
  add("request line", what, `${line}\r\n${HOST}\r\n`, /^(space|tab) behind|^space in the target|^second target/.test(what) ? {} : refuse);
}
for (const version of ["HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.01", "HTTP/1,1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1.1.1", "HTTP/ 1.1",
  "HTTP /1.1", "http/1.1", "Http/1.1", "HTTPS/1.1", "HTP/1.1", "XHTTP/1.1", "ICE/1.0", "RTSP/1.0", "HTTP\\1.1", "HTTP/1.1\0", "HTTP/1.1\x0b", "HTTP/\xb9.1", "HTTP/1x1", "HTTP/A.B", "HTTP/11", "HTTP/1.1;x"]) {
  add("version", JSON.stringify(version), `GET /public/case ${version}\r\n${HOST}\r\n`, refuse);
}
add("version", "HTTP/1.0", `GET /public/case HTTP/1.0\r\n${HOST}\r\n`, pass);

// --- RFC 9112, 3.2, and RFC 3986: the target ---------------------------------------------------------------------------------------

for (let code = 0; code < 256; code += 1) {
  const wrong = code <= 0x20 || code >= 0x7f;
  // A line feed ends the line, and what follows is another one.
  // The HTTP library escapes what is ASCII and cannot stand there: the query may pass so, and a path with an escaped control may not.
  const options = code === 0x20 || !wrong ? (code === 0x23 ? refuse : {}) : refuse;
  add("target", `byte ${hex(code)} in the path`, `GET /public/a${byte(code)}b HTTP/1.1\r\n${HOST}\r\n`, options);
  if (code < 0x30 || code >= 0x7b || code === 0x5c) add("target", `byte ${hex(code)} in the query`, `GET /public/a?b${byte(code)}c HTTP/1.1\r\n${HOST}\r\n`, code >= 0x80 || code === 0x0a || code === 0x23 ? refuse : {});
}
for (const target of ["http://app.test/public/case", "http://app.test/vault/x", "HTTP://APP.TEST/public/case", "http://app.test:80/public/case", "http://evil.example/public/case", "http://user@app.test/public/case",
  "http://app.test", "http:///public/case", "http:/public/case", "http:public/case", "https://app.test/public/case", "ftp://app.test/public/case", "ws://app.test/public/case", "file:///etc/passwd", "javascript:alert(1)",
  "//app.test/public/case", "//evil.example/public/case", "///public/case", "/public//case", "public/case", "*", "**", "*/public/case", "app.test:80", "app.test", ":80", "[::1]:80", "@app.test/public/case", "?x=/public/case", "#/public/case",
  ".", "..", "./public/case", "../public/case", "\\public\\case", "%2fpublic/case", "/\\app.test/public/case", "", ";/public/case", "&/public/case", "%00/public/case"]) {
  for (const method of ["GET", "POST", "OPTIONS"]) {
    // `OPTIONS *` is lawful; it names no page, so the default rule says no.
    add("target form", `${method} ${JSON.stringify(target)}`, `${method} ${target} HTTP/1.1\r\n${HOST}\r\n`, refuse);
  }
}
for (const target of ["app.test:80", "app.test:443", "/public/case", "http://app.test/public/case", "*", "evil.example:25"]) {
  add("target form", `CONNECT ${target}`, `CONNECT ${target} HTTP/1.1\r\n${HOST}\r\n${INNER}`, refuse);
}
for (const path of ["/public/../vault/x", "/public/%2e%2e/vault/x", "/public/..%2fvault/x", "/public/..%5cvault/x", "/public/..;/vault/x", "/public/.%2e/vault/x", "/./vault/x", "/vault%2fx", "/%76ault/x", "/VAULT/x",
  "/public/%252e%252e/vault/x", "/public/%", "/public/%2", "/public/%zz", "/public/%c0%ae%c0%ae/vault/x", "/public/%ff", "/public/%00", "/public/%0d%0ax-auth-user-id:%20root", "/public/..", "/public/.", "/vault/../public/..//vault/x"]) {
  add("target path", path, get("", path), refuse);
}
for (const path of ["/public/a%20b", "/public/caf%C3%A9", "/public/a?x=/../vault", "/public/a;v=1", "/public/...", "/public/a%25b", "/public/a?b?c", "/public/a?%zz", "/public/-._~!$&'()*+,;=:@", "/public/?", "/public/a?"]) {
  add("target path", path, get("", path), pass);
}

// --- RFC 9112, 2.2: line ends ------------------------------------------------------------------------------------------------------

for (const [what, end] of Object.entries({ "bare LF": "\n", "bare CR": "\r", "LF CR": "\n\r", "CR CR LF": "\r\r\n", "CR LF LF": "\r\n\n", "CR NUL LF": "\r\0\n", "CR space LF": "\r \n", NEL: "\x85" })) {
  add("line end", `${what} after the request line`, `GET /public/case HTTP/1.1${end}${HOST}\r\n`, end === "\n" ? {} : { incomplete: ["\r", "\x85"].includes(end) || undefined });
  add("line end", `${what} after a header`, `GET /public/case HTTP/1.1\r\n${HOST}X-A: b${end}X-C: d\r\n\r\n`);
  add("line end", `${what} after the host`, `GET /public/case HTTP/1.1\r\nHost: app.test${end}X-C: d\r\n\r\n`);
  add("line end", `${what} after the length`, `POST /public/case HTTP/1.1\r\n${HOST}Content-Length: 3${end}X-C: d\r\n\r\nabc`);
  add("line end", `${what} before a second host`, `GET /public/case HTTP/1.1\r\n${HOST}X-A: b${end}Host: evil.example\r\n\r\n`, ["CR LF LF", "NEL"].includes(what) ? {} : refuse);
  add("line end", `${what} before an encoding`, `POST /public/case HTTP/1.1\r\n${HOST}Content-Length: ${5 + INNER.length}\r\nX-A: b${end}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${INNER}`);
  add("line end", `${what} everywhere`, `GET /public/case HTTP/1.1${end}Host: app.test${end}X-A: b${end}${end}`, ["\n", "\r\n\n"].includes(end) ? {} : { incomplete: true });
}
for (const [what, front] of Object.entries({ "an empty line": "\r\n", "two empty lines": "\r\n\r\n", "three empty lines": "\r\n\r\n\r\n", "a bare LF": "\n", "a bare CR": "\r", "a space and an end": " \r\n", "a tab and an end": "\t\r\n", NUL: "\0", "a word": "junk\r\n", "a header": "X-A: b\r\n", "a chunk": "0\r\n\r\n", "a status line": "HTTP/1.1 200 OK\r\n" })) {
  add("in front of the request", what, `${front}${get()}`, /end|NUL|word|header|chunk|status|CR/.test(what) ? refuse : {});
}

// --- RFC 9112, 5: header lines -----------------------------------------------------------------------------------------------------

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]$/;
for (let code = 0; code < 256; code += 1) {
  const letter = byte(code);
  const options = TOKEN.test(letter) || letter === ":" ? {} : refuse;
  add("header name", `byte ${hex(code)} inside`, get(`X-A${letter}B: c\r\n`), code === 0x0a ? { must: "refuse" } : options);
  if (!TOKEN.test(letter)) {
    add("header name", `byte ${hex(code)} before the colon`, get(`X-A${letter}: c\r\n`), letter === ":" ? {} : refuse);
    add("header name", `byte ${hex(code)} in front`, get(`${letter}X-A: c\r\n`), code === 0x0a || code === 0x0d ? {} : refuse);
    add("header name", `byte ${hex(code)} before the colon of the encoding`, post(`Transfer-Encoding${letter}: chunked\r\n`, chunked(INNER)), letter === ":" ? {} : refuse);
    add("header name", `byte ${hex(code)} in front of the encoding`, post(`${letter}Transfer-Encoding: chunked\r\n`, chunked(INNER)), [0x0a, 0x0d].includes(code) ? {} : refuse);
    add("header name", `byte ${hex(code)} before the colon of the length`, post(`Content-Length${letter}: ${INNER.length}\r\n`, INNER), letter === ":" ? {} : refuse);
  }
}
for (const [what, line] of Object.entries({ "no colon": "X-A\r\n", "empty name": ": c\r\n", "colon only": ":\r\n", "blanks only": "  \r\n", "tab only": "\t\r\n", "two colons": "X-A:: c\r\n", "a request line": "GET /vault/x HTTP/1.1\r\n", "equals sign": "X-A=c\r\n" })) {
  add("header line", what, get(line), what === "two colons" ? {} : refuse);
}
for (let code = 0; code < 256; code += 1) {
  if (code >= 0x21 && code < 0x7f) continue;
  const control = code < 0x20 || code === 0x7f;
  const wrong = control && code !== 0x09 && code !== 0x0a;
  add("header value", `byte ${hex(code)} inside`, get(`X-A: b${byte(code)}c\r\n`), [0x20, 0x09].includes(code) ? pass : wrong ? refuse : code === 0x0a ? refuse : {});
  add("header value", `byte ${hex(code)} in front of an encoding`, post(`Transfer-Encoding: ${byte(code)}chunked\r\n`, chunked(INNER)), [0x20, 0x09].includes(code) ? {} : refuse);
  add("header value", `byte ${hex(code)} behind an encoding`, post(`Transfer-Encoding: chunked${byte(code)}\r\n`, chunked(INNER)), [0x20, 0x09, 0x0a, 0x0d].includes(code) ? {} : refuse);
  add("header value", `byte ${hex(code)} in front of a length`, post(`Content-Length: ${byte(code)}3\r\n`, "abc"), [0x20, 0x09].includes(code) ? {} : refuse);
  add("header value", `byte ${hex(code)} behind a length`, post(`Content-Length: 3${byte(code)}\r\n`, "abc"), [0x20, 0x09, 0x0a, 0x0d].includes(code) ? {} : refuse);
  add("header value", `byte ${hex(code)} in the host`, `GET /public/case HTTP/1.1\r\nHost: app${byte(code)}.test\r\n\r\n`, refuse);
}
for (const [what, lines] of Object.entries({ space: "X-A: b\r\n c\r\n", tab: "X-A: b\r\n\tc\r\n", "an empty value": "X-A:\r\n b\r\n", "an encoding": "Transfer-Encoding:\r\n chunked\r\n", "half an encoding": "Transfer-Encoding: chun\r\n ked\r\n", "a length": "Content-Length:\r\n 3\r\n", "a host": "X-A: b\r\n Host: evil.example\r\n", "a claim": "X-A: b\r\n\tX-Auth-User-Id: root\r\n", "bare LF": "X-A: b\n c\r\n" })) {
  add("folded line", what, post(lines, chunked("abc")), refuse);
}
add("folded line", "the very first header", `GET /public/case HTTP/1.1\r\n Host: app.test\r\n\r\n`, refuse);
add("folded line", "the host", `GET /public/case HTTP/1.1\r\nHost:\r\n app.test\r\n\r\n`, refuse);
for (const [what, lines] of Object.entries({ "no blank": "X-A:b\r\n", "many blanks": "X-A:  \t b \t \r\n", empty: "X-A:\r\n", "a value of blanks": "X-A: \t \r\n", "other case": "x-A: B\r\n", twice: "X-A: b\r\nX-A: c\r\n", "twice, apart": "X-A: b\r\nX-B: d\r\nX-A: c\r\n", "high bytes": "X-A: caf\xc3\xa9\r\n", "commas and quotes": 'X-A: a, "b,c", d\r\n', "two cookies": "Cookie: a=b\r\nCookie: c=d\r\n" })) {
  add("header line", what, get(lines), pass);
}

// --- RFC 9110, 7.2: the host -------------------------------------------------------------------------------------------------------

for (const [what, lines] of Object.entries({
  missing: "", empty: "Host:\r\n", blank: "Host: \r\n", twice: `${HOST}${HOST}`, "twice, another": `${HOST}Host: evil.example\r\n`, "another, twice": `Host: evil.example\r\n${HOST}`, "a list": "Host: app.test, evil.example\r\n",
  "two words": "Host: app.test evil.example\r\n", user: "Host: a@app.test\r\n", "user of ours": "Host: app.test@evil.example\r\n", path: "Host: app.test/x\r\n", query: "Host: app.test?x\r\n", fragment: "Host: evil.example#app.test\r\n", scheme: "Host: http://app.test\r\n",
  backslash: "Host: app.test\\evil.example\r\n", "two ports": "Host: app.test:80:81\r\n", "port of letters": "Host: app.test:http\r\n", "two dots": "Host: app..test\r\n", "two dots behind": "Host: app.test..\r\n", dot: "Host: .\r\n",
  escape: "Host: app%2etest\r\n", "other host": "Host: evil.example\r\n", below: "Host: app.test.evil.example\r\n", above: "Host: test\r\n", bracket: "Host: [app.test]\r\n", "blank before the colon": "Host : app.test\r\n", "in quotes": 'Host: "app.test"\r\n',
  "with underscores only": "Host_: app.test\r\n", semicolon: "Host: app.test;x\r\n",
})) {
  add("host", what, `GET /public/case HTTP/1.1\r\n${lines}\r\n`, refuse);
  add("host", `${what}, HTTP/1.0`, `GET /public/case HTTP/1.0\r\n${lines}\r\n`, refuse);
}
for (const host of ["app.test", "APP.Test", "app.test:80", "app.test:8080", "app.test."]) add("host", host, `GET /public/case HTTP/1.1\r\nHost: ${host}\r\n\r\n`, pass);
add("host", "an empty port", "GET /public/case HTTP/1.1\r\nHost: app.test:\r\n\r\n");

// --- RFC 9112, 6: lengths ----------------------------------------------------------------------------------------------------------

for (const method of ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "HEAD", "PROPFIND"]) {
  const options = method === "PROPFIND" ? {} : pass;
  add("length", `${method} with one`, post(`Content-Length: ${INNER.length}\r\n`, INNER, method), options);
  add("length", `${method} with none`, post("", "", method), options);
  add("length", `${method} with zero`, post("Content-Length: 0\r\n", "", method), options);
  add("chunks", `${method} with some`, post("Transfer-Encoding: chunked\r\n", chunked(INNER), method), options);
  add("chunks", `${method} with none`, post("Transfer-Encoding: chunked\r\n", chunked(), method), options);
}
for (const length of ["", "-0", "-1", "-3", "+3", "0x3", "0X3", "3.0", "3e0", "3,", ",3", "3,3", "3, 3", "3, 4", "3 3", "3;", "3;3", '"3"', "'3'", "(3)", "3a", "a3", "three", "0b11", "0o3", "1_000", "\xb3", "\xd9\xa3", "3\xa0", "\xa03", "%33", "18446744073709551616", "18446744073709551619", "4294967299999999999999", "9".repeat(100), "NaN", "Infinity", "-", "+"]) {
  add("length", JSON.stringify(length), post(`Content-Length: ${length}\r\n`, `abc${INNER}`), refuse);
}
for (const [what, length] of Object.entries({ "a zero in front": "03", "many zeros in front": `${"0".repeat(40)}3` })) add("length", what, post(`Content-Length: ${length}\r\n`, "abc"));
for (const [one, other] of [["3", "3"], ["3", "4"], ["4", "3"], ["0", "3"], ["3", "0"], ["3", "03"], ["3", ""], ["", "3"], ["3", "x"]]) {
  add("two lengths", `${JSON.stringify(one)} and ${JSON.stringify(other)}`, post(`Content-Length: ${one}\r\nContent-Length: ${other}\r\n`, `abc${INNER}`), refuse);
  add("two lengths", `${JSON.stringify(one)} and ${JSON.stringify(other)}, apart and in other case`, post(`content-length: ${one}\r\nX-A: b\r\nCONTENT-LENGTH: ${other}\r\n`, `abc${INNER}`), refuse);
}
for (const name of ["Content_Length", "Content.Length", "ContentLength", "Content-Length2", "X-Content-Length", "Content--Length"]) add("length", `by the name ${name}`, post(`${name}: ${INNER.length}\r\n`, ""));
add("length", "more than there is", post("Content-Length: 10\r\n", "abc"), { incomplete: true });
add("length", "very much more than there is", post("Content-Length: 1000000\r\n", INNER), { incomplete: true });
add("length", "over the limit", post("Content-Length: 99999999\r\n", INNER), refuse);

// --- RFC 9112, 6.1: encodings ------------------------------------------------------------------------------------------------------

for (const value of ["Chunked", "CHUNKED", "cHuNkEd", " chunked", "\tchunked", "chunked ", "chunked\t", " \t chunked \t "]) {
  add("encoding", JSON.stringify(value), post(`Transfer-Encoding: ${value}\r\n`, chunked(INNER)));
}
for (const value of ["", "identity", "identity, chunked", "chunked, identity", "chunked, chunked", "chunked,", ",chunked", ", chunked", "chunked, ,", "gzip", "gzip, chunked", "chunked, gzip", "deflate, chunked", "xchunked", "chunkedx", "x-chunked", "chunke", "chunked;q=1", "chunked;a=b", "chunked; foo", '"chunked"', "'chunked'", "chun ked", "chunked chunked", "chunked\tchunked",
  "chunked\\", "\\chunked", "(chunked)", "chunked=", "%63hunked", "c\xe7hunked", "chunked\xa0", "\xa0chunked", "chunked/1.1", "trailers", "cow", "cow, chunked", "chunked, cow", "null", "false", "chunked:"]) {
  add("encoding", `${JSON.stringify(value)} and a chunked body`, post(`Transfer-Encoding: ${value}\r\n`, chunked(INNER)), refuse);
  add("encoding", `${JSON.stringify(value)} and a length`, post(`Content-Length: ${INNER.length}\r\nTransfer-Encoding: ${value}\r\n`, INNER), refuse);
}
for (const value of ["chunked", "identity", "gzip", "", "x"]) {
  for (const version of ["HTTP/1.1", "HTTP/1.0"]) {
    for (const length of [3, 0, 5 + INNER.length]) {
      add("both", `length ${length}, then ${JSON.stringify(value)}, ${version}`, post(`Content-Length: ${length}\r\nTransfer-Encoding: ${value}\r\n`, `0\r\n\r\n${INNER}`, "POST", version), refuse);
      add("both", `${JSON.stringify(value)}, then length ${length}, ${version}`, post(`Transfer-Encoding: ${value}\r\nX-A: b\r\ncontent-length:${length}\r\n`, `0\r\n\r\n${INNER}`, "POST", version), refuse);
    }
  }
  add("encoding", `${JSON.stringify(value)} twice`, post(`Transfer-Encoding: ${value}\r\nTransfer-Encoding: ${value}\r\n`, chunked(INNER)), refuse);
  add("encoding", `${JSON.stringify(value)} and another`, post(`Transfer-Encoding: ${value}\r\ntransfer-encoding: identity\r\n`, chunked(INNER)), refuse);
  add("encoding", `another and ${JSON.stringify(value)}`, post(`Transfer-Encoding: cow\r\ntransfer-encoding: ${value}\r\n`, chunked(INNER)), refuse);
  add("encoding", `${JSON.stringify(value)} of HTTP/1.0`, post(`Transfer-Encoding: ${value}\r\n`, chunked(INNER), "POST", "HTTP/1.0"), refuse);
}
for (const name of ["Transfer_Encoding", "Transfer.Encoding", "TransferEncoding", "X-Transfer-Encoding", "Transfer-Encodings", "Transfer--Encoding"]) {
  add("encoding", `by the name ${name}`, post(`${name}: chunked\r\nContent-Length: 3\r\n`, "abc"));
}

// --- RFC 9112, 7.1: chunks ---------------------------------------------------------------------------------------------------------

const inChunks = (name, body, options) => add("chunks", name, post("Transfer-Encoding: chunked\r\n", body), options);
inChunks("one", chunked("abc"), pass);
inChunks("many", chunked("a", "bc", INNER, "d".repeat(300)), pass);
inChunks("capital digits", `1A\r\n${"a".repeat(26)}\r\n0\r\n\r\n`, pass);
inChunks("zeros in front", "0003\r\nabc\r\n000\r\n\r\n");
for (const size of ["", " ", "-3", "+3", "0x3", "x3", "g", "3g", "3 3", "3,3", "3.0", "3_", "_3", "\xb3", "3\0", "\x003", "3\x0b", "\x0b3", "\x0c3", "-0", "FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFD", "10000000000000003", "100000000000000000000000000000003", "\"3\"", "3\r", "3h"]) {
  inChunks(`size ${JSON.stringify(size)}`, `${size}\r\nabc\r\n0\r\n\r\n`);
  inChunks(`size ${JSON.stringify(size)} of the last`, `3\r\nabc\r\n${size}\r\n\r\n`);
}
for (const extension of [";", ";a", ";a=b", '; a="b"', ";a=b;c=d", ' ;a="b\\"c"', ";a;b;c", "; a = b", " ", "\t", "  \t ", ";;", ";=", ";a=", ';a="', ";a\0b", ";a\x7fb", ";a\xffb", `;${"a".repeat(500)}`, `;a="\n"`, ";a\nb", ";a\rb", ";\n", ";\r\r\n", ' "a"']) {
  inChunks(`extension ${JSON.stringify(extension.slice(0, 20))}`, `3${extension}\r\nabc\r\n0\r\n\r\n`);
  inChunks(`extension ${JSON.stringify(extension.slice(0, 20))} of the last`, `3\r\nabc\r\n0${extension}\r\n\r\n`);
}
for (const [what, body] of Object.entries({
  "LF after the size": "3\nabc\r\n0\r\n\r\n", "LF after the data": "3\r\nabc\n0\r\n\r\n", "LF only": "3\nabc\n0\n\n", "CR after the size": "3\rabc\r\n0\r\n\r\n", "nothing after the data": "3\r\nabc0\r\n\r\n", "data too long": "3\r\nabcd\r\n0\r\n\r\n",
  "data too short": "4\r\nabc\r\n0\r\n\r\n", "two ends after the data": "3\r\nabc\r\n\r\n0\r\n\r\n", "a blank after the data": "3\r\nabc \r\n0\r\n\r\n", "LF CR after the data": "3\r\nabc\n\r0\r\n\r\n", "CR CR LF after the data": "3\r\nabc\r\r\n0\r\n\r\n",
  "a request in place of a chunk": INNER, "a blank before the size": " 3\r\nabc\r\n0\r\n\r\n", "an empty line before the size": "\r\n3\r\nabc\r\n0\r\n\r\n", "LF at the very end": "3\r\nabc\r\n0\r\n\n", "last size with LF": "3\r\nabc\r\n0\n\r\n", "words in place of the end": `3\r\nabc\r\n0\r\nX${INNER}`,
  "a request in place of the end": `3\r\nabc\r\n0\r\n${INNER}`,
})) inChunks(what, body);
for (const [what, body] of Object.entries({ "nothing": "", "half a size": "1", "half a chunk": "5\r\nab", "no last chunk": "3\r\nabc\r\n", "half a last chunk": "3\r\nabc\r\n0", "no end": "3\r\nabc\r\n0\r\n", "half an end": "3\r\nabc\r\n0\r\n\r", "half a trailer": "3\r\nabc\r\n0\r\nX-A: b" })) {
  inChunks(`broken off: ${what}`, body, { incomplete: true });
}
for (const [what, line] of Object.entries({ harmless: "X-A: b\r\n", identity: "X-Auth-User-Id: root\r\n", length: "Content-Length: 3\r\n", encoding: "Transfer-Encoding: chunked\r\n", host: "Host: evil.example\r\n", cookie: "Cookie: a=b\r\n", connection: "Connection: close\r\n", "no colon": "X-A\r\n", "blank before the colon": "X-A : b\r\n", folded: "X-A: b\r\n c\r\n", NUL: "X-A: b\0c\r\n", "bare LF": "X-A: b\n", "a request line": "GET /vault/x HTTP/1.1\r\n", "a forwarded address": "X-Forwarded-For: 1.2.3.4\r\n", "a folded name": "X_Auth_User_Id: root\r\n" })) {
  inChunks(`trailer: ${what}`, `3\r\nabc\r\n0\r\n${line}\r\n`);
  add("chunks", `announced trailer: ${what}`, post(`Trailer: X-A\r\nTransfer-Encoding: chunked\r\n`, `3\r\nabc\r\n0\r\n${line}\r\n`));
}

// --- RFC 9110, 7.6, 7.8, 10.1: connections, upgrades, expectations -----------------------------------------------------------------

for (const value of ["close", "keep-alive", "Close", "close, keep-alive", "", "te", ",", "close,,"]) add("connection", JSON.stringify(value), get(`Connection: ${value}\r\n`), value.includes("close") || value === "keep-alive" ? pass : {});
for (const value of ["cookie", "host", "authorization", "x-auth-user-id", "X-Forwarded-For", "close, cookie", "content-length", "transfer-encoding", "x-a", "close x-a", "clos\xe9", "close;x", '"close"', "connection", "trailer", "close, x-auth-user-id, keep-alive", "x_auth_user_id"]) {
  add("connection", JSON.stringify(value), get(`Connection: ${value}\r\nCookie: a=b\r\nX-A: b\r\n`), refuse);
  add("connection", `${JSON.stringify(value)} on a second line`, get(`Connection: close\r\nCookie: a=b\r\nX-A: b\r\nConnection: ${value}\r\n`), refuse);
}
for (const value of ["websocket", "foo", "h2c", "TLS/1.0", "websocket, foo", "", "WebSocket", "HTTP/2.0"]) {
  add("upgrade", JSON.stringify(value), get(`Connection: Upgrade\r\nUpgrade: ${value}\r\n`));
  add("upgrade", `${JSON.stringify(value)} with no connection`, get(`Upgrade: ${value}\r\n`));
  add("upgrade", `${JSON.stringify(value)} and a body`, post(`Connection: Upgrade\r\nUpgrade: ${value}\r\nContent-Length: ${INNER.length}\r\n`, INNER));
  add("upgrade", `${JSON.stringify(value)} and a request behind it`, get(`Connection: Upgrade\r\nUpgrade: ${value}\r\n`) + INNER);
}
add("upgrade", "HTTP/2 settings", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"));
add("expectation", "100-continue", post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"), pass);
add("expectation", "100-continue, chunked", post("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", chunked("abc")), pass);
add("expectation", "100-continue without a body", get("Expect: 100-continue\r\n"));
add("expectation", "100-continue of HTTP/1.0", post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc", "POST", "HTTP/1.0"));
for (const value of ["x", "200-ok", "100-continue, x", "", "100"]) add("expectation", JSON.stringify(value), post(`Expect: ${value}\r\nContent-Length: 3\r\n`, "abc"));
for (const value of ["trailers", "chunked", "gzip", ""]) add("te", JSON.stringify(value), get(`TE: ${value}\r\nConnection: te\r\n`));
for (const line of ["Proxy-Connection: keep-alive", "Keep-Alive: timeout=5", "Trailer: X-A", "Max-Forwards: 0", "Via: 1.1 x", "X-HTTP-Method-Override: DELETE", "Range: bytes=0-0", "If-None-Match: *", "Accept-Encoding: gzip"]) add("header line", line, get(`${line}\r\n`));

// --- something else altogether -----------------------------------------------------------------------------------------------------

for (const [what, bytes, options] of [
  ["the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refuse], ["a PROXY protocol line", `PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n${get()}`, refuse], ["a binary PROXY header", `\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02${get()}`, refuse],
  ["a TLS hello", "\x16\x03\x01\0\x05\x01\0\0\x01\0\r\n\r\n", refuse], ["an SSH banner", "SSH-2.0-x\r\n\r\n", refuse], ["a status line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", refuse], ["SMTP", "EHLO app.test\r\nQUIT\r\n\r\n", refuse], ["an HTTP/0.9 request", "GET /public/case\r\n\r\n", refuse],
  ["JSON", '{"method":"GET"}\r\n\r\n', refuse], ["zeros", `${"\0".repeat(64)}\r\n\r\n`, refuse], ["memcached", "get x\r\n\r\n", refuse], ["Redis", "*1\r\n$4\r\nPING\r\n\r\n", refuse],
]) add("no HTTP/1", what, bytes, options);
for (const count of [90, 200, 257, 400]) add("size", `${count} headers`, get("X-A: b\r\n".repeat(count)), count > 256 ? refuse : {});
for (const size of [1000, 7000]) add("size", `a target of ${size}`, get("", `/public/${"a".repeat(size)}`), pass);
for (const size of [9000, 20_000]) add("size", `a target of ${size}`, get("", `/public/${"a".repeat(size)}`), refuse);
add("size", "a header of 12000", get(`X-A: ${"a".repeat(12_000)}\r\n`), pass);
add("size", "a header of 40000", get(`X-A: ${"a".repeat(40_000)}\r\n`), refuse);
add("size", "a name of 2000", get(`X-${"a".repeat(2000)}: b\r\n`));
for (const [what, bytes] of Object.entries({ "half a method": "GE", "half a request line": "GET /public/ca", "no end of the head": `GET /public/case HTTP/1.1\r\n${HOST}`, "half an end": `GET /public/case HTTP/1.1\r\n${HOST}\r`, "half a header": "GET /public/case HTTP/1.1\r\nHost: app.te" })) add("broken off", what, bytes, { incomplete: true });
// What a careless server takes for two requests.
for (const [what, bytes] of Object.entries({
  "a request in the body of a GET": `GET /public/case HTTP/1.1\r\n${HOST}Content-Length: ${INNER.length}\r\n\r\n${INNER}`,
  "a request in a value": get(`X-A: ${INNER.replaceAll("\r\n", "%0d%0a")}\r\n`),
  "a request in a chunk": post("Transfer-Encoding: chunked\r\n", chunked(INNER)),
  "a request in the body of a HEAD": `HEAD /public/case HTTP/1.1\r\n${HOST}Content-Length: ${INNER.length}\r\n\r\n${INNER}`,
})) add("hidden", what, bytes, pass);

// --- addresses that lead elsewhere (WHATWG URL) ------------------------------------------------------------------------------------

const redirects = new Set();
const EVIL = ["evil.example", "app.test@evil.example", "app.test.evil.example", "evil.example:80", "[::1]", "0x7f000001", "2130706433", "evil%2eexample"];
const FRONT = ["//", "///", "////", "/\\", "\\/", "\\\\", "\\\\\\", "/\\/\\", "//\\", "/%09/", "/%5c", "/%5C%5c", "//%5c", "/%2f", "/%2f%2f", "/%2F%5c", "/\t/", "\t//", "/\n/", "/\r\n/", " //", "\u0000//", "/\u0001/", "/./ /", "/.//", "/..//", "/./\\", "/%2e%2e//", "/;/../..//", "/%0a/", "/%0d%0a/", "/%00/", "//;@", "/;@", "/@", "@", ".", "/.", "%2f%2f", "%5c%5c", "〱", "/〵", "ｰ", "/％2f", "／／", "/／", "＼＼", "/＼", "\u00ad//", "/\u200b/", "\ufeff//"];
for (const front of FRONT) for (const host of EVIL.slice(0, 4)) redirects.add(front + host);
for (const front of FRONT.slice(0, 12)) for (const tail of ["/", "/..", "/%2e%2e", "/%2f..", "?x", "#@app.test", "\\@app.test", "/https://app.test", ";x"]) redirects.add(`${front}evil.example${tail}`);
for (const scheme of ["http:", "https:", "HTTPS:", "hTTp:", "http:/", "https:/", "http:\\", "https:\\\\", "http://", "https://", "https:///", "https:////", "https:%2f%2f", "https:%5c%5c", "/https:", "/https:/", "/https://", "/http:%2f%2f", "ws://", "ftp://", "\thttps://", "ht\ttps://", " https://", "https\n://", "https:\t//", "%68ttps://", "https%3a//", "x:https://", "view-source:https://", "blob:https://", "filesystem:https://"]) for (const host of EVIL) redirects.add(scheme + host);
for (const script of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)", "java%0ascript:alert(1)", " javascript:alert(1)", "\u0001javascript:alert(1)", "javascript://app.test/%0aalert(1)", "/javascript:alert(1)", "//javascript:alert(1)", "javascript&colon;alert(1)", "javascript%3aalert(1)", "data:text/html,x", "data:text/html;base64,eA==", "vbscript:x", "file:///etc/passwd", "about:blank", "mailto:x@evil.example", "tel:1", "intent://evil.example#Intent;end"]) redirects.add(script);
for (const injected of ["%0d%0aLocation:%20//evil.example", "\r\nLocation: //evil.example", "%0aset-cookie:x=1", "\nset-cookie: x=1", "%E5%98%8A%E5%98%8DLocation:%20//evil.example", "%u000aset-cookie:x", "%c0%8aset-cookie:x"]) for (const front of ["/", "/public/x", "//evil.example", "https://evil.example/"]) redirects.add(front + injected);
for (const host of ["app.test.evil.example", "app.test%2eevil.example", "app.test%23.evil.example", "app.test%5c.evil.example", "app.test%2f.evil.example", "app.test&.evil.example", "app.test%00.evil.example", "app.test;.evil.example", "app.test:80@evil.example", "app.test:x@evil.example", "app.test%40evil.example", "app.test#@evil.example", "app.test?@evil.example", "app.test\\.evil.example", "app.test%E3%80%82evil.example", "app\u3002test.evil.example", "app.test\u2024evil.example", "evil.example\u2044app.test", "evil.example\uff0fapp.test", "evil.example\uff03app.test"]) for (const scheme of ["//", "https://", "http://", "\\\\"]) redirects.add(scheme + host);

// --- the files ---------------------------------------------------------------------------------------------------------------------

const files = {
  "requests.jsonl": requests.map((request) => JSON.stringify(request)).join("\n") + "\n",
  "redirects.jsonl": [...redirects].map((address) => JSON.stringify(address)).join("\n") + "\n",
};
for (const [name, text] of Object.entries(files)) {
  const path = join(here, name);
  if (!process.argv.includes("--check")) {
    writeFileSync(path, text);
    console.log(`${name}: ${text.split("\n").length - 1}`);
  } else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
    console.error(`${name} is not what generate.mjs makes`);
    process.exitCode = 1;
  }
}
