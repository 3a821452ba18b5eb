"""Who is measured, each in its best configuration, and one worker each."""

import os
import re
import signal
from pathlib import Path

import process
import wire
from process import BEHIND, Process

# Connections kept to whatever is behind, and how often each is used: no peer ever opens one in the middle of a run.
KEPT = 256
OFTEN = 1_000_000_000
SIGN_IN = "/sign-in?callbackURL=%2Fanswer"


class Contestant:
    """A running proxy: where it listens, whose time counts, and what it does."""

    # What it checks: "nothing", or how sessions are proven.
    checks = "nothing"
    logs = "no"
    # Whether a session that ends while remembered is refused by the next request.
    ends_at_once = True
    # Whether it looks sessions up once and then remembers them for a while.
    remembers = False
    # Whether it runs on Node.js, which compiles what runs often while it runs.
    compiles = False
    # Whether the app behind is told who is calling.
    stamps = True

    def __init__(self, name, about, port, counted, requests="all", **more):
        self.name = name
        self.about = about
        self.port = port
        self.counted = counted
        self.requests = requests
        for key, value in more.items():
            setattr(self, key, value)

    def cpu_seconds(self):
        return sum(one.cpu_seconds() for one in self.counted)

    def resident_bytes(self):
        return sum(one.resident_bytes() for one in self.counted)

    def end(self, world, session):
        """Ends a session the way it ends where this one stands: the row goes, and the app answers the sign-out."""
        world.delete(session)


class Stage:
    """Starts contestants, with the app behind them."""

    def __init__(self, folder, tools, world):
        self.folder = Path(folder)
        self.tools = tools
        self.world = world
        self.memory = process.scratch() or folder
        self.app = self.nginx("app", APP, cores=BEHIND)[1]

    def write(self, name, text):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def nginx(self, name, servers, environment=None, cores=process.MEASURED, head="", **values):
        """nginx with one worker; `@word@` in its servers is replaced."""
        port = process.port()
        values = {"port": port, "kept": KEPT, "often": OFTEN, **values}
        text = fill(NGINX, {
            "user": "user root;" if os.geteuid() == 0 else "",
            "modules": head,
            "servers": fill(servers, values),
            "folder": self.folder,
            "name": name,
            **values,
        })
        path = self.write(f"{name}.conf", text)
        command = [self.tools["nginx"], "-c", path, "-p", self.folder]
        return Process(command, self.folder, name, environment, cores).await_port(port), port

    # --- without auth ---------------------------------------------------------------------------------------------------------

    def plain(self, name, about, build="tuned", *more, environment=None):
        port = process.port()
        command = [self.tools[build], f"127.0.0.1:{port}", f"127.0.0.1:{self.app}", *more]
        # At SIGTERM it would wait for minutes, for connections that are kept.
        server = Process(command, self.folder, name, environment, end=signal.SIGINT).await_port(port)
        return Contestant(name, about, port, [server])

    def tuned(self):
        return self.plain("pingora", "plain Pingora 0.9.1, Vestibule's allocator and profile", "tuned")

    def small_pages(self):
        """As Vestibule takes its memory: it is not the program that makes the difference there."""
        return self.plain("pingora-small", "the same, its memory in pages of 4 KiB", "tuned", environment={"MIMALLOC_ALLOW_THP": "0"})

    def minimal(self):
        return self.plain("pingora-minimal", "plain Pingora 0.9.1, system allocator, thin LTO", "minimal")

    def redirecting(self):
        return self.plain("pingora-redirect", "plain Pingora that answers a redirect itself", "tuned", "redirect")

    def nginx_plain(self):
        server, port = self.nginx("nginx", NGINX_PLAIN, app=self.app)
        return Contestant("nginx", "nginx, plain", port, [server])

    def haproxy(self):
        port = process.port()
        path = self.write("haproxy.cfg", fill(HAPROXY, {"port": port, "app": self.app, "kept": KEPT}))
        server = Process([self.tools["haproxy"], "-db", "-f", path], self.folder, "haproxy").await_port(port)
        return Contestant("haproxy", "HAProxy, plain", port, [server])

    def caddy(self):
        port = process.port()
        path = self.write("Caddyfile", fill(CADDY, {"port": port, "app": self.app, "kept": KEPT}))
        command = [self.tools["caddy"], "run", "--config", path, "--adapter", "caddyfile"]
        server = Process(command, self.folder, "caddy", {"GOMAXPROCS": "1"}).await_port(port)
        return Contestant("caddy", "Caddy, plain", port, [server])

    def traefik(self, fast=False):
        port, name = process.port(), "traefik-fast" if fast else "traefik"
        routes = self.write(f"{name}-routes.yml", fill(TRAEFIK_ROUTES, {"app": self.app, "kept": KEPT}))
        more = "experimental:\n  fastProxy: {}\n" if fast else ""
        path = self.write(f"{name}.yml", fill(TRAEFIK, {"port": port, "routes": routes}) + more)
        server = Process([self.tools["traefik"], f"--configFile={path}"], self.folder, name, {"GOMAXPROCS": "1"})
        about = "Traefik, plain, with its experimental fast proxy" if fast else "Traefik, plain"
        return Contestant(name, about, port, [server.await_port(port)])

    def envoy(self):
        port = process.port()
        path = self.write("envoy.yml", fill(ENVOY, {"port": port, "app": self.app}))
        command = [self.tools["envoy"], "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        return Contestant("envoy", "Envoy, plain", port, [Process(command, self.folder, "envoy").await_port(port)])

    def certificate(self):
        """A self-signed one, of the kind sites have: P-256."""
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        process.run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert,
        ])
        return cert, key

    # --- with auth ------------------------------------------------------------------------------------------------------------

    def vestibule(self, name="vestibule", about="Vestibule", database=None, sessions="", routes="", app=None, tls=None, **more):
        port, admin = process.port(), process.port()
        values = {
            "port": port, "admin": admin, "app": app or self.app, "secret": self.world.secret_file,
            "database": database or self.world.database, "sessions": sessions, "routes": routes,
            "tls": '[tls]\ncert = "{}"\nkey = "{}"'.format(*tls) if tls else "",
        }
        path = self.write(f"{name}.toml", fill(VESTIBULE, values))
        command = [self.tools["vestibule"], "serve", "--config", path]
        server = Process(command, self.folder, name).await_port(port)
        return Ours(name, about, port, [server], admin=admin, checks="signature, session (memory, then SQLite)",
                    logs="each request, and metrics", remembers=True, **more)

    def lua(self):
        rows = "".join(
            f"{s.token}\t{int(s.ends.timestamp())}\t{s.user}\t{s.email}\t{s.name}\t{s.row}\n"
            for s in [*self.world.sessions, self.world.expired, *self.world.doomed]
        )
        path = self.write("sessions.tsv", rows)
        revoke = process.port()
        modules = "".join(
            f"load_module /usr/lib/nginx/modules/{name}.so;\n" for name in ("ndk_http_module", "ngx_http_lua_module")
        ) + "env PEERS_SECRET;\n"
        server, port = self.nginx(
            "nginx-lua", NGINX_LUA, {"PEERS_SECRET": self.world.secret}, head=modules, app=self.app, revoke=revoke,
            lua=Path(__file__).parent, rows=path,
        )
        return Lua("nginx-lua", "nginx + Lua: HMAC and a session dictionary", port, [server], revoke=revoke,
                   checks="signature, session (shared dictionary)")

    def verify(self, name, **environment):
        """The small server around Better Auth that `auth_request` asks."""
        port = process.port()
        environment = self.world.better_auth(f"http://127.0.0.1:{port}", PORT=str(port), **environment)
        command = [self.tools["node"], Path(self.tools["app"]) / "verify.mjs"]
        return Process(command, self.folder, name, environment, cwd=self.tools["app"]).await_port(port), port

    def auth_request(self, name, about, cached=False, sealed=False):
        node, node_port = self.verify(f"{name}-node", **({"PEERS_COOKIE_CACHE": "1"} if sealed else {}))
        values = {"app": self.app, "node": node_port, "sign_in": SIGN_IN, "memory": f"{self.memory}/{self.folder.name}-{name}"}
        values["cache"] = fill(NGINX_CACHE, values) if cached else ""
        values["zone"] = fill(NGINX_ZONE, values) if cached else ""
        server, port = self.nginx(name, NGINX_AUTH_REQUEST, **values)
        return Contestant(
            name, about, port, [server, node], requests="sealed" if sealed else "all", node=node_port,
            ends_at_once=not (cached or sealed), remembers=cached, compiles=True,
            checks="Better Auth, " + ("remembered by nginx for 30 s" if cached else "sealed cookie" if sealed else "database"),
        )

    def next(self, name, about, checked=True, sealed=False):
        port = process.port()
        folder = Path(self.tools["next_checked" if checked else "next_open"])
        environment = self.world.better_auth(
            f"http://127.0.0.1:{port}", NEXT_TELEMETRY_DISABLED="1", **({"PEERS_COOKIE_CACHE": "1"} if sealed else {})
        )
        command = [self.tools["node"], folder.parent / "node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", port]
        server = Process(command, self.folder, name, environment, cwd=folder).await_port(port)
        checks = ("Better Auth, " + ("sealed cookie" if sealed else "database")) if checked else "nothing"
        return Contestant(name, about, port, [server], requests="sealed" if sealed else "all",
                          ends_at_once=not sealed, checks=checks, stamps=False, compiles=True)


class Ours(Contestant):
    """Vestibule: people sign out through it."""

    def end(self, world, session):
        world.delete(session)
        status, _ = wire.exchange(self.port, "POST /api/auth/sign-out HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
                                 f"Cookie: {world.cookie(session)}\r\nContent-Length: 0\r\n\r\n")
        if status != 200:
            raise RuntimeError(f"the sign-out was answered with {status}")


class Lua(Contestant):
    """nginx with Lua: whoever ends a session tells it."""

    def end(self, world, session):
        world.delete(session)
        status, _ = wire.exchange(self.revoke, f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(session.token)}\r\n\r\n{session.token}")
        if status != 204:
            raise RuntimeError(f"the revocation was answered with {status}")


def fill(text, values):
    """Replaces `@word@`; a word without a value is a mistake. A zero byte stands for an `@` that stays."""
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text).replace("\0", "@")


# --- configurations -----------------------------------------------------------------------------------------------------------
# All: one worker, connections kept for ever on both sides, no compression. Peers write no access log; Vestibule writes its own.

NGINX = """\
@modules@
@user@
worker_processes 1;
daemon off;
error_log stderr crit;
pid @folder@/@name@.pid;
events { worker_connections 4096; multi_accept on; }
http {
  access_log off;
  client_body_temp_path @folder@/@name@-body;
  proxy_temp_path @folder@/@name@-proxy;
  fastcgi_temp_path @folder@/@name@-fastcgi;
  uwsgi_temp_path @folder@/@name@-uwsgi;
  scgi_temp_path @folder@/@name@-scgi;
  keepalive_timeout 1h;
  keepalive_requests @often@;
  tcp_nodelay on;
  server_tokens off;
  proxy_http_version 1.1;
  @servers@
}
"""

# What all stand in front of: a kilobyte from memory, what it was told, and Better Auth's answer to a sign-out.
APP = """\
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    default_type text/plain;
    location = /answer { return 200 "%s"; }
    location = /seen { return 200 "$http_x_auth_user_id"; }
    location = /api/auth/sign-out { default_type application/json; return 200 '{"success":true}'; }
    location / { return 404; }
  }
""" % ("x" * 1024)

NGINX_UPSTREAM = """\
  upstream app { server 127.0.0.1:@app@; keepalive @kept@; keepalive_requests @often@; keepalive_timeout 1h; }
"""

NGINX_PLAIN = NGINX_UPSTREAM + """\
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    location / { proxy_pass http://app; proxy_set_header Connection ""; proxy_set_header Host $http_host; }
  }
"""

# The key is made ready once, by each worker; the dictionary is filled before.
NGINX_LUA = NGINX_UPSTREAM + """\
  lua_package_path "@lua@/?.lua;;";
  lua_shared_dict sessions 16m;
  init_by_lua_block { require("resty.core"); session = require("session"); session.load("@rows@") }
  init_worker_by_lua_block { session.key(os.getenv("PEERS_SECRET")) }
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    set $auth_user ""; set $auth_email ""; set $auth_name ""; set $auth_session "";
    location / {
      access_by_lua_block { session.check() }
      proxy_pass http://app;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Auth-User-Id $auth_user;
      proxy_set_header X-Auth-User-Email $auth_email;
      proxy_set_header X-Auth-User-Name $auth_name;
      proxy_set_header X-Auth-Session-Id $auth_session;
    }
  }
  server {
    listen 127.0.0.1:@revoke@;
    location / { content_by_lua_block { session.revoke() } }
  }
"""

NGINX_AUTH_REQUEST = NGINX_UPSTREAM + """\
  upstream node { server 127.0.0.1:@node@; keepalive @kept@; keepalive_requests @often@; keepalive_timeout 4m; }
  @zone@
  server {
    listen 127.0.0.1:@port@ backlog=4096;
    location / {
      auth_request /_verify;
      auth_request_set $auth_user $upstream_http_x_auth_user_id;
      auth_request_set $auth_email $upstream_http_x_auth_user_email;
      error_page 401 = @@signin;
      proxy_pass http://app;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Auth-User-Id $auth_user;
      proxy_set_header X-Auth-User-Email $auth_email;
    }
    location @@signin { return 302 @sign_in@; }
    location = /_verify {
      internal;
      proxy_pass http://node;
      proxy_pass_request_body off;
      proxy_pass_request_headers off;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_set_header Cookie $http_cookie;
      @cache@
    }
  }
""".replace("@@signin", "\0signin")

# As long as Vestibule remembers by default; kept in memory, with the files held open.
NGINX_ZONE = """\
  proxy_cache_path @memory@ keys_zone=verified:16m inactive=10m max_size=256m use_temp_path=off;
"""
NGINX_CACHE = """\
      proxy_cache verified;
      proxy_cache_key $http_cookie;
      proxy_cache_valid 200 30s;
      proxy_cache_valid 401 5s;
      proxy_cache_lock on;
      open_file_cache max=4000 inactive=10m;
      open_file_cache_valid 10m;
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  http-reuse always
frontend front
  bind 127.0.0.1:@port@
  default_backend app
backend app
  server app 127.0.0.1:@app@ pool-max-conn @kept@
"""

CADDY = """\
{
  admin off
  auto_https off
  persist_config off
  log default {
    level ERROR
  }
}
http://:@port@ {
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:@app@ {
    transport http {
      compression off
      keepalive 1h
      keepalive_idle_conns @kept@
      keepalive_idle_conns_per_host @kept@
    }
  }
}
"""

TRAEFIK = """\
global:
  checkNewVersion: false
  sendAnonymousUsage: false
log:
  level: ERROR
entryPoints:
  web:
    address: "127.0.0.1:@port@"
providers:
  file:
    filename: "@routes@"
    watch: false
"""

TRAEFIK_ROUTES = """\
http:
  routers:
    app:
      entryPoints: [web]
      rule: "PathPrefix(`/`)"
      service: app
  services:
    app:
      loadBalancer:
        serversTransport: kept
        servers:
          - url: "http://127.0.0.1:@app@"
  serversTransports:
    kept:
      maxIdleConnsPerHost: @kept@
"""

ENVOY = """\
static_resources:
  listeners:
    - address: { socket_address: { address: 127.0.0.1, port_value: @port@ } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                generate_request_id: false
                route_config:
                  virtual_hosts:
                    - name: app
                      domains: ["*"]
                      routes: [{ match: { prefix: "/" }, route: { cluster: app, timeout: 0s } }]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                      dynamic_stats: false
                      suppress_envoy_headers: true
  clusters:
    - name: app
      type: STATIC
      connect_timeout: 5s
      load_assignment:
        cluster_name: app
        endpoints:
          - lb_endpoints:
              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: @app@ } } }
""".replace('"@type"', '"\0type"')

# Nothing but what has no default: security, the access log and metrics are as everybody gets them.
VESTIBULE = """\
listen = "127.0.0.1:@port@"
admin = "127.0.0.1:@admin@"
public_url = "http://localhost"
threads = 1
@tls@

[upstream]
url = "http://127.0.0.1:@app@"

[better_auth]
secret = { file = "@secret@" }

[sessions]
source = "sqlite:@database@"
@sessions@

[routes]
default = "signed-in"
@routes@
"""
