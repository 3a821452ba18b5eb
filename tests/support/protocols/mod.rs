//! Old auth systems to try live checks against: each speaks its vendor's documented protocol on loopback, knows the same people, and
//! remembers what was asked of it and which sessions it still has open.

pub mod auth0;
pub mod cognito;
pub mod descope;
pub mod firebase;
pub mod keycloak;
pub mod kratos;
pub mod stytch;
pub mod supabase;
pub mod supertokens;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{App, Seen, reply};

/// What everybody's password is: all that breaks careless encoders.
pub const PASSWORD: &str = "p\"ä\\s's\nw&o=r%d+ {}\u{1F512}";
/// The code of who has an authenticator.
pub const CODE: &str = "123456";
/// Whoever is known there.
pub struct Person {
    pub email: &'static str,
    pub id: &'static str,
}

pub const GOOD: Person = Person {
    email: "good@example.com",
    id: "11111111-1111-4111-8111-111111111111",
};
/// Has an authenticator.
pub const FACTOR: Person = Person {
    email: "factor@example.com",
    id: "22222222-2222-4222-8222-222222222222",
};
/// Must not get in.
pub const BLOCKED: Person = Person {
    email: "blocked@example.com",
    id: "33333333-3333-4333-8333-333333333333",
};
/// Was tried too often.
pub const LIMITED: Person = Person {
    email: "limited@example.com",
    id: "44444444-4444-4444-8444-444444444444",
};
/// Has something to do there first: verify an address, choose a new password.
pub const UNFINISHED: Person = Person {
    email: "unfinished@example.com",
    id: "55555555-5555-4555-8555-555555555555",
};

pub fn person(email: &str) -> Option<&'static Person> {
    [&GOOD, &FACTOR, &BLOCKED, &LIMITED, &UNFINISHED]
        .into_iter()
        .find(|person| person.email == email)
}

/// One request, taken apart.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub form: BTreeMap<String, String>,
    pub json: Value,
    pub seen: Seen,
}

impl Asked {
    fn of(seen: &Seen) -> Self {
        let mut words = seen.line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let url = format!("http://x{}", words.next().unwrap_or_default());
        let url = url::Url::parse(&url).expect("an address");
        let is_form = seen
            .header("content-type")
            .is_some_and(|kind| kind.contains("form-urlencoded"));
        let form = match is_form {
            true => url::form_urlencoded::parse(&seen.body)
                .into_owned()
                .collect(),
            false => BTreeMap::new(),
        };
        Self {
            method,
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            form,
            json: serde_json::from_slice(&seen.body).unwrap_or(Value::Null),
            seen: seen.clone(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.seen.header(name).unwrap_or_default()
    }

    pub fn form(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.json
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn bearer(&self) -> &str {
        self.header("authorization")
            .strip_prefix("Bearer ")
            .unwrap_or_default()
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

pub fn json(status: u16, body: Value) -> Reply {
    Reply {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string(),
    }
}

pub fn empty(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: String::new(),
    }
}

impl Reply {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The sessions a stand-in has open, by token, with whose they are.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<BTreeMap<String, String>>,
    made: Mutex<usize>,
}

impl Sessions {
    /// Opens one; the token says nothing of whose it is.
    pub fn open(&self, id: &str) -> String {
        let mut made = self.made.lock().expect("not poisoned");
        *made += 1;
        let token = format!("tok-{made}-abcdefghijklmnopqrstuvwxyz");
        let mut open = self.open.lock().expect("not poisoned");
        open.insert(token.clone(), id.to_owned());
        token
    }

    pub fn whose(&self, token: &str) -> Option<String> {
        self.open.lock().expect("not poisoned").get(token).cloned()
    }

    pub fn end(&self, token: &str) -> bool {
        self.open
            .lock()
            .expect("not poisoned")
            .remove(token)
            .is_some()
    }

    pub fn count(&self) -> usize {
        self.open.lock().expect("not poisoned").len()
    }

    pub fn made(&self) -> usize {
        *self.made.lock().expect("not poisoned")
    }
}

/// How a stand-in is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Stalled,
    Cut,
    Busy,
    Garbage,
    Endless,
}

/// A stand-in that runs.
pub struct Vendor {
    pub app: App,
    pub sessions: Arc<Sessions>,
    broken: Arc<Mutex<Option<Broken>>>,
    keeps_sessions: Arc<Mutex<bool>>,
    ends: BTreeSet<&'static str>,
}

impl Vendor {
    /// `ends`: the ends of addresses that end sessions.
    pub fn start(
        ends: &[&'static str],
        answers: impl Fn(&Asked, &Sessions) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let sessions: Arc<Sessions> = Arc::default();
        let broken: Arc<Mutex<Option<Broken>>> = Arc::default();
        let keeps: Arc<Mutex<bool>> = Arc::default();
        let (known, how, keep) = (
            Arc::clone(&sessions),
            Arc::clone(&broken),
            Arc::clone(&keeps),
        );
        let ends: BTreeSet<&'static str> = ends.iter().copied().collect();
        let of_end = ends.clone();
        let app = App::scripted(move |seen, stream| {
            let broken = *how.lock().expect("not poisoned");
            match broken {
                // Until the other side has had enough.
                Some(Broken::Stalled) => {
                    let mut byte = [0];
                    let _ = std::io::Read::read(stream, &mut byte);
                    return;
                }
                Some(Broken::Cut) => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"a");
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
                Some(Broken::Busy) => return reply(stream, 503, &[], b"{\"error\":\"busy\"}"),
                Some(Broken::Garbage) => return reply(stream, 200, &[], b"<html>welcome</html>"),
                Some(Broken::Endless) => {
                    return reply(stream, 200, &[], "x".repeat(600 * 1024).as_bytes());
                }
                None => {}
            }
            let asked = Asked::of(seen);
            let is_end = of_end.iter().any(|end| {
                asked.path.ends_with(end) || asked.header("x-amz-target").ends_with(end)
            });
            if is_end && *keep.lock().expect("not poisoned") {
                return reply(stream, 500, &[], b"{}");
            }
            let answer = answers(&asked, &known);
            let headers: Vec<(&str, &str)> = answer
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            reply(stream, answer.status, &headers, answer.body.as_bytes());
        });
        Self {
            app,
            sessions,
            broken,
            keeps_sessions: keeps,
            ends,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.app.address)
    }

    pub fn break_down(&self, how: Option<Broken>) {
        *self.broken.lock().expect("not poisoned") = how;
    }

    /// From now on sessions cannot be ended.
    pub fn keep_sessions(&self) {
        assert!(!self.ends.is_empty());
        *self.keeps_sessions.lock().expect("not poisoned") = true;
    }
}

/// A token that holds these claims. Who receives it over TLS from its issuer checks no signature.
pub fn token(claims: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!(
        "{}.{payload}.{}",
        URL_SAFE_NO_PAD.encode("{\"alg\":\"RS256\"}"),
        "tok-signature"
    )
}
