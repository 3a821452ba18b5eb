"""Whether who is measured does the work: the same requests to everybody who checks sessions, in the same run as the figures."""

import wire
from world import PATH, ask, drawn

REFUSALS = (302, 303, 307, 401)


class Failed(Exception):
    """Somebody let in whom they should not, or the other way round: no figure of this run counts."""


def _get(contestant, cookie, *lines, path=PATH):
    return wire.whole(contestant.port, ask(path, cookie, *lines))


def passes(contestant, world):
    """A plain proxy: it answers."""
    status, _, body = _get(contestant, world.cookie(world.sessions[0]))
    if status != 200 or len(body) != 1024:
        raise Failed(f"{contestant.name}: {status} with {len(body)} bytes, not 200 with a kilobyte")


def judges(contestant, world, good):
    """Somebody who checks: a cell for each check of the table. `good` makes the cookies that a good request brings."""
    cells = {}

    def refused(what, cookie):
        status, _, body = _get(contestant, cookie)
        if status not in REFUSALS or len(body) >= 1024:
            raise Failed(f"{contestant.name}: {what} was answered with {status}, not refused")
        cells[what] = str(status)

    session = world.sessions[1]
    passes_with = good(session)
    status, _, body = _get(contestant, passes_with)
    if status != 200 or len(body) != 1024:
        raise Failed(f"{contestant.name}: a good session was answered with {status}")
    cells["good"] = "200"
    refused("none", "")
    refused("forged", world.cookie(session, secret=drawn()))
    # Genuine signature, other token: what a thief of one cookie would try.
    token, _, signature = world.cookie(session).partition("=")[2].partition(".")
    swapped = world.cookie(world.sessions[2]).partition("=")[0] + f"={world.sessions[2].token}.{signature}"
    refused("swapped", swapped)
    refused("expired", world.cookie(world.expired))

    # Ended before anybody here saw it.
    gone = world.doom()
    contestant.end(world, gone)
    refused("revoked", world.cookie(gone))

    # Ended while it is remembered.
    ended = world.doom()
    cookie = good(ended)
    if _get(contestant, cookie)[0] != 200:
        raise Failed(f"{contestant.name}: a session that is about to end was refused")
    contestant.end(world, ended)
    status = _get(contestant, cookie)[0]
    if contestant.ends_at_once and status not in REFUSALS:
        raise Failed(f"{contestant.name}: a session that had ended was answered with {status}")
    cells["ended while remembered"] = str(status) if status in REFUSALS else f"{status}: let in until forgotten"

    if not contestant.stamps:
        cells["spoofed header"] = "the app is not told who it is"
        return cells
    for spelling in ("X-Auth-User-Id", "x-auth-user-id", "X_Auth_User_Id"):
        status, _, body = _get(contestant, passes_with, f"{spelling}: attacker", path="/seen")
        if status != 200 or body.decode() != session.user:
            raise Failed(f"{contestant.name}: with `{spelling}: attacker` the app saw `{body.decode()[:80]}` ({status})")
    cells["spoofed header"] = "gone"
    return cells
