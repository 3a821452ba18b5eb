//! The cookie cache, ciphertexts, what other versions of the framework issue, and deployments without a store.

use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde_json::Value;
use vestibule::credential::cookie_cache::{self, CookieCache, Published};
use vestibule::credential::signature::Signer;
use vestibule::credential::{Presented, Proof, cipher, names, secrets, session_cookie};
use vestibule::secret::Secret;
use vestibule::time::UnixMs;

use super::{Tally, load};

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
