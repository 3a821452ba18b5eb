//! What a route needs, and the function that says whether a caller has it.

use std::time::Duration;

use crate::session::Freshness;

pub mod redirect;

/// What one route needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who may pass.
    pub need: Need,
    /// How fresh the identity must be.
    pub freshness: Freshness,
}

/// Who may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Anyone; nobody is looked up.
    Public,
    /// Anyone; those who are known are named to the app.
    Optional,
    /// Anyone; a document of someone signed in goes to the signed-in home.
    Guest,
    /// Those who are signed in and meet every condition.
    SignedIn(Conditions),
    /// Nobody.
    Deny,
}

/// What somebody signed in must have besides. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// One of these is among the user's roles.
    pub role: Vec<String>,
    /// One of these is among the member's roles in the active organization.
    pub organization_role: Vec<String>,
    /// The e-mail address is verified.
    pub email_verified: bool,
    /// They signed in at most this long ago.
    pub step_up: Option<Duration>,
    /// How they proved who they are is one of these (kinds of credential). Empty: any that is enabled.
    pub credentials: Vec<String>,
}
