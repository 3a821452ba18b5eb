//! What other systems take: one object a user.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::roster::Person;
use crate::migration::password::native;
use crate::time::UnixMs;

/// Who is to take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bodies of `POST /v1/users`.
    Clerk,
    /// Bodies of `POST /user_management/users`.
    WorkOs,
    /// Members of the list that a job of imports takes.
    Auth0,
    /// What `--from generic` reads.
    Generic,
}

impl Form {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Clerk, Self::WorkOs, Self::Auth0, Self::Generic];

    /// Its name in `--for`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clerk => "clerk",
            Self::WorkOs => "workos",
            Self::Auth0 => "auth0",
            Self::Generic => "generic",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == name)
    }
}

/// A native hash in its parts: the salt as the text it is used as, and the key.
struct Parts<'h> {
    salt: &'h str,
    key: &'h str,
}

impl Parts<'_> {
    /// Werkzeug's form. Source: werkzeug 3, security.py, `scrypt:N:r:p$salt$hex`, the salt as text.
    fn werkzeug(&self) -> String {
        format!("scrypt:16384:16:1${}${}", self.salt, self.key)
    }

    /// The form of the Password Hashing Competition.
    fn phc(&self) -> Option<String> {
        let key = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(self.key.as_bytes()).ok()?);
        let (salt, key) = (
            STANDARD_NO_PAD.encode(self.salt),
            STANDARD_NO_PAD.encode(&key),
        );
        Some(format!("$scrypt$ln=14,r=16,p=1${salt}${key}"))
    }
}

/// One user, without a line feed; and whether their password goes with them.
pub fn line(form: Form, person: &Person) -> (Zeroizing<String>, bool) {
    let native = person.password.as_ref().map(crate::secret::Secret::expose);
    let parts = native
        .filter(|text| native::is_native(text))
        .and_then(|text| text.split_once(':'));
    let parts = parts.map(|(salt, key)| Parts { salt, key });
    let value = match form {
        Form::Clerk => clerk(person, parts.as_ref()),
        Form::WorkOs => workos(person, parts.as_ref()),
        Form::Auth0 => auth0(person, parts.as_ref()),
        Form::Generic => generic(person, parts.is_some()),
    };
    (Zeroizing::new(value.to_string()), parts.is_some())
}

/// What is null is left out: to some it would mean that something is taken away.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.collect())
        }
        value => value,
    }
}

/// The first word, and the rest.
fn names(person: &Person) -> (Option<&str>, Option<&str>) {
    let Some(name) = person
        .field("name")
        .map(str::trim)
        .filter(|name| !name.is_empty())
    else {
        return (None, None);
    };
    match name.split_once(char::is_whitespace) {
        Some((first, last)) => (Some(first), Some(last.trim())),
        None => (Some(name), None),
    }
}

/// An instant in RFC 3339.
fn instant(person: &Person, name: &str) -> Option<String> {
    let at = UnixMs(person.field(name)?.parse().ok()?);
    let at = chrono::DateTime::from_timestamp_millis(at.0)?;
    Some(at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Who they were in a system, where they came from there.
fn before<'p>(person: &'p Person, provider: &str) -> Option<&'p str> {
    let found = person.identities.iter().find(|(name, _)| name == provider);
    found.map(|(_, id)| id.as_str())
}

/// Everybody they were, for whoever has to find them again.
fn identities(person: &Person) -> Value {
    let all = person.identities.iter();
    let all: Map<String, Value> = all.map(|(name, id)| (name.clone(), json!(id))).collect();
    Value::Object(all)
}

/// Source: Clerk's Backend API, `POST /v1/users`.
fn clerk(person: &Person, parts: Option<&Parts<'_>>) -> Value {
    let (first, last) = names(person);
    without_nulls(json!({
        "external_id": person.user_id,
        "first_name": first,
        "last_name": last,
        "email_address": person.field("email").map(|email| [email]),
        "username": person.field("username"),
        "phone_number": person.field("phoneNumber").map(|phone| [phone]),
        "created_at": instant(person, "createdAt"),
        "password_digest": parts.map(Parts::werkzeug),
        "password_hasher": parts.map(|_| "scrypt_werkzeug"),
        "skip_password_requirement": parts.is_none().then_some(true),
        "skip_password_checks": true,
        "private_metadata": { "previous_id": before(person, "clerk"), "previous_ids": identities(person) },
    }))
}

/// Source: WorkOS, `POST /user_management/users`.
fn workos(person: &Person, parts: Option<&Parts<'_>>) -> Value {
    let (first, last) = names(person);
    let phc = parts.and_then(Parts::phc);
    without_nulls(json!({
        "email": person.field("email"),
        "email_verified": person.flag("emailVerified"),
        "first_name": first,
        "last_name": last,
        "external_id": person.user_id,
        "password_hash_type": phc.as_ref().map(|_| "scrypt"),
        "password_hash": phc,
        "metadata": identities(person),
    }))
}

/// Source: Auth0, schema of bulk user imports: `custom_password_hash` with scrypt takes the key and the salt apart.
fn auth0(person: &Person, parts: Option<&Parts<'_>>) -> Value {
    let user_id = before(person, "auth0").map(|id| id.strip_prefix("auth0|").unwrap_or(id));
    let hash = parts.map(|parts| {
        json!({
            "algorithm": "scrypt",
            "hash": { "value": parts.key.to_ascii_lowercase(), "encoding": "hex" },
            "salt": { "value": parts.salt, "encoding": "utf8" },
            "keylen": 64,
            "cost": 16384,
            "blockSize": 16,
            "parallelization": 1,
        })
    });
    without_nulls(json!({
        "user_id": user_id.unwrap_or(&person.user_id),
        "email": person.field("email"),
        "email_verified": person.flag("emailVerified"),
        "name": person.field("name"),
        "username": person.field("username"),
        "picture": person.field("image"),
        "blocked": person.flag("banned"),
        "custom_password_hash": hash,
        "app_metadata": { "better_auth_id": person.user_id, "previous_ids": identities(person) },
    }))
}

fn generic(person: &Person, with_password: bool) -> Value {
    let (first, last) = names(person);
    let accounts = person.accounts.iter();
    let accounts: Vec<Value> = accounts
        .map(|(provider, id)| json!({ "provider": provider, "accountId": id }))
        .collect();
    let password = person.password.as_ref().filter(|_| with_password);
    without_nulls(json!({
        "id": person.user_id,
        "email": person.field("email"),
        "emailVerified": person.flag("emailVerified"),
        "name": person.field("name"),
        "firstName": first,
        "lastName": last,
        "username": person.field("username"),
        "phone": person.field("phoneNumber"),
        "image": person.field("image"),
        "banned": person.flag("banned"),
        "role": person.field("role"),
        "createdAt": instant(person, "createdAt"),
        "passwordHash": password.map(crate::secret::Secret::expose),
        "passwordAlgorithm": password.map(|_| native::KIND.name),
        "accounts": accounts,
        "previousIds": identities(person),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::password::cost::Ceilings;
    use crate::migration::password::{self, Stored};
    use crate::secret::Secret;

    fn person() -> Person {
        let fields = [
            ("email", "ann@example.com"),
            ("emailVerified", "true"),
            ("name", "Ann van Dyk"),
            ("createdAt", "1700000000123"),
            ("username", ""),
        ];
        Person {
            user_id: "u1".into(),
            fields: fields
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            password: Some(native::hash(b"correct horse", [3; 16])),
            accounts: vec![("google".into(), "7".into())],
            identities: vec![
                ("auth0".into(), "auth0|abc".into()),
                ("clerk".into(), "user_9".into()),
            ],
        }
    }

    fn of(form: Form, person: &Person) -> Value {
        serde_json::from_str(&line(form, person).0).unwrap()
    }

    fn fits(scheme: &str, hash: &str) -> (bool, bool) {
        let stored = Stored::plain(Secret::new(hash));
        let check = |word: &[u8]| password::check(&stored, scheme, word, &Ceilings::DEFAULT);
        (
            check(b"correct horse").unwrap(),
            check(b"correct horsf").unwrap(),
        )
    }

    #[test]
    fn the_password_goes_with_them_in_the_form_of_each() {
        let clerk = of(Form::Clerk, &person());
        assert_eq!(clerk["password_hasher"], "scrypt_werkzeug");
        let digest = clerk["password_digest"].as_str().unwrap();
        assert_eq!(fits("werkzeug-scrypt", digest), (true, false));
        assert_eq!(clerk["private_metadata"]["previous_id"], "user_9");
        let workos = of(Form::WorkOs, &person());
        let hash = workos["password_hash"].as_str().unwrap();
        assert_eq!(fits("phc-scrypt", hash), (true, false));
        assert_eq!(
            (&workos["first_name"], &workos["last_name"]),
            (&json!("Ann"), &json!("van Dyk"))
        );
        let auth0 = of(Form::Auth0, &person());
        assert_eq!(auth0["user_id"], "abc");
        assert_eq!(
            fits("auth0-custom", &auth0["custom_password_hash"].to_string()),
            (true, false)
        );
        let generic = of(Form::Generic, &person());
        let hash = generic["passwordHash"].as_str().unwrap();
        assert_eq!(fits("better-auth-scrypt", hash), (true, false));
        assert_eq!(generic["createdAt"], "2023-11-14T22:13:20.123Z");
        assert_eq!(generic["accounts"][0]["accountId"], "7");
        assert!(generic.get("username").is_none());
    }

    #[test]
    fn what_is_no_native_hash_stays() {
        for hash in ["$2b$10$abc", "a:b", ""] {
            let person = Person {
                password: Some(Secret::new(hash)),
                ..person()
            };
            for form in Form::ALL {
                let (text, with) = line(form, &person);
                assert!(
                    !with && !text.contains("scrypt") && !text.contains("$2b"),
                    "{}",
                    text.as_str()
                );
            }
        }
        assert_eq!(
            of(
                Form::Clerk,
                &Person {
                    password: None,
                    ..person()
                }
            )["skip_password_requirement"],
            true
        );
    }
}
