//! What a request looks like when it leaves for the app.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{CONNECTION, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;
/// A request on its way to the app, for those outside this folder.
pub use pingora::http::RequestHeader as Outgoing;

use super::settings::Settings;
use crate::client_ip;
use crate::identity::Identity;
use crate::route::host_is;
use crate::session::cache::Entry;
use crate::target::Target;
use crate::time::UnixMs;

/// What `Connection` may name: everything else a client nominates would be deleted on the way to the app after we have seen it.
const CONNECTION_OPTIONS: &[&str] = &["close", "keep-alive", "upgrade", "te", "http2-settings"];

/// Who is on the other end, as far as we believe it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The one address the app is told.
    pub address: IpAddr,
    /// Whether the browser came over TLS.
    pub secure: bool,
    /// Whether the peer is a proxy of ours, whose word counts.
    pub through_trusted: bool,
}

impl Client {
    /// Reads it off the connection and, from trusted peers only, off the headers.
    pub fn read(
        settings: &Settings,
        believed: &client_ip::Settings,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Self {
        let peer = peer.to_canonical();
        let through_trusted = believed.trusts(peer);
        let address = if through_trusted {
            believed.read(headers).unwrap_or(peer)
        } else {
            peer
        };
        let told = headers
            .get("x-forwarded-proto")
            .and_then(|value| value.to_str().ok())
            .filter(|_| through_trusted);
        let secure = settings.tls.is_some()
            || match told {
                Some("https") => true,
                Some("http") => false,
                _ => settings.public_url.starts_with("https://"),
            };
        Self {
            address,
            secure,
            through_trusted,
        }
    }
}

/// Whether `Connection` names nothing but what belongs there.
pub fn connection_is_honest(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().all(|line| {
        line.to_str().is_ok_and(|line| {
            line.split(',').all(|option| {
                let option = option.trim();
                option.is_empty()
                    || CONNECTION_OPTIONS
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(option))
            })
        })
    })
}

/// Whether a request with `Upgrade` asks the connection for it. Otherwise the header means nothing, and the request is an ordinary one.
///
/// Source: RFC 9110, section 7.8: a sender must name it in `Connection`, and it is to be ignored in HTTP/1.0.
pub fn asks_to_upgrade(request: &RequestHeader) -> bool {
    let mut lines = request.headers.get_all(CONNECTION).iter();
    request.version == Version::HTTP_11
        && lines.any(|line| {
            line.to_str().is_ok_and(|line| {
                let mut options = line.split(',').map(str::trim);
                options.any(|option| option.eq_ignore_ascii_case("upgrade"))
            })
        })
}

/// Rewrites the outgoing copy of a request: everything owned goes, then ours is set. Running it twice changes nothing, so
/// retries are safe.
///
/// # Errors
/// When a header cannot be written: then the request must not go out.
pub fn stamp(
    outgoing: &mut RequestHeader,
    identity: &Identity,
    principal: Option<&Entry>,
    client: Client,
    now: UnixMs,
    trace: &Trace,
) -> pingora::Result<()> {
    let data = outgoing.uri.path().contains("/_next/data/");
    let removed: Vec<HeaderName> = outgoing
        .headers
        .keys()
        .filter(|name| identity.owned().removes(name.as_str(), data))
        .cloned()
        .collect();
    for name in &removed {
        outgoing.remove_header(name);
    }
    join_cookies(outgoing)?;

    if let Some(host) = outgoing.headers.get(HOST).cloned() {
        outgoing.insert_header("X-Forwarded-Host", host)?;
    }
    outgoing.insert_header("X-Forwarded-For", client.address.to_string())?;
    outgoing.insert_header(
        "X-Forwarded-Proto",
        HeaderValue::from_static(if client.secure { "https" } else { "http" }),
    )?;
    outgoing.insert_header("X-Request-Id", trace.request_id.as_str())?;
    if let Some(parent) = &trace.new_parent {
        outgoing.insert_header("traceparent", parent.as_str())?;
        // A state without its parent means nothing.
        outgoing.remove_header("tracestate");
    }

    if let Some(entry) = principal {
        for (name, value) in identity.headers(entry) {
            outgoing.insert_header(name.clone(), value.clone())?;
        }
        match identity.assertion(entry, now) {
            Ok(Some((name, value))) => outgoing.insert_header(name, value)?,
            Ok(None) => {}
            Err(error) => {
                return Err(pingora::Error::because(
                    pingora::ErrorType::InternalError,
                    "identity assertion",
                    error,
                ));
            }
        }
    }
    Ok(())
}

/// HTTP/2 clients may split `Cookie` over several lines; many app servers read only the first.
fn join_cookies(outgoing: &mut RequestHeader) -> pingora::Result<()> {
    if outgoing.headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let mut joined = Vec::new();
    for line in outgoing.headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    let value = HeaderValue::from_bytes(&joined).map_err(|error| {
        pingora::Error::because(
            pingora::ErrorType::InvalidHTTPHeader,
            "joining cookies",
            error,
        )
    })?;
    outgoing.remove_header(&COOKIE);
    outgoing.insert_header(COOKIE, value)?;
    Ok(())
}

/// What ties one request together across logs and services.
#[derive(Debug)]
pub struct Trace {
    /// `X-Request-Id`: the caller's, when it is well formed, else ours.
    pub request_id: String,
    /// A `traceparent` of ours, when the caller sent no valid one (W3C Trace Context).
    pub new_parent: Option<String>,
}

/// Longest request id taken over from outside.
const REQUEST_ID_MAX: usize = 64;

impl Trace {
    /// Takes over what the request brings, or makes it from 192 fresh random bits.
    pub fn read(headers: &HeaderMap, random: impl Fn() -> u64) -> Self {
        let said = headers
            .get("x-request-id")
            .and_then(|value| value.to_str().ok())
            .filter(|id| {
                (1..=REQUEST_ID_MAX).contains(&id.len())
                    && id
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            });
        let parent = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_traceparent(text));
        let (high, low) = (random(), random() | 1);
        let new_parent = match parent {
            Some(_) => None,
            // Never all zeroes: `low` and the span are odd. Not sampled: that is for whoever traces to decide.
            None => Some(format!("00-{high:016x}{low:016x}-{:016x}-00", random() | 1)),
        };
        Self {
            request_id: said.map_or_else(|| format!("{high:016x}{low:016x}"), str::to_owned),
            new_parent,
        }
    }
}

/// Version 00 of the header: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeroes.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |letters: usize| {
        parts.next().filter(|part| {
            part.len() == letters
                && part
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    };
    let not_zero = |part: Option<&str>| part.is_some_and(|part| part.bytes().any(|b| b != b'0'));
    hex(2) == Some("00")
        && not_zero(hex(32))
        && not_zero(hex(16))
        && hex(2).is_some()
        && parts.next().is_none()
}

/// The host a request asks for, lower-case, without port and without the dot of a full domain name: one host, one spelling, or
/// a route narrowed to a host would be missed. `None` when it is missing or malformed.
pub fn host_of(request: &RequestHeader) -> Option<Cow<'_, str>> {
    let said = match request.headers.get(HOST) {
        Some(value) => value.to_str().ok()?,
        None if request.version == Version::HTTP_2 => request.uri.authority()?.as_str(),
        None => return None,
    };
    host_in(said)
}

/// The same of the text that names it.
pub(super) fn host_in(said: &str) -> Option<Cow<'_, str>> {
    let host = match said.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            host
        }
        _ => said,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':')
    };
    (!host.is_empty() && host.bytes().all(plain)).then(|| {
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            host.to_ascii_lowercase().into()
        } else {
            host.into()
        }
    })
}

/// Whether the gateway answers for this host.
pub fn answers_for(hosts: &[String], host: &str) -> bool {
    hosts.iter().any(|served| host_is(served, host))
}

/// Whether a target carries parameters by which Next.js addresses its own routes (`nxtP…`, `nxtI…`): from outside they would
/// override what the path says (CVE-2026-44574).
pub fn has_internal_query(target: &Target<'_>) -> bool {
    target.query().is_some_and(|query| {
        query.split('&').any(|pair| {
            let key = pair.split('=').next().unwrap_or_default();
            // A broken escape further on does not hide how the key begins: query parsers keep it as text.
            url::form_urlencoded::parse(key.as_bytes())
                .any(|(key, _)| key.starts_with("nxtP") || key.starts_with("nxtI"))
        })
    })
}
