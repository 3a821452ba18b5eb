//! Readers of old sessions: against what the vendors' own kits make, against what is bent, and in what they ask.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use vestibule::credential::key_set::KeySet;
use vestibule::kind;
use vestibule::migration::dialogue::{
    Answer, Ask, Given, Moment, Need, RowQuery, STEPS_MAX, Step, Unreachable,
};
use vestibule::migration::provider::{
    Field, Fields, KINDS, OldSession, Presented, Reading, Refusal, Sessions, Subject,
};
use vestibule::secret::Secret;
use vestibule::time::UnixMs;

const LONG: &str = "a password of thirty-two letters or more";

/// What happens around a reading.
struct World {
    now: UnixMs,
    keys: Arc<KeySet>,
    rows: BTreeMap<(String, String), Value>,
    values: BTreeMap<String, String>,
    answers: VecDeque<Result<(u16, Value), Unreachable>>,
    asked: Vec<Ask>,
    keys_asked: usize,
}

impl World {
    fn at(seconds: i64) -> Self {
        Self {
            now: UnixMs(seconds * 1000),
            keys: Arc::new(KeySet::default()),
            rows: BTreeMap::new(),
            values: BTreeMap::new(),
            answers: VecDeque::new(),
            asked: Vec::new(),
            keys_asked: 0,
        }
    }

    fn publishing(mut self, keys: &Value) -> Self {
        self.keys = Arc::new(KeySet::parse(keys.to_string().as_bytes(), None).unwrap());
        self
    }

    fn answering(mut self, status: u16, body: Value) -> Self {
        self.answers.push_back(Ok((status, body)));
        self
    }

    fn row(&self, query: &RowQuery) -> Option<Value> {
        let key = (query.table.clone(), query.value.expose().to_owned());
        self.rows.get(&key).cloned()
    }

    fn read(&mut self, reader: &dyn Sessions, presented: &Presented<'_>) -> Reading {
        let mut dialogue = reader.read(presented);
        let mut given = Given::Nothing;
        let random = |bytes: &mut [u8]| bytes.fill(7);
        for _ in 0..STEPS_MAX {
            let moment = Moment {
                now: self.now,
                random: &random,
            };
            given = match dialogue.step(given, moment) {
                Step::Done(reading) => return reading,
                Step::Need(Need::Keys(_)) => {
                    self.keys_asked += 1;
                    Given::Keys(Ok(Arc::clone(&self.keys)))
                }
                Step::Need(Need::Row(query)) => Given::Row(Ok(self.row(&query).map(|row| {
                    let text = |value: &Value| match value {
                        Value::Null => None,
                        Value::String(text) => Some(Secret::new(text)),
                        other => Some(Secret::new(other.to_string())),
                    };
                    let columns = row.as_object().unwrap().iter();
                    columns
                        .map(|(name, value)| (name.clone(), text(value)))
                        .collect()
                }))),
                Step::Need(Need::Value(key)) => {
                    Given::Value(Ok(self.values.get(key.expose()).map(Secret::new)))
                }
                Step::Need(Need::Answer(ask)) => {
                    self.asked.push(*ask);
                    let answer = self
                        .answers
                        .pop_front()
                        .unwrap_or(Err(Unreachable::Timeout));
                    Given::Answer(answer.map(|(status, body)| Answer {
                        status,
                        headers: HeaderMap::new(),
                        body: Secret::new(body.to_string()),
                    }))
                }
            };
        }
        panic!("it asks without end");
    }
}

/// A table of the configuration.
fn fields(table: Value) -> Fields {
    let mut fields = Fields {
        public_origin: "https://app.example.com".into(),
        ..Fields::default()
    };
    for (name, value) in table.as_object().unwrap() {
        let field = match value {
            Value::Bool(flag) => Field::Flag(*flag),
            Value::Array(list) => {
                let list = list.iter().map(|each| Secret::new(each.as_str().unwrap()));
                Field::List(list.collect())
            }
            Value::Number(seconds) => {
                Field::Duration(std::time::Duration::from_secs(seconds.as_u64().unwrap()))
            }
            text => Field::Text(Secret::new(text.as_str().unwrap())),
        };
        fields.values.insert(name.clone(), field);
    }
    fields
}

fn build(system: &str, table: Value) -> Result<Option<Box<dyn Sessions>>, String> {
    let kind = kind::find("old system", KINDS, system).unwrap();
    kind.build.sessions.unwrap()(&fields(table))
}

fn reader(system: &str, table: Value) -> Box<dyn Sessions> {
    build(system, table).unwrap().unwrap()
}

fn headers(cookies: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in cookies.as_object().unwrap() {
        let line = format!("{name}={}", value.as_str().unwrap());
        headers.append(COOKIE, HeaderValue::from_str(&line).unwrap());
    }
    headers
}

fn alive(reading: Reading) -> OldSession {
    match reading {
        Reading::Alive(session) => *session,
        other => panic!("{other:?}"),
    }
}

fn refused(reading: Reading) -> Refusal {
    match reading {
        Reading::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What the vendors' own kits make of these jobs.
fn mint(jobs: &[Value]) -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/migration");
    let modules = std::env::var_os("MINT_MODULES").map_or_else(|| folder.clone(), PathBuf::from);
    assert!(
        modules.join("node_modules/iron-session").is_dir(),
        "this test needs the kits of the old systems: run `npm ci` in tests/migration"
    );
    let mut child = Command::new("node")
        .arg(folder.join("mint.mjs"))
        .env("MINT_MODULES", &modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = Value::from(jobs.to_vec()).to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the kits could not mint");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A key pair of an old system, and tokens it signed, made once.
struct Signed {
    jwks: Value,
    tokens: Vec<String>,
}

fn signed(claims: &[Value]) -> Signed {
    static PAIR: OnceLock<Value> = OnceLock::new();
    let pair = PAIR.get_or_init(|| mint(&[json!({ "sdk": "key" })]).remove(0));
    let jobs: Vec<Value> = claims
        .iter()
        .map(|claims| json!({ "sdk": "jwt", "private": pair["private"], "claims": claims }))
        .collect();
    let tokens = mint(&jobs);
    Signed {
        jwks: pair["jwks"].clone(),
        tokens: tokens
            .iter()
            .map(|each| each["token"].as_str().unwrap().to_owned())
            .collect(),
    }
}

// ------------------------------------------------------------------------------------------------------------------ the kits

#[test]
fn what_the_vendors_kits_write_is_read() {
    let now = seconds();
    let long_name = "Ada ".repeat(2500);
    let access = json!({
        "iss": "https://abc.supabase.co/auth/v1", "aud": "authenticated", "sub": "u1", "exp": now + 3600,
        "iat": now, "session_id": "s1", "aal": "aal2", "email": "Ada@example.com", "role": "authenticated",
    });
    let access = mint(&[json!({ "sdk": "jwt", "secret": LONG, "claims": access })]).remove(0);
    let workos = signed(&[json!({
        "iss": "https://api.workos.com", "sub": "user_1", "sid": "session_1", "iat": now, "exp": now + 300,
    })]);
    let supabase = |encoding: &str, name: &str| {
        json!({
            "sdk": "supabase", "url": "https://abc.supabase.co", "access_token": access["token"],
            "cookieEncoding": encoding, "user": { "id": "u1", "user_metadata": { "name": name } },
        })
    };
    let made = mint(&[
        json!({ "sdk": "authjs", "secret": LONG, "cookie": "__Secure-authjs.session-token", "token": { "sub": "u1", "email": "Ada@Example.com" } }),
        json!({ "sdk": "authjs", "secret": LONG, "cookie": "authjs.session-token", "token": { "sub": "u1", "name": long_name } }),
        json!({ "sdk": "nextauth", "secret": LONG, "token": { "sub": "u1" } }),
        json!({ "sdk": "nextauth", "secret": LONG, "token": { "sub": "u1" }, "maxAge": -60 }),
        json!({ "sdk": "iron", "password": LONG, "cookie": "app", "data": { "user": { "id": 7 } } }),
        supabase("base64url", "Ada"),
        supabase("base64url", &long_name),
        supabase("raw", "Ada \u{2713}"),
        json!({ "sdk": "workos", "cookiePassword": LONG, "response": {
            "user": { "object": "user", "id": "user_1", "email": "ada@example.com" },
            "access_token": workos.tokens[0], "refresh_token": "rt", "authentication_method": "Password",
        } }),
        json!({ "sdk": "auth0", "secret": LONG, "session": {
            "user": { "sub": "auth0|1", "name": long_name }, "tokenSet": { "accessToken": "at", "expiresAt": now },
            "internal": { "sid": "s1", "createdAt": now - 60 },
        } }),
        json!({ "sdk": "auth0_express", "secret": LONG, "session": { "user": { "sub": "auth0|1" } },
            "header": { "iat": now, "uat": now, "exp": now + 60 } }),
        json!({ "sdk": "express", "secret": LONG, "session": { "passport": { "user": "7" } } }),
    ]);
    let read = |system: &str, table: Value, made: &Value| {
        let mut world = World::at(seconds()).publishing(&workos.jwks);
        if let Some(sid) = made["sid"].as_str() {
            let stored = made["stored"].as_str().unwrap().to_owned();
            world.values.insert(format!("sess:{sid}"), stored);
        }
        let reader = reader(system, table);
        let headers = headers(&made["cookies"]);
        for name in made["cookies"].as_object().unwrap().keys() {
            assert!(reader.concerns(name.as_bytes()), "{system}: {name}");
        }
        let cleared = reader.clear(&headers, "app.example.com");
        assert_eq!(
            cleared.len(),
            3 * made["cookies"].as_object().unwrap().len()
        );
        world.read(&*reader, &Presented::Cookies(&headers))
    };
    let source = |id: &str| Subject::Source(id.to_owned());

    let v5 = alive(read(
        "authjs",
        json!({ "secret": ["newer", LONG] }),
        &made[0],
    ));
    assert_eq!(
        (v5.subject, v5.email.as_deref()),
        (source("u1"), Some("ada@example.com"))
    );
    let adapter = alive(read(
        "authjs",
        json!({ "secret": LONG, "adapter": true }),
        &made[0],
    ));
    assert_eq!(adapter.subject, Subject::Local("u1".into()));
    let trusted = alive(read(
        "authjs",
        json!({ "secret": LONG, "trust_email": true }),
        &made[0],
    ));
    assert_eq!(trusted.subject, Subject::Email("ada@example.com".into()));
    assert!(
        made[1]["cookies"].as_object().unwrap().len() > 2,
        "the kit did not split it"
    );
    assert_eq!(
        alive(read("authjs", json!({ "secret": LONG }), &made[1])).subject,
        source("u1")
    );
    assert_eq!(
        alive(read("authjs", json!({ "secret": LONG }), &made[2])).subject,
        source("u1")
    );
    assert_eq!(
        refused(read("authjs", json!({ "secret": LONG }), &made[3])),
        Refusal::Expired
    );
    assert_eq!(
        refused(read("authjs", json!({ "secret": "x" }), &made[2])),
        Refusal::Undecryptable
    );

    let iron = json!({ "cookie_name": "app", "cookie_password": LONG, "user_id_path": "user.id" });
    let iron = alive(read("iron_session", iron, &made[4]));
    // Two weeks are the kit's own limit, which stands in its seal.
    let days = (iron.expires_at.unwrap().0 / 1000 - now + 3600) / 86_400;
    assert_eq!((iron.subject, days), (source("7"), 14));

    for made in &made[5..8] {
        let table = json!({ "project_ref": "abc", "jwt_secret": LONG });
        let session = alive(read("supabase", table, made));
        assert_eq!(
            (session.subject, session.session.expose()),
            (source("u1"), "s1")
        );
        assert_eq!(session.second_factor, Some(true));
        let other =
            json!({ "project_ref": "abc", "jwt_secret": "another secret of the project's" });
        assert_eq!(
            refused(read("supabase", other, made)),
            Refusal::BadSignature
        );
    }

    let table = json!({ "cookie_password": LONG, "client_id": "client_1" });
    let session = alive(read("workos", table, &made[8]));
    assert_eq!(
        (session.subject, session.session.expose()),
        (source("user_1"), "session_1")
    );

    let session = alive(read("auth0", json!({ "secret": LONG }), &made[9]));
    assert!(
        made[9]["cookies"].as_object().unwrap().len() > 1,
        "the kit did not split it"
    );
    assert_eq!(
        (session.subject, session.session.expose()),
        (source("auth0|1"), "s1")
    );
    assert_eq!(session.authenticated_at, Some(UnixMs((now - 60) * 1000)));
    let session = alive(read("auth0", json!({ "secret": LONG }), &made[10]));
    assert_eq!(session.expires_at, Some(UnixMs((now + 60) * 1000)));

    let session = alive(read(
        "express_session",
        json!({ "secret": ["new", LONG] }),
        &made[11],
    ));
    assert_eq!(session.subject, source("7"));
    let other = read("express_session", json!({ "secret": "other" }), &made[11]);
    assert_eq!(refused(other), Refusal::BadSignature);
}

// ------------------------------------------------------------------------------------------------------------------ what is asked

const PUBLISHABLE: &str = "pk_live_Y2xlcmsuZGV2LWFwcC5leGFtcGxlLmNvbSQ=";

fn clerk_claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": "https://clerk.dev-app.example.com", "azp": "https://app.example.com", "sub": "user_1", "sid": "sess_1",
        "iat": 1000, "nbf": 990, "exp": 1060, "fva": [3, -1], "sts": "active", "v": 2,
    });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

#[test]
fn an_expired_token_of_clerk_is_good_for_one_question() {
    let Signed { jwks, tokens } = signed(&[clerk_claims(json!({}))]);
    let headers = headers(&json!({ "__session": tokens[0] }));
    let reader = reader(
        "clerk",
        json!({ "publishable_key": PUBLISHABLE, "secret_key": "sk_live_x" }),
    );
    let ask = |now: i64, answer: Result<(u16, Value), Unreachable>| {
        let mut world = World::at(now).publishing(&jwks);
        world.answers.push_back(answer);
        let reading = world.read(&*reader, &Presented::Cookies(&headers));
        (reading, world.asked)
    };
    let session = |status: &str, user: &str| json!({ "object": "session", "id": "sess_1", "user_id": user, "status": status, "expire_at": 9_000_000_000_000_i64 });
    let (reading, asked) = ask(5000, Ok((200, session("active", "user_1"))));
    let found = alive(reading);
    assert_eq!(found.expires_at, Some(UnixMs(9_000_000_000_000)));
    assert_eq!(found.authenticated_at, Some(UnixMs((1000 - 180) * 1000)));
    assert_eq!(found.second_factor, Some(false));
    assert_eq!(
        asked[0].url.as_str(),
        "https://api.clerk.com/v1/sessions/sess_1"
    );
    assert_eq!(asked[0].headers["authorization"], "Bearer sk_live_x");
    for (answer, refusal) in [
        ((200, session("ended", "user_1")), Refusal::UnknownSession),
        ((200, session("revoked", "user_1")), Refusal::UnknownSession),
        ((200, session("pending", "user_1")), Refusal::SessionPending),
        ((200, session("active", "user_2")), Refusal::SubjectMismatch),
        ((404, json!({})), Refusal::UnknownSession),
    ] {
        assert_eq!(refused(ask(5000, Ok(answer)).0), refusal);
    }
    for answer in [
        Ok((500, json!({}))),
        Ok((429, json!({}))),
        Ok((401, json!({}))),
        Ok((200, json!([]))),
        Err(Unreachable::Timeout),
    ] {
        assert!(matches!(ask(5000, answer).0, Reading::Unavailable(_)));
    }
    // Thirty days after its end nobody is asked any more; before its end neither.
    let (reading, asked) = ask(1060 + 31 * 86_400, Ok((200, session("active", "user_1"))));
    assert_eq!((refused(reading), asked.len()), (Refusal::Expired, 0));
    let (reading, asked) = ask(1059, Ok((200, session("active", "user_1"))));
    alive(reading);
    assert!(asked.is_empty());
    let impersonated = json!({ "id": "sess_1", "user_id": "user_1", "status": "active", "actor": { "sub": "user_9" } });
    let found = alive(ask(5000, Ok((200, impersonated))).0);
    assert_eq!(found.impersonator.as_deref(), Some("user_9"));
}

#[test]
fn a_second_factor_and_a_missing_one_are_told_apart() {
    let Signed { jwks, tokens } = signed(&[
        clerk_claims(json!({ "fva": [3, 1] })),
        clerk_claims(json!({ "fva": null })),
    ]);
    let reader = reader("clerk", json!({ "publishable_key": PUBLISHABLE }));
    for (token, shown) in tokens.iter().zip([Some(true), None]) {
        let mut world = World::at(1030).publishing(&jwks);
        let found = alive(world.read(&*reader, &Presented::Bearer(token)));
        assert_eq!(found.second_factor, shown);
    }
}

#[test]
fn an_expired_session_of_workos_is_looked_for_and_its_refresh_token_left_alone() {
    let Signed { jwks, tokens } = signed(&[json!({
        "iss": "https://api.workos.com/user_management/client_1", "sub": "user_1", "sid": "session_1", "iat": 1000, "exp": 1300,
    })]);
    let seal = mint(&[
        json!({ "sdk": "workos", "cookiePassword": LONG, "response": {
        "user": { "object": "user", "id": "user_1", "email": "ada@example.com" },
        "access_token": tokens[0], "refresh_token": "rt_secret", "authentication_method": "Password",
    } }),
    ]);
    let headers = headers(&seal[0]["cookies"]);
    let table = |refresh: bool| json!({ "cookie_password": LONG, "client_id": "client_1", "api_key": "sk_x", "refresh": refresh });
    let page = |id: &str, status: &str, after: Value| {
        json!({ "data": [{ "id": id, "user_id": "user_1", "status": status, "expires_at": "2099-01-01T00:00:00.000Z" }],
            "list_metadata": { "before": null, "after": after } })
    };
    let listing = reader("workos", table(false));
    let mut world = World::at(5000).publishing(&jwks);
    world = world
        .answering(200, page("session_9", "active", json!("session_9")))
        .answering(200, page("session_1", "active", Value::Null));
    let found = alive(world.read(&*listing, &Presented::Cookies(&headers)));
    assert_eq!(found.expires_at, Some(UnixMs(4_070_908_800_000)));
    let urls: Vec<&str> = world.asked.iter().map(|ask| ask.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://api.workos.com/user_management/users/user_1/sessions?limit=100",
            "https://api.workos.com/user_management/users/user_1/sessions?limit=100&after=session_9",
        ]
    );
    assert!(
        world
            .asked
            .iter()
            .all(|ask| !ask.body.expose().contains("rt_secret"))
    );
    for (body, refusal) in [
        (
            page("session_1", "revoked", Value::Null),
            Refusal::UnknownSession,
        ),
        (
            page("session_9", "active", Value::Null),
            Refusal::UnknownSession,
        ),
    ] {
        let mut world = World::at(5000).publishing(&jwks).answering(200, body);
        assert_eq!(
            refused(world.read(&*listing, &Presented::Cookies(&headers))),
            refusal
        );
    }
    let mut world = World::at(5000).publishing(&jwks).answering(503, json!({}));
    let reading = world.read(&*listing, &Presented::Cookies(&headers));
    assert!(matches!(reading, Reading::Unavailable(_)));

    let spending = reader("workos", table(true));
    let mut world = World::at(5000).publishing(&jwks);
    world = world.answering(200, json!({ "user": { "id": "user_1" } }));
    alive(world.read(&*spending, &Presented::Cookies(&headers)));
    assert!(world.asked[0].body.expose().contains("rt_secret"));
    let mut world = World::at(5000).publishing(&jwks);
    world = world.answering(400, json!({ "error": "invalid_grant" }));
    let reading = world.read(&*spending, &Presented::Cookies(&headers));
    assert_eq!(refused(reading), Refusal::UnknownSession);
}

#[test]
fn an_expired_session_of_supabase_is_confirmed_by_its_row() {
    let claims = json!({
        "iss": "https://abc.supabase.co/auth/v1", "aud": "authenticated", "sub": "u1", "exp": 1000, "iat": 900,
        "session_id": "s1", "aal": "aal1", "amr": [{ "method": "password", "timestamp": 800 }],
    });
    let token = mint(&[json!({ "sdk": "jwt", "secret": LONG, "claims": claims })]).remove(0);
    let token = token["token"].as_str().unwrap();
    let table =
        json!({ "project_ref": "abc", "jwt_secret": LONG, "sessions_table": "auth.sessions" });
    let reader = reader("supabase", table);
    let row = |row: Option<Value>| {
        let mut world = World::at(5000);
        if let Some(row) = row {
            world
                .rows
                .insert(("auth.sessions".into(), "s1".into()), row);
        }
        world.read(&*reader, &Presented::Bearer(token))
    };
    let found = alive(row(Some(
        json!({ "id": "s1", "user_id": "u1", "aal": "aal2", "not_after": null }),
    )));
    assert_eq!(
        (found.second_factor, found.authenticated_at),
        (Some(true), Some(UnixMs(800_000)))
    );
    assert_eq!(refused(row(None)), Refusal::UnknownSession);
    let other = json!({ "id": "s1", "user_id": "u2" });
    assert_eq!(refused(row(Some(other))), Refusal::SubjectMismatch);
    let ended = json!({ "id": "s1", "user_id": "u1", "not_after": "1970-01-01 01:00:00+00" });
    assert_eq!(refused(row(Some(ended))), Refusal::Expired);
}

#[test]
fn what_is_opaque_is_asked_about() {
    let whoami = |active: bool| {
        json!({ "id": "k1", "active": active, "authenticator_assurance_level": "aal2", "expires_at": "2099-01-01T00:00:00Z",
            "authenticated_at": "1970-01-01T00:00:10Z",
            "identity": { "id": "i1", "state": "active", "traits": { "email": "Ada@example.com" } } })
    };
    let kratos = reader(
        "kratos",
        json!({ "public_url": "https://auth.example.com/kratos/" }),
    );
    let headers = headers(&json!({ "ory_kratos_session": "MTY=", "other": "not for them" }));
    let mut world = World::at(5000).answering(200, whoami(true));
    let found = alive(world.read(&*kratos, &Presented::Cookies(&headers)));
    assert_eq!(
        (found.subject, found.second_factor),
        (Subject::Source("i1".into()), Some(true))
    );
    assert_eq!(
        world.asked[0].url.as_str(),
        "https://auth.example.com/kratos/sessions/whoami"
    );
    assert_eq!(world.asked[0].headers["cookie"], "ory_kratos_session=MTY=");
    let mut world = World::at(5000).answering(200, whoami(true));
    alive(world.read(&*kratos, &Presented::Bearer("token")));
    assert_eq!(world.asked[0].headers["x-session-token"], "token");
    for (status, body, refusal) in [
        (401, json!({}), Refusal::UnknownSession),
        (403, json!({}), Refusal::SessionPending),
        (200, whoami(false), Refusal::UnknownSession),
    ] {
        let mut world = World::at(5000).answering(status, body);
        assert_eq!(
            refused(world.read(&*kratos, &Presented::Cookies(&headers))),
            refusal
        );
    }
    let mut world = World::at(5000).answering(500, json!({}));
    let reading = world.read(&*kratos, &Presented::Cookies(&headers));
    assert!(matches!(
        reading,
        Reading::Unavailable(Unreachable::Refused)
    ));

    let stytch = reader(
        "stytch",
        json!({ "project_id": "project-live-1", "secret": "s" }),
    );
    let headers = self::headers(&json!({ "stytch_session": "opaque" }));
    let answer = json!({ "session": { "session_id": "s1", "user_id": "u1", "expires_at": "2099-01-01T00:00:00Z",
        "authentication_factors": [{}, {}] } });
    let mut world = World::at(5000).answering(200, answer);
    let found = alive(world.read(&*stytch, &Presented::Cookies(&headers)));
    assert_eq!(
        (found.session.expose(), found.second_factor),
        ("s1", Some(true))
    );
    assert_eq!(
        world.asked[0].url.as_str(),
        "https://api.stytch.com/v1/sessions/authenticate"
    );
    let mut world = World::at(5000).answering(404, json!({ "error_type": "session_not_found" }));
    assert_eq!(
        refused(world.read(&*stytch, &Presented::Cookies(&headers))),
        Refusal::UnknownSession
    );
    let mut world =
        World::at(5000).answering(401, json!({ "error_type": "unauthorized_credentials" }));
    let reading = world.read(&*stytch, &Presented::Cookies(&headers));
    assert!(matches!(reading, Reading::Unavailable(_)));
}

#[test]
fn short_tokens_of_the_other_systems_are_held_to_who_and_for_whom() {
    let now = 1000;
    let cases = [
        (
            "keycloak",
            json!({ "issuer": "https://id.example.com/realms/r", "client_id": "app" }),
            json!({ "iss": "https://id.example.com/realms/r", "azp": "app", "typ": "Bearer", "sub": "u1", "sid": "s1" }),
            json!({ "azp": "other" }),
            Refusal::BadAudience,
        ),
        (
            "supertokens",
            json!({ "issuer": "https://api.example.com/auth" }),
            json!({ "iss": "https://api.example.com/auth", "tId": "public", "sub": "u1", "sessionHandle": "s1" }),
            json!({ "tId": "other" }),
            Refusal::BadAudience,
        ),
        (
            "stytch",
            json!({ "project_id": "project-live-1" }),
            json!({ "iss": "stytch.com/project-live-1", "aud": ["project-live-1"], "sub": "u1",
                "https://stytch.com/session": { "id": "s1", "expires_at": "2099-01-01T00:00:00Z" } }),
            json!({ "aud": ["project-live-2"] }),
            Refusal::BadAudience,
        ),
        (
            "descope",
            json!({ "project_id": "P1" }),
            json!({ "iss": "P1", "sub": "u1", "drn": "DS", "rexp": "2099-01-01T00:00:00Z" }),
            json!({ "iss": "P2" }),
            Refusal::BadIssuer,
        ),
        (
            "oidc",
            json!({ "issuer": "https://id.example.com", "audience": "api", "jwks_url": "https://id.example.com/keys" }),
            json!({ "iss": "https://id.example.com", "aud": "api", "sub": "u1", "sid": "s1" }),
            json!({ "sub": "c1", "azp": "c1" }),
            Refusal::NotAUser,
        ),
        (
            "firebase",
            json!({ "project_id": "p1" }),
            json!({ "iss": "https://securetoken.google.com/p1", "aud": "p1", "sub": "u1", "auth_time": 900 }),
            json!({ "iss": "https://session.firebase.google.com/p1" }),
            Refusal::BadIssuer,
        ),
    ];
    for (system, table, claims, bend, refusal) in cases {
        let with = |more: &Value| {
            let mut claims = claims.clone();
            let map = claims.as_object_mut().unwrap();
            map.extend(
                json!({ "iat": 900, "exp": 1100 })
                    .as_object()
                    .unwrap()
                    .clone(),
            );
            map.extend(more.as_object().unwrap().clone());
            claims
        };
        let Signed { jwks, tokens } = signed(&[
            with(&json!({})),
            with(&bend),
            with(&json!({ "iss": "https://evil.example.com" })),
            with(&json!({ "exp": 990 })),
        ]);
        let reader = reader(system, table);
        let read = |token: &str, keys: &Value| {
            World::at(now)
                .publishing(keys)
                .read(&*reader, &Presented::Bearer(token))
        };
        assert_eq!(
            alive(read(&tokens[0], &jwks)).subject,
            Subject::Source("u1".into()),
            "{system}"
        );
        assert_eq!(refused(read(&tokens[1], &jwks)), refusal, "{system}");
        assert_eq!(
            refused(read(&tokens[2], &jwks)),
            Refusal::BadIssuer,
            "{system}"
        );
        assert_eq!(
            refused(read(&tokens[3], &jwks)),
            Refusal::Expired,
            "{system}"
        );
        let none = json!({ "keys": [] });
        assert_eq!(
            refused(read(&tokens[0], &none)),
            Refusal::UnknownKey,
            "{system}"
        );
    }
}

#[test]
fn a_token_made_anew_after_a_change_of_the_password_does_not_make_its_session_younger() {
    let cases = [
        (
            "keycloak",
            json!({ "issuer": "https://id.example.com/realms/r", "client_id": "app" }),
            json!({ "iss": "https://id.example.com/realms/r", "azp": "app", "typ": "Bearer", "sid": "s1" }),
        ),
        (
            "supertokens",
            json!({ "issuer": "https://api.example.com/auth" }),
            json!({ "iss": "https://api.example.com/auth", "sessionHandle": "s1" }),
        ),
        (
            "descope",
            json!({ "project_id": "P1" }),
            json!({ "iss": "P1", "drn": "DS", "rexp": "2099-01-01T00:00:00Z" }),
        ),
        (
            "oidc",
            json!({ "issuer": "https://id.example.com", "audience": "api", "jwks_url": "https://id.example.com/keys" }),
            json!({ "iss": "https://id.example.com", "aud": "api", "sid": "s1" }),
        ),
        (
            "workos",
            json!({ "cookie_password": LONG, "client_id": "client_1" }),
            json!({ "iss": "https://api.workos.com", "sid": "s1" }),
        ),
        (
            "cognito",
            json!({ "issuer": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A", "client_id": "app" }),
            json!({ "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A", "client_id": "app", "token_use": "access", "origin_jti": "s1" }),
        ),
    ];
    for (system, table, claims) in cases {
        let with = |more: Value| {
            let mut claims = claims.clone();
            let map = claims.as_object_mut().unwrap();
            let usual = json!({ "sub": "u1", "iat": 900, "exp": 1100 });
            map.extend(usual.as_object().unwrap().clone());
            map.extend(more.as_object().unwrap().clone());
            claims
        };
        let made = [with(json!({})), with(json!({ "auth_time": 500 }))];
        let Signed { jwks, tokens } = signed(&made);
        let reader = reader(system, table);
        let began = |token: &str| {
            let mut world = World::at(1000).publishing(&jwks);
            alive(world.read(&*reader, &Presented::Bearer(token))).authenticated_at
        };
        assert_eq!(began(&tokens[0]), None, "{system}");
        assert_eq!(began(&tokens[1]), Some(UnixMs(500_000)), "{system}");
    }
    let made = mint(&[
        json!({ "sdk": "authjs", "secret": LONG, "cookie": "authjs.session-token", "token": { "sub": "u1" } }),
    ]);
    let reader = reader("authjs", json!({ "secret": LONG }));
    let cookies = headers(&made[0]["cookies"]);
    let reading = World::at(seconds()).read(&*reader, &Presented::Cookies(&cookies));
    assert_eq!(alive(reading).authenticated_at, None);
}

#[test]
fn a_seal_that_was_signed_out_makes_no_second_session_without_its_version() {
    let made = mint(&[
        json!({ "sdk": "iron", "password": LONG, "cookie": "app", "data": { "userId": 7 } }),
    ]);
    let reader = reader(
        "iron_session",
        json!({ "cookie_name": "app", "cookie_password": LONG }),
    );
    let whole = made[0]["cookies"]["app"].as_str().unwrap();
    let bare = whole.strip_suffix("~2").expect("a version");
    let read = |seal: &str| {
        let cookies = headers(&json!({ "app": seal }));
        alive(World::at(seconds()).read(&*reader, &Presented::Cookies(&cookies))).session
    };
    assert_eq!(read(whole), read(bare));
}

#[test]
fn the_trait_with_the_address_is_named_with_dots_or_as_a_pointer() {
    let whoami = json!({ "id": "k1", "active": true, "identity": { "id": "i1", "state": "active",
        "traits": { "email": "ada@example.com", "contact": { "mail": "grace@example.com" } } } });
    for (named, address) in [
        (None, "ada@example.com"),
        (Some("email"), "ada@example.com"),
        (Some("/email"), "ada@example.com"),
        (Some("contact.mail"), "grace@example.com"),
        (Some("/contact/mail"), "grace@example.com"),
    ] {
        let mut table = json!({ "public_url": "https://auth.example.com/" });
        if let Some(named) = named {
            table["email_trait"] = named.into();
        }
        let reader = reader("kratos", table);
        let mut world = World::at(5000).answering(200, whoami.clone());
        let found = alive(world.read(&*reader, &Presented::Bearer("token")));
        assert_eq!(found.email.as_deref(), Some(address), "{named:?}");
    }
}

#[test]
fn a_key_of_two_mechanisms_of_one_system_takes_the_same_in_both() {
    for system in KINDS {
        let keys: Vec<_> = system.build.keys.iter().copied().flatten().collect();
        for (at, key) in keys.iter().enumerate() {
            for other in keys.iter().skip(at + 1).filter(|one| one.name == key.name) {
                assert_eq!(key.kind, other.kind, "{}.{}", system.name, key.name);
            }
        }
        for group in system.build.keys {
            let mut names: Vec<_> = group.iter().map(|key| key.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}: a key stands twice", system.name);
        }
    }
}

#[test]
fn a_key_nobody_knows_is_asked_for_once_more() {
    let Signed { tokens, .. } = signed(&[clerk_claims(json!({}))]);
    let reader = reader("clerk", json!({ "publishable_key": PUBLISHABLE }));
    let mut world = World::at(1030);
    let reading = world.read(&*reader, &Presented::Bearer(&tokens[0]));
    assert_eq!(
        (refused(reading), world.keys_asked),
        (Refusal::UnknownKey, 2)
    );
}

#[test]
fn cookies_of_two_minds_are_refused() {
    let reader = reader("clerk", json!({ "publishable_key": PUBLISHABLE }));
    let mut twice = HeaderMap::new();
    twice.append(
        COOKIE,
        HeaderValue::from_static("__session=a.b.c; __session=d.e.f"),
    );
    let reading = World::at(1030).read(&*reader, &Presented::Cookies(&twice));
    assert_eq!(refused(reading), Refusal::Ambiguous);
    let mut five = HeaderMap::new();
    five.append(COOKIE, HeaderValue::from_static("__session=a..b.c.d"));
    let reading = World::at(1030).read(&*reader, &Presented::Cookies(&five));
    assert!(matches!(reading, Reading::Nothing), "that is Auth0's");
}

#[test]
fn cookies_of_two_names_are_of_one_person_or_nobodys() {
    let token = |sdk: &str, cookie: &str, user: &str, age: i64| json!({ "sdk": sdk, "secret": LONG, "cookie": cookie, "token": { "sub": user }, "maxAge": age });
    let made = mint(&[
        token("authjs", "__Secure-authjs.session-token", "mallory", 600),
        token("authjs", "authjs.session-token", "u1", 600),
        token("authjs", "__Secure-authjs.session-token", "u1", 600),
        token("authjs", "__Secure-authjs.session-token", "mallory", -600),
    ]);
    let reader = reader("authjs", json!({ "secret": LONG }));
    let read = |which: &[usize]| {
        let mut all = serde_json::Map::new();
        for at in which {
            all.extend(made[*at]["cookies"].as_object().unwrap().clone());
        }
        let cookies = headers(&Value::Object(all));
        World::at(seconds()).read(&*reader, &Presented::Cookies(&cookies))
    };
    assert_eq!(refused(read(&[0, 1])), Refusal::Ambiguous);
    for one_person in [&[1, 2], &[1, 3]] {
        assert_eq!(
            alive(read(one_person)).subject,
            Subject::Source("u1".into())
        );
    }
}

#[test]
fn a_session_of_django_that_was_written_again_does_not_say_when_it_began() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256};
    let mac = |salt: &str, text: &str| {
        let key = Sha256::digest(format!("{salt}{LONG}"));
        let mac = <Hmac<Sha256>>::new_from_slice(&key).unwrap();
        mac.chain_update(text).finalize().into_bytes()
    };
    let hash = mac(
        "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash",
        "pbkdf2_sha256$1$a$b",
    );
    let data =
        json!({ "_auth_user_id": "1", "_auth_user_hash": data_encoding::HEXLOWER.encode(&hash) });
    // 100 in sixty-two digits.
    let signed = format!("{}:1c", URL_SAFE_NO_PAD.encode(data.to_string()));
    let seal = URL_SAFE_NO_PAD.encode(mac(
        "django.contrib.sessions.backends.signed_cookiessigner",
        &signed,
    ));
    let table = json!({ "secret_key": LONG, "backend": "signed_cookies" });
    let reader = reader("django", table);
    let cookies = headers(&json!({ "sessionid": format!("{signed}:{seal}") }));
    let mut world = World::at(200);
    world.rows.insert(
        ("auth_user".into(), "1".into()),
        json!({ "id": "1", "password": "pbkdf2_sha256$1$a$b" }),
    );
    let found = alive(world.read(&*reader, &Presented::Cookies(&cookies)));
    assert_eq!(found.subject, Subject::Source("1".into()));
    assert_eq!(found.authenticated_at, None);
}

#[test]
fn a_table_that_pins_nothing_is_refused() {
    for kind in KINDS {
        let Some(sessions) = kind.build.sessions else {
            continue;
        };
        assert!(
            sessions(&Fields::default()).is_err(),
            "`{}` takes an empty table",
            kind.name
        );
    }
    for (system, table) in [
        (
            "clerk",
            json!({ "authorized_parties": "https://app.example.com" }),
        ),
        ("clerk", json!({ "publishable_key": "pk_live_nonsense" })),
        ("workos", json!({ "cookie_password": LONG })),
        ("workos", json!({ "client_id": "c", "cookie_name": "x" })),
        ("supabase", json!({ "jwt_secret": LONG })),
        ("supabase", json!({ "project_ref": "abc", "refresh": true })),
        (
            "oidc",
            json!({ "issuer": "https://id.example.com", "jwks_url": "https://id.example.com/keys" }),
        ),
        (
            "oidc",
            json!({ "audience": "api", "jwks_url": "https://id.example.com/keys" }),
        ),
        (
            "oidc",
            json!({ "issuer": "https://id.example.com", "audience": "api" }),
        ),
        (
            "oidc",
            json!({ "issuer": "https://id.example.com", "audience": "api", "jwks": "{\"keys\":[]}" }),
        ),
        (
            "cognito",
            json!({ "issuer": "https://cognito-idp.eu-west-1.amazonaws.com/p" }),
        ),
        (
            "keycloak",
            json!({ "issuer": "https://id.example.com/realms/r" }),
        ),
        (
            "firebase",
            json!({ "accepted": ["anything"], "project_id": "p" }),
        ),
        ("authjs", json!({ "secret": "" })),
        ("authjs", json!({ "strategy": "magic", "secret": LONG })),
        ("lucia", json!({ "version": "4" })),
        ("laravel", json!({ "app_key": "base64:c2hvcnQ=" })),
        ("iron_session", json!({ "cookie_password": LONG })),
        ("rails", json!({ "secret_key_base": LONG })),
        (
            "wordpress",
            json!({ "logged_in_key": "k", "logged_in_salt": "s" }),
        ),
        ("kratos", json!({ "public_url": "http://auth.example.com" })),
    ] {
        assert!(
            build(system, table.clone()).is_err(),
            "{system} takes {table}"
        );
    }
    // A table of a live check alone has no reader.
    assert!(
        build("clerk", json!({ "secret_key": "sk" }))
            .unwrap()
            .is_none()
    );
    assert!(
        build("workos", json!({ "api_key": "sk", "client_id": "c" }))
            .unwrap()
            .is_none()
    );
}

// ------------------------------------------------------------------------------------------------------------------ what is bent

/// Tables of every system, complete enough to read.
fn every_system() -> Vec<(&'static str, Box<dyn Sessions>, &'static str)> {
    let key = "base64:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let wordpress =
        json!({ "logged_in_key": "k", "logged_in_salt": "s", "site_url": "https://example.com" });
    [
        ("clerk", json!({ "publishable_key": PUBLISHABLE }), "__session"),
        ("workos", json!({ "cookie_password": LONG, "client_id": "c" }), "wos-session"),
        ("iron_session", json!({ "cookie_password": LONG, "cookie_name": "app" }), "app"),
        ("authjs", json!({ "secret": LONG }), "authjs.session-token"),
        ("authjs", json!({ "strategy": "database" }), "authjs.session-token"),
        ("supabase", json!({ "project_ref": "abc", "jwt_secret": LONG }), "sb-abc-auth-token"),
        ("auth0", json!({ "secret": LONG }), "appSession"),
        ("firebase", json!({ "project_id": "p" }), "__session"),
        ("cognito", json!({ "issuer": "https://c.example.com/p", "client_id": "c" }), "CognitoIdentityServiceProvider.c.u.accessToken"),
        ("lucia", json!({ "version": "3" }), "auth_session"),
        ("express_session", json!({ "secret": LONG }), "connect.sid"),
        ("kratos", json!({ "public_url": "https://k.example.com" }), "ory_kratos_session"),
        ("supertokens", json!({ "issuer": "https://s.example.com/auth" }), "sAccessToken"),
        ("stytch", json!({ "project_id": "p" }), "stytch_session_jwt"),
        ("descope", json!({ "project_id": "p" }), "DS"),
        ("keycloak", json!({ "issuer": "https://k.example.com/realms/r", "client_id": "c" }), "x"),
        ("django", json!({ "secret_key": LONG }), "sessionid"),
        ("django", json!({ "secret_key": LONG, "backend": "signed_cookies" }), "sessionid"),
        ("rails", json!({ "secret_key_base": LONG, "cookie_name": "_app" }), "_app"),
        ("laravel", json!({ "app_key": key }), "laravel_session"),
        ("wordpress", wordpress, "wordpress_logged_in_c984d06aafbecf6bc55569f964148ea3"),
        ("oidc", json!({ "issuer": "https://i.example.com", "audience": "a", "jwks_url": "https://i.example.com/k" }), "x"),
    ]
    .into_iter()
    .map(|(system, table, cookie)| (system, reader(system, table), cookie))
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn noise_proves_nobody(
        noise in proptest::collection::vec(33_u8..127, 0..200),
        shaped in "(ey[A-Za-z0-9_-]{0,30}\\.){0,2}\\.?[A-Za-z0-9_-]{0,30}(\\.[A-Za-z0-9_-]{0,20}){0,2}",
    ) {
        for (system, reader, cookie) in every_system() {
            for text in [noise.as_slice(), shaped.as_bytes()] {
                let line = [cookie.as_bytes(), b"=", text].concat();
                let Ok(value) = HeaderValue::from_bytes(&line) else { continue };
                let mut headers = HeaderMap::new();
                headers.append(COOKIE, value);
                let reading = World::at(1_763_700_000).read(&*reader, &Presented::Cookies(&headers));
                prop_assert!(!matches!(reading, Reading::Alive(_)), "{system}");
                let bearer = String::from_utf8_lossy(text);
                let reading = World::at(1_763_700_000).read(&*reader, &Presented::Bearer(&bearer));
                prop_assert!(!matches!(reading, Reading::Alive(_)), "{system}");
            }
        }
    }

    #[test]
    fn a_changed_letter_proves_nobody(at in 0_usize..100_000, letter in "[A-Za-z0-9_*.~-]") {
        static MADE: OnceLock<(Vec<Value>, Signed)> = OnceLock::new();
        let (made, token) = MADE.get_or_init(|| {
            let made = mint(&[
                json!({ "sdk": "authjs", "secret": LONG, "token": { "sub": "u1" } }),
                json!({ "sdk": "nextauth", "secret": LONG, "token": { "sub": "u1" } }),
                json!({ "sdk": "iron", "password": LONG, "cookie": "app", "data": { "userId": 7 } }),
                json!({ "sdk": "auth0_express", "secret": LONG, "session": { "user": { "sub": "auth0|1" } },
                    "header": { "iat": 1, "uat": 1, "exp": 4_102_444_800_i64 } }),
            ]);
            (made, signed(&[clerk_claims(json!({ "exp": 4_102_444_800_i64 }))]))
        });
        let now = seconds();
        let tables = [
            ("authjs", json!({ "secret": LONG })),
            ("authjs", json!({ "secret": LONG })),
            ("iron_session", json!({ "cookie_password": LONG, "cookie_name": "app" })),
            ("auth0", json!({ "secret": LONG })),
        ];
        let bent = |text: &str| {
            let at = at % text.len();
            let mut bent = text.to_owned();
            bent.replace_range(at..=at, &letter);
            (bent != text).then_some(bent)
        };
        for ((system, table), made) in tables.into_iter().zip(made) {
            let (name, value) = made["cookies"].as_object().unwrap().iter().next().unwrap();
            let reader = reader(system, table);
            let whole = headers(&made["cookies"]);
            let reading = World::at(now).read(&*reader, &Presented::Cookies(&whole));
            prop_assert!(matches!(reading, Reading::Alive(_)), "{system}: {reading:?}");
            let Some(value) = bent(value.as_str().unwrap()) else { continue };
            let headers = headers(&json!({ name: value }));
            let reading = World::at(now).read(&*reader, &Presented::Cookies(&headers));
            prop_assert!(!matches!(reading, Reading::Alive(_)), "{system} at {at}");
        }
        let reader = reader("clerk", json!({ "publishable_key": PUBLISHABLE }));
        if let Some(text) = bent(&token.tokens[0]) {
            let mut world = World::at(now).publishing(&token.jwks);
            let reading = world.read(&*reader, &Presented::Bearer(&text));
            prop_assert!(!matches!(reading, Reading::Alive(_)), "clerk at {at}");
        }
    }
}
