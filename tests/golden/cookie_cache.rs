//! The cookie cache, ciphertexts, what other versions of the framework issue, and deployments without a store.

use std::sync::Arc;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use vestibule::authenticator::{self, Asked};
use vestibule::credential::cookie_cache::{self, CookieCache, Published};
use vestibule::credential::key_ring::KeyRings;
use vestibule::credential::names::CookieSpec;
use vestibule::credential::signature::Signed;
use vestibule::credential::signature::Signer;
use vestibule::credential::{Presented, Proof, cipher, cookies, names, secrets, session_cookie};
use vestibule::request::RequestView;
use vestibule::secret::Secret;
use vestibule::server::renew::{Answered, Renewer};
use vestibule::session::resolve::{Resolution, Sessions, Who};
use vestibule::session::{BoxFuture, Freshness, Keeper, Record, Rejection, Source, SourceError};
use vestibule::target::Target;
use vestibule::time::{Clock, ManualClock, UnixMs};

use super::{Tally, load, tokens};
use crate::support::Setup;

pub fn headers(cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(cookie.as_bytes()).expect("a header value");
    headers.insert(COOKIE, value);
    headers
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn moment(case: &Value) -> UnixMs {
    UnixMs(case["now_ms"].as_i64().expect("now_ms"))
}

/// The secrets of a case: a single one, or a list with perhaps a legacy one.
fn secrets_of(config: &Value) -> secrets::Settings {
    let single = config["secret"]
        .as_str()
        .or(config["legacy_secret"].as_str());
    let single = single.map(Secret::new);
    let listed = config["secrets"].as_array().map(Vec::as_slice);
    let mut listed = listed.unwrap_or_default().iter().map(|entry| {
        let version = entry["version"].as_u64().expect("version");
        (version, Secret::new(text(entry, "value")))
    });
    match listed.next() {
        Some(current) => secrets::Settings::listed(current, listed.collect(), single),
        None => secrets::Settings::single(single.expect("a secret")),
    }
}

fn names_of(config: &Value) -> names::Settings {
    names::Settings {
        prefix: config["advanced"]["cookiePrefix"]
            .as_str()
            .map(str::to_owned),
        base_url: Some("http://localhost:3000".into()),
        ..names::Settings::default()
    }
}

/// What the framework's endpoint does first: the signed token, then the cookie.
fn answer(case: &Value, config: &Value) -> Option<Value> {
    answer_by(case, config, None)
}

/// The same, where the JWT plugin signs the cookie.
pub fn answer_by(case: &Value, config: &Value, published: Option<Published>) -> Option<Value> {
    let headers = headers(text(case, "cookie_header"));
    let secrets = secrets_of(config);
    let names = names_of(config);
    let signer = Signer::new(&secrets.current);
    let Presented::Found(found) =
        session_cookie::read(&headers, &names.cookie("session_token").name)
    else {
        return None;
    };
    let Proof::Signed(signed) = found.proof else {
        return None;
    };
    signer.verify(&signed)?;
    if cookie_cache::is_disabled_by(
        case["query"]
            .as_str()
            .map(|query| query.trim_start_matches('?')),
    ) {
        return None;
    }
    let settings = cookie_cache::Settings {
        strategy: config["strategy"].as_str().unwrap_or("compact").into(),
        version: config["version"].as_str().unwrap_or("1").into(),
        ..cookie_cache::Settings::default()
    };
    let context = cookie_cache::Context {
        secrets: &secrets,
        published,
    };
    let cache = CookieCache::new(&settings, &names, &context).expect("a strategy");
    let now = moment(case);
    let payload = cache.open(&headers, &signed.value, now).ok()?;
    Some(payload.answer(now))
}

#[test]
fn cookie_cache() {
    const FILE: &str = "cookie-cache.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let expect = &case["expect"]["get_session_endpoint"];
        let answer = answer(case, &case["config"]);
        // Where the framework fails on a cookie it has not used it.
        let expected = (expect["cache_hit"] == true).then(|| expect["body"].clone());
        tally.case(
            text(case, "id"),
            (answer == expected)
                .then_some(())
                .ok_or_else(|| format!("{answer:?}\n  expected {expected:?}")),
        );
    }
    tally.finish();
}

#[test]
fn encryption() {
    const FILE: &str = "encryption.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let macs = file["hmac"].as_array().expect("hmac");
    let mut tally = Tally::new(FILE, cases.len() + macs.len());
    for case in cases {
        let secrets = secrets_of(&case["key"]);
        let opened = cipher::open(&secrets, text(case, "ciphertext"));
        let opened = opened.ok().map(|plaintext| plaintext.expose().to_owned());
        let expected = case["expect"]["plaintext"].as_str().map(str::to_owned);
        let mut outcome = (opened == expected)
            .then_some(())
            .ok_or_else(|| format!("{opened:?}, expected {expected:?}"));
        if let Some(plaintext) = expected {
            let sealed = cipher::seal(&secrets, &plaintext, [9; 24]).expect("a ciphertext");
            let again = cipher::open(&secrets, &sealed).map(|text| text.expose().to_owned());
            if again.as_ref() != Ok(&plaintext) {
                outcome = Err(format!("what we seal does not open: {again:?}"));
            }
        }
        tally.case(text(case, "id"), outcome);
    }
    for case in macs {
        use base64::Engine as _;

        let seal = Signer::new(&Secret::new(text(case, "secret"))).seal(text(case, "value"));
        let made = base64::engine::general_purpose::STANDARD.encode(seal.bytes());
        let expected = text(case, "expect_base64");
        tally.case(
            text(case, "id"),
            (made == expected)
                .then_some(())
                .ok_or_else(|| format!("{made}, expected {expected}")),
        );
    }
    tally.finish();
}

// ------------------------------------------------------------------------------------------------------- other versions

/// Everything one version issued that concerns us. Its password hashes are nobody's business here.
fn read_version(case: &Value) -> Result<(), String> {
    let secret = Secret::new(text(case, "secret"));
    let signer = Signer::new(&secret);
    let now = case["made_at_ms"].as_i64().expect("made_at_ms") + 1000;
    for (strategy, made) in case["strategies"].as_object().expect("strategies") {
        let config = serde_json::json!({ "secret": case["secret"], "strategy": strategy });
        let request = serde_json::json!({
            "cookie_header": made["cookie_header"], "now_ms": now,
        });
        let answer = answer(&request, &config);
        if answer.as_ref() != Some(&made["get_session_body"]) {
            return Err(format!("{strategy}: {answer:?}"));
        }
        let token = text(made, "set_auth_token").as_bytes().to_vec();
        let signed = Signed::parse(cookies::decode(&token)).ok_or("set-auth-token")?;
        if signer.verify(&signed).is_none() {
            return Err(format!("{strategy}: set-auth-token is not signed"));
        }
    }
    let jwt = &case["jwt"];
    let origin = text(case, "base_url");
    let subject = tokens::subject(text(jwt, "token"), &jwt["jwks"], origin, UnixMs(now));
    if subject.is_none() {
        return Err("its JWT is refused".into());
    }
    let secrets = secrets::Settings::single(secret);
    let opened = cipher::open(&secrets, text(case, "encrypted"));
    let expected = case["read_by_this_version"]["decrypted"].as_str();
    if opened.as_ref().ok().map(Secret::expose) != expected {
        return Err(format!("{:?}", opened.map(|_| "another text")));
    }
    // The private key is a JSON text of its ciphertext.
    let private = text(&jwt["row"], "privateKey");
    let private: String = serde_json::from_str(private).map_err(|error| error.to_string())?;
    let private = cipher::open(&secrets, &private).map_err(|error| error.to_string())?;
    let key: Value = serde_json::from_str(private.expose()).map_err(|error| error.to_string())?;
    match key["d"].is_string() {
        true => Ok(()),
        false => Err("its private key is no key".into()),
    }
}

#[test]
fn cross_version() {
    const FILE: &str = "cross-version.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        tally.case(text(case, "version"), read_version(case));
    }
    tally.finish();
}

// ------------------------------------------------------------------------------------------------------ without a store

/// The app has no store.
struct Nowhere;

impl Source for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        panic!("there is nobody to ask")
    }

    fn keeper(&self) -> Keeper {
        Keeper::Cookie
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A deployment as a case describes it.
struct Deployment {
    names: names::Settings,
    settings: cookie_cache::Settings,
    secrets: secrets::Settings,
}

impl Deployment {
    fn of(case: &Value) -> Self {
        let session = &case["config"]["session"];
        let cache = &session["cookieCache"];
        let expires_in = session["expiresIn"].as_u64().unwrap_or(604_800);
        let max_age = cache["maxAge"].as_u64().unwrap_or(expires_in);
        let update_age = &cache["refreshCache"]["updateAge"];
        Self {
            names: names::Settings {
                base_url: Some("http://localhost:3000".into()),
                expires_in: Some(expires_in),
                cache_max_age: Some(max_age),
                ..names::Settings::default()
            },
            settings: cookie_cache::Settings {
                strategy: cache["strategy"]
                    .as_str()
                    .unwrap_or(cookie_cache::STRATEGY_WITHOUT_A_STORE)
                    .into(),
                version: cache["version"].as_str().unwrap_or("1").into(),
                max_age: Duration::from_secs(max_age),
                renew_within: Duration::from_secs(update_age.as_u64().unwrap_or(max_age / 5)),
            },
            secrets: secrets::Settings::single(Secret::new(text(case, "secret"))),
        }
    }

    fn cache(&self) -> Arc<CookieCache> {
        let context = cookie_cache::Context {
            secrets: &self.secrets,
            published: None,
        };
        Arc::new(CookieCache::new(&self.settings, &self.names, &context).expect("a strategy"))
    }

    /// Who is calling, and what the browser is owed.
    fn step(&self, step: &Value) -> (Option<(String, String)>, Vec<String>) {
        let now = moment(step);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
        let sessions = Arc::new(Sessions::new(
            &Setup::in_front_of(([127, 0, 0, 1], 9).into()).sessions,
            Signer::new(&self.secrets.current),
            Arc::new(Nowhere),
            Arc::clone(&clock),
            Box::new(|_| {}),
        ));
        let cache = self.cache();
        let authenticators = authenticator::build(&authenticator::Context {
            settings: &authenticator::Settings::default(),
            cookies: &self.names,
            secrets: &self.secrets,
            sessions: &sessions,
            cookie_cache: Some(&cache),
            key_rings: &KeyRings::default(),
            api_keys: None,
            clock: &clock,
        });
        let headers = headers(text(step, "cookie_header"));
        let request = RequestView {
            method: &Method::GET,
            target: Target::parse(b"/api/auth/get-session").expect("a target"),
            host: "localhost",
            headers: &headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let kind = &authenticators[0];
        let Presented::Found(credential) = kind.extract(&request) else {
            panic!("no session token in {step}");
        };
        let asked = Asked {
            is_use: true,
            credential: &credential,
            request: &request,
            freshness: Freshness::Cached,
            now,
        };
        let (resolution, _) = kind.at_once(&asked).expect("an answer without waiting");
        let entry = match resolution {
            Resolution::Verified(Who::Known(entry)) => entry,
            Resolution::Rejected(Rejection::Unknown { told_now: false }) => {
                return (None, Vec::new());
            }
            other => panic!("{other:?}"),
        };
        let answered = Answered {
            method: &Method::GET,
            path: "/dashboard",
            request: &headers,
            status: StatusCode::OK,
            response: &HeaderMap::new(),
        };
        let renewer = Renewer::new(Arc::clone(&cache), &self.names);
        let owed = renewer.cookies_to_set(&entry, &answered, &sessions, now);
        let who = (entry.session_id().to_owned(), entry.user_id().to_owned());
        (Some(who), owed)
    }

    /// Whether a cookie of ours says what the framework's says: the same session, from the same instant, for as long.
    fn says_the_same(&self, ours: &str, theirs: &str, step: &Value) -> Result<(), String> {
        let cache = self.cache();
        let (name, token) = (
            cache.name(),
            text(&step["expect"]["body"]["session"], "token"),
        );
        if !theirs.starts_with(&format!("{name}=")) {
            // The signed token is the same letter by letter.
            return match ours == theirs {
                true => Ok(()),
                false => Err(format!("{ours}, expected {theirs}")),
            };
        }
        let attributes = |line: &str| line.split_once(';').map(|(_, rest)| rest.to_owned());
        let opened = |line: &str| {
            let pair = line.split(';').next().expect("a pair");
            let value = pair
                .strip_prefix(&format!("{name}="))
                .ok_or("another name")?;
            let said = cache.open_value(value.as_bytes(), token, moment(step));
            said.map_err(|miss| miss.as_str())
        };
        let same = attributes(ours) == attributes(theirs) && opened(ours)? == opened(theirs)?;
        same.then_some(())
            .ok_or_else(|| format!("{ours}, expected {theirs}"))
    }
}

/// A step of a deployment without a store: whose session it is, and what the browser is sent.
fn one_step(deployment: &Deployment, step: &Value) -> Result<(), String> {
    let expect = &step["expect"];
    let id = |table: &str| expect["body"][table]["id"].as_str().map(str::to_owned);
    let (who, owed) = deployment.step(step);
    if who != id("session").zip(id("user")) {
        return Err(format!("{who:?}, expected {}", expect["body"]));
    }
    let theirs: Vec<&str> = expect["set_cookie"]
        .as_array()
        .expect("set_cookie")
        .iter()
        .filter_map(Value::as_str)
        // That a token alone is no session is for the app to conclude: the gateway takes nobody's cookies away for it.
        .filter(|_| who.is_some())
        .collect();
    if owed.len() != theirs.len() {
        return Err(format!("{} cookies, expected {}", owed.len(), theirs.len()));
    }
    let mut pairs = owed.iter().zip(theirs);
    pairs.try_for_each(|(ours, theirs)| deployment.says_the_same(ours, theirs, step))
}

/// Every cookie that plugins set: its name, its signature, its attributes.
fn plugin_cookies(case: &Value) -> Result<(), String> {
    let names = names::Settings {
        base_url: Some(text(case, "base_url").into()),
        ..names::Settings::default()
    };
    let signer = Signer::new(&Secret::new(text(case, "secret")));
    let lists = case.as_object().expect("a case").values();
    let lines = lists.filter_map(|answer| answer["set_cookie"].as_array());
    let mut seen = 0;
    for line in lines.flatten() {
        let line = line.as_str().expect("a line");
        plugin_cookie(line, &names, &signer)?;
        seen += 1;
    }
    (seen > 0)
        .then_some(())
        .ok_or_else(|| "no cookies".to_owned())
}

fn plugin_cookie(line: &str, names: &names::Settings, signer: &Signer) -> Result<(), String> {
    const KEYS: [&str; 4] = [
        "session_token",
        "session_data",
        "dont_remember",
        "admin_session",
    ];
    let pair = line.split(';').next().expect("a pair");
    let (name, value) = pair.split_once('=').expect("a value");
    let ours = KEYS.iter().map(|key| names.cookie(key)).find(|spec| {
        let device = name.strip_prefix(&format!("{}_multi-", spec.name));
        spec.name == name || (device.is_some() && spec.name.ends_with("session_token"))
    });
    let Some(spec) = ours else {
        // The one cookie that scripts may read says nothing of anybody, and is never taken for a signed one.
        let headers = headers(pair);
        return match session_cookie::read(&headers, name) {
            Presented::Malformed if name == "better-auth.last_used_login_method" => Ok(()),
            found => Err(format!("{name}: {found:?}")),
        };
    };
    let mut spec: CookieSpec = spec.named(name);
    let parsed = cookie::Cookie::parse(line).map_err(|error| error.to_string())?;
    spec.attributes.max_age = parsed
        .max_age()
        .and_then(|age| u64::try_from(age.whole_seconds()).ok());
    let made = if value.is_empty() {
        spec.clear()
    } else {
        let headers = headers(pair);
        let Presented::Found(found) = session_cookie::read(&headers, name) else {
            return Err(format!("{name} is not read"));
        };
        let Proof::Signed(signed) = found.proof else {
            return Err(format!("{name} is not signed"));
        };
        signer
            .verify(&signed)
            .ok_or_else(|| format!("{name}: bad signature"))?;
        let token = &*signed.value;
        if let Some((_, device)) = name.split_once("_multi-")
            && device != token.to_lowercase()
        {
            return Err(format!("{name} holds another token"));
        }
        spec.set_cookie(&signer.issue(token))
    };
    (made == line)
        .then_some(())
        .ok_or_else(|| format!("{made}, expected {line}"))
}

#[test]
fn stateless_and_plugin_cookies() {
    const FILE: &str = "stateless-and-plugin-cookies.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let plugins = file["plugin_cookies"].as_array().expect("plugin_cookies");
    let steps = |case: &Value| case["steps"].as_array().expect("steps").clone();
    let found = cases.iter().map(|case| steps(case).len()).sum::<usize>() + plugins.len();
    let mut tally = Tally::new(FILE, found);
    for case in cases {
        let deployment = Deployment::of(case);
        for step in steps(case) {
            let id = format!("{}, {}", text(case, "id"), text(&step, "note"));
            tally.case(&id, one_step(&deployment, &step));
        }
    }
    for case in plugins {
        tally.case(text(case, "id"), plugin_cookies(case));
    }
    tally.finish();
}
