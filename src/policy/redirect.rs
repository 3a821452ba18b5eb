//! Where people are sent, and how they come back.

use super::Ask;
use super::rounds::MARK;
use crate::percent::encode_component;
use crate::target::Target;

/// Longest return address, in bytes. Longer ones are left out: the whole URL must pass proxies that stop at 8 KiB.
const RETURN_BYTES_MAX: usize = 2048;

/// The pages people are sent to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `routes.sign_in`: a path, or an absolute URL.
    pub sign_in: String,
    /// `routes.return_param`.
    pub return_param: String,
    /// `routes.signed_in_home`.
    pub signed_in_home: String,
    /// `routes.forbidden`: the page a document gets instead of the built-in 403.
    pub forbidden: Option<String>,
    /// `nextjs.base_path`, with which the client side of the app expects its paths.
    pub base_path: String,
}

impl Settings {
    /// The sign-in page for a request that has to come back to `target`: relative, unless the page is on another origin.
    pub fn sign_in_for(&self, target: &Target<'_>, ask: Ask) -> String {
        self.location(self.return_address(target), ask)
    }

    /// The same, with the mark by which a coming back is known.
    pub fn sign_in_marked(&self, target: &Target<'_>, ask: Ask) -> String {
        let back = self.return_address(target).map(|back| {
            let joint = if back.contains('?') { '&' } else { '?' };
            format!("{back}{joint}{MARK}")
        });
        self.location(back, ask)
    }

    /// Whether the sign-in page is on another origin.
    pub fn is_elsewhere(&self) -> bool {
        !self.sign_in.starts_with('/')
    }

    fn location(&self, back: Option<String>, ask: Ask) -> String {
        let mut location = self.sign_in.clone();
        let mut joint = if location.contains('?') { '&' } else { '?' };
        let mut add = |name: &str, value: &str| {
            location.push(joint);
            location.push_str(&encode_component(name));
            location.push('=');
            location.push_str(&encode_component(value));
            joint = '&';
        };
        if let Some(back) = back {
            add(&self.return_param, &back);
        }
        if ask == Ask::StepUp {
            add("reauth", "1");
        }
        location
    }

    /// Where to come back to: path and query as received, without what only the client router needs; `None` when it would be
    /// unsafe, useless or a loop.
    pub fn return_address(&self, target: &Target<'_>) -> Option<String> {
        let path = page_of_data(target.path()).unwrap_or_else(|| target.path().to_owned());
        if !is_safe(&path) || path == self.sign_in_path() {
            return None;
        }
        let kept: Vec<&str> = target
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| !pair.is_empty() && *pair != "_rsc" && !pair.starts_with("_rsc="))
            .filter(|pair| *pair != MARK)
            .collect();
        let back = if kept.is_empty() {
            path
        } else {
            format!("{path}?{}", kept.join("&"))
        };
        // Sign-in pages that look for backslashes look everywhere.
        (back.len() <= RETURN_BYTES_MAX && !back.contains('\\')).then_some(back)
    }

    /// The sign-in page without its query; an absolute URL where it is one.
    pub fn sign_in_path(&self) -> &str {
        self.sign_in.split(['?', '#']).next().unwrap_or_default()
    }
}

/// The page behind a data URL: `/_next/data/<build>/reports/7.json` is `/reports/7`. Base path stays in front.
fn page_of_data(path: &str) -> Option<String> {
    let (base, rest) = path.split_once("/_next/data/")?;
    let (_, page) = rest.split_once('/')?;
    let page = page.strip_suffix(".json")?;
    let page = match page {
        "index" => "",
        other => other,
    };
    Some(if page.is_empty() && !base.is_empty() {
        base.to_owned()
    } else {
        format!("{base}/{page}")
    })
}

/// A path that stays on this origin in every browser: one slash in front, and nothing a URL parser would fold away.
pub fn is_safe(path: &str) -> bool {
    let mut letters = path.bytes();
    letters.next() == Some(b'/')
        && !matches!(letters.next(), Some(b'/' | b'\\'))
        && !path
            .bytes()
            .any(|byte| byte == b'\\' || !(0x21..0x7f).contains(&byte))
}
