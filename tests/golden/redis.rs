//! What the framework keeps in Redis, read and prolonged by the session source, and judged by the gate.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header::COOKIE};
use serde_json::Value;
use vestibule::credential::signature::Signer;
use vestibule::credential::{Presented, Proof, session_cookie};
use vestibule::request::RequestView;
use vestibule::secret::Secret;
use vestibule::session::Record;
use vestibule::store::{self, Opened, SecondaryStorage, Settings};
use vestibule::target::Target;
use vestibule::time::{ManualClock, UnixMs};

use super::databases::shown;
use super::{Tally, load};
use crate::support::redis::{Redis, run};
use crate::support::{Setup, cookie};

const COOKIE_NAME: &str = "better-auth.session_token";

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

/// Puts keys into an emptied database.
fn put<'v>(redis: &Redis, keys: impl Iterator<Item = (String, &'v str, Option<i64>)>) {
    let mut connection = redis.connect();
    let _: String = run(&mut connection, &["FLUSHDB"]);
    for (key, value, seconds) in keys {
        let _: String = match seconds.filter(|seconds| *seconds > 0) {
            Some(seconds) => run(
                &mut connection,
                &["SETEX", &key, &seconds.to_string(), value],
            ),
            None => run(&mut connection, &["SET", &key, value]),
        };
    }
}

async fn open(redis: &Redis, prefix: &str) -> Opened {
    let settings = Settings {
        secondary: SecondaryStorage {
            key_prefix: prefix.to_owned(),
            ..SecondaryStorage::default()
        },
        documents: Some(store::Documents::default()),
        ..redis.settings()
    };
    store::inspect(&settings)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The token of a signed cookie, as the gateway reads it.
fn token_of(cookie_header: &str, secret: &str) -> Result<String, String> {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(cookie_header).unwrap());
    let signer = Signer::new(&Secret::new(secret));
    match session_cookie::read(&headers, COOKIE_NAME) {
        Presented::Found(found) => match found.proof {
            Proof::Signed(signed) if signer.verify(&signed).is_some() => {
                Ok(signed.value.into_owned())
            }
            _ => Err("the signature is not right".into()),
        },
        _ => Err("no cookie was found".into()),
    }
}

/// The gate's verdict on a route for people who are signed in.
async fn judged(opened: &Opened, token: &str, now: UnixMs) -> &'static str {
    let clock = Arc::new(ManualClock::at(now));
    let setup = Setup::in_front_of(([127, 0, 0, 1], 9).into());
    let gateway = setup.assemble(Arc::clone(&opened.source), clock);
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&cookie(token)).unwrap());
    let request = RequestView {
        method: &Method::GET,
        target: Target::parse(b"/page").unwrap(),
        host: "app.test",
        headers: &headers,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let decision = gateway.gate.judge(&request).await.unwrap();
    decision.verdict.as_str()
}

/// Holds every field of a record that the framework's answer has against it, and the answer that it carries.
fn compare(record: &Record, body: &Value) -> Result<(), String> {
    let document = record.document.as_deref();
    let document = document.map(|text| serde_json::from_str::<Value>(text).unwrap());
    if let Some(document) = document.filter(|document| document != body) {
        return Err(format!("the answer is {document}, expected {body}"));
    }
    for (part, fields) in shown(record).as_object().unwrap() {
        for (field, got) in fields.as_object().unwrap() {
            let want = &body[part][field];
            let off = want.is_null() && (got.is_null() || *got == Value::Bool(false));
            if got != want && !off {
                return Err(format!("{part}.{field} is {got}, expected {want}"));
            }
        }
    }
    Ok(())
}

async fn read(redis: &Redis, case: &Value) -> Result<(), String> {
    let token = text(case, "token");
    let stored = case["stored"].as_object().unwrap();
    let keys = stored.iter().map(|(key, value)| {
        (
            format!("better-auth:{key}"),
            value.as_str().unwrap_or_default(),
            None,
        )
    });
    put(redis, keys);
    let sent = token_of(text(case, "cookie_header"), text(case, "secret"))?;
    if sent != token {
        return Err("the cookie holds another token".into());
    }
    let now = UnixMs(case["now_ms"].as_i64().unwrap());
    let opened = open(redis, "better-auth:").await;
    let found = opened.source.find(token).await;
    let verdict = judged(&opened, token, now).await;
    let (status, body) = (&case["expect"]["status"], &case["expect"]["body"]);
    // The framework does not compare the token inside with the key. We do, so that nobody is taken for somebody else.
    let copied = body["session"]["token"]
        .as_str()
        .is_some_and(|inside| inside != token);
    let (found, allowed) = match (status.as_i64(), found) {
        (Some(500), Err(_)) => {
            return if verdict == "unavailable" {
                Ok(())
            } else {
                Err(format!("{verdict} where the framework knows nothing"))
            };
        }
        (Some(500), Ok(found)) => return Err(format!("{found:?} where the framework fails")),
        (_, Err(error)) => return Err(error.to_string()),
        (_, Ok(found)) => (found, verdict == "allow"),
    };
    if allowed != (!body.is_null() && !copied) {
        return Err(format!("{verdict}, expected {body}"));
    }
    match found {
        Some(record) if allowed => compare(&record, body),
        _ => Ok(()),
    }
}

/// Loads what each step left in Redis, and asks for every session there ever was.
async fn follow(redis: &Redis, case: &Value) -> Result<(), String> {
    let prefix = text(case, "key_prefix");
    let mut tokens: Vec<String> = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        let name = text(step, "step");
        let at = UnixMs(step["at_ms"].as_i64().unwrap());
        let keys = step["redis"].as_object().unwrap();
        put(
            redis,
            keys.iter()
                .map(|(key, found)| (key.clone(), text(found, "value"), found["ttl"].as_i64())),
        );
        for set in step["response"]["set_cookie"].as_array().unwrap() {
            let pair = set.as_str().unwrap().split(';').next().unwrap();
            if pair.starts_with(COOKIE_NAME) && !pair.ends_with('=') {
                let token = token_of(pair, text(case, "secret"))?;
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
            }
        }
        let opened = open(redis, prefix).await;
        for token in &tokens {
            let found = opened.source.find(token).await;
            let found = found.map_err(|error| format!("{name}: {error}"))?;
            let kept = keys.contains_key(&format!("{prefix}{token}"));
            let verdict = judged(&opened, token, at).await;
            if found.is_some() != kept || (verdict == "allow") != kept {
                return Err(format!("{name}: {verdict}, but kept in Redis: {kept}"));
            }
        }
        if name.starts_with("get-session") {
            let body = &step["response"]["body"];
            let first = tokens.first().ok_or("no session")?;
            let found = opened.source.find(first).await.unwrap();
            match (found, body.is_null()) {
                (None, true) => {}
                (Some(record), false) => {
                    compare(&record, body).map_err(|wrong| format!("{name}: {wrong}"))?;
                }
                (found, _) => return Err(format!("{name}: {found:?}, expected {body}")),
            }
        }
        for token in &tokens {
            let key = format!("{prefix}{token}");
            if let Some(entry) = keys.get(&key) {
                prolong(redis, &opened, &key, token, text(entry, "value"), at)
                    .await
                    .map_err(|wrong| format!("{name}: {wrong}"))?;
            }
        }
    }
    if tokens.len() < 2 {
        return Err("too few sessions to tell from".into());
    }
    Ok(())
}

fn iso(at: UnixMs) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.0).unwrap();
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Prolongs a session, and holds what is written against what the framework would have written.
async fn prolong(
    redis: &Redis,
    opened: &Opened,
    key: &str,
    token: &str,
    before: &str,
    at: UnixMs,
) -> Result<(), String> {
    const LONGER_MS: i64 = 604_800_500;
    let session: Value = serde_json::from_str(before).unwrap();
    let (old, updated) = (
        text(&session["session"], "expiresAt"),
        text(&session["session"], "updatedAt"),
    );
    let seen = UnixMs(
        chrono::DateTime::parse_from_rfc3339(old)
            .unwrap()
            .timestamp_millis(),
    );
    let (now, until) = (
        UnixMs(at.0 + 86_400_000),
        UnixMs(at.0 + 86_400_000 + LONGER_MS),
    );
    let extend = opened.extend.as_ref().ok_or("nothing is written")?;
    let other = UnixMs(seen.0 - 1);
    if extend.extend(token, other, until, now).await.unwrap() {
        return Err("written over an expiry that nobody has seen".into());
    }
    if seen > now && !extend.extend(token, seen, until, now).await.unwrap() {
        return Err("not written".into());
    }
    if seen <= now {
        return Ok(());
    }
    let mut connection = redis.connect();
    let after: String = run(&mut connection, &["GET", key]);
    // The user's own `updatedAt` stands behind the session's.
    let want = before
        .replacen(
            &format!(r#""expiresAt":"{old}""#),
            &format!(r#""expiresAt":"{}""#, iso(until)),
            1,
        )
        .replacen(
            &format!(r#""updatedAt":"{updated}""#),
            &format!(r#""updatedAt":"{}""#, iso(now)),
            1,
        );
    if after != want {
        return Err(format!("wrote {after}, expected {want}"));
    }
    let seconds: i64 = run(&mut connection, &["TTL", key]);
    if !(LONGER_MS / 1000 - 5..=LONGER_MS / 1000).contains(&seconds) {
        return Err(format!("kept for {seconds} s"));
    }
    let user = text(&session["session"], "userId");
    let list_key = key.replace(token, &format!("active-sessions-{user}"));
    let list: String = run(&mut connection, &["GET", &list_key]);
    let end = format!(r#"{{"token":"{token}","expiresAt":{}}}]"#, until.0);
    if !list.ends_with(&end) || list.matches(token).count() != 1 {
        return Err(format!("the list is {list}"));
    }
    let found = opened.source.find(token).await.unwrap();
    if found.is_none_or(|record| record.expires_at != until) {
        return Err("read again, it has not moved".into());
    }
    Ok(())
}

#[test]
fn redis() {
    const FILE: &str = "redis.json";
    let vectors = load(FILE);
    let (cases, reads) = (
        vectors["cases"].as_array().unwrap(),
        vectors["reads"].as_array().unwrap(),
    );
    let mut tally = Tally::new(FILE, cases.len() + reads.len());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = Redis::start();
    for case in reads {
        tally.case(text(case, "id"), runtime.block_on(read(&redis, case)));
    }
    for case in cases {
        tally.case(text(case, "id"), runtime.block_on(follow(&redis, case)));
    }
    tally.finish();
}
