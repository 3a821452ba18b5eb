// A plain Node server that says what it read: the parser Next.js stands on, with its defaults. One line on standard output tells the
// ports; it ends when its standard input does.
//
//   app      answers every request with 200, and remembers it as Node's parser read it
//   control  POST /take     what was remembered since, and how many connections there were
//            POST /resolve  [[base, reference], …] as Node's URL resolves them: the origin, or null
//            POST /pages    [target, …] as Node's URL and one decoding read their paths, or null
import { createServer } from "node:http";

let records = [];
let opened = 0;
const numbers = new WeakMap();

const text = (buffer) => buffer.toString("latin1");

function note(kind, request) {
  const record = {
    kind,
    connection: numbers.get(request.socket),
    method: request.method,
    target: request.url,
    version: request.httpVersion,
    headers: pairs(request.rawHeaders),
    // What an app reads: names in lower case, repeated lines joined.
    joined: request.headers,
    body: "",
    whole: false,
  };
  records.push(record);
  return record;
}

function pairs(raw) {
  const all = [];
  for (let at = 0; at < raw.length; at += 2) all.push([raw[at], raw[at + 1]]);
  return all;
}

function answer(kind) {
  return (request, response) => {
    const record = note(kind, request);
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("error", () => {});
    request.on("end", () => {
      record.body = text(Buffer.concat(pieces));
      record.trailers = pairs(request.rawTrailers);
      record.whole = true;
      response.setHeader("content-type", "text/plain");
      response.end("app");
    });
  };
}

const app = createServer(answer("request"));
app.on("connection", (socket) => numbers.set(socket, ++opened));
app.on("checkExpectation", answer("request"));
for (const kind of ["upgrade", "connect"]) {
  app.on(kind, (request, socket) => {
    // What follows is the other protocol's, not a body.
    note(kind, request);
    socket.on("error", () => {});
    socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });
}
// Node's own behaviour, and a record of it.
app.on("clientError", (error, socket) => {
  if (error.code !== "ECONNRESET") records.push({ kind: "refused", connection: numbers.get(socket), code: error.code });
  if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  else socket.destroy();
});

const resolve = ([base, reference]) => {
  try {
    return new URL(reference, base).origin;
  } catch {
    return null;
  }
};

const page = (target) => {
  try {
    const { pathname } = new URL(target, "http://app.test");
    try {
      return [pathname, decodeURIComponent(pathname)];
    } catch {
      return [pathname, pathname];
    }
  } catch {
    return null;
  }
};

const questions = {
  "/take": () => {
    const taken = { records, opened };
    records = [];
    return taken;
  },
  "/resolve": (all) => all.map(resolve),
  "/pages": (all) => all.map(page),
};

const control = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const said = Buffer.concat(pieces).toString();
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(questions[request.url](said ? JSON.parse(said) : undefined)));
  });
});

const listening = (server) => new Promise((resume) => server.listen(0, "127.0.0.1", () => resume(server.address().port)));
console.log(JSON.stringify({ app: await listening(app), control: await listening(control) }));
process.stdin.on("end", () => process.exit(0)).resume();
