//! How an assessment is shown to people. For programs there is [`super::Assessment::json`].

mod markdown;
mod terminal;

pub use markdown::markdown;
pub use terminal::terminal;

use super::Numbers;

/// Counted things in the order in which they are told; what there is none of is left out.
fn counted(n: &Numbers) -> Vec<(&'static str, u64)> {
    let all = [
        ("users that move", n.users),
        ("deleted in the old system", n.deleted),
        ("rows that cannot be read", n.refused),
        ("password: Better Auth's own hash", n.native),
        ("password: old hash, checked here", n.hashed),
        ("password: checked in the old system once", n.live),
        ("password: nothing can check it, reset", n.reset),
        ("no password: social accounts", n.social_only),
        (
            "no password: phone, directory, passkey, anonymous",
            n.other_only,
        ),
        ("nothing signs them in", n.no_method),
        ("addresses verified", n.verified),
        ("without an address", n.no_email),
        ("banned", n.banned),
        ("second factor with its key", n.factor_with_key),
        ("second factor without its key", n.factor_without_key),
        ("backup codes", n.backup_codes),
        ("passkeys", n.passkeys),
        ("single sign-on", n.single_sign_on),
        ("anonymous", n.anonymous),
        ("usernames", n.usernames),
        ("phone numbers", n.phones),
        ("organizations", n.organizations),
        ("members", n.members),
        ("invitations", n.invitations),
    ];
    let shown = |at: usize, count: u64| at == 0 || count > 0;
    let all = all.into_iter().enumerate();
    all.filter(|(at, (_, count))| shown(*at, *count))
        .map(|(_, line)| line)
        .collect()
}

/// Text from an export, fit to be shown: no control characters, no direction marks, and not too long.
fn shown(text: &str) -> String {
    const LETTERS_MAX: usize = 120;
    let quiet = |c: char| {
        let marks = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || marks {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(quiet).take(LETTERS_MAX).collect()
}
