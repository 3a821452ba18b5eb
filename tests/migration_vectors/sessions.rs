//! Sessions of old systems: each entry is presented to the reader the configuration would build, whose questions are answered from the
//! entry's own tables, stores and keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use vestibule::credential::key_set::KeySet;
use vestibule::kind;
use vestibule::migration::dialogue::{Ask, Given, Moment, Need, Row, Step, Unreachable};
use vestibule::migration::provider::{
    Field, Fields, KINDS, KeyKind, OldSession, Presented, Reading, Refusal, Sessions, Subject,
};
use vestibule::secret::Secret;
use vestibule::time::UnixMs;

use super::{Family, Tally, files, load};

/// The clock where a file has none: that of the others.
const NOW_SECONDS: i64 = 1_763_700_000;

/// A name in the vectors, the system, what its table says besides, and whether entries were sealed at the real time of their making.
type System = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    bool,
);

/// Names in the vectors: the system, what its table says besides, and whether the entry was sealed at the real time of its making.
const SYSTEMS: &[System] = &[
    ("clerk", "clerk", &[], false),
    ("workos", "workos", &[], false),
    ("iron-session", "iron_session", &[], true),
    ("authjs-v5", "authjs", &[], true),
    ("nextauth-v4", "authjs", &[], true),
    ("authjs-db", "authjs", &[("strategy", "database")], false),
    ("auth0-nextjs-v4", "auth0", &[], false),
    ("auth0-nextjs-v3", "auth0", &[], false),
    ("auth0-express", "auth0", &[], false),
    ("supabase", "supabase", &[], false),
    ("firebase", "firebase", &[], false),
    ("lucia", "lucia", &[("version", "3")], false),
    ("express-session", "express_session", &[], false),
    ("oidc-bearer", "oidc", &[], false),
    ("cognito", "cognito", &[], false),
    ("keycloak", "keycloak", &[], false),
    ("supertokens", "supertokens", &[], false),
    ("stytch", "stytch", &[], false),
    ("descope", "descope", &[], false),
    ("kratos", "kratos", &[], false),
    ("django", "django", &[], false),
    ("rails", "rails", &[], false),
    ("laravel", "laravel", &[], false),
    ("wordpress", "wordpress", &[], false),
];

/// Words of the vectors, and what they mean here.
const REASONS: &[(&str, &[Refusal])] = &[
    ("malformed", &[Refusal::Malformed]),
    ("ambiguous", &[Refusal::Ambiguous]),
    ("bad_signature", &[Refusal::BadSignature]),
    ("bad_seal", &[Refusal::BadSeal]),
    ("undecryptable", &[Refusal::Undecryptable]),
    ("unknown_key", &[Refusal::UnknownKey]),
    ("bad_algorithm", &[Refusal::BadAlgorithm]),
    ("bad_issuer", &[Refusal::BadIssuer]),
    ("bad_audience", &[Refusal::BadAudience]),
    ("bad_azp", &[Refusal::BadAuthorizedParty]),
    ("expired", &[Refusal::Expired]),
    ("not_yet_valid", &[Refusal::NotYetValid]),
    ("not_a_session_token", &[Refusal::NotASessionToken]),
    ("not_a_user", &[Refusal::NotAUser]),
    ("session_pending", &[Refusal::SessionPending]),
    ("signed_out", &[Refusal::SignedOut]),
    ("unknown_session", &[Refusal::UnknownSession]),
    ("no_subject", &[Refusal::NoSubject]),
    ("subject_mismatch", &[Refusal::SubjectMismatch]),
    ("password_changed", &[Refusal::PasswordChanged]),
];

/// Keys of the vectors that are called otherwise in the configuration, by system.
fn renamed<'n>(system: &str, name: &'n str) -> &'n str {
    match (system, name) {
        ("wordpress", "key") => "logged_in_key",
        ("wordpress", "salt") => "logged_in_salt",
        (_, "session_keys") => "jwks",
        _ => name,
    }
}

#[test]
fn sessions() {
    for file in files(Family::Sessions) {
        let data = load(&file);
        let vectors = data["vectors"].as_array().unwrap();
        let mut tally = Tally::new(&file, vectors.len());
        if let Some(count) = data["count"].as_u64() {
            assert_eq!(count, vectors.len() as u64, "{file}");
        }
        for vector in vectors {
            let id = vector["id"].as_str().unwrap();
            tally.case(id, Entry::new(&data, vector).and_then(|entry| entry.run()));
        }
        tally.finish();
    }
}

/// One entry, as a gateway configured by it would see it.
struct Entry<'v> {
    vector: &'v Value,
    system: &'static str,
    fields: Fields,
    keys: Arc<KeySet>,
    headers: HeaderMap,
    now: UnixMs,
}

impl<'v> Entry<'v> {
    fn new(file: &'v Value, vector: &'v Value) -> Result<Self, String> {
        let provider = vector["provider"].as_str().ok_or("no provider")?;
        let known = SYSTEMS.iter().find(|(name, ..)| *name == provider);
        let (_, system, besides, is_real_time) =
            known.ok_or(format!("nobody reads `{provider}`"))?;
        let mut fields = Fields::default();
        for (name, value) in *besides {
            let text = Field::Text(Secret::new(*value));
            fields.values.insert((*name).to_owned(), text);
        }
        let mut keys = Arc::new(KeySet::default());
        for (name, value) in vector["config"].as_object().into_iter().flatten() {
            let name = renamed(system, name);
            if name == "jwks" {
                let set = value.as_str().map_or(value, |set| &file["keys"][set]);
                let set = KeySet::parse(set.to_string().as_bytes(), None);
                keys = Arc::new(set.map_err(|error| error.to_string())?);
                // Where the vectors say nothing of it, this is where the keys are published.
                let url = Field::Text(Secret::new("https://keys.example.com/"));
                fields.values.insert("jwks_url".to_owned(), url);
                continue;
            }
            if let Some((name, field)) = field(system, name, value)? {
                fields.values.insert(name, field);
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in vector["cookies"].as_object().into_iter().flatten() {
            let values = match value {
                Value::Array(list) => list.clone(),
                one => vec![one.clone()],
            };
            for value in values {
                let line = format!("{name}={}", value.as_str().unwrap());
                let line = HeaderValue::from_bytes(line.as_bytes());
                headers.append(COOKIE, line.map_err(|error| error.to_string())?);
            }
        }
        let stated = vector["now"].as_i64().or(file["now"].as_i64());
        let stated = UnixMs(stated.unwrap_or(NOW_SECONDS) * 1000);
        Ok(Self {
            vector,
            system,
            fields,
            keys,
            headers,
            now: match *is_real_time && vector["now"].is_null() {
                true => real_time(),
                false => stated,
            },
        })
    }

    fn reader(&self) -> Result<Box<dyn Sessions>, String> {
        let kind = kind::find("old system", KINDS, self.system)?;
        let build = kind.build.sessions.ok_or("it reads no sessions")?;
        Ok(build(&self.fields)?.ok_or("no reader of sessions is configured")?)
    }

    /// Reads what the entry presents; the questions that nothing in it answers are told back.
    fn read(&self, now: UnixMs) -> Result<(Reading, Vec<Ask>), String> {
        let reader = self.reader()?;
        let bearer = self.vector["authorization"].as_str();
        let bearer = bearer.map(|line| line.strip_prefix("Bearer ").unwrap_or(line));
        let presented = match bearer {
            Some(token) => Presented::Bearer(token),
            None => Presented::Cookies(&self.headers),
        };
        let mut dialogue = reader.read(&presented);
        let mut given = Given::Nothing;
        let mut asked = Vec::new();
        let random = |bytes: &mut [u8]| bytes.fill(7);
        for _ in 0..vestibule::migration::dialogue::STEPS_MAX {
            let moment = Moment {
                now,
                random: &random,
            };
            given = match dialogue.step(given, moment) {
                Step::Done(reading) => return Ok((reading, asked)),
                Step::Need(Need::Keys(_)) => Given::Keys(Ok(Arc::clone(&self.keys))),
                Step::Need(Need::Row(query)) => {
                    let also = query
                        .also
                        .as_ref()
                        .map(|(name, value)| (name.as_str(), value.as_str()));
                    Given::Row(Ok(self.row(
                        &query.table,
                        &query.key,
                        query.value.expose(),
                        also,
                    )))
                }
                Step::Need(Need::Value(key)) => Given::Value(Ok(self.value(key.expose()))),
                Step::Need(Need::Answer(ask)) => {
                    asked.push(*ask);
                    Given::Answer(Err(Unreachable::Connect))
                }
            };
        }
        Err("it asks without end".into())
    }

    fn row(&self, table: &str, key: &str, value: &str, also: Option<(&str, &str)>) -> Option<Row> {
        let database = &self.vector["database"];
        // WordPress keeps a user's sessions in PHP's own format, which the vectors write as JSON.
        if let Some((_, "session_tokens")) = also {
            let sessions = database["session_tokens"].get(value)?;
            let text = Some(Secret::new(php(sessions)));
            return Some(BTreeMap::from([("meta_value".to_owned(), text)]));
        }
        let rows = database[table].as_array()?;
        let fits =
            |row: &&Value, name: &str, value: &str| text(&row[name]).as_deref() == Some(value);
        let mut found = rows.iter().filter(|row| fits(row, key, value));
        let found = found.find(|row| also.is_none_or(|(name, value)| fits(row, name, value)))?;
        let columns = found.as_object()?.iter();
        let columns = columns.map(|(name, value)| (name.clone(), text(value).map(Secret::new)));
        Some(columns.collect())
    }

    fn value(&self, key: &str) -> Option<Secret> {
        let id = key.rsplit(':').next()?;
        let stored = self.vector["store"]
            .get(key)
            .or(self.vector["store"].get(id))?;
        Some(Secret::new(stored.to_string()))
    }

    fn run(&self) -> Result<(), String> {
        let expect = &self.vector["expect"];
        let (reading, _) = self.read(self.now)?;
        if let Value::String(word) = &expect["valid"] {
            return self.until(word, expect);
        }
        match (expect["valid"].as_bool(), &reading) {
            (Some(true), Reading::Alive(found)) => self.compare(found, expect)?,
            (Some(false), Reading::Refused(refusal)) => {
                let reason = expect["reason"].as_str().ok_or("no reason is expected")?;
                let known = REASONS.iter().find(|(word, _)| *word == reason);
                let (_, meant) = known.ok_or(format!("nobody knows the reason `{reason}`"))?;
                if !meant.contains(refusal) {
                    return Err(format!("refused for {}, not {reason}", refusal.as_str()));
                }
            }
            (expected, found) => {
                return Err(format!("expected valid {expected:?}, found {found:?}"));
            }
        }
        if !self.headers.is_empty() {
            self.concerns()?;
        }
        self.confirmable(expect)
    }

    /// A session that ends when it says: alive before, refused after.
    fn until(&self, word: &str, expect: &Value) -> Result<(), String> {
        let ends = expect["expires_ms"].as_i64();
        let ends = ends.ok_or(format!("`{word}` without a moment"))?;
        let (before, _) = self.read(UnixMs(ends - 1000))?;
        // A minute is how far clocks may be apart.
        let (after, _) = self.read(UnixMs(ends + 61_000))?;
        match (before, after) {
            (Reading::Alive(found), Reading::Refused(Refusal::Expired)) => {
                match found.expires_at == Some(UnixMs(ends)) {
                    true => Ok(()),
                    false => Err(format!("it ends at {:?}", found.expires_at)),
                }
            }
            (before, after) => Err(format!("before its end {before:?}, after it {after:?}")),
        }
    }

    fn compare(&self, found: &OldSession, expect: &Value) -> Result<(), String> {
        let user = match &found.subject {
            Subject::Source(id) | Subject::Local(id) => Some(id.as_str()),
            Subject::Email(_) | Subject::Nobody => None,
        };
        let organization = found.organization.as_ref();
        let seen = json!({
            "valid": true,
            "user_id": user,
            "email": found.email,
            "impersonator": found.impersonator,
            "anonymous": found.anonymous,
            "active_organization": organization.map(|(id, _)| id),
            "role": organization.and_then(|(_, role)| role.as_ref()),
            "data": found.data,
            "second_factor": found.second_factor,
            "session_id": found.session.expose(),
        });
        for (name, expected) in expect.as_object().into_iter().flatten() {
            let actual = seen.get(name).ok_or(format!("nobody compares `{name}`"))?;
            if actual != expected {
                return Err(format!("{name}: expected {expected}, found {actual}"));
            }
        }
        // What the vector does not say is nobody's.
        if expect["impersonator"].is_null() && found.impersonator.is_some() {
            return Err("an impersonator out of nowhere".into());
        }
        if expect["anonymous"].is_null() && found.anonymous {
            return Err("anonymous out of nowhere".into());
        }
        if found.session.expose().is_empty() {
            return Err("a session without an id".into());
        }
        Ok(())
    }

    /// Whatever is read was also announced by its name, and is cleared by it.
    fn concerns(&self) -> Result<(), String> {
        let reader = self.reader()?;
        let names = self.vector["cookies"].as_object().unwrap().keys();
        let ours: Vec<_> = names
            .filter(|name| reader.concerns(name.as_bytes()))
            .collect();
        let lines = reader.clear(&self.headers, "app.example.com");
        for name in &ours {
            let start = format!("{name}=;");
            if !lines.iter().any(|line| line.starts_with(&start)) {
                return Err(format!("`{name}` is not cleared"));
            }
        }
        match ours.is_empty() {
            true => Err("no cookie concerns it".into()),
            false => Ok(()),
        }
    }

    /// Where the old system can be asked about an expired session, it is, once that is configured; an outage is then no expiry.
    fn confirmable(&self, expect: &Value) -> Result<(), String> {
        let online = expect["online_confirmation_possible"] == json!(true);
        let refresh = expect["refresh_possible"] == json!(true);
        if !online && !refresh {
            return Ok(());
        }
        let mut fields = self.fields.clone();
        for name in ["secret_key", "api_key", "anon_key"] {
            let text = Field::Text(Secret::new("key-of-the-old-system"));
            fields.values.insert(name.to_owned(), text);
        }
        if refresh {
            fields
                .values
                .insert("refresh".to_owned(), Field::Flag(true));
        }
        let asking = Self {
            fields,
            headers: self.headers.clone(),
            keys: Arc::clone(&self.keys),
            ..*self
        };
        let (reading, asked) = asking.read(self.now)?;
        if !matches!(reading, Reading::Unavailable(Unreachable::Connect)) {
            return Err(format!("nobody was asked: {reading:?}"));
        }
        let [ask] = asked.as_slice() else {
            return Err(format!("{} questions", asked.len()));
        };
        let said = format!("{} {}", ask.url, ask.body.expose());
        for name in ["session_id", "refresh_token"] {
            if expect[name]
                .as_str()
                .is_some_and(|value| !said.contains(value))
            {
                return Err(format!("the question does not name `{name}`"));
            }
        }
        Ok(())
    }
}

/// A key of the entry, in the kind the system declares. What the system has no key for (`None`) must follow from the others.
fn field(system: &str, name: &str, value: &Value) -> Result<Option<(String, Field)>, String> {
    let kind = kind::find("old system", KINDS, system)?;
    let declared = kind.build.keys.iter().copied().flatten();
    let secrets = |value: &Value| -> Vec<Secret> {
        match value {
            Value::String(text) => vec![Secret::new(text)],
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .map(Secret::new)
                .collect(),
            Value::Object(map) => map
                .values()
                .filter_map(Value::as_str)
                .map(Secret::new)
                .collect(),
            _ => Vec::new(),
        }
    };
    // The configuration writes units behind numbers, not in names.
    if let Some(bare) = name.strip_suffix("_minutes") {
        let minutes = value.as_u64().ok_or("no number of minutes")?;
        let duration = std::time::Duration::from_secs(minutes * 60);
        return Ok(Some((bare.to_owned(), Field::Duration(duration))));
    }
    let Some(key) = declared.into_iter().find(|key| key.name == name) else {
        // The suffix of Clerk's cookies and the client of a token follow from other keys, or are E's and F's to declare.
        return match name {
            "cookie_suffix" => Ok(None),
            "client_id" | "project_id" => Ok(Some((
                name.to_owned(),
                Field::Text(secrets(value).remove(0)),
            ))),
            _ => Err(format!("`{system}` has no key `{name}`")),
        };
    };
    let field = match key.kind {
        KeyKind::Text | KeyKind::Secret => Field::Text(secrets(value).remove(0)),
        KeyKind::Secrets | KeyKind::Texts => Field::List(secrets(value)),
        KeyKind::Flag => Field::Flag(value.as_bool().ok_or("no flag")?),
        KeyKind::Number => Field::Number(value.as_u64().ok_or("no number")?),
        KeyKind::Duration => {
            let seconds = value.as_u64().ok_or("no duration")?;
            Field::Duration(std::time::Duration::from_secs(seconds))
        }
    };
    Ok(Some((name.to_owned(), field)))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// PHP's own format of a JSON value.
fn php(value: &Value) -> String {
    match value {
        Value::Null => "N;".into(),
        Value::Bool(flag) => format!("b:{};", u8::from(*flag)),
        Value::Number(number) => format!("i:{number};"),
        Value::String(text) => format!("s:{}:\"{text}\";", text.len()),
        Value::Array(list) => {
            let entries = list.iter().enumerate();
            let inner: String = entries
                .map(|(at, each)| format!("i:{at};{}", php(each)))
                .collect();
            format!("a:{}:{{{inner}}}", list.len())
        }
        Value::Object(map) => {
            let inner: String = map
                .iter()
                .map(|(name, each)| format!("s:{}:\"{name}\";{}", name.len(), php(each)))
                .collect();
            format!("a:{}:{{{inner}}}", map.len())
        }
    }
}

fn real_time() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}
