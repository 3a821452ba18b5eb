//! What could go wrong: how bad it is, whom it touches, which rows show it, and what to do.

use std::collections::BTreeSet;

use serde::Serialize;

use super::evidence::Evidence;
use super::{Assessor, Ids, Outlook, Plugin, Target, oddity, per_cent};
use crate::migration::import::outcome;
use crate::migration::import::record::Oddity;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// To be settled before anybody moves.
    Blocker,
    /// Users will notice.
    Warning,
    /// Nobody can see it in an export: somebody must find out.
    Unknown,
    /// Handled; said so that nobody is surprised.
    Note,
}

/// Something that could go wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Risk {
    /// One word for it, the same in every report.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub title: String,
    /// Users it touches; none where that cannot be counted.
    pub users: Option<u64>,
    /// The rows that show it.
    pub evidence: Evidence,
    /// What to do.
    pub remedy: String,
}

/// Below this share of verified addresses, asking everybody to verify is a project of its own.
const UNVERIFIED_PER_CENT: f64 = 10.0;

struct List(Vec<Risk>);

impl List {
    fn seen(
        &mut self,
        severity: Severity,
        id: &'static str,
        by: &Evidence,
        title: &str,
        remedy: &str,
    ) {
        if !by.is_empty() {
            self.0.push(Risk {
                id,
                severity,
                title: title.to_owned(),
                users: Some(by.count),
                evidence: by.clone(),
                remedy: remedy.to_owned(),
            });
        }
    }

    fn said(
        &mut self,
        severity: Severity,
        id: &'static str,
        users: Option<u64>,
        title: String,
        remedy: &str,
    ) {
        self.0.push(Risk {
            id,
            severity,
            title,
            users,
            evidence: Evidence::default(),
            remedy: remedy.to_owned(),
        });
    }
}

/// Everything that could go wrong, the worst first.
pub fn risks(from: &Assessor, target: Option<&Target>, plugins: &BTreeSet<Plugin>) -> Vec<Risk> {
    let mut list = List(Vec::new());
    blockers(from, &mut list);
    if let Some(target) = target {
        the_target(from, target, plugins, &mut list);
    }
    warnings(from, &mut list);
    unknowns(from, target, &mut list);
    for (oddity, evidence) in &from.oddities {
        if let Some(told) = oddity::about(*oddity) {
            list.seen(
                told.severity,
                outcome::word(*oddity),
                evidence,
                told.title,
                told.remedy,
            );
        }
    }
    let mut risks = list.0;
    // Stable: among equals those named first come first.
    risks.sort_by_key(|risk| (risk.severity, std::cmp::Reverse(risk.users.unwrap_or(0))));
    risks
}

fn blockers(from: &Assessor, list: &mut List) {
    let n = &from.numbers;
    let blocker = Severity::Blocker;
    if n.users == 0 {
        list.said(
            blocker,
            "no-users",
            None,
            "there is nobody in these inputs".into(),
            "name the right files with --input; with --help each source tells which it reads",
        );
    }
    for (what, evidence) in &from.missing {
        list.seen(
            blocker,
            "hash-parameters",
            evidence,
            &format!("hashes need `{what}`, which is not in the export: without it no password fits"),
            "find it in the old system's settings or code (a signer key, a pepper, a salt column) and write it into the options file",
        );
    }
    list.seen(
        blocker,
        "duplicate-email",
        &from.emails,
        "several users have one address, in one spelling or another",
        "decide before the import who keeps it: by default verified before unverified, with a password before without, the latest sign-in, the oldest. The others are parked with their hash, and nobody is merged",
    );
    list.seen(
        blocker,
        "duplicate-social",
        &from.socials,
        "several users have one account elsewhere",
        "none of them gets it, or somebody would sign in as somebody else: find out whose it is, and correct the old system",
    );
    if let Some(ends) = from.settings.ends {
        let window_ends = from.settings.now.plus(from.settings.window);
        if ends < window_ends && (n.live > 0 || from.sessions() != Outlook::Lost) {
            list.said(
                blocker,
                "ends-too-early",
                Some(n.live),
                "the old system ends before the window does: whoever has not signed in until then is reset".into(),
                "extend the contract until the window ends, or plan a shorter one with --window and a batch reset at its end",
            );
        }
    }
}

fn the_target(from: &Assessor, target: &Target, plugins: &BTreeSet<Plugin>, list: &mut List) {
    let ids = match target.ids {
        Ids::Text => None,
        Ids::Uuid => Some((&from.source_id_no_uuid, "UUIDs")),
        Ids::Number => Some((&from.source_id_no_number, "numbers")),
    };
    if let Some((evidence, what)) = ids {
        list.seen(
            Severity::Blocker,
            "id-type",
            evidence,
            &format!("the database's ids are {what}, and theirs are not: they get new ones"),
            "keep the table legacy_identity for ever and rewrite the app's foreign keys by it, or have Better Auth use text ids",
        );
    }
    let missing: Vec<Plugin> = plugins
        .iter()
        .filter(|plugin| !target.plugins.contains(plugin) && **plugin != Plugin::Sso)
        .copied()
        .collect();
    for plugin in missing {
        let n = &from.numbers;
        let (users, what) = match plugin {
            Plugin::Admin => (n.banned, "bans and roles"),
            Plugin::Anonymous => (n.anonymous, "who is anonymous"),
            Plugin::Organization => (n.organizations, "organizations"),
            Plugin::Passkey => (n.passkeys, "passkeys"),
            Plugin::PhoneNumber => (n.phones, "phone numbers"),
            Plugin::Sso => (n.single_sign_on, "connections"),
            Plugin::TwoFactor => (n.factor_with_key + n.factor_without_key, "second factors"),
            Plugin::Username => (n.usernames, "usernames"),
        };
        // A lost ban lets somebody in, a lost second factor lets anybody in who knows a password.
        let severe =
            matches!(plugin, Plugin::TwoFactor) || (plugin == Plugin::Admin && n.banned > 0);
        list.said(
            if severe {
                Severity::Blocker
            } else {
                Severity::Warning
            },
            "plugin-missing",
            Some(users),
            format!(
                "the database has no place for {what}: the plugin {} is not there",
                plugin.as_str()
            ),
            "add the plugin to the app, run Better Auth's migration, and plan again",
        );
    }
    if target.users > 0 {
        list.said(
            Severity::Note,
            "target-not-empty",
            None,
            format!("the database has {} users already", target.users),
            "whoever has an address that comes again is never overwritten: they are told as already there, or parked",
        );
    }
}

fn warnings(from: &Assessor, list: &mut List) {
    let n = &from.numbers;
    let warning = Severity::Warning;
    list.seen(
        warning,
        "no-email",
        &from.no_email,
        "users have no address that can be one",
        "Better Auth needs one: name a domain of your own for placeholders in the options file, or they are refused",
    );
    list.seen(
        warning,
        "unusable-hash",
        &from.unusable,
        "a hash is of no form that any password fits, or costs more than is allowed",
        "they get a reset at their first sign-in; tell them beforehand (`--list-affected`)",
    );
    let elsewhere = from.facts.remote_factor;
    list.seen(
        warning,
        "factor-without-key",
        &from.factor_without_key,
        "second factors whose key is not in the export",
        if elsewhere {
            "their codes are checked in the old system during the window; have them enrol again before it ends"
        } else {
            "they must enrol again: the gateway asks for a code by mail at the first sign-in, and for nothing less"
        },
    );
    list.seen(
        warning,
        "weak-digests",
        &from.weak,
        "passwords are kept as fast digests, which are guessed in seconds by whoever gets at them",
        "each is wrapped in a slow hash while it is imported; destroy the export afterwards",
    );
    if from.asks_live() && n.live > 0 {
        list.seen(
            warning,
            "live-check",
            &from.live,
            "passwords are checked in the old system once, at the first sign-in",
            "keep it up for the whole window; whoever has not come until then gets a link (`vestibule migrate reset --pending`)",
        );
    }
    let unverified = per_cent(from.unverified.count, n.users);
    if !from.unverified.is_empty() {
        let severity = if unverified >= UNVERIFIED_PER_CENT {
            warning
        } else {
            Severity::Note
        };
        list.seen(
            severity,
            "unverified",
            &from.unverified,
            &format!("{unverified} % of the addresses are not verified"),
            "leave `requireEmailVerification` off until they had a mail, or they cannot sign in; a right password verifies no address",
        );
    }
    list.seen(
        warning,
        "duplicate-username",
        &from.usernames,
        "several users have one username, in one spelling or another",
        "one keeps it, the others sign in with their address and choose another",
    );
    list.seen(
        warning,
        "duplicate-phone",
        &from.phones,
        "several users have one phone number",
        "one keeps it, the others sign in with their address",
    );
    if from.seen.not_compared > 0 {
        list.said(
            Severity::Unknown,
            "not-compared",
            None,
            format!("{} values were not compared with each other: there were too many", from.seen.not_compared),
            "the import compares all of them in the database; run it without --apply and look at its report",
        );
    }
}

fn unknowns(from: &Assessor, target: Option<&Target>, list: &mut List) {
    let n = &from.numbers;
    let unknown = Severity::Unknown;
    let peppers = n
        .by_scheme
        .iter()
        .filter(|(scheme, _)| scheme.starts_with("bcrypt"));
    let peppered: u64 = peppers.map(|(_, count)| count).sum();
    // Where the app writes its own hashes, nothing in the text tells of a pepper.
    if peppered > 0
        && matches!(
            from.facts.name,
            "generic" | "devise" | "authjs" | "lucia" | "laravel"
        )
    {
        list.said(
            unknown,
            "pepper",
            Some(peppered),
            "a pepper leaves no trace in a hash".into(),
            "try one hash with a password you know: `vestibule hash verify`",
        );
    }
    if n.with_social > 0 {
        list.said(
            unknown,
            "oauth-clients",
            Some(n.with_social),
            "accounts elsewhere go on working only with the same OAuth clients".into(),
            "use the clients the old system used, if they are yours, and add Better Auth's callback `/api/auth/callback/NAME` to each before the switch",
        );
    }
    if from.sessions() != Outlook::Lost {
        list.said(
            unknown,
            "session-keys",
            Some(n.users),
            format!("sessions are taken over only so: {}", from.facts.sessions_about),
            "put the keys of the draft into the gateway's environment, and try it with a session of your own (`shadow = true`)",
        );
    } else {
        list.said(
            Severity::Warning,
            "signed-out",
            Some(n.users),
            "everybody must sign in again".into(),
            "switch at a quiet hour, and say so beforehand",
        );
    }
    if target.is_none() {
        list.said(
            unknown,
            "target",
            None,
            "the database the users go to was not looked at".into(),
            "plan again with --config: ids, plugins and who is there already",
        );
    }
    if from.oddities.contains_key(&Oddity::UnknownRole) || !n.by_role.is_empty() {
        list.said(
            unknown,
            "roles",
            Some(n.by_role.values().sum()),
            "roles mean what the app makes of them".into(),
            "check each against the app's code, and map it in the options file",
        );
    }
}

/// Questions that these numbers raise.
pub fn questions(from: &Assessor, target: Option<&Target>) -> Vec<String> {
    let n = &from.numbers;
    let mut asked = Vec::new();
    if n.no_email > 0 {
        asked.push(format!("What becomes of the {} users without an address: placeholders in a domain of yours, or left behind?", n.no_email));
    }
    if !from.emails.is_empty() {
        asked.push(format!(
            "Are the {} users who share an address one person or several?",
            from.emails.count
        ));
    }
    if n.no_method > 0 {
        asked.push(format!(
            "Do the {} users whom nothing signs in move at all?",
            n.no_method
        ));
    }
    if n.live > 0 && from.settings.ends.is_none() {
        asked.push("Until when does the contract with the old system run? (`--ends`)".into());
    }
    if target.is_none() {
        asked.push("Which ids does the new database use: text, UUIDs or numbers?".into());
    }
    if n.organizations > 0 {
        asked.push(
            "Which roles in organizations does the app ask for, and are teams needed?".into(),
        );
    }
    asked
}
