//! Every row of every truth against what stands in the database after the command has run, on each of the databases.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use serde_json::Value;
use vestibule::migration::accounts::{Account, Identifier};
use vestibule::migration::import::outcome::word;
use vestibule::migration::import::record::Oddity;
use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::{self, Stored, keeping};
use vestibule::migration::state::State;
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;

use super::table::{Expected, expected};
use super::truth::lacks;
use super::{files, folder, json, sampled};
use crate::migration_import::{Ground, KEY, step};

/// One of each database, with every plugin's columns.
const EACH: [&str; 3] = ["full.sqlite", "full.postgres.sql", "full.mysql.sql"];

/// What the command is given for a provider.
pub fn whence(provider: &str, ground: &Ground) -> Vec<String> {
    let mut words = vec!["--from".to_owned(), provider.to_owned()];
    let mut input = |name: &str, file: &str| {
        let path = folder(provider).join(file);
        words.extend(["--input".to_owned(), format!("{name}={}", path.display())]);
    };
    let some: &[(&str, &str)] = match provider {
        "clerk" => &[
            ("users", "users.csv"),
            ("organizations", "api_organizations.json"),
            ("memberships", "api_memberships.json"),
            ("invitations", "api_invitations.json"),
        ],
        "generic" => &[("users", "users_export.json")],
        "workos" => &[
            ("identities", "identities_by_user.json"),
            ("auth_factors", "auth_factors_by_user.json"),
            ("organizations", "organizations.json"),
            ("memberships", "organization_memberships.json"),
        ],
        "authjs" => &[("tables", "tables.json")],
        "auth0" => &[
            ("users", "users_export.ndjson"),
            ("hashes", "password_hashes.ndjson"),
        ],
        "supabase" => &[
            ("users", "auth_users.json"),
            ("identities", "auth_identities.json"),
            ("factors", "auth_mfa_factors.json"),
        ],
        "firebase" => &[("users", "users.json")],
        "cognito" => &[("users", "list_users.json")],
        "keycloak" => &[],
        "kratos" => &[("identities", "identities.json")],
        "django" => &[("dump", "dumpdata.json")],
        "wordpress" => &[("users", "wp_users.csv")],
        other => panic!("nobody reads the sample export of {other}"),
    };
    for (name, file) in some {
        input(name, file);
    }
    let pages: &[(&str, &str)] = match provider {
        "clerk" => &[("api", "api_users_page")],
        "workos" => &[("users", "users_page")],
        "keycloak" => &[("users", "realm-users-")],
        _ => &[],
    };
    for (name, begins) in pages {
        for file in files(provider, begins, ".json") {
            input(name, &file);
        }
    }
    if provider == "firebase" {
        let config = folder(provider).join("hash_config.json");
        let options = ground.path("options.toml");
        let text = format!("hash_config = {{ file = \"{}\" }}\n", config.display());
        std::fs::write(&options, text).unwrap();
        words.extend(["--options".to_owned(), options]);
    }
    words
}

/// What the report has of a row: outcome and reasons.
pub type Noted = (String, BTreeSet<String>);

/// The report, by id in the old system.
pub fn reported(file: &str) -> BTreeMap<String, Noted> {
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let words = row["reason"].as_str().unwrap().split(',');
        let outcome = row["outcome"].as_str().unwrap().to_owned();
        let id = row["source_id"].as_str().unwrap_or_default().to_owned();
        (id, (outcome, words.map(str::to_owned).collect()))
    });
    rows.collect()
}

/// The people a provider's truth tells of, each with the id they go by.
pub fn people(provider: &str, reported: &BTreeMap<String, Noted>) -> Vec<(String, Value)> {
    let truth = json(&folder(provider).join("truth.json"));
    let truth = truth["users"].as_array().unwrap().clone();
    if provider != "generic" {
        let id = |row: &Value| row["source_id"].as_str().unwrap().to_owned();
        return truth.into_iter().map(|row| (id(&row), row)).collect();
    }
    // A plain list has no ids, and its reader makes them: of the address as it is written, else of the place of the row. Whoever has no
    // address is refused, so the report has all of their places, and the truth is in the order of the rows.
    let mut places: Vec<u64> = reported
        .keys()
        .filter_map(|id| id.strip_prefix("row-")?.parse().ok())
        .collect();
    places.sort_unstable();
    let mut places = places.into_iter();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let people = truth.into_iter().map(|row| {
        let exported = row["email_as_exported"].as_str().map(str::trim);
        let id = match exported.filter(|email| !email.is_empty()) {
            None => {
                let place = places.next();
                format!("row-{}", place.unwrap_or_else(|| panic!("{row} is lost")))
            }
            Some(email) => {
                let times = seen.entry(email.to_owned()).or_default();
                *times += 1;
                match *times {
                    1 => email.to_owned(),
                    times => format!("{email}#{times}"),
                }
            }
        };
        (id, row)
    });
    let people = people.collect();
    assert_eq!(
        places.next(),
        None,
        "a row without an address is in no truth"
    );
    people
}

/// What somebody types whose hash is in the export and good.
pub fn password_in(row: &Value) -> Option<&str> {
    let password = &row["password"];
    let there = password["hash_exported"] != false && password["invalid"] != true;
    password["plaintext"].as_str().filter(|_| there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_of_every_sample_export_is_in_the_database_or_in_the_report_with_the_reason() {
    let (mut told, mut failed, mut due) = (0, 0, 0);
    for layout in EACH {
        for provider in sampled() {
            let ground = Ground::of(layout).await;
            let whence = whence(&provider, &ground);
            let report = ground.path("report.ndjson");
            let words = step("import", &whence, &["--apply", "--report", &report]);
            let done = ground.told(&words, &[0, 1]).await;
            let users = done["outcomes"]["user"].as_object().unwrap();
            let sum: u64 = users.values().map(|count| count.as_u64().unwrap()).sum();
            let truth = json(&folder(&provider).join("truth.json"));
            let rows = truth["users"].as_array().unwrap().len();
            due += rows;
            // Who is in one of two inputs alone may be told of elsewhere in the truth.
            assert!(sum >= rows as u64, "{layout} {provider}: {done}");
            // What the command itself compares: name, verified address, username, phone, ban, second factor, accounts, metadata.
            let held = ground.told(&step("verify", &whence, &[]), &[0]).await;
            assert_eq!(held["missing"], 0, "{layout} {provider}: {held}");
            let reported = reported(&report);
            let accounts = ground.place.open().await;
            let mut by_email: BTreeMap<String, Vec<(Value, bool)>> = BTreeMap::new();
            for (id, row) in people(&provider, &reported) {
                let who = format!("{layout} {provider} {id}");
                let by = Identifier::Source(provider.clone(), id.clone());
                let found = accounts.find(&by).await.unwrap();
                let noted = reported.get(&id);
                // All of them are told, and not only the first.
                let compared = AssertUnwindSafe(async {
                    match &found {
                        Some(account) => present(&who, &ground, &row, account, noted).await,
                        None => absent(&who, &row, noted, &[]),
                    }
                });
                failed += usize::from(compared.catch_unwind().await.is_err());
                told += 1;
                let parked = noted.is_some_and(|(outcome, _)| outcome == "parked");
                if let (Some(email), true) =
                    (row["email_normalized"].as_str(), found.is_some() || parked)
                {
                    let rows = by_email.entry(email.to_owned()).or_default();
                    rows.push((row, found.is_some()));
                }
            }
            for (email, rows) in by_email {
                let fair = AssertUnwindSafe(|| one_has_it(&provider, &email, &rows));
                failed += usize::from(std::panic::catch_unwind(fair).is_err());
            }
        }
    }
    assert_eq!(failed, 0, "of {told} rows");
    assert_eq!(told, due, "all rows of all truths");
}

/// Of all who claim an address, one has it: of the best claim there is.
fn one_has_it(provider: &str, email: &str, rows: &[(Value, bool)]) {
    let who = format!("{provider} {email}: {rows:?}");
    // Where not every hash is exported, it is not known who has none.
    let hashes_are_told = !["workos", "cognito", "auth0"].contains(&provider);
    let claim = |row: &Value| {
        let verified = !lacks(provider).contains(&"verified") && row["email_verified"] == true;
        (verified, hashes_are_told && password_in(row).is_some())
    };
    let mut here = rows.iter().filter(|(_, is_here)| *is_here);
    let winner = here
        .next()
        .unwrap_or_else(|| panic!("nobody has it: {who}"));
    assert_eq!(here.next().map(|_| ()), None, "two have it: {who}");
    for (row, _) in rows {
        assert!(claim(&winner.0) >= claim(row), "{who}");
    }
}

/// Whoever is not there is in the report, for a reason that one of the row's issues gives.
pub fn absent(who: &str, row: &Value, noted: Option<&Noted>, besides: &[Oddity]) {
    let (outcome, reasons) = noted.unwrap_or_else(|| panic!("{who} is lost"));
    assert!(
        ["parked", "refused"].contains(&outcome.as_str()),
        "{who}: {outcome}"
    );
    let mut given = reasons_of(row);
    given.extend(besides.iter().map(|oddity| word(*oddity)));
    assert!(
        reasons.iter().any(|reason| given.contains(reason.as_str())),
        "{who}: {outcome} for {reasons:?}, and the row has {given:?}"
    );
}

/// Why a row may not be taken, by its truth.
pub fn reasons_of(row: &Value) -> BTreeSet<&'static str> {
    let issues = row["issues"].as_array().unwrap().iter();
    let given = issues.filter_map(|issue| match expected(issue.as_str().unwrap()) {
        Expected::Carried => None,
        Expected::Noted(oddity, _) | Expected::Later(oddity) => Some(*oddity),
    });
    // Everything else is told of somebody who comes all the same.
    let keeps_out = |oddity: &Oddity| {
        matches!(
            oddity,
            Oddity::NoEmail | Oddity::InvalidEmail | Oddity::DuplicateEmail | Oddity::Deleted
        )
    };
    let mut given: BTreeSet<&'static str> = given.filter(keeps_out).map(word).collect();
    if row["soft_deleted"] == true {
        given.insert(word(Oddity::Deleted));
    }
    if row["email_normalized"].is_null() {
        given.insert(word(Oddity::NoEmail));
    }
    given
}

async fn present(
    who: &str,
    ground: &Ground,
    row: &Value,
    account: &Account,
    noted: Option<&(String, BTreeSet<String>)>,
) {
    let has = |what: Oddity| noted.is_some_and(|(_, reasons)| reasons.contains(word(what)));
    if let Some(email) = row["email_normalized"].as_str() {
        assert_eq!(account.email, email, "{who}");
    }
    let socials = ground
        .place
        .rows(&format!(
            "SELECT @(\"providerId\"), @(\"accountId\") FROM \"account\" WHERE \"userId\" = '{}' AND \"providerId\" <> 'credential'",
            account.user_id
        ))
        .await;
    let here: BTreeSet<(String, String)> = socials
        .iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect();
    let wanted = row["social"].as_array().into_iter().flatten();
    let wanted: BTreeSet<(String, String)> = wanted
        .filter_map(|one| {
            let text = |key: &str| one[key].as_str().map(str::to_owned);
            Some((text("provider")?, text("account_id")?))
        })
        .collect();
    assert!(here.is_subset(&wanted), "{who}: {here:?} of {wanted:?}");
    let excused = [
        Oddity::DuplicateSocial,
        Oddity::SocialUnverified,
        Oddity::SocialWithoutId,
        Oddity::OnlyInOne,
    ];
    // Lists with one column for them, and systems that export none, have fewer.
    let some = !here.is_empty() && !who.contains(" generic ");
    if some && !excused.into_iter().any(has) {
        assert_eq!(here, wanted, "{who}");
    }
    if row["banned"] == true
        && account.email == row["email_normalized"].as_str().unwrap_or_default()
    {
        let banned = ground
            .place
            .rows(&format!(
                "SELECT @(\"banned\") FROM \"user\" WHERE \"id\" = '{}'",
                account.user_id
            ))
            .await;
        let banned = banned[0][0].as_deref().unwrap_or("0");
        let exported = !who.contains(" wordpress ")
            && !who.contains(" generic ")
            && !who.contains(" workos ")
            && !who.contains(" authjs ");
        assert_eq!(
            ["1", "t", "true"].contains(&banned),
            exported,
            "{who}: {banned}"
        );
    }
    password_of(who, row, account);
}

/// The password signs in: it fits what is kept, or is native; or it is invalid, and a link is due.
fn password_of(who: &str, row: &Value, account: &Account) {
    let wanted = &row["password"];
    let standing = account.sources.first().map(|source| source.state);
    if wanted["invalid"] == true {
        assert_eq!(standing, Some(State::Reset), "{who}");
        assert!(account.old.is_none() && account.password.is_none(), "{who}");
        return;
    }
    let Some(plaintext) = password_in(row) else {
        assert!(account.old.is_none(), "{who}");
        return;
    };
    let fits = |stored: &Stored, scheme: &str| {
        password::check(stored, scheme, plaintext.as_bytes(), &Ceilings::DEFAULT)
    };
    match (&account.password, &account.old) {
        (Some(native), _) => {
            let stored = Stored::plain(native.clone());
            assert_eq!(fits(&stored, "better-auth-scrypt"), Ok(true), "{who}");
        }
        (None, Some(old)) => {
            let vault = Vault::new(&Secret::new(KEY));
            let opened = keeping::open(&vault, &account.user_id, &old.scheme, &old.sealed);
            let opened = opened.unwrap_or_else(|lost| panic!("{who}: {lost}"));
            assert_eq!(
                fits(&opened, &old.scheme),
                Ok(true),
                "{who}: {}",
                old.scheme
            );
            assert_eq!(old.state, State::Pending, "{who}");
        }
        (None, None) => panic!("{who}: the password is lost"),
    }
}
