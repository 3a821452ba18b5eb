//! How sign-ins are looked at while users are moved in.

use super::*;
use crate::config::file::{FailuresWord, SignUpWord};
use crate::migration::sign_in::IN_ACCOUNT;
use crate::server::migration::{reset, sign_in};

/// Longest that a failed sign-in may be held: clients give up, and each that waits holds a connection.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// Mails an hour when nobody says how many.
const MAILS: u64 = 1000;

/// Everything about sign-ins.
pub(super) fn sign_ins(table: &Migration, reader: &mut Reader<'_>) -> sign_in::Settings {
    let failures = table.sign_in.as_ref().map(|found| &found.value);
    let mails = table.reset.as_ref().map(|found| &found.value);
    let sign_up = table.sign_up.as_ref().map(|found| &found.value);
    let failed = failures.and_then(|table| table.failures.as_ref());
    let hold = failures.and_then(|table| table.hold.as_ref());
    if let Some(found) = hold
        && found.value > HOLD_MAX
    {
        reader.blame(
            found,
            form(
                "longer than a failed sign-in may be held",
                "give at most \"10s\"",
            ),
        );
    }
    let mode = sign_up.and_then(|table| table.mode.as_ref());
    sign_in::Settings {
        in_account: in_account(table, reader),
        uniform: value(failed, FailuresWord::Uniform) == FailuresWord::Uniform,
        hold: value(hold, SECOND),
        trickle: value(mode, SignUpWord::Open) == SignUpWord::Trickle,
        reset: mails.and_then(|table| {
            let page = table.redirect_to.as_ref()?;
            Some(reset::Settings {
                redirect_to: page.value.clone(),
                per_hour: count(reader, table.per_hour.as_ref(), MAILS, 0..=1_000_000),
            })
        }),
    }
}

/// Schemes that are looked for in `account.password`: only those that nothing else looks like.
fn in_account(table: &Migration, reader: &mut Reader<'_>) -> Vec<String> {
    let passwords = table.passwords.as_ref().map(|found| &found.value);
    let listed = passwords.and_then(|table| table.in_account.as_ref());
    let mut schemes = Vec::new();
    for found in listed.iter().flat_map(|list| &list.value) {
        let known = |(name, _): &(&str, &[&str])| *name == found.value;
        if found.value == "argon2" || IN_ACCOUNT.iter().any(known) {
            schemes.push(found.value.clone());
            continue;
        }
        let names: Vec<&str> = IN_ACCOUNT.iter().map(|(name, _)| *name).collect();
        let what = format!(
            "hashes of `{}` cannot be told from others in `account.password`",
            short(&found.value)
        );
        let advice = format!(
            "import them into the gateway's own tables; what can be told is argon2, {}",
            names.join(", ")
        );
        reader.blame(found, form(what, &advice));
    }
    schemes
}
