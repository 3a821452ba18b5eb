//! Bearer tokens and the tokens of the JWT plugin.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use vestibule::authenticator::jwt::{Issuer, Verifier};
use vestibule::authenticator::{self, bearer};
use vestibule::credential::cookie_cache::Published;
use vestibule::credential::key_ring::{KeyRing, KeyRings, KeySource, Then};
use vestibule::credential::key_set::{Algorithm, KeySet, StoredKey};
use vestibule::credential::signature::Signer;
use vestibule::credential::{names, secrets};
use vestibule::gate::Gate;
use vestibule::policy::Verdict;
use vestibule::request::RequestView;
use vestibule::route::RouteTable;
use vestibule::secret::Secret;
use vestibule::session::resolve::Sessions;
use vestibule::session::{self, Record, Source, SourceError};
use vestibule::target::Target;
use vestibule::time::{Clock, ManualClock, UnixMs};

use super::cookie_cache::answer_by;
use super::{Tally, load};
use crate::support::{NOW, Setup, record};

/// The live sessions of a case: token to user.
struct Known(HashMap<String, String>);

impl Source for Known {
    fn name(&self) -> &'static str {
        "known tokens"
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        let found = self.0.get(token).map(|email| Record {
            email: Some(email.as_str().into()),
            ..record(token, email)
        });
        Box::pin(std::future::ready(Ok(found)))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn gate(case: &Value) -> Gate {
    let setup = Setup::in_front_of(([127, 0, 0, 1], 9).into());
    let secret = Secret::new(case["secret"].as_str().expect("a secret"));
    let known = case["known_tokens"].as_object().expect("known tokens");
    let known = known
        .iter()
        .map(|(token, user)| (token.clone(), user.as_str().expect("a user").to_owned()));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let sessions = Arc::new(Sessions::new(
        &session::Settings {
            enforce_bans: false,
            ..setup.sessions
        },
        Signer::new(&secret),
        Arc::new(Known(known.collect())),
        Arc::clone(&clock),
        Box::new(|_| {}),
    ));
    let settings = authenticator::Settings {
        enabled: ["bearer".to_owned()].into(),
        bearer: bearer::Settings {
            require_signature: case["require_signature"].as_bool().expect("yes or no"),
        },
        ..authenticator::Settings::default()
    };
    let authenticators = authenticator::build(&authenticator::Context {
        settings: &settings,
        cookies: &names::Settings::default(),
        secrets: &secrets::Settings::single(secret),
        sessions: &sessions,
        cookie_cache: None,
        key_rings: &KeyRings::default(),
        api_keys: None,
        clock: &clock,
    });
    Gate {
        routes: RouteTable::build(&setup.routes).expect("routes"),
        authenticators,
        fall_through: false,
        sessions,
        clock,
    }
}

/// Whose session the request has, and its token.
fn whose(case: &Value) -> Option<(String, String)> {
    let gate = gate(case);
    let mut headers = HeaderMap::new();
    for (name, key) in [(AUTHORIZATION, "authorization"), (COOKIE, "cookie_header")] {
        if let Some(text) = case[key].as_str() {
            headers.insert(name, HeaderValue::from_str(text).expect("a header value"));
        }
    }
    let request = RequestView {
        method: &Method::GET,
        target: Target::parse(b"/dashboard").expect("a target"),
        host: "app.test",
        headers: &headers,
        client: Ipv4Addr::LOCALHOST.into(),
    };
    let decision = gate.judge(&request).now_or_never().expect("no wait");
    match decision.expect("a decision").verdict {
        Verdict::Allow(permit) => {
            let entry = permit.principal().expect("somebody");
            let email = entry.email().expect("an address");
            Some((email.to_owned(), entry.expose_token().to_owned()))
        }
        _ => None,
    }
}

#[test]
fn bearer() {
    const FILE: &str = "bearer.json";
    let file = load(FILE);
    // Those without an answer only show what the framework sends.
    let cases: Vec<&Value> = file["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(|case| case.get("expect").is_some())
        .collect();
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let found = whose(case);
        let expect = &case["expect"];
        let text = |key: &str| expect[key].as_str().map(str::to_owned);
        let wanted = text("user").zip(text("token"));
        let outcome = match found == wanted {
            true => Ok(()),
            false => Err(format!("{found:?}, expected {expect}")),
        };
        tally.case(case["id"].as_str().expect("an id"), outcome);
    }
    tally.finish();
}

/// Keys as a case has them: published, or in the table.
struct Keys(Box<dyn Fn() -> KeySet + Send + Sync>);

impl KeySource for Keys {
    fn name(&self) -> &str {
        "a key set of the case"
    }

    fn fetch(&self, then: Then) -> BoxFuture<'static, ()> {
        then(Ok(self.0()));
        Box::pin(std::future::ready(()))
    }
}

/// Whose token it is, if it counts.
fn verify(case: &Value, keys: Keys) -> Option<String> {
    let text = |key: &str| case[key].as_str().expect(key).to_owned();
    let now = UnixMs(case["now_ms"].as_i64().expect("an instant"));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
    let ring = KeyRing::new(
        Arc::new(keys),
        Arc::clone(&clock),
        Duration::from_secs(10),
        Arc::new(|_, _| {}),
    );
    let issuer = Issuer {
        issuer: text("issuer"),
        audience: vec![text("audience")],
        ..Issuer::default()
    };
    let verifier = Verifier::new(issuer, Arc::new(ring), clock);
    let token = text("token");
    let verified = verifier
        .verify(&token, now)
        .or_else(|| verifier.find_out(&token).now_or_never().expect("no wait"));
    let record = verified.expect("keys are there").ok()?;
    Some(record.user_id.into())
}

/// Whose a token of the app is, by its published keys.
pub fn subject(token: &str, published: &Value, origin: &str, now: UnixMs) -> Option<String> {
    let case = serde_json::json!({
        "token": token, "issuer": origin, "audience": origin, "now_ms": now.0,
    });
    let published = published.to_string();
    let keys = Keys(Box::new(move || {
        KeySet::parse(published.as_bytes(), None).expect("a key set")
    }));
    verify(&case, keys)
}

#[test]
fn jwt() {
    const FILE: &str = "jwt.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let sets: HashMap<&str, &Value> = file["key_sets"]
        .as_array()
        .expect("key sets")
        .iter()
        .map(|set| (set["id"].as_str().expect("an id"), set))
        .collect();
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let set = sets[case["key_set"].as_str().expect("a key set")];
        let published = set["jwks_response"].to_string();
        let (row, now) = (
            set["jwks_row"].clone(),
            UnixMs(case["now_ms"].as_i64().expect("now")),
        );
        let stored = StoredKey {
            id: row["id"].as_str().expect("an id").into(),
            public: row["publicKey"].as_str().expect("a key").into(),
            algorithm: row["alg"].as_str().map(str::to_owned),
            expires_at: None,
        };
        let fallback = match row["alg"].as_str() {
            Some(word) => Algorithm::named(word).expect("a known algorithm"),
            None => Algorithm::EdDsa,
        };
        // A table from before 1.7 has no column for it; then the app's own setting holds.
        let older = StoredKey {
            algorithm: None,
            ..stored.clone()
        };
        let of_row = |row: StoredKey| {
            Keys(Box::new(move || {
                KeySet::of_rows([row.clone()], fallback, Duration::ZERO, now)
            }))
        };
        let ways = [
            Keys(Box::new(move || {
                KeySet::parse(published.as_bytes(), None).expect("a key set")
            })),
            of_row(stored),
            of_row(older),
        ];
        let expect = &case["expect"];
        let mut wanted = match expect["valid"].as_bool().expect("yes or no") {
            true => Some(expect["payload"]["sub"].as_str().expect("sub").to_owned()),
            false => None,
        };
        // The one place where we are stricter: a token without an end is good for ever, and nobody could take it back.
        if wanted.is_some() && expect["payload"].get("exp").is_none() {
            let id = case["id"].as_str().expect("an id");
            tally.note(&format!("{id}: refused here, because it has no `exp`"));
            wanted = None;
        }
        let mut outcome = Ok(());
        for keys in ways {
            let found = verify(case, keys);
            if found != wanted {
                outcome = Err(format!("{found:?}, expected {wanted:?}"));
            }
        }
        tally.case(case["id"].as_str().expect("an id"), outcome);
    }
    tally.finish();
}

#[test]
fn cookie_cache_jwks() {
    const FILE: &str = "cookie-cache-jwks.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let jwks = case["jwks"].to_string();
        let now = UnixMs(case["now_ms"].as_i64().expect("an instant"));
        let keys = Arc::new(KeyRing::new(
            Arc::new(Keys(Box::new(move || {
                KeySet::parse(jwks.as_bytes(), None).expect("a key set")
            }))),
            Arc::new(ManualClock::at(now)),
            Duration::from_secs(10),
            Arc::new(|_, _| {}),
        ));
        let published = Published {
            keys,
            issuer: case["base_url"].as_str().map(str::to_owned),
        };
        let config = serde_json::json!({ "secret": case["secret"], "strategy": "jwks" });
        // The first cookie after a start finds no keys: it has them fetched, and nobody waits.
        let first = answer_by(case, &config, Some(published.clone()));
        let second = answer_by(case, &config, Some(published));
        let expect = &case["expect"]["get_session_endpoint"];
        let wanted = (expect["cache_hit"] == true).then(|| expect["body"].clone());
        let outcome = match (first, second == wanted) {
            (Some(_), _) => Err("it opened without keys".to_owned()),
            (None, false) => Err(format!("{second:?}\n  expected {wanted:?}")),
            (None, true) => Ok(()),
        };
        tally.case(case["id"].as_str().expect("an id"), outcome);
    }
    tally.finish();
}
