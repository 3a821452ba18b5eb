//! What the live checks of all providers are written with: conversations as a chain of questions, bodies that leave no copy of a
//! password behind, and careful readings of answers.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::{Attempt, Checked, FactorChecked, Fields, Key, KeyKind, Mirrored};
use crate::migration::dialogue::{Answer, Ask, Dialogue, Given, Moment, Need, Step, Unreachable};
use crate::secret::Secret;
use crate::time::UnixMs;

/// Longest token whose payload is read, in bytes: tokens come in headers and cookies too, where 8 KiB is already much.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Longest time a `Retry-After` is believed. A longer one is a mistake of somebody's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Stands in the audit when a password was right and the session it made there could not be ended.
pub(super) const SESSION_LEFT: &str = "session_not_ended";

// ------------------------------------------------------------------------------------------------------------ conversations

/// What to do with what was answered.
type Then<T> = Box<dyn FnOnce(Result<Answer, Unreachable>, Moment<'_>) -> Next<T> + Send>;

/// What to do at first.
type Begin<T> = Box<dyn FnOnce(Moment<'_>) -> Next<T> + Send>;

/// What comes next in a conversation of requests and answers.
pub(super) enum Next<T> {
    /// This is asked, and the answer told to what comes after.
    Ask(Box<Ask>, Then<T>),
    /// That is it.
    Done(T),
}

/// Asks, and goes on with the answer.
pub(super) fn ask<T>(
    ask: Ask,
    then: impl FnOnce(Result<Answer, Unreachable>, Moment<'_>) -> Next<T> + Send + 'static,
) -> Next<T> {
    Next::Ask(Box::new(ask), Box::new(then))
}

/// A conversation of requests and answers.
pub(super) enum Talk<T> {
    /// Nothing was asked.
    Begin(Begin<T>),
    /// Something was.
    Then(Then<T>),
    /// It is over.
    Over,
}

/// A conversation that begins with a request, which needs neither time nor randomness.
pub(super) fn talk<T: Default + Send + 'static>(
    first: Ask,
    then: impl FnOnce(Result<Answer, Unreachable>, Moment<'_>) -> Next<T> + Send + 'static,
) -> Box<dyn Dialogue<T>> {
    talk_at(move |_| ask(first, then))
}

/// A conversation whose first request needs them.
pub(super) fn talk_at<T: Default + Send + 'static>(
    begin: impl FnOnce(Moment<'_>) -> Next<T> + Send + 'static,
) -> Box<dyn Dialogue<T>> {
    Box::new(Talk::Begin(Box::new(begin)))
}

impl<T: Default + Send> Dialogue<T> for Talk<T> {
    fn step(&mut self, given: Given, moment: Moment<'_>) -> Step<T> {
        let next = match std::mem::replace(self, Self::Over) {
            Self::Begin(begin) => begin(moment),
            Self::Then(then) => match given {
                Given::Answer(answer) => then(answer, moment),
                // Only requests are asked for, so only an answer can be meant.
                _ => then(Err(Unreachable::Garbage), moment),
            },
            Self::Over => Next::Done(T::default()),
        };
        match next {
            Next::Ask(ask, then) => {
                *self = Self::Then(then);
                Step::Need(Need::Answer(ask))
            }
            Next::Done(done) => Step::Done(done),
        }
    }
}

/// Ends the session a right password made there, and then says what was found out: that a session is left behind changes nothing but
/// the word for the operator. `ended`: whether an answer of this status means that the session is gone.
pub(super) fn ending(checked: Checked, end: Ask, ended: fn(u16) -> bool) -> Next<Checked> {
    ask(end, move |answer, _| {
        Next::Done(match answer {
            Ok(answer) if ended(answer.status) => checked,
            _ => session_left(checked),
        })
    })
}

/// The same finding, with the word that a session is left behind there.
pub(super) fn session_left(checked: Checked) -> Checked {
    match checked {
        Checked::Right(profile) => Checked::RightBut(profile, SESSION_LEFT),
        other => other,
    }
}

/// Statuses of success.
pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Whether a session is gone after an answer of this status: it was ended, or nobody knows it.
pub(super) fn is_gone(status: u16) -> bool {
    is_success(status) || matches!(status, 401 | 404)
}

// ---------------------------------------------------------------------------------------------------------------- questions

/// A value of a body in JSON, borrowed: nothing of it is copied before it is written.
#[derive(Clone, Copy)]
pub(super) enum Json<'a> {
    /// A text.
    Text(&'a str),
    /// A flag.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A list.
    List(&'a [Json<'a>]),
    /// An object.
    Object(&'a [(&'a str, Json<'a>)]),
    /// Whatever was received.
    Value(&'a Value),
}

impl Json<'_> {
    /// How long it is at most when it is written: a letter takes six at most (`\u001f`).
    fn bytes_max(&self) -> usize {
        match self {
            Self::Text(text) => 6 * text.len() + 2,
            Self::Flag(_) => 5,
            Self::Number(_) => 20,
            Self::List(list) => 2 + list.iter().map(|each| 1 + each.bytes_max()).sum::<usize>(),
            Self::Object(pairs) => pairs
                .iter()
                .map(|(key, value)| 6 * key.len() + 4 + value.bytes_max())
                .fold(2, usize::saturating_add),
            Self::Value(value) => value.to_string().len(),
        }
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                for each in *list {
                    seq.serialize_element(each)?;
                }
                seq.end()
            }
            Self::Object(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in *pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

/// An object in JSON. Written into room enough at once: a buffer that grows would leave parts of a password in freed memory.
pub(super) fn json(pairs: &[(&str, Json<'_>)]) -> Secret {
    let object = Json::Object(pairs);
    let mut bytes = Zeroizing::new(Vec::with_capacity(object.bytes_max()));
    if serde_json::to_writer(&mut *bytes, &object).is_err() {
        bytes.clear();
    }
    Secret::new(String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default())
}

/// A form, `application/x-www-form-urlencoded`. Written into room enough at once, for the same reason.
pub(super) fn form(pairs: &[(&str, &str)]) -> Secret {
    let room = pairs
        .iter()
        .map(|(key, value)| 3 * (key.len() + value.len()) + 2)
        .sum();
    let mut text = String::with_capacity(room);
    for (key, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(url::form_urlencoded::byte_serialize(key.as_bytes()));
        text.push('=');
        text.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
    }
    Secret::new(text)
}

/// A request without a body.
pub(super) fn request(method: Method, url: Url) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ask {
        method,
        url,
        headers,
        body: Secret::default(),
    }
}

/// `GET`.
pub(super) fn get(url: Url) -> Ask {
    request(Method::GET, url)
}

/// `POST` with an object in JSON.
pub(super) fn post_json(url: Url, pairs: &[(&str, Json<'_>)]) -> Ask {
    with_json(Method::POST, url, pairs)
}

/// Any method with an object in JSON.
pub(super) fn with_json(method: Method, url: Url, pairs: &[(&str, Json<'_>)]) -> Ask {
    let mut ask = request(method, url);
    let json_type = HeaderValue::from_static("application/json");
    ask.headers.insert(CONTENT_TYPE, json_type);
    ask.body = json(pairs);
    ask
}

/// `POST` with a form.
pub(super) fn post_form(url: Url, pairs: &[(&str, &str)]) -> Ask {
    let mut ask = request(Method::POST, url);
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    ask.headers.insert(CONTENT_TYPE, form_type);
    ask.body = form(pairs);
    ask
}

impl Ask {
    /// With a header that is no secret. What cannot stand in a header is left out: the old system refuses, and says why.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// With a header that holds a secret.
    pub(super) fn secret_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// With `Authorization: Bearer`.
    pub(super) fn bearer(self, token: &str) -> Self {
        let value = Zeroizing::new(format!("Bearer {token}"));
        self.secret_header("authorization", &value)
    }

    /// With `Authorization: Basic`.
    pub(super) fn basic(self, name: &str, password: &str) -> Self {
        let pair = Zeroizing::new(format!("{name}:{password}"));
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        self.secret_header("authorization", &value)
    }
}

/// An address below another: each part becomes one segment, whatever letters it has.
pub(super) fn below(base: &Url, parts: &[&str]) -> Url {
    let mut url = base.clone();
    // An address without a host has no segments; `Fields::url` lets none through.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        for part in parts {
            // `push` skips these two, and `/users/..` would be another question.
            match *part {
                "." => segments.push("%2E"),
                ".." => segments.push("%2E%2E"),
                part => segments.push(part),
            };
        }
    }
    url
}

/// An address with one more parameter.
pub(super) fn with_query(mut url: Url, pairs: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

// ------------------------------------------------------------------------------------------------------------------ answers

/// What an answer is in JSON; a server's own trouble and what nobody can read are told apart.
pub(super) fn read(answer: Result<Answer, Unreachable>) -> Result<(Answer, Value), Unreachable> {
    let answer = answer?;
    if let Some(outage) = outage(answer.status) {
        return Err(outage);
    }
    // Many answers of success have no body.
    if answer.body.expose().trim().is_empty() {
        return Ok((answer, Value::Null));
    }
    match answer.json() {
        Some(json) => Ok((answer, json)),
        None => Err(Unreachable::Garbage),
    }
}

/// Statuses that say nothing about what was asked.
pub(super) fn outage(status: u16) -> Option<Unreachable> {
    match status {
        408 => Some(Unreachable::Timeout),
        500..=599 => Some(Unreachable::Refused),
        // Redirections are not followed: whoever answers with one is not what was configured.
        100..=199 | 300..=399 => Some(Unreachable::Garbage),
        _ => None,
    }
}

/// A text that is there and not empty.
pub(super) fn text<'j>(json: &'j Value, pointer: &str) -> Option<&'j str> {
    json.pointer(pointer)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// A flag; systems write it as a text too.
pub(super) fn flag(json: &Value, pointer: &str) -> bool {
    match json.pointer(pointer) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// A list; empty when it is not there.
pub(super) fn list<'j>(json: &'j Value, pointer: &str) -> &'j [Value] {
    json.pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// An e-mail address as Better Auth keeps it.
pub(super) fn email(json: &Value, pointer: &str) -> Option<String> {
    text(json, pointer)
        .map(|text| text.trim().to_lowercase())
        .filter(|text| text.contains('@'))
}

/// A phone number in E.164; some systems leave the plus out.
pub(super) fn phone(json: &Value, pointer: &str) -> Option<String> {
    let digits = text(json, pointer)?.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_number =
        (7..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| format!("+{digits}"))
}

/// A moment: RFC 3339, or a number of milliseconds (also as a text).
pub(super) fn moment(json: &Value, pointer: &str) -> Option<UnixMs> {
    match json.pointer(pointer)? {
        Value::Number(number) => number.as_i64().map(UnixMs),
        Value::String(text) => text.parse().ok().map(UnixMs).or_else(|| {
            chrono::DateTime::parse_from_rfc3339(text)
                .ok()
                .map(|moment| UnixMs(moment.timestamp_millis()))
        }),
        _ => None,
    }
}

/// First and last name joined; empty when there is none.
pub(super) fn full_name(first: Option<&str>, last: Option<&str>) -> String {
    let parts: Vec<&str> = [first, last]
        .into_iter()
        .flatten()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

/// How long to wait, as the answer says: seconds, or a date.
pub(super) fn retry_after(answer: &Answer, now: UnixMs) -> Option<Duration> {
    let value = answer
        .headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?;
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
            let left = date.timestamp_millis().saturating_sub(now.0);
            Duration::from_millis(u64::try_from(left).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The claims of a token that was just received over TLS from who issued it. **Nothing is verified**: this is for the `sub` and `sid`
/// of such tokens and for nothing a client could have sent.
pub(super) fn claims(token: &str) -> Option<Value> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Nothing was found out about a password.
pub(super) fn unavailable(why: Unreachable) -> Next<Checked> {
    Next::Done(Checked::Unavailable(why))
}

/// What was found out about a code.
pub(super) fn factor(found: FactorChecked) -> Next<FactorChecked> {
    Next::Done(found)
}

/// Whether a right code is theirs of whom it is asked: it is said by the answer whose it was.
pub(super) fn theirs(whose: Option<&str>, source_id: &str) -> FactorChecked {
    match whose {
        Some(id) if id == source_id => FactorChecked::Right,
        Some(_) => FactorChecked::Wrong,
        None => FactorChecked::Unavailable(Unreachable::Garbage),
    }
}

/// Ends the session a code made there; what was found out stands whatever becomes of that.
pub(super) fn factor_ending(end: Ask, found: FactorChecked) -> Next<FactorChecked> {
    ask(end, move |_, _| factor(found))
}

/// What an answer to a change means when nothing of it is needed but that it was made.
pub(super) fn mirrored(answer: Result<Answer, Unreachable>, id: &str) -> Option<Mirrored> {
    mirrored_as(answer, Some(id.to_owned()), "")
}

/// What an answer to a change means. The id is known, or stands in the answer.
pub(super) fn mirrored_as(
    answer: Result<Answer, Unreachable>,
    id: Option<String>,
    pointer: &str,
) -> Option<Mirrored> {
    Some(read(answer).and_then(|(answer, json)| match answer.status {
        status if is_success(status) => Ok(id.or_else(|| text(&json, pointer).map(str::to_owned))),
        429 => Err(Unreachable::Refused),
        401 | 403 => Err(Unreachable::Unconfigured),
        // Who is not there any more needs no change, least of all to be removed.
        404 | 410 if id.is_some() => Ok(id),
        _ => Err(Unreachable::Garbage),
    }))
}

// ------------------------------------------------------------------------------------------------------------- configuration

/// A key of a table.
pub(super) const fn key(name: &'static str, about: &'static str, kind: KeyKind) -> Key {
    Key { name, about, kind }
}

/// The key that switches a live check off.
pub(super) const CHECK: Key = key(
    "check",
    "Whether passwords are checked there at sign-in. Default: true when the keys this needs are there.",
    KeyKind::Flag,
);

/// The key that says by what users are known there.
pub(super) const IDENTIFY_BY: Key = key(
    "identify_by",
    "What users are signed in with there: \"email\", \"username\" or \"id\". Default: \"email\".",
    KeyKind::Text,
);

/// Whether the live check is wanted and its keys are all there. The keys of a check stand in one table with those of the sessions, and
/// some belong to both: so it is on when every one of `needed` is written, off when one of `own` (which nothing else needs) is not or
/// `check = false` says so.
///
/// # Errors
/// Says which key is missing when some of `own` are there.
pub(super) fn wanted(fields: &Fields, needed: &[&str], own: &[&str]) -> Result<bool, String> {
    if !fields.flag("check", true) {
        return Ok(false);
    }
    let missing: Vec<&str> = needed
        .iter()
        .copied()
        .filter(|key| fields.text(key).is_none())
        .collect();
    let asked_for = fields.flag("check", false);
    let begun = asked_for || own.iter().any(|key| fields.text(key).is_some());
    match missing.first() {
        None => Ok(true),
        Some(key) if begun => Err(format!("`{key}` is missing, which the live check needs")),
        Some(_) => Ok(false),
    }
}

/// An address, where people also write a bare host.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn address(fields: &Fields, key: &str) -> Result<Url, String> {
    let text = fields.required(key)?.expose();
    let default = match text.contains("://") {
        true => return fields.url(key, ""),
        false => format!("https://{text}"),
    };
    // The key itself is not read again: only its text with a scheme is.
    Fields::default().url(key, &default)
}

/// By what a system knows its users at sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identifier {
    /// The e-mail address; the username or the phone number where there is none.
    Email,
    /// The username; the address where there is none.
    Username,
    /// The id there, for who is known by it.
    Id,
}

impl Identifier {
    /// What the operator chose.
    ///
    /// # Errors
    /// Says which words are known.
    pub(super) fn of(fields: &Fields) -> Result<Self, String> {
        match fields.text("identify_by").map(Secret::expose) {
            None | Some("email") => Ok(Self::Email),
            Some("username") => Ok(Self::Username),
            Some("id") => Ok(Self::Id),
            Some(_) => Err("`identify_by` is \"email\", \"username\" or \"id\"".to_owned()),
        }
    }

    /// What is sent there as the name of who signs in; none when nothing they typed would be known there.
    pub(super) fn choose(self, attempt: &Attempt) -> Option<String> {
        let Attempt {
            email,
            username,
            phone,
            source_id,
            ..
        } = attempt;
        let chosen = match self {
            Self::Email => email.as_ref().or(username.as_ref()).or(phone.as_ref()),
            Self::Username => username.as_ref().or(email.as_ref()).or(phone.as_ref()),
            Self::Id => source_id.as_ref(),
        };
        chosen.filter(|text| !text.is_empty()).cloned()
    }
}

/// The address of a client as a text: one that came over IPv6 and is IPv4 stands as IPv4.
pub(super) fn client(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// An empty password is never asked about: a directory behind the old system may take it for an anonymous sign-in.
pub(super) fn is_askable(attempt: &Attempt) -> bool {
    !attempt.password.expose().is_empty()
}

/// That something is wrong, without a question.
pub(super) fn settled<T: Default + Send + 'static>(value: T) -> Box<dyn Dialogue<T>> {
    talk_at(move |_| Next::Done(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people type, and what breaks careless encoders.
    const ODD: &str = "a\"b\\c\nd&e=f%g+h i\u{1F512}\u{1}ü";

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        Answer {
            status,
            headers: map,
            body: Secret::new(body),
        }
    }

    #[test]
    fn a_password_arrives_as_typed_in_json_and_in_a_form() {
        let object = json(&[("password", Json::Text(ODD)), ("flag", Json::Flag(true))]);
        let parsed: Value = serde_json::from_str(object.expose()).unwrap();
        assert_eq!(parsed["password"], ODD);
        assert_eq!(parsed["flag"], true);
        let form = form(&[("password", ODD), ("a&b", "c=d")]);
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(form.expose().as_bytes())
            .into_owned()
            .collect();
        assert_eq!(pairs[0], ("password".into(), ODD.into()));
        assert_eq!(pairs[1], ("a&b".into(), "c=d".into()));
    }

    #[test]
    fn a_body_never_outgrows_its_first_room() {
        for text in [ODD, "\u{1}\u{1}\u{1}", "", "plain", "\u{1F512}"] {
            let value = Json::Object(&[
                ("k\n", Json::Text(text)),
                ("l", Json::List(&[Json::Number(i64::MIN)])),
            ]);
            assert!(serde_json::to_string(&value).unwrap().len() <= value.bytes_max());
        }
    }

    #[test]
    fn an_id_stays_one_segment_of_an_address() {
        let base = Url::parse("https://old.example/base/").unwrap();
        for (id, wanted) in [
            ("auth0|1", "https://old.example/base/users/auth0|1"),
            ("a/b?c#d", "https://old.example/base/users/a%2Fb%3Fc%23d"),
            ("ü", "https://old.example/base/users/%C3%BC"),
        ] {
            assert_eq!(below(&base, &["users", id]).as_str(), wanted);
        }
        for id in [".", ".."] {
            let url = below(&base, &["users", id]);
            assert!(url.path().starts_with("/base/users/"), "{url}");
        }
    }

    #[test]
    fn headers_with_secrets_are_marked() {
        let url = Url::parse("https://old.example/").unwrap();
        let ask = get(url.clone()).bearer("t0ken");
        assert!(ask.headers["authorization"].is_sensitive());
        let ask = get(url).basic("user", "p:w").header("x-open", "yes");
        assert!(ask.headers["authorization"].is_sensitive());
        assert_eq!(ask.headers["authorization"], "Basic dXNlcjpwOnc=");
        assert!(!ask.headers["x-open"].is_sensitive());
        assert!(!format!("{ask:?}").contains("dXNl"));
    }

    #[test]
    fn an_outage_is_told_from_an_answer() {
        let of = |status, body: &str| read(Ok(answer(status, &[], body))).map(|(_, json)| json);
        assert_eq!(of(200, "{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(of(204, "").unwrap(), Value::Null);
        assert_eq!(of(400, "{}").unwrap(), serde_json::json!({}));
        assert_eq!(of(200, "<html>").unwrap_err(), Unreachable::Garbage);
        assert_eq!(of(302, "{}").unwrap_err(), Unreachable::Garbage);
        assert_eq!(of(503, "{}").unwrap_err(), Unreachable::Refused);
        assert_eq!(of(408, "{}").unwrap_err(), Unreachable::Timeout);
        let err = read(Err(Unreachable::Connect)).unwrap_err();
        assert_eq!(err, Unreachable::Connect);
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_as_a_date() {
        let now = UnixMs(1_795_000_000_000);
        let wait = |text: &str| retry_after(&answer(429, &[("retry-after", text)], ""), now);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999999999"), Some(RETRY_AFTER_MAX));
        // 1 795 000 000 is Wed, 18 Nov 2026 07:06:40 GMT.
        let date = chrono::DateTime::from_timestamp(1_795_000_060, 0).unwrap();
        assert_eq!(wait(&date.to_rfc2822()), Some(Duration::from_secs(60)));
        assert_eq!(wait("Wed, 01 Jan 2020 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&answer(429, &[], ""), now), None);
    }

    #[test]
    fn claims_are_read_and_noise_is_not() {
        let payload = URL_SAFE_NO_PAD.encode(br#"{"sub":"u1"}"#);
        let claims = claims(&format!("e30.{payload}.sig")).unwrap();
        assert_eq!(text(&claims, "/sub"), Some("u1"));
        for noise in [
            "",
            "a",
            "a.b",
            "a.b.c",
            "..",
            &"a".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert!(super::claims(noise).is_none(), "{noise:.9}");
        }
    }

    #[test]
    fn a_phone_number_is_one_or_nothing() {
        let of = |text: &str| phone(&serde_json::json!({ "p": text }), "/p");
        assert_eq!(of("491701234567"), Some("+491701234567".into()));
        assert_eq!(of("+491701234567"), Some("+491701234567".into()));
        for none in ["", "12", "+49 170 123", "call me"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_check_is_on_when_its_keys_are_there_and_half_of_them_is_a_mistake() {
        use crate::migration::provider::Field;
        let fields = |keys: &[&str], on: Option<bool>| {
            let mut values: std::collections::BTreeMap<String, Field> = keys
                .iter()
                .map(|key| ((*key).to_owned(), Field::Text(Secret::new("x"))))
                .collect();
            if let Some(on) = on {
                values.insert("check".into(), Field::Flag(on));
            }
            Fields {
                values,
                ..Fields::default()
            }
        };
        let of = |keys: &[&str], on| wanted(&fields(keys, on), &["url", "key"], &["key"]);
        assert_eq!(of(&["url", "key"], None), Ok(true));
        assert_eq!(of(&["url", "key"], Some(false)), Ok(false));
        assert_eq!(of(&["url"], None), Ok(false));
        assert!(of(&["key"], None).unwrap_err().contains("`url`"));
        assert!(of(&["url"], Some(true)).unwrap_err().contains("`key`"));
    }
}
