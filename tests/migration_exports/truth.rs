//! Every row of every truth against the record that was made of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use data_encoding::BASE32_NOPAD;
use serde_json::Value;
use vestibule::migration::import::normalise;
use vestibule::migration::import::record::{ImportedUser, Oddity, Password};
use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::{self, keeping};
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;

use super::table::{Expected, Row, expected};
use super::{World, folder, json, sampled, whole};

/// What a system's export does not have at all, by provider. Everything else of the truth must be there.
pub fn lacks(provider: &str) -> &'static [&'static str] {
    match provider {
        "workos" => &[
            "metadata_huge",
            "username",
            "phone",
            "totp",
            "banned",
            "other_emails",
        ],
        "generic" => &[
            "username",
            "phone",
            "created",
            "totp",
            "banned",
            "metadata",
            "other_emails",
        ],
        "authjs" => &[
            "username",
            "phone",
            "created",
            "metadata",
            "banned",
            "other_emails",
        ],
        "auth0" => &["totp", "other_emails"],
        "supabase" => &["username", "other_emails"],
        "firebase" => &["metadata", "username", "totp", "other_emails"],
        "cognito" => &[
            "created_missing",
            "username",
            "totp",
            "other_emails",
            "metadata",
        ],
        "keycloak" => &["phone", "other_emails", "metadata"],
        "kratos" => &["username", "phone", "other_emails", "metadata"],
        "django" => &[
            "verified",
            "phone",
            "social",
            "totp",
            "metadata",
            "other_emails",
        ],
        "wordpress" => &[
            "verified",
            "phone",
            "social",
            "totp",
            "metadata",
            "banned",
            "other_emails",
        ],
        _ => &[],
    }
}

fn truth(provider: &str) -> Vec<Value> {
    let truth = json(&folder(provider).join("truth.json"));
    truth["users"].as_array().unwrap().clone()
}

/// The records by the ids of the truth. A list without ids is in the order of its rows.
fn by_truth(provider: &str, world: &World) -> Vec<(Value, ImportedUser)> {
    let users = world.users();
    let truth = truth(provider);
    if provider == "generic" {
        assert_eq!(users.len(), truth.len(), "one record for each row");
        return truth.into_iter().zip(users).collect();
    }
    let mut by_id: BTreeMap<String, ImportedUser> = BTreeMap::new();
    for user in users {
        let id = user.source_id.clone();
        assert!(by_id.insert(id.clone(), user).is_none(), "{id} twice");
    }
    let rows = truth.into_iter().map(|row| {
        let id = row["source_id"].as_str().unwrap();
        let user = by_id
            .get(id)
            .unwrap_or_else(|| panic!("{provider}: {id} is lost"))
            .clone();
        (row, user)
    });
    rows.collect()
}

#[test]
fn everybody_of_every_sample_export_is_read_as_they_are() {
    let sampled = sampled();
    assert!(sampled.len() >= 12, "{sampled:?}");
    let (mut told, mut failed, mut due) = (0, 0, 0);
    for provider in &sampled {
        due += truth(provider).len();
        let world = whole(provider);
        assert!(
            world
                .refused()
                .iter()
                .all(|(_, what)| *what == Oddity::Over),
            "{provider}: {:?}",
            world.refused()
        );
        let rows = by_truth(provider, &world);
        assert!(!rows.is_empty());
        for (truth, user) in &rows {
            // All of them are told, and not only the first.
            let same = catch_unwind(AssertUnwindSafe(|| compare(provider, truth, user)));
            failed += usize::from(same.is_err());
            told += 1;
        }
        println!("exports {provider}: {} rows of the truth", rows.len());
    }
    assert_eq!(failed, 0, "rows that are not as they are");
    assert_eq!(told, due, "all rows of all truths");
}

fn compare(provider: &str, truth: &Value, user: &ImportedUser) {
    let lacks = lacks(provider);
    let has = |what: &str| !lacks.contains(&what);
    let who = format!("{provider} {} {:?}", user.source_id, user.place);
    let noted = |what: Oddity| user.notes.iter().any(|note| note.what == what);

    let exported = truth["email_as_exported"].as_str().map(str::trim);
    assert_eq!(
        user.email_as_exported.as_deref().map(str::trim),
        exported,
        "{who}"
    );
    if noted(Oddity::InvalidEmail) {
        assert!(
            user.email.is_none() && normalise::email(exported.unwrap()).is_none(),
            "{who}"
        );
        assert!(!user.email_verified, "{who}");
    } else {
        assert_eq!(
            user.email.as_deref(),
            truth["email_normalized"].as_str(),
            "{who}"
        );
        let verified = has("verified") && truth["email_verified"] == true;
        assert_eq!(user.email_verified, verified, "{who}");
    }
    match truth["display_name"].as_str() {
        // What the old system cut is cut.
        Some(name) if noted(Oddity::NameCut) => assert!(user.name.len() < name.len(), "{who}"),
        Some(name) => assert_eq!(user.name, name, "{who}"),
        None => assert!(noted(Oddity::NameMadeUp), "{who}"),
    }
    assert!(
        !user.name.trim().is_empty() || noted(Oddity::NoEmail),
        "{who}"
    );
    if has("username") {
        let shown = truth["username"].as_str();
        assert_eq!(user.display_username.as_deref(), shown, "{who}");
        assert_eq!(user.username, shown.map(str::to_lowercase), "{who}");
    }
    if has("phone") {
        match truth["phone"].as_str() {
            Some(number) if normalise::phone(number).is_none() => {
                assert!(user.phone.is_none() && noted(Oddity::InvalidPhone), "{who}");
            }
            number => assert_eq!(
                user.phone.as_ref().map(|(number, _)| number.as_str()),
                number,
                "{who}"
            ),
        }
    }
    // Who is in one of two inputs alone has what that one has, and is reported.
    let partly = noted(Oddity::OnlyInOne);
    if has("banned") {
        assert_eq!(user.ban.is_some(), truth["banned"] == true, "{who}");
    }
    if has("created") && !partly {
        match normalise::instant(&truth["created_at"]) {
            Ok(Some(at)) => assert_eq!(user.created_at, Some(at), "{who}"),
            // A system that always has one.
            Ok(None) if !has("created_missing") => {}
            Ok(None) | Err(_) => assert!(
                user.created_at.is_none() && noted(Oddity::InvalidDate),
                "{who}"
            ),
        }
    }
    if has("social") && !partly && !noted(Oddity::SocialUnverified) {
        let mut found: Vec<(String, Option<String>)> = user
            .socials
            .iter()
            .map(|one| (one.provider.clone(), one.account_id.clone()))
            .collect();
        let list = truth["social"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut wanted: Vec<(String, Option<String>)> = list
            .map(|one| (text(&one["provider"]).unwrap(), text(&one["account_id"])))
            .collect();
        // A list with one column for a provider has no more than the first.
        if provider == "generic" {
            wanted.truncate(1);
        }
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{who}");
    }
    factor(&who, truth, user, has("totp"));
    password(provider, &who, truth, user);
    let row = Row {
        truth,
        user,
        has: &has,
    };
    for issue in truth["issues"].as_array().unwrap() {
        match expected(issue.as_str().unwrap()) {
            Expected::Carried | Expected::Later(_) => {}
            Expected::Noted(what, applies) => {
                if applies(&row) {
                    assert!(
                        noted(*what),
                        "{who}: {issue} and no {what:?} in {:?}",
                        user.notes
                    );
                }
            }
        }
    }
}

fn factor(who: &str, truth: &Value, user: &ImportedUser, exported: bool) {
    let key = user.factor.as_ref().and_then(|factor| factor.key.as_ref());
    let found = key.map(|key| BASE32_NOPAD.encode(&key.0));
    if !exported {
        assert_eq!(found, None, "{who}");
        let enrolled = truth["mfa_enrolled"] == true;
        // Phone numbers are factors too, and cannot be carried over.
        assert!(user.factor.is_none() || enrolled, "{who}");
        return;
    }
    let wanted = truth["totp_secret_base32"]
        .as_str()
        .map(|text| text.trim_end_matches('=').to_owned());
    // One that was begun and never confirmed is not carried over, and said to be.
    if found.is_none()
        && user
            .notes
            .iter()
            .any(|note| note.what == Oddity::FactorWithoutKey)
    {
        return;
    }
    assert_eq!(found, wanted, "{who}");
}

fn password(provider: &str, who: &str, truth: &Value, user: &ImportedUser) {
    let wanted = &truth["password"];
    if wanted.is_null() {
        // Where no hash is exported of anybody, or not of them, it cannot be known that there is none.
        let unknown = matches!(user.password, Password::NotExported);
        let unknown = unknown && ["workos", "cognito", "auth0"].contains(&provider);
        let none = matches!(user.password, Password::None | Password::Unusable);
        assert!(none || unknown, "{who}: {:?}", user.password);
        return;
    }
    if wanted["hash_exported"] == false {
        assert!(
            matches!(user.password, Password::NotExported),
            "{who}: {:?}",
            user.password
        );
        return;
    }
    if wanted["invalid"] == true {
        assert!(
            matches!(user.password, Password::Unusable),
            "{who}: {:?}",
            user.password
        );
        assert!(
            user.notes
                .iter()
                .any(|note| note.what == Oddity::InvalidHash),
            "{who}"
        );
        return;
    }
    let Password::Hash { scheme, stored, .. } = &user.password else {
        panic!("{who}: {:?} {:?}", user.password, user.notes);
    };
    let plaintext = wanted["plaintext"].as_str().unwrap();
    let fits =
        |password: &str| password::check(stored, scheme, password.as_bytes(), &Ceilings::DEFAULT);
    assert_eq!(fits(plaintext), Ok(true), "{who}: {scheme}");
    if let Some(named) = wanted["scheme"].as_str() {
        let same = password::find(named).map(|kind| kind.name) == Some(scheme.as_str());
        // A product's own word stands for whichever of its schemes the text names.
        let product = matches!(
            scheme.as_str(),
            "auth0-custom" | "django" | "wordpress" | "kratos" | "supabase" | "keycloak" | "argon2"
        );
        assert!(same || product, "{who}: {scheme}, and not {named}");
    }
    let vault = Vault::new(&Secret::new("what tests seal under"));
    let randomness = keeping::Randomness {
        nonce: [3; 24],
        salt: [4; 16],
    };
    keeping::keep(&vault, "somebody", scheme, stored, randomness).unwrap();
}

#[test]
fn every_issue_word_of_the_truth_stands_in_the_table() {
    let mut words = std::collections::BTreeSet::new();
    for provider in sampled() {
        for row in truth(&provider) {
            for issue in row["issues"].as_array().unwrap() {
                words.insert(issue.as_str().unwrap().to_owned());
            }
        }
    }
    assert!(!words.is_empty());
    for word in &words {
        expected(word);
    }
}
