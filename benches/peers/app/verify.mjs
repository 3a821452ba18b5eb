// Better Auth behind nginx's `auth_request`: 200 and who it is, or 401. `/get-session` is the framework's own endpoint, from which
// sealed cookies are taken before a run. Node's own server, and only the cookie is handed on: nothing is faster here.
import { createServer } from "node:http";
import { auth } from "./auth.mjs";

const { api, handler } = auth();

const server = createServer(async (request, response) => {
  const headers = new Headers({ cookie: request.headers.cookie ?? "" });
  try {
    if (request.url === "/api/auth/get-session") {
      const answer = await handler(new Request(new URL(request.url, process.env.PEERS_URL), { headers }));
      response.writeHead(answer.status, Object.fromEntries(answer.headers));
      // One line each: joined ones cannot be told apart again.
      response.end(JSON.stringify(answer.headers.getSetCookie()));
      return;
    }
    const found = await api.getSession({ headers });
    if (found) response.writeHead(200, { "content-length": "0", "x-auth-user-id": found.user.id, "x-auth-user-email": found.user.email });
    else response.writeHead(401, { "content-length": "0" });
    response.end();
  } catch {
    response.writeHead(503, { "content-length": "0" });
    response.end();
  }
});
// Above what nginx keeps its connections for, so that no answer meets a closed door.
server.keepAliveTimeout = 300_000;
server.maxRequestsPerSocket = 0;
server.listen(Number(process.env.PORT), "127.0.0.1");
