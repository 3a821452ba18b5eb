"""The sessions everybody is asked about: rows as Better Auth makes them, cookies signed with the app's secret, requests of both."""

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import sqlite3
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import process

COOKIE = "better-auth.session_token"
CACHE_COOKIE = "better-auth.session_data"
PATH = "/answer"
# A browser that asks for a page: who is not signed in is sent to the sign-in page.
HEAD = "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n{cookie}\r\n"


@dataclass
class Session:
    token: str
    user: str
    email: str
    name: str
    row: str
    ends: datetime


def drawn(bytes_drawn=16):
    """As long as Better Auth's ids and tokens, and made quickly: a million sessions take some millions."""
    return secrets.token_hex(bytes_drawn)


class World:
    """One secret, one database, its sessions."""

    def __init__(self, folder, tools, sessions):
        self.folder = Path(folder)
        self.secret = secrets.token_hex(32)
        self.secret_file = self.folder / "secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(self.secret)
        self.database = self.folder / "app.db"
        self.tools = tools
        process.run(
            [tools["node"], "migrate.mjs"], cwd=tools["app"], env=self.better_auth("http://127.0.0.1")
        )
        week = datetime.now(timezone.utc) + timedelta(days=7)
        self.sessions = [self.session(week) for _ in range(sessions)]
        # Ended an hour ago; and some that end in the middle of things.
        self.expired = self.session(datetime.now(timezone.utc) - timedelta(hours=1))
        self.doomed = [self.session(week) for _ in range(64)]
        self.insert([*self.sessions, self.expired, *self.doomed])

    def better_auth(self, url, **more):
        """The environment of the app's Better Auth."""
        return {
            "PATH": "/usr/bin:/bin",
            "NODE_ENV": "production",
            "BETTER_AUTH_SECRET": self.secret,
            "PEERS_DATABASE": str(self.database),
            "PEERS_URL": url,
            **more,
        }

    def session(self, ends):
        user = drawn()
        return Session(drawn(), user, f"{user[:12].lower()}@example.com", f"User {user[:8]}", drawn(), ends)

    def insert(self, sessions, database=None):
        now = stamp(datetime.now(timezone.utc))
        with sqlite3.connect(database or self.database, timeout=30) as connection:
            connection.executemany(
                'insert into "user" (id, name, email, emailVerified, createdAt, updatedAt) values (?, ?, ?, 1, ?, ?)',
                ((s.user, s.name, s.email, now, now) for s in sessions),
            )
            connection.executemany(
                'insert into "session" (id, expiresAt, token, createdAt, updatedAt, ipAddress, userAgent, userId)'
                " values (?, ?, ?, ?, ?, '127.0.0.1', 'Mozilla/5.0', ?)",
                ((s.row, stamp(s.ends), s.token, now, now, s.user) for s in sessions),
            )
        connection.close()

    def delete(self, session):
        with sqlite3.connect(self.database, timeout=30) as connection:
            connection.execute('delete from "session" where token = ?', (session.token,))
        connection.close()

    def doom(self):
        """A session nobody was asked about yet."""
        return self.doomed.pop()

    def cookie(self, session, secret=None):
        """The session cookie, as better-call signs it: HMAC-SHA256 in base64, the whole percent-encoded."""
        key = (secret or self.secret).encode()
        mac = base64.b64encode(hmac.new(key, session.token.encode(), hashlib.sha256).digest()).decode()
        return f"{COOKIE}={quote(f'{session.token}.{mac}', safe='')}"

    def cached_cookie(self, port, session):
        """Both cookies, the second sealed by the app itself."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        cookie = self.cookie(session)
        connection.request("GET", "/api/auth/get-session", headers={"cookie": cookie})
        lines = json.loads(connection.getresponse().read())
        connection.close()
        sealed = [line.split(";")[0] for line in lines if line.startswith(f"{CACHE_COOKIE}=")]
        if len(sealed) != 1:
            raise RuntimeError("the app sealed no cookie")
        return f"{cookie}; {sealed[0]}"

    def requests(self, name, cookies, path=PATH):
        """A file of requests for `load.lua` and `pace`, and where each begins."""
        file = self.folder / f"{name}.requests"
        begins, at = [], 0
        with open(file, "wb") as out:
            for cookie in cookies:
                one = ask(path, cookie).encode()
                begins.append(at)
                at += len(one)
                out.write(one)
        (self.folder / f"{name}.requests.at").write_bytes(struct.pack(f"<{len(begins) + 1}I", *begins, at))
        return file


def ask(path, cookie, *lines, host="localhost"):
    """A request, as everybody gets it."""
    lines = list(lines) + ([f"Cookie: {cookie}"] if cookie else [])
    return HEAD.format(path=path, host=host, cookie="".join(f"{line}\r\n" for line in lines))


def stamp(moment):
    """A date as Better Auth writes it to SQLite."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
