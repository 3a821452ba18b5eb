//! Questions to an old system.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use super::Refusal;
use crate::migration::dialogue::Ask;
use crate::secret::Secret;

/// A GET.
pub fn get(url: url::Url) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ask {
        method: Method::GET,
        url,
        headers,
        body: Secret::default(),
    }
}

/// A POST of JSON.
pub fn post(url: url::Url, body: &Value) -> Ask {
    let mut ask = get(url);
    ask.method = Method::POST;
    ask.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ask.body = Secret::new(body.to_string());
    ask
}

/// With a secret header. What cannot stand in a header is no token of anybody's.
pub fn with(mut ask: Ask, name: HeaderName, value: &str) -> Result<Ask, Refusal> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Refusal::Malformed)?;
    value.set_sensitive(true);
    ask.headers.insert(name, value);
    Ok(ask)
}

/// With a bearer token.
pub fn bearer(ask: Ask, token: &str) -> Result<Ask, Refusal> {
    with(ask, AUTHORIZATION, &format!("Bearer {token}"))
}

/// With a name and a password.
pub fn basic(ask: Ask, name: &str, password: &Secret) -> Result<Ask, Refusal> {
    let pair = STANDARD.encode(format!("{name}:{}", password.expose()));
    with(ask, AUTHORIZATION, &format!("Basic {pair}"))
}

/// An address below another: each step is one segment, escaped.
pub fn below(base: &url::Url, steps: &[&str]) -> url::Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(steps);
    }
    url
}
