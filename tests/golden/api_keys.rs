//! API keys used at the real framework, one request after the other, and used here: through the gate, over every store of keys.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use vestibule::api_key::{self, ApiKeys, Counters, Row, stored_form};
use vestibule::gate::Decision;
use vestibule::policy::Verdict;
use vestibule::request::RequestView;
use vestibule::session::{BoxFuture, Rejection, Source};
use vestibule::target::Target;
use vestibule::time::{ManualClock, UnixMs};

use super::{Tally, load};
use crate::support::databases::Dialect;
use crate::support::keys::{KeyStore, Secondary, Tables, open, owner};
use crate::support::{Setup, Store};

#[test]
fn stored_forms() {
    let vectors = load("api-keys.json");
    let hashes = vectors["hashes"].as_array().unwrap();
    let mut tally = Tally::new("api-keys.json hashes", hashes.len());
    for one in hashes {
        let key = one["key"].as_str().unwrap();
        let stored = stored_form(key, true);
        let same = one["expect_stored"].as_str() == Some(&stored);
        tally.case(key, same.then_some(()).ok_or(format!("stored as {stored}")));
    }
    tally.finish();
}

fn moment(value: &Value) -> Option<UnixMs> {
    let text = value.as_str()?;
    let date = chrono::DateTime::parse_from_rfc3339(text).unwrap();
    Some(UnixMs(date.timestamp_millis()))
}

fn length(value: &Value) -> Option<Duration> {
    value.as_u64().map(Duration::from_millis)
}

fn counters(row: &Value) -> Counters {
    Counters {
        remaining: row["remaining"].as_i64(),
        last_refill: moment(&row["lastRefillAt"]),
        requests: row["requestCount"].as_i64().unwrap_or(0),
        last_request: moment(&row["lastRequest"]),
        updated_at: moment(&row["updatedAt"]),
    }
}

/// The row a case begins with.
fn row(row: &Value) -> Row {
    Row {
        id: row["id"].as_str().unwrap().into(),
        config_id: row["configId"].as_str().map(Into::into),
        enabled: row["enabled"].as_bool(),
        expires_at: moment(&row["expiresAt"]),
        created_at: moment(&row["createdAt"]).unwrap(),
        rate_limited: row["rateLimitEnabled"].as_bool(),
        rate_window: length(&row["rateLimitTimeWindow"]),
        rate_max: row["rateLimitMax"].as_i64(),
        refill_interval: length(&row["refillInterval"]),
        refill_amount: row["refillAmount"].as_i64(),
        counters: counters(row),
    }
}

/// Where a case's row is kept.
trait Kept {
    fn keep<'a>(&'a self, case: &'a Value) -> BoxFuture<'a, ()>;
    fn counted<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Counters>;
}

impl Kept for KeyStore {
    fn keep<'a>(&'a self, case: &'a Value) -> BoxFuture<'a, ()> {
        let row = row(&case["row_before"]);
        let user = &case["user_row"];
        let owner = user["id"].as_str().map(|id| vestibule::session::Record {
            email: user["email"].as_str().map(Into::into),
            name: user["name"].as_str().map(Into::into),
            ..owner(&row, id)
        });
        let stored = case["row_before"]["key"].as_str().unwrap().to_owned();
        self.put_stored(stored, row, owner);
        Box::pin(std::future::ready(()))
    }

    fn counted<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Counters> {
        Box::pin(std::future::ready(self.counters_of(id)))
    }
}

impl Kept for Tables {
    fn keep<'a>(&'a self, case: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let quote = self.quote();
            self.run(&format!("DELETE FROM {quote}apikey{quote}")).await;
            self.run(&format!("DELETE FROM {quote}user{quote}")).await;
            if case["user_row"].is_object() {
                self.insert("user", &case["user_row"]).await;
            }
            self.insert("apikey", &case["row_before"]).await;
        })
    }

    fn counted<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Counters> {
        Box::pin(async move { counters(&self.counters(id).await.expect("the row is left")) })
    }
}

impl Kept for Secondary {
    fn keep<'a>(&'a self, case: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.tables.run("DELETE FROM \"user\"").await;
            if case["user_row"].is_object() {
                self.tables.insert("user", &case["user_row"]).await;
            }
            self.put(&case["row_before"]);
        })
    }

    fn counted<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Counters> {
        Box::pin(std::future::ready(counters(&self.row(id))))
    }
}

fn settings(case: &Value) -> api_key::Settings {
    let config = &case["config"];
    let usual = api_key::Settings::default();
    let headers = match &config["apiKeyHeaders"] {
        Value::Null => usual.headers.clone(),
        Value::String(one) => vec![one.parse().unwrap()],
        Value::Array(several) => several
            .iter()
            .map(|one| one.as_str().unwrap().parse().unwrap())
            .collect(),
        other => panic!("headers {other}"),
    };
    api_key::Settings {
        headers,
        hashing: config["disableKeyHashing"] != json!(true),
        rate_limit: config["rateLimit"]["enabled"] != json!(false),
        key_letters_min: config["defaultKeyLength"]
            .as_u64()
            .map_or(usual.key_letters_min, |length| length.try_into().unwrap()),
        config_id: config["configId"]
            .as_str()
            .map_or(usual.config_id, str::to_owned),
        ..usual
    }
}

/// What the framework's answer would be told of this decision, as far as a gateway tells it.
fn compare(decision: &Decision, expect: &Value, row_is_gone: bool) -> Result<(), String> {
    let wrong = || Err(format!("{decision:?}, expected {expect}"));
    let status = expect["status"].as_u64().unwrap();
    let body = &expect["body"];
    let principal = match &decision.verdict {
        Verdict::Allow(permit) => permit.principal(),
        _ => None,
    };
    if status == 200 && body.is_null() {
        return match decision.reason.as_str() {
            "no_credential" => Ok(()),
            _ => wrong(),
        };
    }
    if status == 200 {
        let Some(entry) = principal else {
            return wrong();
        };
        let user = match body {
            // Another endpoint than get-session: the sessions of the key's owner.
            Value::Array(list) => list[0]["userId"].clone(),
            body => {
                let session = &body["session"];
                if session["id"].as_str() != Some(entry.session_id())
                    || body["user"]["email"].as_str() != entry.email()
                    || body["user"]["name"].as_str() != entry.name()
                    || body["user"]["emailVerified"].as_bool() != Some(entry.email_verified())
                {
                    return wrong();
                }
                body["user"]["id"].clone()
            }
        };
        let same = user.as_str() == Some(entry.user_id()) && entry.expose_token().is_empty();
        return if same { Ok(()) } else { wrong() };
    }
    let Some(rejection) = decision.rejection else {
        return wrong();
    };
    if row_is_gone {
        // The framework has deleted the row and knows nothing any more. We leave it, and still refuse.
        return Ok(());
    }
    let retry = body["details"]["tryAgainIn"].as_u64();
    let right = match (status, body["code"].as_str().unwrap()) {
        (403, "INVALID_API_KEY") => rejection == Rejection::Malformed,
        (401, "INVALID_API_KEY" | "INVALID_REFERENCE_ID_FROM_API_KEY") => {
            rejection == Rejection::Unknown { told_now: false }
        }
        (401, "KEY_DISABLED") => rejection == Rejection::Disabled,
        (401, "KEY_EXPIRED") => rejection == Rejection::Expired { told_now: false },
        (429, "USAGE_EXCEEDED") => matches!(rejection, Rejection::Limited { .. }),
        (429, "RATE_LIMITED") => {
            let retry_after = retry.map(Duration::from_millis);
            rejection == Rejection::Limited { retry_after }
        }
        other => return Err(format!("no case for {other:?}")),
    };
    if right { Ok(()) } else { wrong() }
}

async fn play(case: &Value, keys: Arc<dyn ApiKeys>, kept: &dyn Kept) -> Result<(), String> {
    kept.keep(case).await;
    let clock = Arc::new(ManualClock::at(UnixMs(0)));
    let mut setup = Setup::in_front_of(([127, 0, 0, 1], 9).into());
    if case["config"]["enableSessionForAPIKeys"] == json!(true) {
        setup.authenticator.enabled.insert("api_key".into());
    }
    setup.api_keys = Some((settings(case), keys));
    let gateway = setup.assemble(
        Arc::new(Store::default()) as Arc<dyn Source>,
        Arc::clone(&clock),
    );
    let id = case["row_before"]["id"].as_str().unwrap();
    let mut before = counters(&case["row_before"]);
    let mut gone = false;
    for (at, one) in case["requests"].as_array().unwrap().iter().enumerate() {
        clock.set(UnixMs(one["now_ms"].as_i64().unwrap()));
        let mut headers = HeaderMap::new();
        if let Some(value) = one["value"].as_str() {
            let name: HeaderName = one["header"].as_str().unwrap().parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let request = RequestView {
            method: &Method::GET,
            target: Target::parse(b"/data").unwrap(),
            host: "app.test",
            headers: &headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let decision = gateway.gate.judge(&request).await.unwrap();
        let told = |wrong: String| format!("request {at}: {wrong}");
        compare(&decision, &one["expect"], gone).map_err(told)?;
        gateway.api_keys.as_ref().expect("keys").write().await;
        gone |= one["row_after"].is_null();
        // Rows that the framework deletes are left as they were.
        let expected = match gone {
            true => before,
            false => counters(&one["row_after"]),
        };
        let found = kept.counted(id).await;
        if found != expected {
            return Err(told(format!(
                "the row counts {found:?}, expected {expected:?}"
            )));
        }
        before = expected;
    }
    Ok(())
}

async fn play_all(name: &'static str, keys: Arc<dyn ApiKeys>, kept: &dyn Kept) {
    let vectors = load("api-keys.json");
    let cases = vectors["cases"].as_array().unwrap();
    let mut tally = Tally::new(name, cases.len());
    for case in cases {
        let outcome = play(case, Arc::clone(&keys), kept).await;
        tally.case(case["id"].as_str().unwrap(), outcome);
    }
    tally.finish();
}

#[tokio::test]
async fn kept_in_memory() {
    let store = Arc::new(KeyStore::default());
    let keys = Arc::clone(&store) as Arc<dyn ApiKeys>;
    play_all("api-keys.json", keys, &*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_in_sqlite() {
    let tables = Tables::new(None).await;
    play_all("api-keys.json (sqlite)", open(&tables.url).await, &tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_in_postgres() {
    let tables = Tables::new(Some(Dialect::Postgres)).await;
    play_all("api-keys.json (postgres)", open(&tables.url).await, &tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_in_mariadb() {
    let tables = Tables::new(Some(Dialect::MySql)).await;
    play_all("api-keys.json (mariadb)", open(&tables.url).await, &tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_in_redis() {
    let secondary = Secondary::new().await;
    play_all("api-keys.json (redis)", secondary.open().await, &secondary).await;
}

/// What the plugin really put into Redis, in a database of real users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_the_plugin_keeps_them_in_redis() {
    let vectors = load("redis.json");
    let cases = vectors["cases"].as_array().unwrap();
    let with_keys = |step: &&Value| {
        let names = step["redis"].as_object();
        names.is_some_and(|names| names.keys().any(|name| name.contains("api-key:by-id:")))
    };
    let steps: Vec<&Value> = cases
        .iter()
        .flat_map(|case| case["steps"].as_array().into_iter().flatten())
        .filter(with_keys)
        .collect();
    let mut tally = Tally::new("redis.json api keys", steps.len());
    let key = steps
        .iter()
        .find_map(|step| step["response"]["body"]["key"].as_str())
        .expect("the plain key, from the answer to its creation");
    let secondary = Secondary::new().await;
    for step in steps {
        let mut app = secondary.redis.connect();
        let _: String = crate::support::redis::run(&mut app, &["FLUSHALL"]);
        let (mut row, mut ttl) = (Value::Null, 0);
        for (name, kept) in step["redis"].as_object().unwrap() {
            let text = kept["value"].as_str().unwrap();
            let _: String = crate::support::redis::run(&mut app, &["SET", name, text]);
            if let Some(seconds) = kept["ttl"].as_i64().filter(|seconds| *seconds > 0) {
                let expire = ["EXPIRE", name, &seconds.to_string()];
                let _: i64 = crate::support::redis::run(&mut app, &expire);
            }
            if name.contains("api-key:by-id:") {
                row = serde_json::from_str(text).unwrap();
                ttl = kept["ttl"].as_i64().unwrap();
            }
        }
        let user = json!({
            "id": row["referenceId"], "name": "Api", "email": "redis@example.com", "emailVerified": false,
            "createdAt": row["createdAt"], "updatedAt": row["createdAt"],
        });
        secondary.tables.run("DELETE FROM \"user\"").await;
        secondary.tables.insert("user", &user).await;
        let at = moment(&row["createdAt"])
            .unwrap()
            .plus(Duration::from_secs(1));
        let mut after = row.clone();
        let text = "2026-11-21T02:48:07.598Z";
        (
            after["requestCount"],
            after["lastRequest"],
            after["updatedAt"],
        ) = (1.into(), text.into(), text.into());
        let body = json!({
            "session": { "id": row["id"] },
            "user": { "id": row["referenceId"], "name": "Api", "email": "redis@example.com", "emailVerified": false },
        });
        let case = json!({
            "config": { "enableSessionForAPIKeys": true },
            "row_before": row, "user_row": null,
            "requests": [{
                "now_ms": at.0, "header": "x-api-key", "value": key,
                "expect": { "status": 200, "body": body }, "row_after": after,
            }],
        });
        let outcome = play(&case, secondary.open().await, &AsItIs(&secondary)).await;
        let id = row["id"].as_str().unwrap();
        let untouched = secondary.row(id) == after;
        let life: i64 = crate::support::redis::run(
            &mut app,
            &["TTL", &format!("better-auth:api-key:by-id:{id}")],
        );
        let outcome = outcome.and(match untouched && (ttl - 60..=ttl).contains(&life) {
            true => Ok(()),
            false => Err(format!("lives {life}, is {}", secondary.row(id))),
        });
        tally.case(step["step"].as_str().unwrap(), outcome);
    }
    tally.finish();
}

/// Everything is there already.
struct AsItIs<'s>(&'s Secondary);

impl Kept for AsItIs<'_> {
    fn keep<'a>(&'a self, _: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn counted<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Counters> {
        self.0.counted(id)
    }
}
