//! Round trips of every strategy through the reader, and what must not pass it.

use http::HeaderValue;
use http::header::COOKIE;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::secret::Secret;

const NOW: UnixMs = UnixMs(1_781_524_800_250);
const TOKEN: &str = "4GGLPYz365f6Aowj9TVeTciHjffoV9Sc";

fn cache(strategy: &str, secrets: &secrets::Settings) -> CookieCache {
    let settings = Settings {
        strategy: strategy.into(),
        ..Settings::default()
    };
    let cookies = names::Settings::default();
    CookieCache::new(
        &settings,
        &cookies,
        &Context {
            secrets,
            published: None,
        },
    )
    .unwrap()
}

fn single() -> secrets::Settings {
    secrets::Settings::single(Secret::new("secret"))
}

fn payload(name: &str) -> Payload {
    Payload {
        session: json!({
            "id": "s1", "token": TOKEN, "userId": "u1", "expiresAt": "2026-06-22T12:00:00.250Z",
            "createdAt": "2026-06-15T12:00:00.250Z", "updatedAt": "2026-06-15T12:00:00.250Z",
            "ipAddress": null, "userAgent": "",
        })
        .as_object()
        .unwrap()
        .clone(),
        user: json!({
            "id": "u1", "email": "ada@example.com", "emailVerified": true, "name": name,
            "n": 0.1, "10": 1, "9": [1, {"b": 2, "a": null}],
        })
        .as_object()
        .unwrap()
        .clone(),
        updated_at: NOW,
        version: Some("1".into()),
        expires_at: UnixMs(NOW.0 + 300_000),
        session_expires_at: UnixMs(1_782_129_600_250),
    }
}

fn entropy() -> Entropy {
    Entropy([7; 32])
}

fn request(lines: &[String]) -> HeaderMap {
    let pairs = lines.iter().map(|line| line.split(';').next().unwrap());
    let pairs: Vec<&str> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
    headers
}

/// Those we can write: the key of the JWT plugin is the app's alone.
fn strategies() -> impl Iterator<Item = &'static str> {
    let names = STRATEGIES.iter().map(|kind| kind.name);
    names.filter(|name| *name != "jwks")
}

#[test]
fn what_is_sealed_opens_until_it_is_over() {
    for strategy in strategies() {
        let cache = cache(strategy, &single());
        for name in ["Ada", "Ångström 🚀 \"\\\n", &"long ".repeat(3000)] {
            let said = payload(name);
            let value = cache.seal(&said, Remembered::Yes, NOW, &entropy()).unwrap();
            let lines = cache.set_cookies(&value, Remembered::Yes, &HeaderMap::new());
            assert_eq!(lines.len() > 1, name.len() > 4000, "{strategy}");
            assert!(lines.iter().all(|line| line.len() <= 4050), "{strategy}");
            let headers = request(&lines);
            let opened = cache.open(&headers, TOKEN, NOW).unwrap();
            assert_eq!(opened.session, said.session, "{strategy}");
            assert_eq!(opened.user, said.user, "{strategy}");
            assert_eq!(opened.updated_at, NOW);
            let last = UnixMs(opened.expires_at.0 - 1000);
            assert!(cache.open(&headers, TOKEN, last).is_ok(), "{strategy}");
            let over = UnixMs(opened.expires_at.0 + 1);
            assert!(cache.open(&headers, TOKEN, over).is_err(), "{strategy}");
            assert_eq!(
                cache.open(&headers, "another", NOW),
                Err(Miss::OtherToken),
                "{strategy}"
            );
        }
    }
}

/// The framework makes text of any user id, and refuses a session without one.
#[test]
fn a_sealed_session_of_nobody_opens_nothing() {
    for strategy in strategies() {
        let cache = cache(strategy, &single());
        let opens = |said: &Payload| {
            let value = cache.seal(said, Remembered::Yes, NOW, &entropy()).unwrap();
            cache.open_value(value.as_bytes(), TOKEN, NOW).is_ok()
        };
        let mut said = payload("Ada");
        assert!(opens(&said), "{strategy}");
        said.session.insert("userId".into(), 7.into());
        assert!(opens(&said), "{strategy}");
        said.session.remove("userId");
        assert!(!opens(&said), "{strategy}");
    }
}

#[test]
fn another_secret_or_version_opens_nothing() {
    for strategy in strategies() {
        let value = cache(strategy, &single())
            .seal(&payload("Ada"), Remembered::Yes, NOW, &entropy())
            .unwrap();
        let other = cache(strategy, &secrets::Settings::single(Secret::new("other")));
        assert_eq!(
            other.open_value(value.as_bytes(), TOKEN, NOW),
            Err(Miss::Sealed),
            "{strategy}"
        );
        let secrets = single();
        let settings = Settings {
            strategy: strategy.into(),
            version: "2".into(),
            ..Settings::default()
        };
        let context = Context {
            secrets: &secrets,
            published: None,
        };
        let newer = CookieCache::new(&settings, &names::Settings::default(), &context).unwrap();
        assert_eq!(
            newer.open_value(value.as_bytes(), TOKEN, NOW),
            Err(Miss::Version),
            "{strategy}"
        );
    }
}

#[test]
fn an_older_secret_opens_what_is_encrypted_and_verifies_no_signature() {
    let rolled = secrets::Settings::listed(
        (2, Secret::new("new")),
        vec![(1, Secret::new("secret"))],
        None,
    );
    for strategy in strategies() {
        let value = cache(strategy, &single())
            .seal(&payload("Ada"), Remembered::Yes, NOW, &entropy())
            .unwrap();
        let opened = cache(strategy, &rolled).open_value(value.as_bytes(), TOKEN, NOW);
        assert_eq!(opened.is_ok(), strategy == "jwe", "{strategy}");
    }
}

#[test]
fn stale_chunks_are_removed_when_less_is_written() {
    let cache = cache("compact", &single());
    let long = cache
        .seal(
            &payload(&"long ".repeat(2000)),
            Remembered::Yes,
            NOW,
            &entropy(),
        )
        .unwrap();
    let chunks = cache.set_cookies(&long, Remembered::Yes, &HeaderMap::new());
    assert!(chunks.len() >= 3);
    let short = cache
        .seal(&payload("Ada"), Remembered::Yes, NOW, &entropy())
        .unwrap();
    let lines = cache.set_cookies(&short, Remembered::Yes, &request(&chunks));
    assert_eq!(lines.len(), chunks.len() + 1);
    let removed = lines.iter().filter(|line| line.contains("; Max-Age=0;"));
    assert_eq!(removed.count(), chunks.len());
    // And the other way round: the whole cookie goes when chunks come.
    let lines = cache.set_cookies(&long, Remembered::Yes, &request(&lines));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("better-auth.session_data=; Max-Age=0;"))
    );
}

#[test]
fn what_is_too_long_for_cookies_is_not_set_at_all() {
    let cache = cache("compact", &single());
    let lines = cache.set_cookies(&"x".repeat(500_000), Remembered::Yes, &HeaderMap::new());
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn a_session_of_the_browser_has_no_age_and_counts_for_a_short_time() {
    for (strategy, seconds) in [("compact", 60), ("jwt", 300), ("jwe", 300)] {
        let cache = cache(strategy, &single());
        let value = cache
            .seal(&payload("Ada"), Remembered::No, NOW, &entropy())
            .unwrap();
        let lines = cache.set_cookies(&value, Remembered::No, &HeaderMap::new());
        assert!(lines.iter().all(|line| !line.contains("Max-Age")));
        let opened = cache.open(&request(&lines), TOKEN, NOW).unwrap();
        assert!(
            (NOW.0 + seconds * 1000 - opened.expires_at.0) < 1000,
            "{strategy}"
        );
    }
}

#[test]
fn no_more_chunks_are_read_than_the_framework_writes() {
    let cache = cache("compact", &single());
    let value = cache
        .seal(&payload("Ada"), Remembered::Yes, NOW, &entropy())
        .unwrap();
    let split = |count: usize| {
        let size = value.len().div_ceil(count);
        let pieces = value.as_bytes().chunks(size).enumerate();
        let pairs: Vec<String> = pieces
            .map(|(at, piece)| {
                let piece = std::str::from_utf8(piece).unwrap();
                format!("better-auth.session_data.{at}={piece}")
            })
            .collect();
        (pairs.len(), request(&pairs))
    };
    let (count, headers) = split(100);
    assert!((90..=100).contains(&count));
    assert!(cache.open(&headers, TOKEN, NOW).is_ok());
    let (count, headers) = split(150);
    assert!(count > 100);
    assert_eq!(cache.open(&headers, TOKEN, NOW), Err(Miss::Absent));
}

#[test]
fn queries_that_ask_past_the_cache() {
    for (query, disabled) in [
        (None, false),
        (Some("disableCookieCache=true"), true),
        (Some("a=1&disableCookieCache=false"), true),
        (Some("disableCookieCache="), false),
        (Some("disableCookieCache"), false),
        (Some("disableRefresh=true"), false),
    ] {
        assert_eq!(is_disabled_by(query), disabled, "{query:?}");
    }
}

proptest! {
    #[test]
    fn a_changed_letter_opens_nothing(at in any::<prop::sample::Index>(), which in 0usize..3, letter in "[A-Za-z0-9_.-]") {
        let cache = cache(STRATEGIES[which].name, &single());
        let value = cache.seal(&payload("Ada"), Remembered::Yes, NOW, &entropy()).unwrap();
        let mut changed = value.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = letter.as_bytes()[0];
        // The spare bits of the last letter of base64 may differ in `compact`: what they spell is the same.
        let opened = cache.open_value(&changed, TOKEN, NOW);
        if let Ok(opened) = opened {
            prop_assert_eq!(&opened.user, &payload("Ada").user);
            prop_assert_eq!(&opened.session, &payload("Ada").session);
        }
    }

    #[test]
    fn noise_never_panics(text in ".{0,120}", which in 0usize..3) {
        let cache = cache(STRATEGIES[which].name, &single());
        let _ = cache.open_value(text.as_bytes(), TOKEN, NOW);
        let _ = cache.open_value(base64::encode(text.as_bytes()).as_bytes(), TOKEN, NOW);
    }
}
