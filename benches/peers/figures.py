"""What is asked of the figures, and how they are written down."""

from statistics import median, quantiles

# Differences below this are noise on a shared machine.
NOISE = 0.04


class Row:
    """One ratio: ours by another's, with what it must be at most and what we aim at."""

    def __init__(self, ours, other, words, must=None, aim=None, inverse=False):
        self.ours, self.other, self.words, self.must, self.aim, self.inverse = ours, other, words, must, aim, inverse


# The bars. They stand here once and are never moved to where a measurement happens to be.
ROWS = [
    Row("vestibule", "pingora", "plain Pingora 0.9.1 with our allocator and settings", 1.08, 1.04),
    Row("vestibule", "pingora-minimal", "minimal plain Pingora 0.9.1, system allocator, thin LTO", 1.00, 0.85),
    Row("vestibule", "nginx-lua", "nginx + Lua (HMAC + shared-dict session)", 1.15, 1.00),
    Row("vestibule", "nginx-cache", "nginx `auth_request` with `proxy_cache`", 1.10, 0.95),
    Row("vestibule", "nginx-node", "nginx `auth_request` to Node Better Auth, all in", 1 / 15, 1 / 20, True),
    Row("vestibule", "next-sealed", "Next.js 16 `proxy` with `getSession`, cookie cache", 1 / 40, 1 / 55, True),
    Row("vestibule", "next-database", "Next.js 16 `proxy` with `getSession`, database", 1 / 50, 1 / 75, True),
    Row("vestibule", "caddy", "Caddy as a plain proxy, no auth at all", 0.45, 0.36),
    Row("vestibule", "traefik", "Traefik as a plain proxy, no auth at all", 0.5, 0.43),
    Row("vestibule", "envoy", "Envoy as a plain proxy, no auth at all", 0.7, 0.6),
    Row("vestibule-refusing", "pingora", "plain Pingora, refusing (redirect) instead of proxying", 0.6, 0.4),
]

# Memory, of the same two processes, after each round.
MEMORY = Row("vestibule", "pingora", "plain Pingora, resident memory after load with 1,000 sessions", 1.3, 1.1)

# Said without a bar: how much of it is the size of pages, which anybody may choose, and not the program.
MEMORY_BESIDE = [
    Row("vestibule", "pingora-small", "plain Pingora, its memory in pages of 4 KiB as Vestibule's"),
    Row("vestibule", "pingora-minimal", "minimal plain Pingora, system allocator"),
]

# The gateway beside itself: what many sessions and many routes cost.
SCALE = [
    Row("sessions-1000-of-1000000", "sessions-1000", "1,000 sessions in turn with one million remembered, beside one thousand", 1.05, 1.0),
    Row("sessions-1000000", "sessions-1000", "one million sessions in turn, beside one thousand in turn", 1.05, 1.0),
    Row("sessions-1", "sessions-1000", "one session, beside one thousand"),
    Row("routes-1000", "routes-10", "1,000 routes, beside 10 (no measurable cost: below the noise)", 1 + NOISE, 1.0),
]

# Said without a bar.
BESIDE = [
    Row("vestibule", "pingora-small", "plain Pingora with our allocator, its memory in pages of 4 KiB as Vestibule's"),
    Row("vestibule", "nginx", "nginx as a plain proxy, no auth at all"),
    Row("vestibule", "haproxy", "HAProxy as a plain proxy, no auth at all"),
    Row("vestibule", "traefik-fast", "Traefik with its experimental fast proxy, no auth at all"),
    Row("vestibule", "nginx-node-sealed", "nginx `auth_request` to Node Better Auth with its cookie cache, all in"),
    Row("vestibule-refusing", "pingora-redirect", "plain Pingora that answers the same redirect itself"),
    Row("vestibule+next", "next-database", "the Next.js app without its check behind Vestibule, both counted, beside the app with it"),
    Row("next-database", "next-open", "what the check costs Next.js: the app with it, beside without"),
]

COLD_START_MS = 100


def spread(values):
    """Median and quartiles."""
    if len(values) < 2:
        return (values[0],) * 3
    low, _, high = quantiles(values, n=4, method="inclusive")
    return median(values), low, high


def ratios(ours, others):
    """Round by round: what shakes the machine shakes both."""
    return [mine / theirs for mine, theirs in zip(ours, others, strict=True)]


def bar(value, inverse):
    if value is None:
        return "-"
    return f"1/{1 / value:.0f}" if inverse else f"{value:.2f}"


def shown(values, inverse=False):
    """`0.98 [0.97, 1.01]`, or `1/18.2 [1/18.9, 1/17.5]`."""
    one = (lambda value: f"1/{1 / value:.1f}") if inverse else (lambda value: f"{value:.3f}")
    middle, low, high = spread(values)
    return f"{one(middle)} [{one(low)}, {one(high)}]"


def met(values, must, aim):
    """Judged by the median, as measured: neither rounded nor eased by the noise."""
    if must is None:
        return "-"
    middle = median(values)
    if middle > must:
        return f"**no**, {100 * (middle / must - 1):.1f} % over"
    return "yes" if aim is not None and middle > aim else "yes, and the aim"


def table(head, rows):
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def judged(rows, measured):
    """The table of some rows: those of which both sides were measured; and which of them miss their bar."""
    cells, missed = [], []
    for row in rows:
        if row.ours not in measured or row.other not in measured:
            continue
        values = ratios(measured[row.ours], measured[row.other])
        verdict = met(values, row.must, row.aim)
        if verdict.startswith("**no"):
            missed.append(f"{row.words}: {shown(values, row.inverse)}, must {bar(row.must, row.inverse)}")
        cells.append((row.words, bar(row.must, row.inverse), bar(row.aim, row.inverse), shown(values, row.inverse), verdict))
    return table(("ours divided by", "must", "aim", "measured [quartiles]", "met"), cells), missed
