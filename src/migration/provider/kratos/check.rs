//! Passwords checked there while it runs.
//!
//! Written after Ory's API reference (`createNativeLoginFlow`, `updateLoginFlow`, `performNativeLogout`, `getSession`, `listIdentities`) and
//! its list of message ids; not tried against a server. What follows a second factor is experimental.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, ending, factor, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Profile,
};
use crate::secret::Secret;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "public_url",
        "Its public API: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "admin_url",
        "Its admin API. Without it nobody is looked up, and who has a second factor cannot be checked.",
        KeyKind::Text,
    ),
    key(
        "admin_key",
        "The API key of the admin API, in Ory Network. Default: none.",
        KeyKind::Secret,
    ),
    key(
        "email_trait",
        "Where the address is among the traits, with dots. Default: \"email\".",
        KeyKind::Text,
    ),
    support::IDENTIFY_BY,
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

/// The password is wrong, or there is no such user. Source: `text/id.go`.
const INVALID_CREDENTIALS: u64 = 4_000_006;
/// The code is wrong.
const TOTP_WRONG: u64 = 4_000_008;
/// The password is right, and the address not verified.
const ADDRESS_NOT_VERIFIED: u64 = 4_000_010;
/// There is no authenticator.
const NO_TOTP: u64 = 4_000_011;
/// A recovery code was used before, there are none, or it is wrong.
const LOOKUP_WRONG: [u64; 3] = [4_000_012, 4_000_014, 4_000_016];
/// There is no such account, or nothing it could sign in with.
const NO_ACCOUNT: u64 = 4_000_037;
/// A captcha is wanted.
const CAPTCHA: u64 = 4_000_038;
/// What no account could have.
const INVALID_INPUT: std::ops::RangeInclusive<u64> = 4_000_001..=4_000_009;

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(fields, &["public_url"], &["admin_url", "admin_key"])? {
        return Ok(None);
    }
    let admin = match fields.text("admin_url") {
        Some(_) => Some(fields.url("admin_url", "")?),
        None => None,
    };
    let email_trait = fields.text("email_trait").map_or("email", Secret::expose);
    Ok(Some(Box::new(Kratos(Arc::new(Server {
        public: fields.url("public_url", "")?,
        admin,
        admin_key: fields.text("admin_key").cloned(),
        email_trait: format!("/traits/{}", email_trait.replace('.', "/")),
        identifier: support::Identifier::of(fields)?,
    })))))
}

struct Kratos(Arc<Server>);

struct Server {
    public: Url,
    admin: Option<Url>,
    admin_key: Option<Secret>,
    email_trait: String,
    identifier: support::Identifier,
}

impl Server {
    fn flow(&self, aal2: bool) -> Ask {
        let url = support::below(&self.public, &["self-service", "login", "api"]);
        support::get(match aal2 {
            true => support::with_query(url, &[("aal", "aal2")]),
            false => url,
        })
    }

    /// The address a flow is answered at. Never the one it names itself: that is its public name, which may not be ours to reach.
    fn submit(&self, flow: &str, body: &[(&str, Json<'_>)]) -> Ask {
        let url = support::below(&self.public, &["self-service", "login"]);
        support::post_json(support::with_query(url, &[("flow", flow)]), body)
    }

    fn log_out(&self, token: &str) -> Ask {
        let url = support::below(&self.public, &["self-service", "logout", "api"]);
        support::with_json(Method::DELETE, url, &[("session_token", Json::Text(token))])
    }

    fn ask_admin(&self, parts: &[&str], query: &[(&str, &str)]) -> Option<Ask> {
        let mut all = vec!["admin"];
        all.extend_from_slice(parts);
        let url = support::below(self.admin.as_ref()?, &all);
        let ask = support::get(support::with_query(url, query));
        Some(match &self.admin_key {
            Some(key) => ask.bearer(key.expose()),
            None => ask,
        })
    }

    fn find(&self, email: &str) -> Option<Ask> {
        self.ask_admin(&["identities"], &[("credentials_identifier", email)])
    }

    fn profile(&self, identity: &Value) -> Option<Profile> {
        let email = support::email(identity, &self.email_trait);
        let addresses = support::list(identity, "/verifiable_addresses");
        let verified = addresses.iter().any(|address| {
            support::email(address, "/value") == email && support::flag(address, "/verified")
        });
        let first = text(identity, "/traits/name/first");
        let last = text(identity, "/traits/name/last");
        let name = text(identity, "/traits/name").map(|name| name.trim().to_owned());
        Some(Profile {
            id: text(identity, "/id")?.to_owned(),
            email_verified: email.is_some() && verified,
            email,
            name: name.unwrap_or_else(|| support::full_name(first, last)),
            image: text(identity, "/traits/picture").map(str::to_owned),
            username: text(identity, "/traits/username").map(str::to_owned),
            phone: None,
            created_at: support::moment(identity, "/created_at"),
            blocked: text(identity, "/state") == Some("inactive"),
            second_factor: identity.pointer("/credentials/totp").is_some(),
        })
    }

    fn found(&self, answer: Result<Answer, Unreachable>, email: &str) -> LookedUp {
        let (answer, json) = support::read(answer)?;
        match answer.status {
            200 => {}
            429 => return Err(Unreachable::Refused),
            401 | 403 | 404 => return Err(Unreachable::Unconfigured),
            _ => return Err(Unreachable::Garbage),
        }
        let identities = json.as_array().ok_or(Unreachable::Garbage)?;
        let profiles = identities.iter().map(|identity| self.profile(identity));
        for profile in profiles {
            let profile = profile.ok_or(Unreachable::Garbage)?;
            if profile.email.as_deref() == Some(email) {
                return Ok(Some(profile));
            }
        }
        Ok(None)
    }

    fn judge(
        self: Arc<Self>,
        answer: Result<Answer, Unreachable>,
        email: Option<String>,
    ) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status == 200 {
            return self.right(&json);
        }
        let said = messages(&json);
        Next::Done(match answer.status {
            429 => Checked::Unavailable(Unreachable::Refused),
            400 if said.contains(&ADDRESS_NOT_VERIFIED) => return self.unverified(email),
            400 if said.contains(&CAPTCHA) => Checked::Unavailable(Unreachable::Challenge),
            400 if said.contains(&INVALID_CREDENTIALS)
                || said.contains(&NO_ACCOUNT)
                || said.iter().any(|id| INVALID_INPUT.contains(id)) =>
            {
                Checked::Wrong
            }
            401 if error(&json).contains("disabled") || error(&json).contains("inactive") => {
                Checked::Blocked("identity_inactive")
            }
            // A second factor is asked for where the flow itself has not said so: it does not say whose.
            403 | 422 if text(&json, "/error/id") == Some("session_aal2_required") => {
                Checked::Blocked("second_factor_needs_admin_url")
            }
            // A hook of the operator stopped it, or another page must be visited first.
            403 | 422 => Checked::Blocked("denied_by_flow"),
            404 => Checked::Unavailable(Unreachable::Unconfigured),
            _ => Checked::Unavailable(Unreachable::Garbage),
        })
    }

    fn right(self: Arc<Self>, json: &Value) -> Next<Checked> {
        let Some(token) = text(json, "/session_token").map(Secret::new) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let identity = json
            .pointer("/session/identity")
            .filter(|identity| !identity.is_null());
        let end = self.log_out(token.expose());
        if let Some(identity) = identity {
            let checked = match self.profile(identity) {
                Some(profile) if profile.blocked => Checked::Blocked("identity_inactive"),
                Some(profile) => Checked::Right(profile),
                None => Checked::Unavailable(Unreachable::Garbage),
            };
            return ending(checked, end, support::is_gone);
        }
        // Left out when a second factor is asked for: the admin API still says whose session it is.
        let session = text(json, "/session/id");
        let whose =
            session.and_then(|id| self.ask_admin(&["sessions", id], &[("expand", "identity")]));
        let Some(whose) = whose else {
            let checked = Checked::Blocked("second_factor_needs_admin_url");
            return ending(checked, end, support::is_gone);
        };
        ask(whose, move |answer, _| {
            let read = support::read(answer).and_then(|(answer, json)| match answer.status {
                200 => Ok(json),
                429 => Err(Unreachable::Refused),
                _ => Err(Unreachable::Unconfigured),
            });
            let profile = read.and_then(|json| {
                let identity = json.get("identity").ok_or(Unreachable::Garbage)?;
                self.profile(identity).ok_or(Unreachable::Garbage)
            });
            match profile {
                Ok(profile) if profile.blocked => {
                    ending(Checked::Blocked("identity_inactive"), end, support::is_gone)
                }
                // The code can only be checked in this session: it is ended with it.
                Ok(mut profile) => {
                    profile.second_factor = true;
                    let pending = Some(token);
                    Next::Done(Checked::SecondFactor { profile, pending })
                }
                Err(why) => ending(Checked::Unavailable(why), end, support::is_gone),
            }
        })
    }

    /// The password is right; the answer does not say whose it is.
    fn unverified(self: Arc<Self>, email: Option<String>) -> Next<Checked> {
        const WORD: &str = "address_not_verified";
        let Some(email) = email else {
            return Next::Done(Checked::Blocked(WORD));
        };
        let Some(find) = self.find(&email) else {
            return Next::Done(Checked::Blocked(WORD));
        };
        ask(find, move |answer, _| {
            Next::Done(match self.found(answer, &email) {
                Ok(Some(profile)) => Checked::RightBut(profile, WORD),
                Ok(None) => Checked::Blocked(WORD),
                Err(why) => Checked::Unavailable(why),
            })
        })
    }

    fn submit_code(&self, flow: &str, token: &Secret, code: &Secret) -> Ask {
        let code = code.expose().trim();
        let is_totp = code.len() == 6 && code.bytes().all(|digit| digit.is_ascii_digit());
        let (method, name) = match is_totp {
            true => ("totp", "totp_code"),
            false => ("lookup_secret", "lookup_secret"),
        };
        let body = [("method", Json::Text(method)), (name, Json::Text(code))];
        self.submit(flow, &body)
            .secret_header("x-session-token", token.expose())
    }

    fn judge_code(
        &self,
        answer: Result<Answer, Unreachable>,
        source_id: &str,
        token: &Secret,
    ) -> Next<FactorChecked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return factor(FactorChecked::Unavailable(why)),
        };
        if answer.status == 200 {
            // The same session goes on, under the same token unless it says another.
            let token = text(&json, "/session_token").unwrap_or(token.expose());
            let end = self.log_out(token);
            let whose = text(&json, "/session/identity/id");
            return support::factor_ending(end, support::theirs(whose, source_id));
        }
        let said = messages(&json);
        factor(match answer.status {
            429 => FactorChecked::Unavailable(Unreachable::Refused),
            400 if said.contains(&TOTP_WRONG)
                || said.contains(&NO_TOTP)
                || said
                    .iter()
                    .any(|id| LOOKUP_WRONG.contains(id) || INVALID_INPUT.contains(id)) =>
            {
                FactorChecked::Wrong
            }
            // The session is over: whoever types the code signs in again.
            401 | 403 => FactorChecked::Wrong,
            _ => FactorChecked::Unavailable(Unreachable::Garbage),
        })
    }
}

impl Check for Kratos {
    /// Accounts are not locked there.
    fn limit(&self) -> Limit {
        Limit {
            most: 10,
            within: Duration::from_secs(60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let server = Arc::clone(&self.0);
        let Some(name) = server.identifier.choose(attempt) else {
            return support::settled(Checked::Wrong);
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let email = attempt.email.as_ref().map(|email| email.to_lowercase());
        let password = attempt.password.clone();
        let client = support::client(attempt.client);
        support::talk(server.flow(false), move |answer, _| {
            let flow = match begun(answer) {
                Ok(flow) => flow,
                Err(why) => return support::unavailable(why),
            };
            let body = [
                ("method", Json::Text("password")),
                ("identifier", Json::Text(&name)),
                ("password", Json::Text(password.expose())),
            ];
            let submit = server
                .submit(&flow, &body)
                .header("x-forwarded-for", &client);
            ask(submit, move |answer, _| server.judge(answer, email))
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let (server, email) = (Arc::clone(&self.0), email.to_lowercase());
        let find = server.find(&email)?;
        Some(support::talk(find, move |answer, _| {
            Next::Done(Some(server.found(answer, &email)))
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let (server, token) = (Arc::clone(&self.0), pending?.clone());
        let (source_id, code) = (source_id.to_owned(), code.clone());
        let first = server
            .flow(true)
            .secret_header("x-session-token", token.expose());
        Some(support::talk(first, move |answer, _| {
            if let Ok(answer) = &answer
                && matches!(answer.status, 401 | 403)
            {
                return factor(FactorChecked::Wrong);
            }
            let flow = match begun(answer) {
                Ok(flow) => flow,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            let submit = server.submit_code(&flow, &token, &code);
            ask(submit, move |answer, _| {
                server.judge_code(answer, &source_id, &token)
            })
        }))
    }
}

/// The id of a flow that was begun.
fn begun(answer: Result<Answer, Unreachable>) -> Result<String, Unreachable> {
    let (answer, json) = support::read(answer)?;
    match (answer.status, text(&json, "/id")) {
        (200, Some(id)) => Ok(id.to_owned()),
        (429, _) => Err(Unreachable::Refused),
        (401 | 403 | 404, _) => Err(Unreachable::Unconfigured),
        _ => Err(Unreachable::Garbage),
    }
}

/// What the flow says, and what its fields say.
fn messages(json: &Value) -> Vec<u64> {
    let nodes = support::list(json, "/ui/nodes").iter();
    let of_nodes = nodes.flat_map(|node| support::list(node, "/messages"));
    support::list(json, "/ui/messages")
        .iter()
        .chain(of_nodes)
        .filter_map(|message| message.get("id")?.as_u64())
        .collect()
}

/// What an error says, in lower case: its name, and why.
fn error(json: &Value) -> String {
    let part = |pointer| text(json, pointer).unwrap_or_default();
    format!(
        "{} {} {}",
        part("/error/id"),
        part("/error/reason"),
        part("/error/message")
    )
    .to_lowercase()
}
