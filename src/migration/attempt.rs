//! One attempt to sign in, read out of a request body exactly as the framework reads it.
//!
//! What the framework would answer itself (another content type, malformed JSON, a field missing or no text) is none: it goes on to
//! the app as it came. What is read here and what the app reads must be the same, or somebody checks one password and lets in with
//! another: the last of two keys counts, escapes are undone before names are compared, and broken text becomes U+FFFD as in
//! JavaScript.
//!
//! Source: better-call 1.4, `getBody`; better-auth 1.7, `/sign-in/email`, `/sign-in/username`, `/sign-in/phone-number`; WHATWG URL,
//! `application/x-www-form-urlencoded`; ECMAScript, `JSON.parse`.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::accounts::Identifier;
use super::password::PASSWORD_BYTES_MAX;
use crate::secret::Secret;

/// Longest identifier looked up, in bytes. An address has 254 at most, and nobody's username is longer.
const IDENTIFIER_BYTES_MAX: usize = 512;

/// Fields that name addresses the framework sends people to.
const CALLBACKS: [&str; 4] = [
    "callbackURL",
    "redirectTo",
    "errorCallbackURL",
    "newUserCallbackURL",
];

/// Where people sign in with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/sign-in/email`
    Email,
    /// `/sign-in/username`, of the username plugin.
    Username,
    /// `/sign-in/phone-number`, of the phone number plugin.
    Phone,
}

impl Endpoint {
    /// The one of this path below the base path. Apps may be set to take a slash at its end.
    pub fn of(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/sign-in/email" => Some(Self::Email),
            "/sign-in/username" => Some(Self::Username),
            "/sign-in/phone-number" => Some(Self::Phone),
            _ => None,
        }
    }

    /// The field that says who it is.
    const fn field(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Username => "username",
            Self::Phone => "phoneNumber",
        }
    }

    /// The code of the framework's answer to a wrong password.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Email => "INVALID_EMAIL_OR_PASSWORD",
            Self::Username => "INVALID_USERNAME_OR_PASSWORD",
            Self::Phone => "INVALID_PHONE_NUMBER_OR_PASSWORD",
        }
    }

    /// Its message.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Email => "Invalid email or password",
            Self::Username => "Invalid username or password",
            Self::Phone => "Invalid phone number or password",
        }
    }
}

/// Somebody who says who they are, and a password.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Who, in the form in which it is stored.
    pub identifier: Identifier,
    /// The password.
    pub password: Secret,
}

impl Typed {
    /// The name by which cohorts and limits know the account: what was typed, lower-case. The same whether or not there is such an
    /// account.
    pub fn account(&self) -> &str {
        match &self.identifier {
            Identifier::Email(name)
            | Identifier::Username(name)
            | Identifier::Phone(name)
            | Identifier::UserId(name)
            | Identifier::Source(_, name) => name,
        }
    }
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    UrlEncoded,
}

impl Form {
    fn of(endpoint: Endpoint, content_type: &str) -> Option<Self> {
        const JSON: &str = "application/json";
        const FORM: &str = "application/x-www-form-urlencoded";
        let whole = content_type.to_ascii_lowercase();
        let essence = whole.split(';').next().unwrap_or_default().trim();
        // Only the first of them lists what it takes; the check is as lenient as the framework's, what follows is not.
        if endpoint == Endpoint::Email && ![JSON, FORM].iter().any(|one| essence.contains(one)) {
            return None;
        }
        if is_json(&whole) {
            Some(Self::Json)
        } else if essence == FORM {
            Some(Self::UrlEncoded)
        } else {
            None
        }
    }
}

/// `application/json`, `application/vnd.app+json`, and what begins like them.
fn is_json(content_type: &str) -> bool {
    let Some(rest) = content_type.strip_prefix("application/") else {
        return false;
    };
    if rest.starts_with("json") {
        return true;
    }
    let tree = rest
        .bytes()
        .take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'+' | b'-'));
    let tree = rest.get(..tree.count()).unwrap_or_default();
    // The longest run of letters that ends in "+" and is followed by the word, as the framework's expression finds it.
    let mut at = tree.len();
    while let Some(plus) = tree.get(..at).and_then(|tree| tree.rfind('+')) {
        if rest
            .get(plus + 1..)
            .is_some_and(|rest| rest.starts_with("json"))
        {
            return true;
        }
        at = plus;
    }
    false
}

/// Reads a body. `None`: the framework answers it itself, or nobody can have an account or a password like this.
pub fn read(endpoint: Endpoint, content_type: &str, body: &[u8]) -> Option<Typed> {
    let form = Form::of(endpoint, content_type)?;
    let (who, password) = match form {
        Form::Json => {
            let text = decode(body);
            let fields = fields(&text)?;
            let take = |name: &str| {
                let field = fields.iter().rev().find(|field| field.name == name)?;
                text_of(text.get(field.value.clone())?)
            };
            (take(endpoint.field())?, take("password")?)
        }
        Form::UrlEncoded => {
            let text = String::from_utf8_lossy(body);
            let text = text.strip_prefix('?').unwrap_or(&text);
            let take = |name: &str| {
                let pairs = url::form_urlencoded::parse(text.as_bytes());
                let found = pairs.filter(|(found, _)| found == name).last();
                found.map(|(_, value)| Zeroizing::new(value.into_owned()))
            };
            (take(endpoint.field())?, take("password")?)
        }
    };
    if who.is_empty() || who.len() > IDENTIFIER_BYTES_MAX || who.contains('\0') {
        return None;
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return None;
    }
    let who = who.as_str();
    Some(Typed {
        identifier: match endpoint {
            Endpoint::Email => Identifier::Email(who.to_lowercase()),
            Endpoint::Username => Identifier::Username(who.to_lowercase()),
            Endpoint::Phone => Identifier::Phone(who.to_owned()),
        },
        password: Secret::new(password.as_str()),
    })
}

/// The fields that name addresses, as they stand in a body: what the framework looks at before anything else. `None`: it is no object.
pub fn callbacks(
    endpoint: Endpoint,
    content_type: &str,
    body: &[u8],
) -> Option<Map<String, Value>> {
    let concerns = |name: &str| CALLBACKS.contains(&name);
    match Form::of(endpoint, content_type)? {
        Form::Json => {
            let text = decode(body);
            let fields = fields(&text)?;
            let concerned = fields.into_iter().filter(|field| concerns(&field.name));
            let value = |field: &Field| {
                let written = text.get(field.value.clone()).unwrap_or_default();
                match text_of(written) {
                    Some(text) => Value::String(text.to_string()),
                    // What others cannot read is still something, and no text.
                    None => serde_json::from_str(written).unwrap_or(Value::Bool(true)),
                }
            };
            // The last of two counts.
            Some(
                concerned
                    .map(|field| (field.name.clone(), value(&field)))
                    .collect(),
            )
        }
        Form::UrlEncoded => {
            let text = String::from_utf8_lossy(body);
            let text = text.strip_prefix('?').unwrap_or(&text);
            let pairs = url::form_urlencoded::parse(text.as_bytes());
            let concerned = pairs.filter(|(name, _)| concerns(name));
            Some(
                concerned
                    .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                    .collect(),
            )
        }
    }
}

/// The same body with another password of the same length in its place: what goes on to the app for an account that must not get in,
/// so that the app counts and answers it as it does any wrong password. `letters`: random, as many as there are in the old one.
pub fn with_password(
    endpoint: Endpoint,
    content_type: &str,
    body: &[u8],
    random: impl Fn(usize) -> String,
) -> Option<Vec<u8>> {
    match Form::of(endpoint, content_type)? {
        Form::Json => {
            let text = decode(body);
            let fields = fields(&text)?;
            let field = fields.iter().rev().find(|field| field.name == "password")?;
            let length = text_of(text.get(field.value.clone())?)?
                .encode_utf16()
                .count();
            let other = format!("\"{}\"", random(length.max(1)));
            let mut made = text.get(..field.value.start)?.to_owned();
            made.push_str(&other);
            made.push_str(text.get(field.value.end..)?);
            Some(made.into_bytes())
        }
        Form::UrlEncoded => {
            let text = String::from_utf8_lossy(body);
            let text = text.strip_prefix('?').unwrap_or(&text);
            let mut made = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
                if name == "password" {
                    made.append_pair(&name, &random(value.encode_utf16().count().max(1)));
                } else {
                    made.append_pair(&name, &value);
                }
            }
            Some(made.finish().into_bytes())
        }
    }
}

/// Bytes as text, as `Request.json` has them: a byte order mark is dropped, and what is no UTF-8 becomes U+FFFD.
fn decode(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

/// One field of the outermost object.
struct Field {
    name: String,
    /// Where its value stands.
    value: Range<usize>,
}

/// The fields of the outermost object, in their order. `None`: not JSON, or no object.
///
/// A reader of our own, because every other is stricter than JavaScript somewhere: half of a surrogate pair, a number beyond what a
/// double holds, nesting as deep as the body is long.
fn fields(text: &str) -> Option<Vec<Field>> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    reader.expect(b'{')?;
    let mut fields = Vec::new();
    reader.blank();
    if reader.peek() == Some(b'}') {
        reader.at += 1;
    } else {
        loop {
            reader.blank();
            let name = reader.string()?;
            let name = unescape(text.get(name)?)?.to_string();
            reader.blank();
            reader.expect(b':')?;
            reader.blank();
            let value = reader.value()?;
            fields.push(Field { name, value });
            reader.blank();
            match reader.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    }
    reader.blank();
    (reader.at == text.len()).then_some(fields)
}

/// The text of a value, if it is one.
fn text_of(value: &str) -> Option<Zeroizing<String>> {
    value.starts_with('"').then(|| unescape(value))?
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// A string with its quotes, checked.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(start..self.at),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next()?.is_ascii_hexdigit().then_some(())?;
                        }
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        rest.starts_with(word).then(|| self.at += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    /// Any value. Not recursive: how deep it goes is the client's choice.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut open = Vec::new();
        loop {
            self.blank();
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    self.blank();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        open.push(b'}');
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.blank();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        open.push(b']');
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // A value is over: so may be what it stands in.
            loop {
                let Some(close) = open.last().copied() else {
                    return Some(start..self.at);
                };
                self.blank();
                match self.next()? {
                    b',' => {
                        if close == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == close => {
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    fn name(&mut self) -> Option<()> {
        self.blank();
        self.string()?;
        self.blank();
        self.expect(b':')
    }
}

/// A string with its quotes, which was checked, as text. Half of a surrogate pair becomes U+FFFD: that is what JavaScript makes of it
/// when the text becomes bytes.
fn unescape(quoted: &str) -> Option<Zeroizing<String>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    // Never longer than what it is written as, so that no copy is left behind by growing.
    let mut out = Zeroizing::new(String::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at)?);
        let escape = rest.as_bytes().get(at + 1)?;
        let mut used = 2;
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let unit = |at: usize| u16::from_str_radix(rest.get(at..at + 4)?, 16).ok();
                let high = unit(at + 2)?;
                used = 6;
                let low = rest
                    .get(at + 6..at + 8)
                    .filter(|escape| *escape == "\\u")
                    .and_then(|_| unit(at + 8));
                let pair = low.and_then(|low| {
                    let both = [high, low];
                    let mut decoded = char::decode_utf16(both);
                    decoded.next()?.ok().filter(|_| decoded.next().is_none())
                });
                match pair {
                    Some(letter) => {
                        out.push(letter);
                        used = 12;
                    }
                    None => out.push(
                        char::from_u32(u32::from(high)).unwrap_or(char::REPLACEMENT_CHARACTER),
                    ),
                }
            }
            plain => out.push(char::from(*plain)),
        }
        rest = rest.get(at + used..)?;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(body: &[u8]) -> Option<(String, String)> {
        let typed = read(Endpoint::Email, "application/json", body)?;
        Some((typed.account().into(), typed.password.expose().into()))
    }

    fn both(who: &str, password: &str) -> Option<(String, String)> {
        Some((who.into(), password.into()))
    }

    #[test]
    fn what_javascript_reads_is_read() {
        for (body, read) in [
            (r#"{"email":"A@b.C","password":"p"}"#, both("a@b.c", "p")),
            // The last one counts, whatever it is.
            (
                r#"{"email":"a","password":"1","email":"b","password":"2"}"#,
                both("b", "2"),
            ),
            (r#"{"email":"a","password":"1","password":2}"#, None),
            (
                r#"{"email":"a","password":2,"password":"1"}"#,
                both("a", "1"),
            ),
            // Names are compared as they read, not as they are written.
            (
                r#"{"\u0065mail":"a","pass\u0077ord":"\u0070\n\/\"\\"}"#,
                both("a", "p\n/\"\\"),
            ),
            (
                r#"{"email":"a","password":"\ud83d\ude00\ud83d x\ude00"}"#,
                both("a", "\u{1f600}\u{fffd} x\u{fffd}"),
            ),
            (
                r#"{"email":"a","password":"\ud83d\ud83d\ude00"}"#,
                both("a", "\u{fffd}\u{1f600}"),
            ),
            (
                r#" { "n" : [1e999, -0.5E-3, {"password":"x"}, [], {}], "email":"a","password":"p" , "t":true } "#,
                both("a", "p"),
            ),
            (
                r#"{"__proto__":{"email":"x","password":"y"},"email":"a","password":"p"}"#,
                both("a", "p"),
            ),
            (r#"{"__proto__":{"email":"x","password":"y"}}"#, None),
            (
                r#"{"constructor":{"email":"x"},"email":["a"],"password":"p"}"#,
                None,
            ),
            (r#"{"email":"a","password":""}"#, both("a", "")),
            (r#"{"email":"","password":"p"}"#, None),
            (r#"{"email":"a"}"#, None),
            (r#"[{"email":"a","password":"p"}]"#, None),
            (r#""email""#, None),
            ("", None),
        ] {
            assert_eq!(json(body.as_bytes()), read, "{body}");
        }
    }

    #[test]
    fn what_javascript_refuses_is_refused() {
        for body in [
            r#"{"email":"a","password":"p"},"#,
            r#"{"email":"a","password":"p",}"#,
            r#"{"email":"a","password":"p"} x"#,
            r#"{'email':'a','password':'p'}"#,
            r#"{"email":"a","password":"p","n":01}"#,
            r#"{"email":"a","password":"p","n":1.}"#,
            r#"{"email":"a","password":"p","n":+1}"#,
            r#"{"email":"a","password":"p","n":.5}"#,
            r#"{"email":"a","password":"p","n":NaN}"#,
            r#"{"email":"a","password":"p","n":[1,]}"#,
            r#"{"email":"a","password":"p","n":{"a"}}"#,
            r#"{"email":"a","password":"p","n":[}}"#,
            r#"{"email":"a","password":"\x41"}"#,
            r#"{"email":"a","password":"\u12g4"}"#,
            "{\"email\":\"a\",\"password\":\"a\tb\"}",
            r#"{"email":"a","password":"p"#,
            r#"{"email":"a" "password":"p"}"#,
            "{\"email\":\"a\",\u{a0}\"password\":\"p\"}",
        ] {
            assert_eq!(json(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn bytes_become_text_as_they_do_there() {
        let mut body = b"\xef\xbb\xbf{\"email\":\"a\",\"password\":\"x\xff\xe2\x82y\"}".to_vec();
        assert_eq!(json(&body), both("a", "x\u{fffd}\u{fffd}y"));
        // A second mark is no white space.
        body.splice(0..0, *b"\xef\xbb\xbf");
        assert_eq!(json(&body), None);
        // As deep as a body can be.
        let depth = 20_000;
        let deep = format!(
            r#"{{"n":{}{},"email":"a","password":"p"}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        assert_eq!(json(deep.as_bytes()), both("a", "p"));
    }

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let form = |body: &str| {
            let kind = "Application/X-WWW-Form-Urlencoded; charset=iso-8859-1";
            let typed = read(Endpoint::Email, kind, body.as_bytes())?;
            Some((
                typed.account().to_owned(),
                typed.password.expose().to_owned(),
            ))
        };
        for (body, read) in [
            (
                "email=User%40Example.com&password=a+b%2B%C3%A4",
                both("user@example.com", "a b+ä"),
            ),
            ("?email=a&password=1&password=2&email=b&&x", both("b", "2")),
            ("email=a&password=%ff%zz", both("a", "\u{fffd}%zz")),
            ("email=a&password", both("a", "")),
            ("__proto__=x&email=a&password=p", both("a", "p")),
            ("email=a", None),
            (r#"{"email":"a","password":"p"}"#, None),
        ] {
            assert_eq!(form(body), read, "{body}");
        }
    }

    #[test]
    fn content_types_are_those_of_the_framework() {
        let body = br#"{"email":"a","username":"A","phoneNumber":"+1 A","password":"p"}"#;
        for (kind, email, username) in [
            ("application/json", true, true),
            ("Application/JSON; charset=utf-16", true, true),
            ("application/json5", true, true),
            ("application/vnd.api+json", false, true),
            ("application/a+b+json-seq", false, true),
            ("application/x_y+json", false, false),
            ("text/json", false, false),
            ("text/plain", false, false),
            ("multipart/form-data; boundary=x", false, false),
            ("x/application/json", false, false),
            ("", false, false),
        ] {
            let reads = |endpoint| read(endpoint, kind, body).is_some();
            assert_eq!(reads(Endpoint::Email), email, "{kind}");
            assert_eq!(reads(Endpoint::Username), username, "{kind}");
        }
        let phone = read(Endpoint::Phone, "application/json", body).map(|typed| typed.identifier);
        assert_eq!(phone, Some(Identifier::Phone("+1 A".into())));
    }

    #[test]
    fn endpoints_are_known_by_their_paths() {
        assert_eq!(Endpoint::of("/sign-in/email"), Some(Endpoint::Email));
        assert_eq!(Endpoint::of("/sign-in/email/"), Some(Endpoint::Email));
        for path in [
            "/sign-in/email//",
            "/sign-in",
            "/sign-in/social",
            "/SIGN-IN/email",
        ] {
            assert_eq!(Endpoint::of(path), None, "{path}");
        }
    }

    #[test]
    fn addresses_are_found_as_they_stand() {
        let found = |kind, body: &str| {
            let found = callbacks(Endpoint::Email, kind, body.as_bytes())?;
            Some(Value::Object(found).to_string())
        };
        let body =
            r#"{"callbackURL":"/a","password":"p","call\u0062ackURL":"\/b","redirectTo":[1e999]}"#;
        assert_eq!(
            found("application/json", body).as_deref(),
            Some(r#"{"callbackURL":"/b","redirectTo":true}"#)
        );
        let form = "application/x-www-form-urlencoded";
        assert_eq!(
            found(form, "callbackURL=%2Fa&password=p").as_deref(),
            Some(r#"{"callbackURL":"/a"}"#)
        );
        assert_eq!(found("application/json", "[]"), None);
        assert_eq!(found("text/plain", body), None);
    }

    #[test]
    fn another_password_takes_the_place_of_the_one_that_counts() {
        let letters = |many: usize| "x".repeat(many);
        let other = |kind: &str, body: &str| {
            let made = with_password(Endpoint::Email, kind, body.as_bytes(), letters);
            String::from_utf8(made.unwrap()).unwrap()
        };
        let body =
            r#"{"password":"a", "email":"a","password":"b\u00e4\ud83d\ude00", "rememberMe":false}"#;
        let made = other("application/json", body);
        assert_eq!(
            made,
            r#"{"password":"a", "email":"a","password":"xxxx", "rememberMe":false}"#
        );
        assert_eq!(
            other(
                "application/x-www-form-urlencoded",
                "email=a%40b&password=1&password=22"
            ),
            "email=a%40b&password=x&password=xx"
        );
    }

    proptest! {
        #[test]
        fn whatever_another_reader_reads_reads_the_same(
            email in "[a-z@.]{1,20}", password in ".{0,40}", extra in proptest::collection::vec(".{0,10}", 0..4),
        ) {
            let body = serde_json::json!({ "x": extra, "email": email, "password": password, "y": { "password": "z" } });
            prop_assert_eq!(json(body.to_string().as_bytes()), both(&email, &password));
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = json(&noise);
            let mut framed = br#"{"email":"a","password":""#.to_vec();
            framed.extend(noise);
            let _ = json(&framed);
            let _ = with_password(Endpoint::Email, "application/json", &framed, |many| "x".repeat(many));
        }

        #[test]
        fn json_is_json(text in r#"[\[\]{}",:0-9a\\u. e+-]{0,14}"#) {
            // Stricter than JavaScript, never laxer: what it takes is taken.
            if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok() {
                prop_assert!(fields(&text).is_some(), "{}", text);
            }
            if fields(&text).is_some() && !text.contains("\\u") && !text.contains(['e', 'E']) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
            }
        }
    }
}
