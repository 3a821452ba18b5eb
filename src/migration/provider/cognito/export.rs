//! Cognito's export: what ListUsers answers. It never hands over hashes or keys of second factors.
//!
//! Source: the reference of the Cognito user pools API.

use serde_json::{Map, Value};

use crate::migration::import::normalise::{self, Draft, text};
use crate::migration::import::record::{Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options,
};

/// Cognito.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "what `aws cognito-idp list-users` answers, all pages",
        required: true,
        forms: &[Form::Json, Form::Ndjson],
        lists: Lists::Named(&["Users"]),
        part: user_part,
    }],
    keys: &[],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

/// An attribute of the list of `{Name, Value}`.
fn attribute<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let list = ["Attributes", "UserAttributes"]
        .iter()
        .find_map(|at| value.get(*at)?.as_array())?;
    let found = list
        .iter()
        .find(|one| one.get("Name").and_then(Value::as_str) == Some(name));
    found.and_then(|one| one.get("Value"))
}

/// What tokens carry, and so what the app kept.
fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    match text(attribute(&entry.value, "sub")) {
        Some(sub) => Ok(vec![entry.fragment_of(About::User, sub, "user")]),
        None => entry.fragment(About::User, "/Username", "user"),
    }
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![user(joined, options)]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/UserLastModifiedDate") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
    };
    let value = &newest.value;
    let of = |name: &str| attribute(value, name);
    let verified = |name: &str| normalise::flag(of(name)) == Some(true);
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    draft.email(text(of("email")), verified("email_verified"));
    draft.names(of("given_name"), of("family_name"));
    draft.display_name(of("name"));
    draft.display_name(of("nickname"));
    username(&mut draft, value, &joined.key);
    draft.phone(of("phone_number"), verified("phone_number_verified"));
    draft.image(of("picture"));
    draft.created(value.get("UserCreateDate"));
    draft.updated(value.get("UserLastModifiedDate"));
    if normalise::flag(value.get("Enabled")) == Some(false) {
        draft.ban(None, None);
    }
    match text(value.get("UserStatus")).unwrap_or_default().as_str() {
        // They sign in elsewhere alone.
        "EXTERNAL_PROVIDER" => {}
        "ARCHIVED" => draft.note(Oddity::Deleted, "the old system has archived them"),
        _ => draft.password_elsewhere(),
    }
    identities(&mut draft, of("identities"), options);
    let settings = ["UserMFASettingList", "MFAOptions"]
        .iter()
        .filter_map(|name| value.get(*name)?.as_array());
    if settings.into_iter().any(|list| !list.is_empty()) {
        draft.factor(None);
    }
    let listed = value.get("Attributes").and_then(Value::as_array);
    let own = listed.into_iter().flatten().filter_map(|one| {
        let name = one.get("Name")?.as_str()?;
        let kept = name.starts_with("custom:")
            || matches!(name, "locale" | "zoneinfo" | "birthdate" | "address");
        kept.then(|| Some((name.to_owned(), one.get("Value")?.clone())))
            .flatten()
    });
    draft.metadata("attributes", Value::Object(own.collect::<Map<_, _>>()));
    draft.finish()
}

/// A username that is neither an id, nor an address, nor made of another provider's.
fn username(draft: &mut Draft, value: &Value, key: &str) {
    let name = text(attribute(value, "preferred_username")).or_else(|| text(value.get("Username")));
    let Some(name) =
        name.filter(|name| name != key && !name.contains('@') && !name.starts_with('+'))
    else {
        return;
    };
    let external = text(value.get("UserStatus")).as_deref() == Some("EXTERNAL_PROVIDER");
    if !external && uuid::Uuid::parse_str(&name).is_err() {
        draft.username(Some(&Value::String(name)));
    }
}

/// A list of JSON in a text.
fn identities(draft: &mut Draft, value: Option<&Value>, options: &Options) {
    let Some(list) = text(value) else {
        return;
    };
    let Ok(Value::Array(list)) = serde_json::from_str(&list) else {
        return;
    };
    for identity in &list {
        let kind = text(identity.get("providerType")).unwrap_or_default();
        if kind == "SAML" {
            draft.enters();
            let detail = "they sign in by their company's directory: set the sso plugin up";
            draft.note(Oddity::SingleSignOn, detail);
            continue;
        }
        if let Some(provider) = text(identity.get("providerName")) {
            draft.social_id(&provider, text(identity.get("userId")), options);
        }
    }
}
