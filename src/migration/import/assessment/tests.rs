//! Assessments of records made here.

use std::sync::Arc;

use serde_json::Map;
use zeroize::Zeroizing;

use super::*;
use crate::migration::import::record::{
    Ban, Factor, FactorKey, ImportedOrganization, Note, SocialAccount,
};
use crate::migration::password::Stored;
use crate::secret::Secret;

pub const NOW: UnixMs = UnixMs(1_795_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);
const BCRYPT: &str = "$2b$04$fOZRXqpgcnvxfD3/VzxkguUaOqcsJX/DgKwy28fpeaC5vyj0tZHaW";

pub fn place(row: u64) -> Place {
    Place {
        input: Arc::from("users.csv"),
        row,
    }
}

pub fn user(row: u64) -> ImportedUser {
    ImportedUser {
        place: place(row),
        source_id: format!("user_{row}"),
        email_as_exported: Some(format!("u{row}@example.com")),
        email: Some(format!("u{row}@example.com")),
        email_verified: true,
        other_emails: Vec::new(),
        name: format!("User {row}"),
        username: None,
        display_username: None,
        phone: None,
        image: None,
        created_at: None,
        updated_at: None,
        last_sign_in_at: None,
        ban: None,
        anonymous: false,
        roles: Vec::new(),
        password: Password::None,
        socials: Vec::new(),
        factor: None,
        metadata: Map::new(),
        notes: Vec::new(),
    }
}

fn hash(scheme: &str, text: &str) -> Password {
    Password::Hash {
        scheme: scheme.into(),
        stored: Stored::plain(Secret::new(text)),
        exported_at: None,
    }
}

fn with(mut user: ImportedUser, change: impl FnOnce(&mut ImportedUser)) -> ImportedUser {
    change(&mut user);
    user
}

fn note(what: Oddity) -> Note {
    Note {
        what,
        detail: String::new(),
    }
}

fn social(provider: &str, id: Option<&str>) -> SocialAccount {
    SocialAccount {
        provider: provider.into(),
        account_id: id.map(str::to_owned),
        scope: None,
        access_token: None,
        refresh_token: None,
        id_token: None,
        access_token_expires_at: None,
    }
}

fn assessor(source: &str, users: Vec<ImportedUser>) -> Assessor {
    let mut assessor = Assessor::new(Settings::of(source, NOW));
    for user in users {
        assessor.add(&Record::User(Box::new(user)));
    }
    assessor
}

fn assess(source: &str, users: Vec<ImportedUser>) -> Assessment {
    assessor(source, users).finish(None)
}

/// Somebody of each method, in its order.
fn one_of_each() -> Vec<ImportedUser> {
    let native = format!("{}:{}", "ab".repeat(16), "cd".repeat(64));
    vec![
        with(user(1), |u| {
            u.password = hash("better-auth-scrypt", &native)
        }),
        with(user(2), |u| u.password = hash("bcrypt", BCRYPT)),
        with(user(3), |u| u.password = Password::NotExported),
        with(user(4), |u| u.password = Password::Unusable),
        with(user(5), |u| u.socials = vec![social("google", Some("1"))]),
        with(user(6), |u| u.phone = Some(("+12025550000".into(), true))),
        user(7),
        with(user(8), |u| {
            u.password = hash("md5-hex", "9cc2ae8a1ba7a93da39b46fc1019c481");
        }),
        with(user(9), |u| u.password = hash("bcrypt", "$2b$04$short")),
        with(user(10), |u| u.notes = vec![note(Oddity::Deleted)]),
    ]
}

#[test]
fn every_user_is_in_one_class_and_the_classes_add_up() {
    let n = assess("clerk", one_of_each()).numbers;
    assert_eq!(
        [
            n.native,
            n.hashed,
            n.live,
            n.reset,
            n.social_only,
            n.other_only,
            n.no_method
        ],
        [1, 2, 1, 2, 1, 1, 1]
    );
    assert_eq!((n.users, n.deleted, n.weak), (9, 1, 1));
    let schemes: Vec<_> = n.by_scheme.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(
        schemes,
        [("bcrypt", 1), ("better-auth-scrypt", 1), ("md5-hex", 1)]
    );
}

#[test]
fn what_the_gateway_saves_is_the_difference_between_before_and_after() {
    let e = assess("clerk", one_of_each()).expected;
    // Before: all but the native one. After: two whose hash fits nobody, and perhaps the one who may come too late.
    assert_eq!((e.resets_before.least, e.resets_before.most), (5, 5));
    assert_eq!((e.resets_after.least, e.resets_after.most), (2, 3));
    assert!((e.resets_after.most_per_cent - 33.3).abs() < 0.01);
    assert_eq!((e.sign_outs_before.most, e.sign_outs_after.most), (9, 0));
    // Where nobody can be asked, they are all reset.
    let mut settings = Settings::of("clerk", NOW);
    settings.live_check = Some(false);
    settings.sessions = Some(false);
    let mut assessor = Assessor::new(settings);
    for user in one_of_each() {
        assessor.add(&Record::User(Box::new(user)));
    }
    let e = assessor.finish(None).expected;
    assert_eq!((e.resets_after.least, e.resets_after.most), (3, 3));
    assert_eq!(e.sign_outs_after.least, 9);
}

#[test]
fn whoever_was_there_lately_comes_again_before_the_window_ends() {
    let ago = |days: u32| {
        Some(UnixMs(
            NOW.0 - i64::try_from((DAY * days).as_millis()).unwrap(),
        ))
    };
    let of = |row, at| {
        with(user(row), |u| {
            u.password = Password::NotExported;
            u.last_sign_in_at = at;
        })
    };
    let users = vec![of(1, ago(1)), of(2, ago(90)), of(3, ago(91)), of(4, None)];
    let e = assess("workos", users).expected;
    assert_eq!((e.resets_after.least, e.resets_after.most), (1, 2));
    assert_eq!(e.resets_before.least, 4);
}

fn risk<'a>(of: &'a Assessment, id: &str) -> Option<&'a Risk> {
    of.risks.iter().find(|risk| risk.id == id)
}

#[test]
fn hashes_without_their_parameters_block_the_move() {
    let text = "lLhTbDCKyIi3PDRg5CvVHWMLiXmQTtlUCIK4s2nlCnQf8gHRO5bT4iMhZDvAJ8P6";
    let users = (1..=25)
        .map(|row| with(user(row), |u| u.password = hash("firebase-scrypt", text)))
        .collect();
    let a = assess("firebase", users);
    let found = risk(&a, "hash-parameters").unwrap();
    assert_eq!((found.severity, found.users), (Severity::Blocker, Some(25)));
    assert_eq!(found.evidence.rows.len(), ROWS_MAX);
    assert!(a.is_blocked());
    // The twin: nothing is missing beside a hash that needs nothing.
    let a = assess(
        "generic",
        vec![with(user(1), |u| u.password = hash("bcrypt", BCRYPT))],
    );
    assert!(risk(&a, "hash-parameters").is_none() && !a.is_blocked());
}

#[test]
fn all_who_share_something_are_named() {
    let a = assess(
        "generic",
        vec![
            user(1),
            with(user(2), |u| u.email = Some("u1@example.com".into())),
            with(user(3), |u| {
                u.socials = vec![social("github", Some("7"))];
                u.username = Some("ann".into());
            }),
            with(user(4), |u| {
                u.socials = vec![social("github", Some("7")), social("google", Some("7"))];
                u.username = Some("ann".into());
            }),
        ],
    );
    for (id, severity, rows) in [
        ("duplicate-email", Severity::Blocker, [1, 2]),
        ("duplicate-social", Severity::Blocker, [3, 4]),
        ("duplicate-username", Severity::Warning, [3, 4]),
    ] {
        let found = risk(&a, id).unwrap();
        let named: Vec<u64> = found.evidence.rows.iter().map(|row| row.row).collect();
        assert_eq!(
            (found.severity, named.as_slice()),
            (severity, &rows[..]),
            "{id}"
        );
    }
    assert!(risk(&a, "duplicate-phone").is_none());
}

#[test]
fn an_old_system_that_ends_before_the_window_blocks() {
    let ends = |days: u32| {
        let mut settings = Settings::of("workos", NOW);
        settings.ends = Some(NOW.plus(DAY * days));
        let mut assessor = Assessor::new(settings);
        assessor.add(&Record::User(Box::new(with(user(1), |u| {
            u.password = Password::NotExported;
        }))));
        risk(&assessor.finish(None), "ends-too-early").is_some()
    };
    assert!(ends(89));
    assert!(!ends(90));
}

#[test]
fn a_database_that_takes_other_ids_or_misses_a_plugin_is_told() {
    let assessor = assessor(
        "supabase",
        vec![
            with(user(1), |u| {
                u.source_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301".into();
                u.ban = Some(Ban::default());
            }),
            with(user(2), |u| u.username = Some("ann".into())),
        ],
    );
    let of = |ids, plugins: &[Plugin]| {
        assessor.finish(Some(&Target {
            kind: "postgres".into(),
            users: 3,
            ids,
            plugins: plugins.iter().copied().collect(),
        }))
    };
    let a = of(Ids::Uuid, &[]);
    assert_eq!(risk(&a, "id-type").unwrap().evidence.rows[0].row, 2);
    let missing: Vec<_> = a
        .risks
        .iter()
        .filter(|r| r.id == "plugin-missing")
        .collect();
    assert_eq!(missing.len(), 2);
    // A ban that is lost lets somebody in; a username that is lost does not.
    assert_eq!(missing[0].severity, Severity::Blocker);
    assert_eq!(missing[1].severity, Severity::Warning);
    assert!(risk(&a, "target").is_none() && risk(&a, "target-not-empty").is_some());
    let a = of(Ids::Text, &[Plugin::Admin, Plugin::Username]);
    assert!(risk(&a, "id-type").is_none() && risk(&a, "plugin-missing").is_none());
    assert_eq!(
        of(Ids::Number, &Plugin::ALL)
            .risks
            .iter()
            .filter(|r| r.id == "id-type")
            .count(),
        1
    );
}

#[test]
fn second_factors_are_told_apart_by_what_can_be_done_with_them() {
    let factor = |key: Option<&[u8]>, algorithm: &str| {
        Some(Factor {
            key: key.map(|key| FactorKey(Zeroizing::new(key.to_vec()))),
            digits: 6,
            period: 30,
            algorithm: algorithm.into(),
            backup_codes: Vec::new(),
        })
    };
    let a = assess(
        "keycloak",
        vec![
            with(user(1), |u| u.factor = factor(Some(b"text"), "SHA1")),
            with(user(2), |u| u.factor = factor(Some(b"text"), "SHA256")),
            with(user(3), |u| u.factor = factor(Some(&[0xff, 0xfe]), "SHA1")),
            with(user(4), |u| u.factor = factor(None, "SHA1")),
        ],
    );
    let n = &a.numbers;
    assert_eq!(
        (n.factor_with_key, n.factor_native, n.factor_without_key),
        (3, 1, 1)
    );
    assert_eq!(
        risk(&a, "factor-without-key").unwrap().evidence.rows[0].row,
        4
    );
    assert!(a.plugins.contains(&Plugin::TwoFactor));
}

#[test]
fn rows_that_cannot_be_read_and_what_is_no_user_are_counted() {
    let mut assessor = Assessor::new(Settings::of("clerk", NOW));
    assessor.add(&Record::Refused {
        place: place(3),
        source_id: None,
        note: note(Oddity::WrongWidth),
    });
    assessor.add(&Record::Organization(ImportedOrganization {
        place: place(1),
        source_id: "org_1".into(),
        name: "Acme".into(),
        slug: "acme".into(),
        logo: None,
        created_at: None,
        metadata: Map::new(),
        notes: Vec::new(),
    }));
    let a = assessor.finish(None);
    assert_eq!((a.numbers.refused, a.numbers.organizations), (1, 1));
    assert_eq!(risk(&a, "wrong-width").unwrap().evidence.rows[0].row, 3);
    assert!(risk(&a, "no-users").is_some());
}

#[test]
fn whoever_notices_something_is_listed_with_the_reason() {
    let mut users = one_of_each();
    users.push(with(user(11), |u| u.email = Some("u2@example.com".into())));
    let mut assessor = assessor("clerk", users.clone());
    let mut listed = Vec::new();
    for user in &users {
        if let Some(affected) = assessor.affected(user) {
            listed.push((
                user.place.row,
                affected.reset.as_str(),
                affected.signed_out.as_str(),
            ));
        }
    }
    assert_eq!(
        listed,
        [
            (2, "no", "no"),
            (3, "perhaps", "no"),
            (4, "yes", "no"),
            (7, "no", "no"),
            (9, "yes", "no"),
            (11, "no", "no")
        ]
    );
    // Listing counts nothing twice.
    assert_eq!(assessor.finish(None).numbers.hashed, 2);
    let mut settings = Settings::of("clerk", NOW);
    settings.sessions = Some(false);
    let mut assessor = Assessor::new(settings);
    assert_eq!(
        assessor.affected(&user(1)).unwrap().signed_out,
        Affects::Yes
    );
    assert_eq!(
        assessor.affected(&users[9]),
        None,
        "who is deleted is not told"
    );
}

#[test]
fn money_is_reckoned_from_prices_and_never_guessed() {
    let mut settings = Settings::of("clerk", NOW);
    settings.prices.user_month = Some(0.02);
    let mut assessor = Assessor::new(settings);
    for row in 1..=1000 {
        assessor.add(&Record::User(Box::new(user(row))));
    }
    let cost = assessor.finish(None).cost;
    // 90 days are three months.
    assert_eq!((cost.known, cost.complete), (60.0, false));
    assert!(
        cost.sums
            .iter()
            .any(|sum| sum.what == "labour" && sum.amount.is_none())
    );
}

#[test]
fn a_page_fits_the_terminal_and_takes_no_orders_from_an_export() {
    let mut users = one_of_each();
    users.push(with(user(12), |u| {
        u.socials = vec![social("ev\u{1b}[31mil\u{202e}|<b>", Some("1"))];
        u.roles = vec!["a`b\n|x".into()];
        u.place = Place {
            input: Arc::from("bad\u{1b}[2J.csv"),
            row: 1,
        };
        u.email = None;
    }));
    let a = assess("clerk", users);
    let page = terminal(&a, false);
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(terminal(&a, true).contains('\u{1b}'));
    let text = markdown(&a);
    assert!(!text.contains('\u{1b}') && !text.contains("<b>") && !text.contains("\n|x"));
    let json: serde_json::Value = serde_json::from_str(&a.json()).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["numbers"]["users"], 10);
    assert_eq!(json["risks"][0]["severity"], "warning");
    for text in [page, text, a.json()] {
        assert!(!text.contains(BCRYPT), "a hash is shown");
    }
}
