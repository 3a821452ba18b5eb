//! What a request looks like when it leaves for the app.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{CONNECTION, COOKIE, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
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
    /// The same as text.
    pub text: AddressText,
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
            .get(X_FORWARDED_PROTO)
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
            text: AddressText::new(address),
            secure,
            through_trusted,
        }
    }
}

/// The longest is an IPv6 address with an IPv4 address at its end.
const ADDRESS_LETTERS: usize = 48;

/// An address as text, written once for all who show it.
#[derive(Clone, Copy, Debug)]
pub struct AddressText {
    letters: [u8; ADDRESS_LETTERS],
    length: usize,
}

impl AddressText {
    /// Writes it.
    pub fn new(address: IpAddr) -> Self {
        let mut letters = [0; ADDRESS_LETTERS];
        let mut rest = &mut letters[..];
        let written = match address {
            // The formatter pads and aligns, and takes ten times as long.
            IpAddr::V4(address) => write_dotted(rest, address.octets()),
            IpAddr::V6(address) => {
                // Every address fits.
                let _ = write!(rest, "{address}");
                let free = rest.len();
                ADDRESS_LETTERS - free
            }
        };
        Self {
            letters,
            length: written,
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let letters = self.letters.get(..self.length).unwrap_or_default();
        std::str::from_utf8(letters).unwrap_or_default()
    }
}

/// Four numbers with dots between. Says how many letters that are.
fn write_dotted(into: &mut [u8], octets: [u8; 4]) -> usize {
    let mut at = 0;
    let mut put = |letter: u8| {
        if let Some(place) = into.get_mut(at) {
            *place = letter;
            at += 1;
        }
    };
    for (nth, octet) in octets.into_iter().enumerate() {
        if nth > 0 {
            put(b'.');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
    }
    at
}

/// Whether a line of `Connection` names nothing but what belongs there.
pub fn connection_is_honest(line: &HeaderValue) -> bool {
    line.to_str().is_ok_and(|line| {
        line.split(',').all(|option| {
            let option = option.trim();
            option.is_empty()
                || CONNECTION_OPTIONS
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(option))
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

/// How many headers are written at most: four about the client, two about the request, eleven about the caller.
const WRITTEN_MAX: usize = 17;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The name of a request, on its way to the app and on its answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Rewrites the outgoing copy of a request: everything owned goes, then ours is set. Running it twice changes nothing, so
/// retries are safe.
///
/// Names leave in lower case, as they do in HTTP/2 and from most proxies: to keep the spelling of each costs two allocations a header,
/// and nobody may read anything from it (RFC 9110, section 5.1).
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
    let (mut parts, kept) = take_apart(outgoing);
    let headers = &mut parts.headers;
    let data = parts.uri.path().contains("/_next/data/");
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| identity.owned().removes(name.as_str(), data))
        .cloned()
        .collect();
    for name in &removed {
        headers.remove(name);
    }
    join_cookies(headers)?;

    headers.try_reserve(WRITTEN_MAX).map_err(unwritable)?;
    if trace.new_parent.is_some() {
        // A state without its parent means nothing.
        headers.remove(TRACESTATE);
    }
    let host = headers.get(HOST).cloned();
    let told = Told {
        host: host.as_ref(),
        client,
        trace,
    };
    write_each(told, |name, value| {
        set(headers, name.clone(), value.clone())
    })?;
    if let Some(entry) = principal {
        for (name, value) in identity.headers(entry) {
            set(headers, name, value)?;
        }
        if let Some((name, value)) = assertion(identity, entry, now)? {
            set(headers, name, value)?;
        }
    }
    put_together(outgoing, parts, kept)
}

/// What the app is told of a request besides who is calling.
struct Told<'a> {
    host: Option<&'a HeaderValue>,
    client: Client,
    trace: &'a Trace,
}

/// Every header that we write on a request, but for those about the caller.
fn write_each(
    told: Told<'_>,
    mut write: impl FnMut(&HeaderName, &HeaderValue) -> pingora::Result<()>,
) -> pingora::Result<()> {
    if let Some(host) = told.host {
        write(&X_FORWARDED_HOST, host)?;
    }
    let address = HeaderValue::from_str(told.client.text.as_str()).map_err(unwritable)?;
    write(&X_FORWARDED_FOR, &address)?;
    let proto = HeaderValue::from_static(if told.client.secure { "https" } else { "http" });
    write(&X_FORWARDED_PROTO, &proto)?;
    write(&X_REQUEST_ID, &told.trace.request_id.0)?;
    if let Some(parent) = &told.trace.new_parent {
        write(&TRACEPARENT, parent)?;
    }
    Ok(())
}

/// The caller's assertion.
fn assertion(
    identity: &Identity,
    entry: &Entry,
    now: UnixMs,
) -> pingora::Result<Option<(HeaderName, HeaderValue)>> {
    identity.assertion(entry, now).map_err(|error| {
        pingora::Error::because(
            pingora::ErrorType::InternalError,
            "identity assertion",
            error,
        )
    })
}

/// How long a head mostly is at most: a browser's headers, a cookie and an assertion.
const HEAD_BYTES: usize = 2048;

/// The head of a request without a body as it goes to the app: what [`stamp`] makes of it, written at once. `Connection` is between
/// neighbours, and ours to the app is kept without saying so.
///
/// # Errors
/// When a header cannot be written: then the request must not go out.
pub fn to_wire(
    head: &RequestHeader,
    identity: &Identity,
    principal: Option<&Entry>,
    client: Client,
    now: UnixMs,
    trace: &Trace,
) -> pingora::Result<Vec<u8>> {
    let mut wire = Vec::with_capacity(HEAD_BYTES);
    wire.extend_from_slice(head.method.as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(head.raw_path());
    wire.extend_from_slice(b" HTTP/1.1\r\n");
    let headers = &head.headers;
    // HTTP/2 mostly names the host in the target alone.
    let authority = match head.uri.authority() {
        Some(authority) if !headers.contains_key(HOST) => {
            Some(HeaderValue::from_str(authority.as_str()).map_err(unwritable)?)
        }
        _ => None,
    };
    if let Some(host) = &authority {
        put_line(&mut wire, &HOST, host);
    }
    let data = head.uri.path().contains("/_next/data/");
    let mut cookies = 0;
    for (name, value) in headers {
        let replaced = *name == CONNECTION
            || *name == X_REQUEST_ID
            || (trace.new_parent.is_some() && (*name == TRACEPARENT || *name == TRACESTATE));
        cookies += usize::from(*name == COOKIE);
        if replaced || *name == COOKIE || identity.owned().removes(name.as_str(), data) {
            continue;
        }
        put_line(&mut wire, name, value);
    }
    if cookies > 0 {
        // In one line, however many came.
        wire.extend_from_slice(b"cookie: ");
        for (nth, value) in headers.get_all(COOKIE).iter().enumerate() {
            if nth > 0 {
                wire.extend_from_slice(b"; ");
            }
            wire.extend_from_slice(value.as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
    }
    let told = Told {
        host: authority.as_ref().or_else(|| headers.get(HOST)),
        client,
        trace,
    };
    write_each(told, |name, value| {
        put_line(&mut wire, name, value);
        Ok(())
    })?;
    if let Some(entry) = principal {
        identity.write(entry, &mut wire);
        if let Some((name, value)) = assertion(identity, entry, now)? {
            put_line(&mut wire, &name, &value);
        }
    }
    wire.extend_from_slice(b"\r\n");
    Ok(wire)
}

fn put_line(wire: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    wire.extend_from_slice(name.as_str().as_bytes());
    wire.extend_from_slice(b": ");
    wire.extend_from_slice(value.as_bytes());
    wire.extend_from_slice(b"\r\n");
}

/// What the parts of a request do not say.
struct Kept {
    ends_with_head: Option<bool>,
    /// The target as it came, where the URI does not give it back byte for byte.
    target: Option<Vec<u8>>,
}

/// The parts of a request, which can be changed without keeping the spelling of each name. Leaves nothing worth sending behind.
fn take_apart(outgoing: &mut RequestHeader) -> (Parts, Kept) {
    let in_uri = outgoing.uri.path_and_query().map(PathAndQuery::as_str);
    let raw = outgoing.raw_path();
    let kept = Kept {
        ends_with_head: outgoing.send_end_stream(),
        target: (in_uri.map(str::as_bytes) != Some(raw)).then(|| raw.to_vec()),
    };
    let (blank, ()) = http::Request::new(()).into_parts();
    let taken = std::mem::replace(outgoing, RequestHeader::from(blank));
    (taken.into(), kept)
}

fn put_together(outgoing: &mut RequestHeader, parts: Parts, kept: Kept) -> pingora::Result<()> {
    *outgoing = RequestHeader::from(parts);
    if let Some(ends) = kept.ends_with_head {
        outgoing.set_send_end_stream(ends);
    }
    match kept.target {
        Some(target) => outgoing.set_raw_path(&target),
        None => Ok(()),
    }
}

/// Sets a header, whatever was there.
fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> pingora::Result<()> {
    headers.try_insert(name, value).map_err(unwritable)?;
    Ok(())
}

fn unwritable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Box<pingora::Error> {
    pingora::Error::because(
        pingora::ErrorType::InvalidHTTPHeader,
        "writing a header",
        error,
    )
}

/// HTTP/2 clients may split `Cookie` over several lines; many app servers read only the first.
fn join_cookies(headers: &mut HeaderMap) -> pingora::Result<()> {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let mut joined = Vec::new();
    for line in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    let value = HeaderValue::from_bytes(&joined).map_err(unwritable)?;
    set(headers, COOKIE, value)
}

/// What ties one request together across logs and services.
#[derive(Debug)]
pub struct Trace {
    /// `X-Request-Id`: the caller's, when it is well formed, else ours.
    pub request_id: RequestId,
    /// A `traceparent` of ours, when the caller sent no valid one (W3C Trace Context).
    pub new_parent: Option<HeaderValue>,
}

/// The name of one request: short, and of visible ASCII only. Read as text, sent as a header, copied for nothing.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// As a header.
    pub fn to_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self(HeaderValue::from_static(""))
    }
}

/// A text of ours that stands in its place.
///
/// # Panics
/// When it is not visible ASCII: a defect.
impl From<&'static str> for RequestId {
    fn from(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }
}

impl std::ops::Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        // Every way to make one lets nothing else in.
        self.0.to_str().unwrap_or_default()
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// Longest request id taken over from outside.
const REQUEST_ID_MAX: usize = 64;

/// Letters of a request id of ours.
const REQUEST_ID_LETTERS: usize = 32;

/// Letters of a `traceparent`.
const PARENT_LETTERS: usize = 55;

impl Trace {
    /// Takes over what the request brings, or makes it from 192 fresh random bits.
    pub fn read(headers: &HeaderMap, random: impl Fn() -> u64) -> Self {
        let said = headers.get(X_REQUEST_ID).filter(|id| {
            (1..=REQUEST_ID_MAX).contains(&id.len())
                && id
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_traceparent(text));
        let (high, low) = (random(), random() | 1);
        let id = [hex(high), hex(low)];
        // Both in one piece of memory.
        let mut text = BytesMut::with_capacity(REQUEST_ID_LETTERS + PARENT_LETTERS);
        text.extend_from_slice(id.as_flattened());
        if parent.is_none() {
            // Never all zeroes: `low` and the span are odd. Not sampled: that is for whoever traces to decide.
            text.extend_from_slice(b"00-");
            text.extend_from_slice(id.as_flattened());
            text.extend_from_slice(b"-");
            text.extend_from_slice(&hex(random() | 1));
            text.extend_from_slice(b"-00");
        }
        let mut text = text.freeze();
        let made = text.split_to(REQUEST_ID_LETTERS);
        // Hexadecimal digits and dashes always make a header.
        let value = |text| HeaderValue::from_maybe_shared(text).ok();
        Self {
            request_id: said
                .cloned()
                .or_else(|| value(made))
                .map_or_else(RequestId::default, RequestId),
            new_parent: (!text.is_empty()).then(|| value(text)).flatten(),
        }
    }
}

/// Sixteen hexadecimal digits.
fn hex(number: u64) -> [u8; 16] {
    let digit = |half: u8| {
        if half < 10 {
            b'0' + half
        } else {
            b'a' - 10 + half
        }
    };
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;
    use crate::secret::Secret;
    use std::time::Duration;

    fn stamped(
        target: &[u8],
        headers: &[(&'static str, &'static str)],
        version: Version,
    ) -> RequestHeader {
        let settings = identity::Settings {
            preset: "vestibule",
            assertion: true,
            issuer: "i".into(),
            audience: "a".into(),
            lifetime: Duration::from_secs(60),
            key: None,
        };
        let identity = Identity::new(&settings, &Secret::new("material"), &[]).unwrap();
        let mut head = RequestHeader::build("POST", target, None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head.set_version(version);
        head.set_send_end_stream(false);
        let client = Client {
            address: IpAddr::from([203, 0, 113, 7]),
            text: AddressText::new(IpAddr::from([203, 0, 113, 7])),
            secure: true,
            through_trusted: false,
        };
        let trace = Trace::read(&head.headers, || 0x0123_4567_89ab_cdef);
        // Twice, as when a request is tried again.
        for _ in 0..2 {
            stamp(&mut head, &identity, None, client, UnixMs(0), &trace).unwrap();
        }
        head
    }

    #[test]
    fn a_target_leaves_byte_for_byte_as_it_came_whatever_it_is() {
        let targets: [&[u8]; 5] = [
            b"/page?a=%2F&b",
            b"*",
            b"http://app.test/page?q",
            b"/caf\xc3\xa9",
            b"/caf\xe9/page",
        ];
        for target in targets {
            let before = RequestHeader::build("POST", target, None).unwrap();
            let after = stamped(target, &[], Version::HTTP_11);
            assert_eq!(after.raw_path(), before.raw_path(), "{target:?}");
            assert_eq!(after.raw_path_is_utf8(), before.raw_path_is_utf8());
            assert_eq!(
                (&after.method, after.version),
                (&before.method, before.version)
            );
        }
        let over_http2 = stamped(b"/page", &[], Version::HTTP_2);
        assert_eq!(over_http2.send_end_stream(), Some(false));
    }

    #[test]
    fn what_is_owned_goes_and_everything_else_stays_in_its_order() {
        let head = stamped(
            b"/",
            &[
                ("Host", "app.test"),
                ("X-Auth-User-Id", "mallory"),
                ("x_auth_user_id", "mallory"),
                ("X-Forwarded-For", "198.51.100.1"),
                ("X-Custom", "one"),
                ("x-custom", "two"),
                ("Cookie", "a=1"),
                ("cookie", "b=2"),
                ("tracestate", "rojo=1"),
            ],
            Version::HTTP_11,
        );
        let all = |name| {
            let values = head.headers.get_all(name).iter();
            values
                .map(|value| value.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("x-custom"), ["one", "two"]);
        assert_eq!(all("cookie"), ["a=1; b=2"]);
        assert_eq!(all("x-forwarded-for"), ["203.0.113.7"]);
        assert_eq!(all("x-forwarded-host"), ["app.test"]);
        assert_eq!(all("x-forwarded-proto"), ["https"]);
        for gone in ["x-auth-user-id", "x_auth_user_id", "tracestate"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        let wire = String::from_utf8(wire).unwrap();
        assert!(wire.contains("Host: app.test\r\n"), "{wire}");
        assert!(!wire.contains("mallory"), "{wire}");
    }

    #[test]
    fn ids_are_made_where_none_came_and_taken_over_where_one_is_well_formed() {
        let made = Trace::read(&HeaderMap::new(), || 0x0123_4567_89ab_cdef);
        assert_eq!(&*made.request_id, "0123456789abcdef0123456789abcdef");
        let parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
        assert_eq!(made.new_parent.as_ref().unwrap(), parent);
        assert!(is_traceparent(parent));
        let read = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Trace::read(&headers, || 0)
        };
        assert_eq!(&*read("x-request-id", "abc-1_Z").request_id, "abc-1_Z");
        for refused in ["a b", "", "a.b"] {
            let id = read("x-request-id", refused).request_id;
            // Never all zeroes, whatever was drawn.
            assert_eq!(&*id, "00000000000000000000000000000001");
        }
        assert_eq!(read("traceparent", parent).new_parent, None);
        assert!(read("traceparent", "00-0-0-00").new_parent.is_some());
    }

    #[test]
    fn every_address_is_written_as_the_standard_library_does() {
        let mut seen: Vec<IpAddr> = [
            "::",
            "2001:db8:1111:2222:3333:4444:5555:6666",
            "::ffff:255.255.255.255",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        seen.extend((0..=255).map(|octet| IpAddr::from([octet, 255 - octet, octet, 10])));
        for address in seen {
            let text = AddressText::new(address);
            assert_eq!(text.as_str(), address.to_string());
            assert!(HeaderValue::from_str(text.as_str()).is_ok());
        }
    }
}
