//! What a route needs, and the function that says whether a caller has it.

use std::sync::Arc;
use std::time::Duration;

use crate::request::Form;
use crate::session::cache::Entry;
use crate::session::resolve::{Resolution, Who};
use crate::session::{Freshness, Rejection};
use crate::time::UnixMs;

pub mod redirect;
pub mod rounds;

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

impl Need {
    /// Whether the answer depends on who is calling.
    pub const fn asks_who(&self) -> bool {
        match self {
            Self::Public | Self::Deny => false,
            Self::Optional | Self::Guest | Self::SignedIn(_) => true,
        }
    }

    /// Whether somebody without a session is turned away.
    pub const fn protects(&self) -> bool {
        match self {
            Self::Public | Self::Optional | Self::Guest => false,
            Self::SignedIn(_) | Self::Deny => true,
        }
    }

    /// The word in logs and `explain`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Optional => "optional",
            Self::Guest => "guest",
            Self::SignedIn(conditions) if *conditions == Conditions::default() => "signed-in",
            Self::SignedIn(_) => "signed-in with conditions",
            Self::Deny => "deny",
        }
    }
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

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It goes to the app.
    Allow(Permit),
    /// A person is sent elsewhere.
    Redirect(To),
    /// A program is told to sign in (401).
    Unauthorized(Ask),
    /// Known or not, this caller may not (403).
    Forbidden,
    /// This credential was used too often (429).
    TooMany {
        /// When to come back, where that is known.
        retry_after: Option<Duration>,
    },
    /// We could not find out who is calling (503).
    Unavailable,
}

impl Verdict {
    /// The word in logs, metrics and `explain`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Redirect(_) => "redirect",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooMany { .. } => "too_many",
            Self::Unavailable => "unavailable",
        }
    }

    /// Severity, for picking the strictest among the verdicts of several readings. Of two permits the one that names the
    /// caller counts: its rule asked.
    const fn severity(&self) -> u8 {
        match self {
            Self::Allow(Permit {
                principal: None, ..
            }) => 0,
            Self::Allow(Permit {
                principal: Some(_), ..
            }) => 1,
            Self::Redirect(To::Home) => 2,
            Self::Unavailable => 3,
            Self::Redirect(To::SignIn(_)) | Self::Unauthorized(_) => 4,
            Self::TooMany { .. } => 5,
            Self::Forbidden => 6,
        }
    }
}

/// Where a person is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The sign-in page.
    SignIn(Ask),
    /// The page of those who are signed in.
    Home,
}

/// What a caller is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To sign in.
    SignIn,
    /// To sign in again: the session is good but too old for this route.
    StepUp,
}

/// Proof that a request may go to the app. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Option<Arc<Entry>>,
    _only_here: (),
}

impl Permit {
    const fn anonymous() -> Self {
        Self {
            principal: None,
            _only_here: (),
        }
    }

    fn of(who: &Who) -> Self {
        let principal = match who {
            Who::Known(entry) => Some(Arc::clone(entry)),
            Who::SignatureOnly => None,
        };
        Self {
            principal,
            _only_here: (),
        }
    }

    /// Who the app is told is calling.
    pub fn principal(&self) -> Option<&Arc<Entry>> {
        self.principal.as_ref()
    }
}

/// Why a verdict is what it is: the label in logs, metrics and `explain`. Clients never see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The route is open to everybody.
    Public,
    /// The route is closed to everybody.
    Denied,
    /// A CORS preflight carries no credentials; the app answers it.
    Preflight,
    /// Nobody in particular, and the route does not mind.
    Anonymous,
    /// The caller has what the rule needs.
    SignedIn,
    /// Nothing was presented.
    NoCredential,
    /// What was presented does not count.
    Rejected(Rejection),
    /// A condition on roles failed.
    Role,
    /// A condition on the role in the organization failed.
    OrganizationRole,
    /// The e-mail address is not verified.
    EmailUnverified,
    /// The kind of credential is not accepted here.
    Credential,
    /// The session is older than the route allows.
    StepUp,
    /// Somebody signed in asked for a page of guests.
    AlreadySignedIn,
    /// The store could not answer.
    Store,
}

impl Reason {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Denied => "denied",
            Self::Preflight => "preflight",
            Self::Anonymous => "anonymous",
            Self::SignedIn => "signed_in",
            Self::NoCredential => "no_credential",
            Self::Rejected(rejection) => rejection.as_str(),
            Self::Role => "role",
            Self::OrganizationRole => "organization_role",
            Self::EmailUnverified => "email_unverified",
            Self::Credential => "credential_kind",
            Self::StepUp => "step_up",
            Self::AlreadySignedIn => "already_signed_in",
            Self::Store => "store",
        }
    }
}

/// What the policy looks at besides the rule and the caller.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The kind of request: chooses the form of a refusal.
    pub form: Form,
    /// The present.
    pub now: UnixMs,
    /// The request asks to sign in again (`reauth=1`): a page of guests does not bounce it.
    pub reauth: bool,
}

/// Whether a caller has what a rule needs.
pub fn decide(rule: &Rule, resolution: &Resolution, at: Circumstances) -> (Verdict, Reason) {
    match (&rule.need, resolution) {
        (Need::Public, _) => (Verdict::Allow(Permit::anonymous()), Reason::Public),
        (Need::Deny, _) => (Verdict::Forbidden, Reason::Denied),
        // It never carries credentials, and an answer of ours would break every cross-origin call.
        (Need::Optional | Need::Guest | Need::SignedIn(_), _) if at.form == Form::Preflight => {
            (Verdict::Allow(Permit::anonymous()), Reason::Preflight)
        }
        (Need::Optional, Resolution::Verified(who)) => {
            (Verdict::Allow(Permit::of(who)), Reason::SignedIn)
        }
        (Need::Guest, Resolution::Verified(who)) => match at.form {
            Form::Document if !at.reauth => (Verdict::Redirect(To::Home), Reason::AlreadySignedIn),
            _ => (Verdict::Allow(Permit::of(who)), Reason::SignedIn),
        },
        (
            Need::Optional | Need::Guest,
            Resolution::Anonymous | Resolution::Rejected(_) | Resolution::Unavailable,
        ) => (Verdict::Allow(Permit::anonymous()), Reason::Anonymous),
        (Need::SignedIn(conditions), Resolution::Verified(who)) => conditions.admit(who, at),
        (Need::SignedIn(_), Resolution::Anonymous) => {
            (challenge(at.form, Ask::SignIn), Reason::NoCredential)
        }
        (Need::SignedIn(_), Resolution::Rejected(why @ Rejection::Limited { retry_after })) => (
            Verdict::TooMany {
                retry_after: *retry_after,
            },
            Reason::Rejected(*why),
        ),
        (Need::SignedIn(_), Resolution::Rejected(why)) => {
            (challenge(at.form, Ask::SignIn), Reason::Rejected(*why))
        }
        (Need::SignedIn(_), Resolution::Unavailable) => (Verdict::Unavailable, Reason::Store),
    }
}

/// Whether the second verdict is stricter than the first.
pub fn is_stricter(than: &Verdict, verdict: &Verdict) -> bool {
    verdict.severity() > than.severity()
}

/// People are sent to the sign-in page, programs are told.
fn challenge(form: Form, ask: Ask) -> Verdict {
    match form {
        Form::Document | Form::DocumentPost => Verdict::Redirect(To::SignIn(ask)),
        Form::Program | Form::ServerAction | Form::Preflight => Verdict::Unauthorized(ask),
    }
}

impl Conditions {
    fn admit(&self, who: &Who, at: Circumstances) -> (Verdict, Reason) {
        let entry = match who {
            Who::Known(entry) => entry,
            Who::SignatureOnly if *self == Self::default() => {
                return (Verdict::Allow(Permit::of(who)), Reason::SignedIn);
            }
            // A signature proves none of the conditions.
            Who::SignatureOnly => return (challenge(at.form, Ask::SignIn), Reason::NoCredential),
        };
        let method = entry.method().as_str();
        if !self.credentials.is_empty() && !self.credentials.iter().any(|kind| kind == method) {
            return (Verdict::Forbidden, Reason::Credential);
        }
        if !has_any(&self.role, || entry.role()) {
            return (Verdict::Forbidden, Reason::Role);
        }
        if !has_any(&self.organization_role, || entry.organization_role()) {
            return (Verdict::Forbidden, Reason::OrganizationRole);
        }
        if self.email_verified && !entry.email_verified() {
            return (Verdict::Forbidden, Reason::EmailUnverified);
        }
        // A session from the future (clocks differ) is as young as can be.
        let too_old = |limit| {
            entry
                .created_at()
                .is_none_or(|since| at.now.since(since) > limit)
        };
        if self.step_up.is_some_and(too_old) {
            return (challenge(at.form, Ask::StepUp), Reason::StepUp);
        }
        (Verdict::Allow(Permit::of(who)), Reason::SignedIn)
    }
}

/// Whether one of the `wanted` roles is an element of a comma list. Nothing wanted: yes.
fn has_any<'l>(wanted: &[String], list: impl FnOnce() -> Option<&'l str>) -> bool {
    wanted.is_empty()
        || list().is_some_and(|list| {
            list.split(',')
                .any(|role| wanted.iter().any(|wanted| wanted == role.trim()))
        })
}
