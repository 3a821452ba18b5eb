//! What the truth calls an issue, and what the report calls it: the one table.

use vestibule::migration::import::record::{ImportedUser, Oddity, Password};

/// What is expected at a row with an issue.
pub enum Expected {
    /// Nothing: it is carried over as it is.
    Carried,
    /// A note of this kind, where the export has what it is about.
    Noted(Oddity, fn(&Row<'_>) -> bool),
    /// It can be seen only beside other rows: decided when all are there.
    #[allow(
        dead_code,
        reason = "the word is for the reader, and for the tests of the target"
    )]
    Later(Oddity),
}

/// A row of the truth with what was made of it.
pub struct Row<'r> {
    pub truth: &'r serde_json::Value,
    pub user: &'r ImportedUser,
    /// Whether this system exports dates, metadata, other addresses and phone numbers at all.
    pub has: &'r dyn Fn(&str) -> bool,
}

pub const TABLE: &[(&str, Expected)] = &[
    ("name_has_comma_and_quotes", Expected::Carried),
    ("name_has_newline", Expected::Carried),
    ("name_unicode", Expected::Carried),
    ("name_first_only", Expected::Carried),
    ("name_formula_injection", Expected::Carried),
    ("name_decomposed_unicode", Expected::Carried),
    ("name_html", Expected::Carried),
    ("backslashes_and_semicolons", Expected::Carried),
    ("name_very_long", Expected::Carried),
    ("name_null", Expected::Noted(Oddity::NameMadeUp, |_| true)),
    (
        "name_whitespace_only",
        Expected::Noted(Oddity::NameMadeUp, |_| true),
    ),
    (
        "name_looks_like_null",
        Expected::Noted(Oddity::NameLikeNull, |_| true),
    ),
    ("email_mixed_case", Expected::Carried),
    ("email_surrounding_spaces", Expected::Carried),
    ("email_plus_tag", Expected::Carried),
    ("email_idn", Expected::Carried),
    ("email_missing", Expected::Noted(Oddity::NoEmail, |_| true)),
    (
        "email_invalid",
        Expected::Noted(Oddity::InvalidEmail, |_| true),
    ),
    (
        "duplicate_email_case_of_next",
        Expected::Later(Oddity::DuplicateEmail),
    ),
    (
        "duplicate_email_case_of_previous",
        Expected::Later(Oddity::DuplicateEmail),
    ),
    (
        "multiple_verified_emails",
        Expected::Noted(Oddity::MoreEmails, |row| (row.has)("other_emails")),
    ),
    (
        "primary_email_unverified_other_verified",
        Expected::Noted(Oddity::OtherEmailVerified, |row| (row.has)("other_emails")),
    ),
    (
        "username_case_duplicate_of_next",
        Expected::Later(Oddity::DuplicateUsername),
    ),
    (
        "username_case_duplicate_of_previous",
        Expected::Later(Oddity::DuplicateUsername),
    ),
    (
        "phone_not_e164",
        Expected::Noted(Oddity::InvalidPhone, |row| {
            (row.has)("phone") && !row.truth["phone"].is_null()
        }),
    ),
    // Systems that keep no hashes, or whose sample has none for this row, have none that is broken.
    (
        "password_hash_invalid",
        Expected::Noted(Oddity::InvalidHash, |row| {
            row.truth["password"]["invalid"] == true
                || matches!(row.user.password, Password::Unusable)
        }),
    ),
    ("password_long_over_72_bytes", Expected::Carried),
    ("password_unicode_nfd", Expected::Carried),
    (
        "created_missing",
        Expected::Noted(Oddity::InvalidDate, |row| {
            (row.has)("created")
                && (row.has)("created_missing")
                && row.truth["created_at"].is_null()
        }),
    ),
    (
        "created_in_future",
        Expected::Noted(Oddity::InvalidDate, |row| (row.has)("created")),
    ),
    (
        "created_epoch_zero",
        Expected::Noted(Oddity::InvalidDate, |row| (row.has)("created")),
    ),
    (
        "metadata_huge",
        Expected::Noted(Oddity::MetadataLarge, |row| {
            (row.has)("metadata") && (row.has)("metadata_huge")
        }),
    ),
    (
        "metadata_hostile_keys",
        Expected::Noted(Oddity::HostileKeys, |row| (row.has)("metadata")),
    ),
    (
        "no_login_method",
        Expected::Noted(Oddity::NoLoginMethod, |row| {
            matches!(row.user.password, Password::None) && !(row.has)("links")
        }),
    ),
    (
        "social_account_shared_with_next",
        Expected::Later(Oddity::DuplicateSocial),
    ),
    (
        "social_account_shared_with_previous",
        Expected::Later(Oddity::DuplicateSocial),
    ),
    ("has_totp_and_backup_codes", Expected::Carried),
];

/// What is expected for an issue.
pub fn expected(issue: &str) -> &'static Expected {
    let found = TABLE.iter().find(|(word, _)| *word == issue);
    &found
        .unwrap_or_else(|| panic!("the table has no `{issue}`"))
        .1
}
