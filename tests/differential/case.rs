//! Requests made of real credentials, bent in every way we could think of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use vestibule::percent;

use super::dice::Dice;

/// One request: its header lines, byte for byte, and what was done to make it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub lines: Vec<Vec<u8>>,
    pub labels: Vec<&'static str>,
    /// The JWT it carries, if it carries one: the framework judges it on its own.
    pub jwt: Option<String>,
    /// Whether it carries a session cache, or what shall be taken for one.
    pub has_cache: bool,
}

impl Case {
    /// The bytes of a GET with these headers.
    pub fn request(&self, target: &str) -> Vec<u8> {
        let mut bytes = format!("GET {target} HTTP/1.1\r\nhost: app.test\r\n").into_bytes();
        for line in &self.lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// The same with its cookies alone.
    pub fn only_cookies(&self) -> Self {
        let others = [b"authorization".as_slice(), b"x-api-key"];
        let mut case = self.clone();
        case.lines.retain(|line| {
            !others.iter().any(|name| {
                line.get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            })
        });
        case
    }

    /// The same without its session cache: under a name that means nothing.
    pub fn without_cache(&self) -> Self {
        const NAME: &[u8] = b"session_data";
        let mut case = self.clone();
        for line in &mut case.lines {
            while let Some(at) = line.windows(NAME.len()).position(|piece| piece == NAME) {
                line[at + NAME.len() - 1] = b'o';
            }
        }
        case.has_cache = false;
        case
    }

    /// The lines for people.
    pub fn shown(&self) -> String {
        let lines = self.lines.iter();
        let lines: Vec<String> = lines.map(|line| line.escape_ascii().to_string()).collect();
        lines.join("\n    ")
    }

    pub fn is(&self, label: &str) -> bool {
        self.labels.contains(&label)
    }
}

/// A cookie as it was handed out once, with the value as it stood in `Set-Cookie`.
#[derive(Clone, Debug)]
pub struct Cookie {
    pub name: String,
    pub value: String,
}

/// A session cache as it was handed out: the cookies it came in, and the session cookie it came with.
#[derive(Clone, Debug)]
pub struct CacheCookies {
    pub session: Cookie,
    pub pieces: Vec<Cookie>,
}

/// Everything real that cases are made of.
#[derive(Clone, Debug, Default)]
pub struct Materials {
    /// What the session cookie is called here.
    pub session_name: String,
    /// What the cache cookie is called here.
    pub cache_name: String,
    /// Session cookies, live and dead, each with what it is.
    pub sessions: Vec<(&'static str, Cookie)>,
    /// Signed and sealed cookies that are no session cookies.
    pub others: Vec<Cookie>,
    /// Session caches.
    pub caches: Vec<CacheCookies>,
    /// Whether the caches are all there is of the sessions.
    pub nothing_else: bool,
    /// Session caches that the framework's own key has sealed, with contents it would never have given them.
    pub forged: Vec<(&'static str, CacheCookies)>,
    /// Whether `Authorization` means anything here; it is tried now and then in any case.
    pub bearer: bool,
    /// JWTs, good and bad, each with what it is.
    pub jwts: Vec<(&'static str, String)>,
    /// API keys, good and bad, each with what it is.
    pub api_keys: Vec<(&'static str, String)>,
}

/// The next case.
pub fn make(from: &Materials, dice: &mut Dice) -> Case {
    let mut case = Case::default();
    let alone = dice.below(3);
    let with_key = !from.api_keys.is_empty() && alone != 0 && dice.once_in(2);
    let with_jwt = !from.jwts.is_empty() && alone != 0 && dice.below(3) != 0;
    let with_bearer = !with_jwt
        && match from.bearer {
            true => alone != 0 && dice.below(3) != 0,
            false => dice.once_in(25),
        };
    let with_cookie = alone != 1 || !(with_key || with_jwt || with_bearer);
    if with_cookie {
        cookies(from, dice, &mut case);
    }
    if with_jwt {
        jwt(from, dice, &mut case);
    }
    if with_bearer {
        bearer(from, dice, &mut case);
    }
    if with_key {
        api_key(from, dice, &mut case);
    }
    if dice.once_in(4) {
        dice.shuffle(&mut case.lines);
    }
    let [a, b, c] = [(); 3].map(|()| dice.below(256));
    case.lines
        .push(format!("x-forwarded-for: 10.{a}.{b}.{c}").into());
    case
}

// ---------------------------------------------------------------------------------------------------------------- cookies

fn cookies(from: &Materials, dice: &mut Dice, case: &mut Case) {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut token = None;
    if !dice.once_in(20) {
        let (cookie, value) = session_cookie(from, dice, case);
        token = Some(cookie.clone());
        let name = name(&from.session_name, dice, case);
        pairs.push((name, value));
    }
    if !from.caches.is_empty() && !dice.once_in(if from.nothing_else { 20 } else { 4 }) {
        cache_cookies(from, token.as_ref(), dice, case, &mut pairs);
    }
    // Another one of the same name: the first counts, and a sibling domain can add one.
    if dice.once_in(6) {
        let (_, value) = session_cookie(from, dice, case);
        let at = dice.below(pairs.len() + 1);
        pairs.insert(at, (from.session_name.clone().into(), value));
        case.labels.push("duplicate");
    }
    // What else a browser holds.
    for _ in 0..dice.below(3) {
        let other = dice.pick(&from.others);
        let at = dice.below(pairs.len() + 1);
        let value = other.value.clone().into_bytes();
        pairs.insert(at, (other.name.clone().into(), value));
    }
    if dice.once_in(12) {
        let at = dice.below(pairs.len() + 1);
        let odd: &[(&[u8], &[u8])] = &[
            (b"", b"x"),
            (b"a b", b"c"),
            (b"theme", b"\"dark"),
            (b"theme", b"a=b=c"),
            (b"\xc3\xa4", b"\xff\xfe"),
            (b"$Version", b"1"),
        ];
        let (name, value) = dice.pick(odd);
        pairs.insert(at, (name.to_vec(), value.to_vec()));
        case.labels.push("odd neighbour");
    }
    write_cookies(&pairs, dice, case);
}

/// The pairs, in one header or several, with the separators people and proxies write.
fn write_cookies(pairs: &[(Vec<u8>, Vec<u8>)], dice: &mut Dice, case: &mut Case) {
    let separator: &[u8] = match dice.below(14) {
        0 => b";",
        1 => b" ; ",
        2 => b";;",
        3 => b";\t",
        4 => b"; ; ",
        5 => b"&",
        6 => b", ",
        _ => b"; ",
    };
    if separator == b", " || separator == b"&" {
        case.labels.push("wrong separator");
    }
    let header: &[u8] = match dice.below(8) {
        0 => b"Cookie: ",
        1 => b"COOKIE:",
        2 => b"cookie:\t ",
        _ => b"cookie: ",
    };
    let several = dice.once_in(8);
    if several && pairs.len() > 1 {
        case.labels.push("several headers");
    }
    let mut line: Option<Vec<u8>> = None;
    for (name, value) in pairs {
        if several && let Some(whole) = line.take() {
            case.lines.push(whole);
        }
        let line = line.get_or_insert_with(|| header.to_vec());
        if line.len() > header.len() {
            line.extend_from_slice(separator);
        }
        line.extend_from_slice(name);
        line.push(b'=');
        line.extend_from_slice(value);
    }
    case.lines.extend(line);
}

/// A session cookie, most of the time a live one, and its value as it is sent.
fn session_cookie<'m>(
    from: &'m Materials,
    dice: &mut Dice,
    case: &mut Case,
) -> (&'m Cookie, Vec<u8>) {
    let live: Vec<&(&str, Cookie)> = from
        .sessions
        .iter()
        .filter(|(what, _)| *what == "live")
        .collect();
    let (what, cookie) = match dice.below(10) {
        0..7 => *dice.pick(&live),
        7 => {
            case.labels.push("other cookie's value");
            let other = dice.pick(&from.others);
            return (other, other.value.clone().into());
        }
        _ => dice.pick(&from.sessions),
    };
    case.labels.push(what);
    let other = dice.pick(&from.sessions).1.value.clone();
    (cookie, bend_signed(&cookie.value, &other, dice, case))
}

/// The name a cookie is sent under.
fn name(right: &str, dice: &mut Dice, case: &mut Case) -> Vec<u8> {
    if !dice.once_in(12) {
        return right.into();
    }
    case.labels.push("name");
    let plain = right.strip_prefix("__Secure-").unwrap_or(right);
    let bent = match dice.below(9) {
        0 => format!("__Secure-{right}"),
        1 => format!("__Host-{plain}"),
        2 => right.replace("better-auth", "other-auth"),
        3 => right.replace('.', "-"),
        4 => right.to_uppercase(),
        5 => format!("{right}\u{a0}").replace('\u{a0}', "\u{b}"),
        6 => format!(" {right} "),
        7 => right.replace('_', "%5F"),
        _ => plain.to_owned(),
    };
    bent.into_bytes()
}

/// A signed value, as it was issued or not quite.
fn bend_signed(value: &str, other: &str, dice: &mut Dice, case: &mut Case) -> Vec<u8> {
    let decoded = String::from_utf8(
        percent::decode(value.as_bytes())
            .unwrap_or_default()
            .into_owned(),
    )
    .unwrap_or_default();
    let (token, signature) = decoded.rsplit_once('.').unwrap_or((&decoded, ""));
    let encode = percent::encode_component;
    match dice.below(40) {
        0 => label(case, "tampered", flipped(value.as_bytes(), dice)),
        1 => label(case, "tampered", flipped(value.as_bytes(), dice)),
        2 => label(case, "truncated", value[..dice.below(value.len())].into()),
        3 => label(
            case,
            "longer",
            format!(
                "{value}{}",
                dice.pick(&["A", "=", "%3D", ".", "%00", " x", "%20"])
            )
            .into(),
        ),
        4 => label(case, "percent: none", decoded.clone().into()),
        5 => label(
            case,
            "percent: all",
            decoded
                .bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect::<String>()
                .into(),
        ),
        6 => {
            let some = decoded.bytes().map(|byte| match dice.once_in(3) {
                true => format!("%{byte:02x}"),
                false if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            });
            let some: String = some.collect();
            label(case, "percent: some", some.into())
        }
        7 => label(case, "percent: twice", encode(value).into()),
        8 => label(
            case,
            "percent: broken",
            format!("{value}{}", dice.pick(&["%", "%4", "%zz", "%C3", "%e2%82"])).into(),
        ),
        9 => label(
            case,
            "percent: lower case",
            value
                .replace("%3D", "%3d")
                .replace("%2B", "%2b")
                .replace("%2F", "%2f")
                .into(),
        ),
        10 => label(case, "quoted", format!("\"{value}\"").into()),
        11 => label(
            case,
            "half quoted",
            format!("\"{value}{}", dice.pick(&["", "x", " "])).into(),
        ),
        12 => label(case, "quoted at the end", format!("{value}\"").into()),
        13 => label(
            case,
            "blanks around",
            format!(
                "{}{value}{}",
                dice.pick(&[" ", "\t", "  "]),
                dice.pick(&[" ", "\t", ""])
            )
            .into(),
        ),
        14 => {
            let mut bytes = value.as_bytes().to_vec();
            bytes.insert(0, 0xa0);
            bytes.push(0xa0);
            label(case, "no-break spaces around", bytes)
        }
        15 => label(
            case,
            "url-safe signature",
            encode(&format!(
                "{token}.{}",
                signature.replace('+', "-").replace('/', "_")
            ))
            .into(),
        ),
        16 => label(
            case,
            "unpadded signature",
            encode(&format!("{token}.{}", signature.trim_end_matches('='))).into(),
        ),
        17 => label(
            case,
            "unused bits",
            encode(&format!("{token}.{}", with_unused_bits(signature, dice))).into(),
        ),
        18 => label(case, "unsigned", token.into()),
        19 => label(case, "no token", encode(&format!(".{signature}")).into()),
        20 => label(case, "no signature", encode(&format!("{token}.")).into()),
        21 => {
            let other = percent::decode(other.as_bytes())
                .unwrap_or_default()
                .into_owned();
            let other = String::from_utf8_lossy(&other).into_owned();
            let (_, theirs) = other.rsplit_once('.').unwrap_or(("", ""));
            label(
                case,
                "another's signature",
                encode(&format!("{token}.{theirs}")).into(),
            )
        }
        22 => label(
            case,
            "other capitals",
            encode(&format!("{}.{signature}", token.to_lowercase())).into(),
        ),
        23 => label(
            case,
            "two dots",
            encode(&format!(
                "{token}.{}.{signature}",
                dice.pick(&["", "x", token])
            ))
            .into(),
        ),
        24 => label(case, "encoded dot", value.replacen('.', "%2E", 1).into()),
        25 => label(
            case,
            "blank in the signature",
            encode(&with_blank(&decoded, dice)).into(),
        ),
        26 => label(
            case,
            "empty",
            dice.pick(&["", "\"\"", "\"", "%20", "."])
                .as_bytes()
                .to_vec(),
        ),
        27 => label(
            case,
            "long",
            format!("{}.{signature}", "A".repeat(dice.below(6000))).into(),
        ),
        28 => label(
            case,
            "token with a tail",
            encode(&format!(
                "{token}{}.{signature}",
                dice.pick(&[" ", "\0", "%", "'", "' OR 1=1 --"])
            ))
            .into(),
        ),
        _ => value.into(),
    }
}

fn label(case: &mut Case, label: &'static str, value: Vec<u8>) -> Vec<u8> {
    case.labels.push(label);
    value
}

/// One letter changed, gone or doubled.
fn flipped(value: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = value.to_vec();
    if bytes.is_empty() {
        return bytes;
    }
    let at = dice.below(bytes.len());
    match dice.below(4) {
        0 => {
            bytes.remove(at);
        }
        1 => bytes.insert(at, bytes[at]),
        2 => bytes[at] ^= 0x20,
        _ => bytes[at] = *dice.pick(b"ABCxyz0189+/=-_%.~"),
    }
    // What would end the header is another request, not another cookie.
    bytes.retain(|byte| !matches!(byte, 0..=8 | 10..=31 | 127));
    bytes
}

/// The same bytes in another spelling: the last letter before the padding carries bits that decode to nothing.
fn with_unused_bits(signature: &str, dice: &mut Dice) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let body = signature.trim_end_matches('=');
    let Some(last) = body.bytes().last() else {
        return signature.to_owned();
    };
    let unused = match body.len() % 4 {
        2 => 16,
        3 => 4,
        _ => 1,
    };
    let value = LETTERS
        .iter()
        .position(|&letter| letter == last)
        .unwrap_or(0);
    let changed = value - value % unused + dice.below(unused);
    format!(
        "{}{}{}",
        &body[..body.len() - 1],
        char::from(LETTERS[changed]),
        &signature[body.len()..]
    )
}

fn with_blank(text: &str, dice: &mut Dice) -> String {
    let from = text.rfind('.').unwrap_or(0);
    let at = from + dice.below(text.len() - from + 1);
    let (before, after) = text.split_at(at);
    // Signatures have a fixed length: now and then one letter makes room.
    let after = match dice.once_in(2) {
        true => after.get(1..).unwrap_or(after),
        false => after,
    };
    format!("{before}{}{after}", dice.pick(&[" ", "\t", "\n", "\r\n"]))
}

// ------------------------------------------------------------------------------------------------------------------ cache

fn cache_cookies(
    from: &Materials,
    token: Option<&Cookie>,
    dice: &mut Dice,
    case: &mut Case,
    pairs: &mut Vec<(Vec<u8>, Vec<u8>)>,
) {
    let own = token.and_then(|token| {
        from.caches
            .iter()
            .find(|cache| cache.session.value == token.value)
    });
    case.has_cache = true;
    if !from.forged.is_empty() && dice.once_in(if from.nothing_else { 5 } else { 3 }) {
        let (what, cache) = dice.pick(&from.forged);
        case.labels.push(what);
        // Nearly always beside the session cookie it is meant for.
        if !dice.once_in(8) {
            pairs.retain(|(name, _)| *name != from.session_name.as_bytes());
            let session = &cache.session;
            pairs.push((session.name.clone().into(), session.value.clone().into()));
        }
        for piece in &cache.pieces {
            pairs.push((piece.name.clone().into(), piece.value.clone().into()));
        }
        return;
    }
    let cache = match own {
        Some(own) if !dice.once_in(if from.nothing_else { 20 } else { 5 }) => own,
        _ => {
            case.labels.push("another's cache");
            dice.pick(&from.caches)
        }
    };
    let whole: String = cache
        .pieces
        .iter()
        .map(|piece| piece.value.as_str())
        .collect();
    let other: String = dice
        .pick(&from.caches)
        .pieces
        .iter()
        .map(|piece| piece.value.as_str())
        .collect();
    let mut named: Vec<(String, Vec<u8>)> = cache
        .pieces
        .iter()
        .map(|piece| (piece.name.clone(), piece.value.clone().into_bytes()))
        .collect();
    let name = &from.cache_name;
    match dice.below(if from.nothing_else { 60 } else { 30 }) {
        0 => {
            case.labels.push("cache: tampered");
            let at = dice.below(named.len());
            named[at].1 = flipped(&named[at].1, dice);
        }
        1 => {
            case.labels.push("cache: truncated");
            named = vec![(name.clone(), whole[..dice.below(whole.len())].into())];
        }
        2..5 => {
            case.labels.push("cache: cut anew");
            named = cut(name, &whole, dice);
        }
        5 => {
            case.labels.push("cache: cut and shuffled");
            named = cut(name, &whole, dice);
            dice.shuffle(&mut named);
        }
        6 => {
            case.labels.push("cache: a piece missing");
            named = cut(name, &whole, dice);
            let at = dice.below(named.len());
            named.remove(at);
        }
        7 => {
            case.labels.push("cache: pieces of two");
            let theirs = cut(name, &other, dice);
            named = cut(name, &whole, dice);
            let at = dice.below(named.len().min(theirs.len()));
            named[at] = theirs[at].clone();
        }
        8 => {
            case.labels.push("cache: odd numbers");
            named = cut(name, &whole, dice);
            let number = *dice.pick(&[
                "01",
                "-1",
                "x.1",
                "1x",
                "",
                "1e0",
                " 1",
                "99999999999999999999",
            ]);
            let at = dice.below(named.len());
            named[at].0 = format!("{name}.{number}");
        }
        9 => {
            case.labels.push("cache: whole and pieces");
            named = cut(name, &other, dice);
            named.push((name.clone(), whole.clone().into()));
        }
        10 => {
            case.labels.push("cache: twice");
            named.push((name.clone(), other.clone().into()));
            dice.shuffle(&mut named);
        }
        11 => {
            case.labels.push("cache: other cookie's value");
            let other = dice.pick(&from.others);
            named = vec![(name.clone(), other.value.clone().into())];
        }
        12 => {
            case.labels.push("cache: standard alphabet");
            named = vec![(
                name.clone(),
                percent::encode_component(&whole.replace('-', "+").replace('_', "/")).into(),
            )];
        }
        13 => {
            case.labels.push("cache: padded");
            named = vec![(
                name.clone(),
                format!("{whole}{}", dice.pick(&["=", "==", "%3D", "=x"])).into(),
            )];
        }
        14 => {
            case.labels.push("cache: quoted");
            named = vec![(name.clone(), format!("\"{whole}\"").into())];
        }
        15 => {
            case.labels.push("cache: rewritten");
            named = vec![(name.clone(), rewritten(&whole, dice).into())];
        }
        16 => {
            case.labels.push("cache: spliced");
            named = vec![(name.clone(), spliced(&whole, &other, dice).into())];
        }
        17 => {
            case.labels.push("cache: percent");
            let text: String = whole
                .bytes()
                .map(|byte| match dice.once_in(8) {
                    true => format!("%{byte:02X}"),
                    false => char::from(byte).to_string(),
                })
                .collect();
            named = vec![(name.clone(), text.into())];
        }
        _ => {}
    }
    for (name, value) in named {
        let at = match dice.once_in(3) {
            true => dice.below(pairs.len() + 1),
            false => pairs.len(),
        };
        pairs.insert(at, (name.into_bytes(), value));
    }
}

/// A value in two to five numbered pieces.
fn cut(name: &str, whole: &str, dice: &mut Dice) -> Vec<(String, Vec<u8>)> {
    let mut marks: Vec<usize> = (0..=dice.below(4))
        .map(|_| dice.below(whole.len()))
        .collect();
    marks.extend([0, whole.len()]);
    marks.sort_unstable();
    let pieces = marks.windows(2).enumerate();
    pieces
        .map(|(number, ends)| (format!("{name}.{number}"), whole[ends[0]..ends[1]].into()))
        .collect()
}

/// A sealed text with another inside: what is sealed is read, changed and written back without the seal.
fn rewritten(whole: &str, dice: &mut Dice) -> String {
    let mut parts: Vec<String> = whole.split('.').map(str::to_owned).collect();
    let at = dice.below(parts.len());
    if let Ok(bytes) = URL_SAFE_NO_PAD.decode(&parts[at]) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = match dice.below(6) {
            0 => text.replacen("\"expiresAt\":1", "\"expiresAt\":2", 1),
            1 => {
                let algorithm = *dice.pick(&["\"none\"", "\"HS384\"", "\"HS512\"", "\"RS256\""]);
                text.replacen("\"HS256\"", algorithm, 1)
            }
            2 => text.replacen("\"emailVerified\":false", "\"emailVerified\":true", 1),
            3 => text.replacen("\"role\":\"user\"", "\"role\":\"admin\"", 1),
            4 => text.replacen(':', ": ", 3),
            _ => text.replacen("\"version\":\"1\"", "\"version\":\"2\"", 1),
        };
        parts[at] = URL_SAFE_NO_PAD.encode(text);
    }
    parts.join(".")
}

/// Parts of two sealed texts.
fn spliced(whole: &str, other: &str, dice: &mut Dice) -> String {
    let mine: Vec<&str> = whole.split('.').collect();
    let theirs: Vec<&str> = other.split('.').collect();
    let parts: Vec<&str> = mine
        .iter()
        .enumerate()
        .map(|(at, part)| match dice.once_in(2) {
            true => theirs.get(at).copied().unwrap_or(part),
            false => part,
        })
        .collect();
    parts.join(".")
}

// ---------------------------------------------------------------------------------------------------------- authorization

fn scheme(dice: &mut Dice, case: &mut Case) -> &'static str {
    match dice.below(14) {
        0 => "bearer ",
        1 => "BEARER ",
        2 => {
            case.labels.push("scheme: other spacing");
            "Bearer  "
        }
        3 => {
            case.labels.push("scheme: tab");
            "Bearer\t"
        }
        4 => {
            case.labels.push("scheme: missing");
            ""
        }
        5 => {
            case.labels.push("scheme: other");
            "Token "
        }
        _ => "Bearer ",
    }
}

fn bearer(from: &Materials, dice: &mut Dice, case: &mut Case) {
    case.labels.push("bearer");
    let live: Vec<&(&str, Cookie)> = from
        .sessions
        .iter()
        .filter(|(what, _)| *what == "live")
        .collect();
    let (what, cookie) = match dice.below(4) {
        0 => dice.pick(&from.sessions),
        _ => *dice.pick(&live),
    };
    case.labels.push(what);
    let decoded = percent::decode(cookie.value.as_bytes())
        .unwrap_or_default()
        .into_owned();
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let (token, signature) = decoded.split_once('.').unwrap_or((&decoded, ""));
    let other = dice.pick(&from.sessions).1.value.clone();
    let value: Vec<u8> = match dice.below(12) {
        0..3 => {
            case.labels.push("bearer: bare");
            token.into()
        }
        3..6 => decoded.clone().into(),
        6 => label(
            case,
            "bearer: bare and tampered",
            flipped(token.as_bytes(), dice),
        ),
        7 => label(
            case,
            "bearer: unpadded",
            format!("{token}.{}", signature.trim_end_matches('=')).into(),
        ),
        8 => label(case, "bearer: three parts", format!("{decoded}.x").into()),
        _ => bend_signed(&cookie.value, &other, dice, case),
    };
    if value.first() == Some(&0xa0) {
        case.labels.push("bearer: no-break spaces");
    }
    authorization(value, dice, case);
}

fn authorization(value: Vec<u8>, dice: &mut Dice, case: &mut Case) {
    let mut line = dice
        .pick(&[b"authorization: ", b"Authorization: "])
        .to_vec();
    line.extend_from_slice(scheme(dice, case).as_bytes());
    line.extend_from_slice(&value);
    if dice.once_in(12) {
        line.extend_from_slice(b"  ");
    }
    case.lines.push(line);
}

fn jwt(from: &Materials, dice: &mut Dice, case: &mut Case) {
    case.labels.push("jwt");
    let good: Vec<&(&str, String)> = from
        .jwts
        .iter()
        .filter(|(what, _)| *what == "good jwt")
        .collect();
    let (what, token) = match dice.below(3) {
        0 => dice.pick(&from.jwts),
        _ => *dice.pick(&good),
    };
    case.labels.push(what);
    let other = &dice.pick(&from.jwts).1;
    let value = match dice.below(16) {
        0 => label(case, "jwt: tampered", flipped(token.as_bytes(), dice)),
        1 => label(
            case,
            "jwt: truncated",
            token[..dice.below(token.len())].into(),
        ),
        2 => label(case, "jwt: spliced", spliced(token, other, dice).into()),
        3 => label(case, "jwt: rewritten", rewritten_jwt(token, dice).into()),
        4 => label(case, "jwt: padded", format!("{token}=").into()),
        5 => label(case, "jwt: four parts", format!("{token}.x").into()),
        6 => label(
            case,
            "jwt: standard alphabet",
            token.replace('-', "+").replace('_', "/").into(),
        ),
        7 => label(
            case,
            "jwt: unused bits",
            jwt_with_unused_bits(token, dice).into(),
        ),
        _ => token.clone().into(),
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    authorization(value, dice, case);
    let unreadable = ["scheme: missing", "scheme: other", "scheme: tab"];
    if !unreadable.iter().any(|scheme| case.is(scheme)) {
        case.jwt = Some(text);
    }
}

fn rewritten_jwt(token: &str, dice: &mut Dice) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let at = dice.below(2);
    if let Some(bytes) = parts
        .get(at)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
    {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = match (at, dice.below(5)) {
            (0, 0) => text.replacen("EdDSA", "none", 1),
            (0, 1) => text.replacen("EdDSA", "HS256", 1),
            (0, 2) => text.replacen("\"kid\":\"", "\"kid\":\"x", 1),
            (0, 3) => text.replacen("\"kid\"", "\"kit\"", 1),
            (0, _) => text.replacen('{', "{\"crit\":[\"x\"],\"x\":1,", 1),
            (_, 0) => text.replacen("\"sub\":\"", "\"sub\":\"x", 1),
            (_, 1) => text.replacen("\"exp\":1", "\"exp\":2", 1),
            (_, 2) => text.replacen("\"aud\":\"", "\"aud\":\"x", 1),
            (_, 3) => text.replacen("\"iss\":\"", "\"iss\":\"x", 1),
            (_, _) => text.replacen('{', "{ ", 1),
        };
        parts[at] = URL_SAFE_NO_PAD.encode(text);
    }
    if dice.once_in(3) {
        parts.truncate(2);
        parts.push(String::new());
    }
    parts.join(".")
}

fn jwt_with_unused_bits(token: &str, dice: &mut Dice) -> String {
    let (rest, signature) = token.rsplit_once('.').unwrap_or(("", token));
    let standard = signature.replace('-', "+").replace('_', "/");
    let bent = with_unused_bits(&standard, dice)
        .replace('+', "-")
        .replace('/', "_");
    format!("{rest}.{bent}")
}

fn api_key(from: &Materials, dice: &mut Dice, case: &mut Case) {
    case.labels.push("api key");
    let good: Vec<&(&str, String)> = from
        .api_keys
        .iter()
        .filter(|(what, _)| *what == "good key")
        .collect();
    let (what, key) = match dice.below(3) {
        0 => dice.pick(&from.api_keys),
        _ => *dice.pick(&good),
    };
    case.labels.push(what);
    let value: Vec<u8> = match dice.below(14) {
        0 => label(case, "key: tampered", flipped(key.as_bytes(), dice)),
        1 => label(case, "key: truncated", key[..dice.below(key.len())].into()),
        2 => label(case, "key: longer", format!("{key}A").into()),
        3 => label(case, "key: other capitals", key.to_lowercase().into()),
        4 => label(
            case,
            "key: percent",
            key.bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect::<String>()
                .into(),
        ),
        5 => label(case, "key: quoted", format!("\"{key}\"").into()),
        6 => label(
            case,
            "key: its hash",
            URL_SAFE_NO_PAD.encode(Sha256::digest(key)).into(),
        ),
        _ => key.clone().into(),
    };
    let mut line = dice
        .pick(&[b"x-api-key: ", b"X-Api-Key: ", b"X-API-KEY: "])
        .to_vec();
    line.extend_from_slice(&value);
    if dice.once_in(10) {
        line.extend_from_slice(b"\t ");
    }
    case.lines.push(line);
    if dice.once_in(12) {
        case.labels.push("key: twice");
        let mut line = b"x-api-key: ".to_vec();
        line.extend_from_slice(dice.pick(&from.api_keys).1.as_bytes());
        case.lines.push(line);
    }
}
