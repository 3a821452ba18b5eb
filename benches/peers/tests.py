"""That the measurement can fail: each check against a server without that defence, and the arithmetic of the tables.

    python3 benches/peers/tests.py
"""

import hashlib
import hmac
import base64
import http.server
import re
import sys
import threading
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import checks  # noqa: E402
import contestants  # noqa: E402
import figures  # noqa: E402
from world import World  # noqa: E402


class Rows(World):
    """Sessions without a database."""

    def __init__(self):
        self.secret = "a secret of the tests, forty-two letters long"
        week = datetime.now(timezone.utc) + timedelta(days=7)
        self.sessions = [self.session(week) for _ in range(4)]
        self.expired = self.session(datetime.now(timezone.utc) - timedelta(hours=1))
        self.doomed = [self.session(week) for _ in range(4)]
        self.rows = {s.token: s for s in [*self.sessions, self.expired, *self.doomed]}

    def delete(self, session):
        del self.rows[session.token]


class Gate:
    """A server that checks sessions, except for what it is told to leave out."""

    def __init__(self, world, holes=()):
        self.world, self.holes, self.seen = world, set(holes), {}
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, body = gate.answer(self.path, self.headers)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path, headers):
        session = self.verified(headers.get("cookie", ""))
        if "everybody" in self.holes:
            session = session or self.world.sessions[1]
        if session is None:
            return 302, b""
        if path != "/seen":
            return 200, b"x" * (10 if "short" in self.holes else 1024)
        given = [headers[name] for name in headers if name.lower().replace("_", "-") == "x-auth-user-id"]
        return 200, (given[0] if given and "spoofed" in self.holes else session.user).encode()

    def verified(self, cookie):
        found = re.match(r"better-auth\.session_token=(.*)$", cookie)
        token, _, signature = unquote(found[1]).partition(".") if found else ("", "", "")
        right = base64.b64encode(hmac.new(self.world.secret.encode(), token.encode(), hashlib.sha256).digest()).decode()
        if signature != right and "forged" not in self.holes:
            return None
        session = self.world.rows.get(token)
        if session is not None and session.ends < datetime.now(timezone.utc) and "expired" not in self.holes:
            return None
        if "remembers" in self.holes:
            session = self.seen.setdefault(token, session)
        return session

    def contestant(self):
        return contestants.Contestant("gate", "a gate", self.port, [], checks="all of it")

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Checks(unittest.TestCase):
    def judged(self, *holes, **more):
        world = Rows()
        gate = Gate(world, holes)
        self.addCleanup(gate.stop)
        contestant = gate.contestant()
        for key, value in more.items():
            setattr(contestant, key, value)
        return checks.judges(contestant, world, world.cookie)

    def test_a_gate_without_holes_passes(self):
        cells = self.judged()
        self.assertEqual(cells["good"], "200")
        self.assertEqual({cells[what] for what in ("none", "forged", "swapped", "expired", "revoked", "ended while remembered")}, {"302"})
        self.assertEqual(cells["spoofed header"], "gone")

    def test_every_hole_is_found(self):
        for hole, words in [
            ("everybody", "none was answered"), ("forged", "forged was answered"), ("expired", "expired was answered"),
            ("spoofed", "the app saw `attacker`"), ("short", "a good session"), ("remembers", "had ended"),
        ]:
            with self.subTest(hole), self.assertRaisesRegex(checks.Failed, words):
                self.judged(hole)

    def test_who_cannot_know_of_an_end_is_written_down_as_such(self):
        self.assertIn("let in", self.judged("remembers", ends_at_once=False)["ended while remembered"])


class Figures(unittest.TestCase):
    def test_ratios_are_taken_round_by_round(self):
        # The machine was twice as slow in the second round, for both.
        self.assertEqual(figures.ratios([10, 20, 10], [10, 20, 10]), [1, 1, 1])

    def test_the_spread_is_median_and_quartiles(self):
        self.assertEqual(figures.spread([5, 1, 3, 2, 4]), (3, 2, 4))

    def test_a_miss_by_a_hair_is_a_miss(self):
        self.assertIn("no", figures.met([1.0801], 1.08, 1.04))
        self.assertEqual(figures.met([1.08], 1.08, 1.04), "yes")
        self.assertEqual(figures.met([1.04], 1.08, 1.04), "yes, and the aim")

    def test_shares_are_judged_like_any_ratio(self):
        row = figures.Row("a", "b", "b", 1 / 15, 1 / 20, True)
        for ours, missing in [(1 / 14, 1), (1 / 16, 0), (1 / 21, 0)]:
            text, missed = figures.judged([row], {"a": [ours], "b": [1]})
            self.assertEqual(len(missed), missing, text)

    def test_what_was_not_measured_is_not_judged(self):
        text, missed = figures.judged(figures.ROWS, {"vestibule": [1.0], "pingora": [1.0]})
        self.assertEqual((text.count("\n"), missed), (2, []))


if __name__ == "__main__":
    unittest.main()
