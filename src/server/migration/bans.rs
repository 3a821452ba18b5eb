//! Who is limited, for the operator: a list, and a way out of it. On the admin listener.

use std::net::IpAddr;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::limits::{Limits, Whom};
use crate::migration::limits::{Down, Limited};
use crate::server::admin::{answer, plain};
use crate::server::proxy::Gateway;

/// One line of the list.
#[derive(Debug, Serialize)]
struct Entry {
    /// `address`, `account`, `pair` or `device`: whose tries are spent.
    scope: &'static str,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The account, under a name that only this gateway can make.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// What `lift` takes.
    key: String,
    /// Until there is a try again, in milliseconds.
    wait_ms: u64,
}

impl Entry {
    fn of(limited: &Limited) -> Self {
        let key = &limited.key;
        Self {
            scope: key.scope().map_or("", |scope| scope.as_str()),
            address: key.address().map(str::to_owned),
            account: key.account().map(str::to_owned),
            key: key.as_str().to_owned(),
            wait_ms: u64::try_from(limited.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What `POST /bans/lift` takes: exactly one of these. Holds what somebody types to say who they are: never printed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lift {
    /// An address.
    address: Option<IpAddr>,
    /// What an account's owner types: an e-mail address, a username, a phone number.
    account: Option<String>,
    /// A key of the list, or the account in it.
    key: Option<String>,
    /// Everybody.
    all: bool,
}

/// `GET /bans`.
pub(in crate::server) async fn list(gateway: &Gateway) -> Response<Vec<u8>> {
    let Some(limits) = limits(gateway) else {
        return none();
    };
    match limits.limited().await {
        Ok(all) => {
            let entries: Vec<Entry> = all.iter().map(Entry::of).collect();
            json(&serde_json::json!({ "limited": entries }))
        }
        Err(down) => unreachable(&down),
    }
}

/// `POST /bans/lift`.
pub(in crate::server) async fn lift(gateway: &Gateway, body: &[u8]) -> Response<Vec<u8>> {
    let Some(limits) = limits(gateway) else {
        return none();
    };
    let asked: Lift = serde_json::from_slice(body).unwrap_or_default();
    let whom = match (asked.address, asked.account, asked.key, asked.all) {
        (Some(address), None, None, false) => Whom::Address(address),
        (None, Some(account), None, false) => Whom::Account(account),
        (None, None, Some(key), false) => Whom::Key(key),
        (None, None, None, true) => Whom::Everybody,
        _ => {
            let help = "send one of {\"address\": \"…\"}, {\"account\": \"…\"}, {\"key\": \"…\"} or {\"all\": true}\n";
            return plain(StatusCode::BAD_REQUEST, help);
        }
    };
    match limits.lift(&whom).await {
        Ok(lifted) => json(&serde_json::json!({ "lifted": lifted })),
        Err(down) => unreachable(&down),
    }
}

fn limits(gateway: &Gateway) -> Option<&Limits> {
    let migration = gateway.migration.as_ref()?;
    Some(&migration.common.limits)
}

fn none() -> Response<Vec<u8>> {
    plain(
        StatusCode::NOT_FOUND,
        "nobody is limited: `[migration]` is not configured\n",
    )
}

fn unreachable(down: &Down) -> Response<Vec<u8>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{down}\n"))
}

fn json(value: &serde_json::Value) -> Response<Vec<u8>> {
    let body = value.to_string().into_bytes();
    answer(StatusCode::OK, "application/json", body)
}
