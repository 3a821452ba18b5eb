//! What a move takes and costs. Hours by task from a table, with what was counted; money only from prices the operator gives.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::Facts;
use super::{Expected, Numbers, Plugin, Settings};

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Whoever writes the app's server.
    Backend,
    /// Whoever writes its pages.
    Frontend,
    /// Whoever runs it.
    Operations,
    /// Whoever answers its users.
    Support,
}

impl Role {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::Backend,
        Self::Frontend,
        Self::Operations,
        Self::Support,
    ];

    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::Operations => "operations",
            Self::Support => "support",
        }
    }
}

/// A size, as shirts have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Size {
    /// Less than 8 hours.
    S,
    /// Less than 40.
    M,
    /// Less than 120.
    L,
    /// More.
    XL,
}

impl Size {
    const fn of(hours: u32) -> Self {
        match hours {
            0..8 => Self::S,
            8..40 => Self::M,
            40..120 => Self::L,
            _ => Self::XL,
        }
    }

    /// Its letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::M => "M",
            Self::L => "L",
            Self::XL => "XL",
        }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// What.
    pub task: String,
    /// By whom.
    pub role: Role,
    /// Hours of work.
    pub hours: u32,
}

/// What it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Its parts.
    pub tasks: Vec<Task>,
    /// The sum of them.
    pub hours: u32,
    /// How big that is.
    pub size: Size,
}

impl Effort {
    /// Hours of one role.
    pub fn of(&self, role: Role) -> u32 {
        let tasks = self.tasks.iter().filter(|task| task.role == role);
        tasks.map(|task| task.hours).sum()
    }
}

/// Most hours that looking at single rows is planned with: beyond it, a rule is cheaper than eyes.
const LOOKING_HOURS_MAX: u64 = 40;

/// Minutes somebody looks at one conflict.
const CONFLICT_MINUTES: u64 = 3;

/// Minutes somebody answers one user who was reset, and how many of them write at all: one of five.
const ANSWER_MINUTES: u64 = 4;
const WRITES_ONE_IN: u64 = 5;

/// Hours somebody answers users at most: beyond it, a page answers.
const ANSWER_HOURS_MAX: u64 = 80;

/// Minutes, as hours begun.
fn hours(minutes: u64, most: u64) -> u32 {
    u32::try_from(minutes.div_ceil(60).min(most)).unwrap_or(u32::MAX)
}

/// What it takes.
pub(super) fn effort(
    facts: &Facts,
    n: &Numbers,
    plugins: &BTreeSet<Plugin>,
    collisions: u64,
) -> Effort {
    use Role::{Backend, Frontend, Operations, Support};
    let mut tasks = Vec::new();
    let mut add = |role, hours: u32, task: String| {
        if hours > 0 {
            tasks.push(Task { task, role, hours });
        }
    };
    add(
        Backend,
        facts.export.0,
        format!("Export: {}", facts.export.1),
    );
    let plugin_count = u32::try_from(plugins.len()).unwrap_or(0);
    add(
        Backend,
        4,
        "Better Auth in the app: its routes, its mails, its social providers".into(),
    );
    add(
        Backend,
        plugin_count,
        format!("Its plugins: {plugin_count}"),
    );
    add(
        Operations,
        3,
        "Vestibule in front of the app, in a copy of production".into(),
    );
    if facts.hosted_pages {
        add(
            Frontend,
            24,
            format!(
                "Pages that {} served: sign in, sign up, reset, account",
                facts.label
            ),
        );
        add(Backend, 6, "Webhooks become database hooks".into());
    }
    if !n.by_role.is_empty() {
        let roles = u32::try_from(n.by_role.len()).unwrap_or(u32::MAX);
        add(
            Backend,
            2 + roles.min(20) / 2,
            format!("{roles} roles: what the app asks for, mapped by hand"),
        );
    }
    if n.organizations > 0 {
        add(
            Backend,
            6,
            "Organizations: roles, invitations, the pages around them".into(),
        );
    }
    if n.single_sign_on > 0 {
        add(
            Backend,
            16,
            "Companies' directories: connections with the sso plugin, and with each company".into(),
        );
    }
    if n.passkeys > 0 {
        add(
            Frontend,
            4,
            "A page that asks users to enrol passkeys again".into(),
        );
    }
    if n.factor_without_key > 0 {
        add(
            Frontend,
            2,
            "A page that asks users to enrol second factors again".into(),
        );
    }
    let odd = collisions + n.refused + n.no_email;
    add(
        Backend,
        hours(odd * CONFLICT_MINUTES, LOOKING_HOURS_MAX),
        format!("{odd} rows in conflict, looked at and settled"),
    );
    add(
        Backend,
        4,
        "A rehearsal with a copy: plan, import, verify, undo".into(),
    );
    add(
        Operations,
        4,
        "The switch: delta import, verify, watching the rate of sign-ins".into(),
    );
    add(
        Operations,
        2,
        "After the window: reset the rest, finalize, take keys back".into(),
    );
    let answers = n.reset.div_ceil(WRITES_ONE_IN) * ANSWER_MINUTES;
    add(Support, 2, "Telling users beforehand".into());
    add(
        Support,
        hours(answers, ANSWER_HOURS_MAX),
        format!("Answering some of the {} users who are reset", n.reset),
    );
    let hours = tasks.iter().map(|task| task.hours).sum();
    Effort {
        tasks,
        hours,
        size: Size::of(hours),
    }
}

/// What things cost, in whichever money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Prices {
    /// One hour of work.
    pub hour: Option<f64>,
    /// One active user of the old system a month.
    pub user_month: Option<f64>,
    /// What runs, a month.
    pub infrastructure_month: Option<f64>,
    /// A thousand mails.
    pub thousand_mails: Option<f64>,
    /// Users that are active in a month; those that move where nobody says.
    pub active_users: Option<u64>,
}

/// One sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sum {
    /// Of what.
    pub what: String,
    /// How it is reckoned.
    pub reckoned: String,
    /// How much; none where a price was not given.
    pub amount: Option<f64>,
}

/// What it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Its parts.
    pub sums: Vec<Sum>,
    /// The sum of those that are known.
    pub known: f64,
    /// Whether all of them are.
    pub complete: bool,
}

#[allow(clippy::cast_precision_loss)] // Hours and users fit a float with room.
pub(super) fn cost(
    settings: &Settings,
    facts: &Facts,
    n: &Numbers,
    expected: &Expected,
    effort: &Effort,
) -> Cost {
    let prices = &settings.prices;
    // A month begun is paid.
    let months = settings.window.as_secs().div_ceil(30 * 24 * 3600).max(1);
    let active = prices.active_users.unwrap_or(n.users);
    let mails = n.users + expected.resets_after.most;
    let mut sums = vec![Sum {
        what: "labour".into(),
        reckoned: format!("{} hours", effort.hours),
        amount: prices.hour.map(|price| price * f64::from(effort.hours)),
    }];
    if facts.paid_by_user {
        sums.push(Sum {
            what: format!("{} while both run", facts.label),
            reckoned: format!("{active} active users x {months} months"),
            amount: prices
                .user_month
                .map(|price| price * active as f64 * months as f64),
        });
    }
    sums.push(Sum {
        what: "infrastructure while both run".into(),
        reckoned: format!("{months} months"),
        amount: prices
            .infrastructure_month
            .map(|price| price * months as f64),
    });
    sums.push(Sum {
        what: "mails".into(),
        reckoned: format!(
            "{mails}: one to everybody beforehand, and at most {} resets",
            expected.resets_after.most
        ),
        amount: prices
            .thousand_mails
            .map(|price| price * mails as f64 / 1000.0),
    });
    for sum in &mut sums {
        sum.amount = sum.amount.map(|amount| (amount * 100.0).round() / 100.0);
    }
    let known: f64 = sums.iter().filter_map(|sum| sum.amount).sum();
    Cost {
        // Nothing, where no price is known, is no negative nothing.
        known: (known * 100.0).round() / 100.0 + 0.0,
        complete: sums.iter().all(|sum| sum.amount.is_some()),
        sums,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_where_they_are_said_to() {
        let sizes = [0, 7, 8, 39, 40, 119, 120].map(|hours| Size::of(hours).as_str());
        assert_eq!(sizes, ["S", "S", "M", "M", "L", "L", "XL"]);
    }

    #[test]
    fn minutes_are_hours_begun_and_bounded() {
        assert_eq!(
            [0, 1, 60, 61, 100_000].map(|m| hours(m, 40)),
            [0, 1, 1, 2, 40]
        );
    }
}
