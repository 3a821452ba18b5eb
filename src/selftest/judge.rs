//! What must not come back, and what must: small judges over one exchange.

use super::answer::Answer;
use super::answer::Reading;
use super::site::{ELSEWHERE, MARK, PROBE_HEADER, Site, likeness, resembles};

/// One thing sent and what is expected of it.
#[derive(Clone)]
pub struct Probe {
    /// The bytes, on a connection of their own.
    pub sent: Vec<u8>,
    /// What is waited for.
    pub reading: Reading,
    /// What is expected.
    pub expect: Expect,
    /// Whether the public page must answer as ever afterwards, on another connection.
    pub afterwards: bool,
}

impl Probe {
    /// One request and one answer.
    pub fn new(sent: Vec<u8>, expect: Expect) -> Self {
        Self {
            sent,
            reading: Reading::One,
            expect,
            afterwards: false,
        }
    }

    /// Waits for everything that comes back until the other side closes.
    pub fn to_the_end(mut self) -> Self {
        self.reading = Reading::All;
        self
    }
}

/// What one probe brought back.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Answers, in their order.
    pub answers: Vec<Answer>,
    /// What the public page answered afterwards, where that is looked at.
    pub afterwards: Option<Answer>,
}

/// What is expected of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing protected comes back.
    KeptOut,
    /// Nothing comes back but a refusal.
    Refused,
    /// No more answers than that: what came behind was not taken for a request.
    AnswersAtMost(usize),
    /// The app does not see the mark.
    Unseen,
    /// The app sees this, unless the request was refused.
    Shown(String),
    /// The app sees a header of this name, unless the request was refused.
    Kept(String),
    /// The session does not count, and its cookie is taken back.
    Cleared(String),
    /// No shared cache may keep the answer.
    Private,
    /// Refused, and not by a redirect.
    RefusedInPlace,
    /// A Server Action did not run: refused, or sent to sign in.
    NotRun,
    /// The answer tells nobody who is asking.
    Discreet(Vec<String>),
}

impl Expect {
    /// In words.
    pub fn to_text(&self) -> String {
        match self {
            Self::KeptOut => {
                "nothing of the protected page: a refusal, or a page that is public anyway".into()
            }
            Self::Refused => "a refusal (4xx), or a closed connection".into(),
            Self::AnswersAtMost(most) => {
                format!(
                    "a refusal, or at most {most} answers: the bytes behind the body are no request"
                )
            }
            Self::Unseen => format!("a refusal, or an app that does not see `{MARK}`"),
            Self::Shown(text) => format!("a refusal, or an app that sees `{text}`"),
            Self::Kept(name) => format!("a refusal, or an app that sees the header `{name}`"),
            Self::Cleared(name) => format!("a refusal that takes the cookie `{name}` back"),
            Self::Private => {
                "`Cache-Control` with `no-store`, or `private` without `public` and `s-maxage`"
                    .into()
            }
            Self::RefusedInPlace => "a refusal that is no redirect".into(),
            Self::NotRun => {
                "a refusal or the way to the sign-in page: the action does not run".into()
            }
            Self::Discreet(_) => "an answer without identity headers".into(),
        }
    }

    /// Judges what came back.
    pub fn judge(&self, site: &Site, heard: &Heard) -> Verdict {
        let answers = &heard.answers;
        if answers.iter().any(|answer| answer.status == 429) {
            return Verdict::Unclear("the stack said 429: too many requests".into());
        }
        if let Some(wrong) = answers
            .iter()
            .find_map(|answer| made_of_request(site, answer))
        {
            return Verdict::Failed(wrong);
        }
        let verdict = match self {
            Self::KeptOut => kept_out(site, answers),
            Self::Refused => refused(answers),
            Self::AnswersAtMost(most) => at_most(answers, *most),
            Self::Unseen => seen(answers, |body| match body.find(MARK) {
                None => Ok(()),
                Some(at) => Err(format!("the app saw `{}`", around(body, at))),
            }),
            Self::Shown(text) => seen(answers, |body| {
                // Names are shown as the app got them, whatever their case.
                body.to_ascii_lowercase()
                    .contains(&text.to_ascii_lowercase())
                    .then_some(())
                    .ok_or_else(|| format!("the app did not see `{text}`"))
            }),
            Self::Kept(name) => seen(answers, |body| {
                shows_header(body, name)
                    .then_some(())
                    .ok_or_else(|| format!("the app did not see the header `{name}`"))
            }),
            Self::Cleared(name) => cleared(site, answers, name),
            Self::Private => private(answers),
            Self::RefusedInPlace => match kept_out(site, answers) {
                Verdict::Passed => match answers.iter().find(|a| (300..400).contains(&a.status)) {
                    Some(answer) => Verdict::Failed(format!("a redirect ({})", answer.status)),
                    None => Verdict::Passed,
                },
                other => other,
            },
            Self::NotRun => not_run(answers),
            Self::Discreet(names) => discreet(answers, names),
        };
        match (verdict, &heard.afterwards, &site.public) {
            (Verdict::Passed, Some(after), Some(public)) if is_other(after, &public.anonymous) => {
                Verdict::Failed(format!(
                    "afterwards {} answered {} instead of {}, on a connection of its own",
                    public.path, after.status, public.anonymous.status
                ))
            }
            (verdict, _, _) => verdict,
        }
    }
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected, and how.
    Failed(String),
    /// It cannot be told, and why.
    Unclear(String),
}

/// Afterwards another page came back, or none that works. A server that was merely busy is no proof.
fn is_other(after: &Answer, before: &Answer) -> bool {
    after.status != before.status && !matches!(after.status, 0 | 429 | 503)
}

fn kept_out(site: &Site, answers: &[Answer]) -> Verdict {
    for answer in answers {
        if answer.status == 101 {
            return Verdict::Failed("101: a tunnel to the app was opened".into());
        }
        // Signed-in pages are known when there is a session: their content counts whatever the status says.
        let content = site.protected.iter().find_map(|page| {
            let signed_in = page.signed_in.as_ref()?;
            let known = resembles(&answer.body, &signed_in.body)
                && !resembles(&page.anonymous.body, &signed_in.body);
            known.then_some(&page.path)
        });
        let open = is_open(site, answer);
        if let (Some(path), false) = (content, open) {
            return Verdict::Failed(format!(
                "{}, with what {path} shows to those signed in",
                answer.status
            ));
        }
        if answer.is_success() && !open {
            return Verdict::Failed(format!(
                "{}, with {} bytes that are no page known to be public",
                answer.status,
                answer.body.len()
            ));
        }
    }
    Verdict::Passed
}

/// Whether anybody may see this: it is more like a public page than like a protected one.
fn is_open(site: &Site, answer: &Answer) -> bool {
    let public = site.public.iter().map(|page| &page.anonymous);
    public
        .chain(&site.open)
        .chain(site.protected.iter().map(|page| &page.anonymous))
        .filter(|known| known.status == answer.status && resembles(&known.body, &answer.body))
        .any(|known| {
            let near = likeness(&known.body, &answer.body);
            site.protected
                .iter()
                .filter_map(|page| page.signed_in.as_ref())
                .all(|hidden| {
                    known.body == answer.body || likeness(&hidden.body, &answer.body) < near
                })
        })
}

fn is_refusal(answer: &Answer) -> bool {
    (400..600).contains(&answer.status)
}

fn refused(answers: &[Answer]) -> Verdict {
    match answers.iter().find(|answer| !is_refusal(answer)) {
        Some(answer) => Verdict::Failed(format!("{}, which is no refusal", answer.status)),
        None => Verdict::Passed,
    }
}

/// An action that ran answers 200, or 303 with its own word; one that is unknown to the app is refused there.
fn not_run(answers: &[Answer]) -> Verdict {
    let ran = |answer: &&Answer| {
        answer.is_success()
            || (answer.status >= 500 && answer.header("x-action-redirect").is_none())
            || answer.header("x-nextjs-action-not-found").is_some()
    };
    match answers.iter().find(ran) {
        Some(answer) if answer.is_success() => {
            Verdict::Failed(format!("{}: the action ran", answer.status))
        }
        Some(answer) => Verdict::Unclear(format!(
            "{} by the app: is the id that of an action of this build?",
            answer.status
        )),
        None => Verdict::Passed,
    }
}

fn at_most(answers: &[Answer], most: usize) -> Verdict {
    if answers.len() > most {
        let statuses: Vec<String> = answers.iter().map(|a| a.status.to_string()).collect();
        return Verdict::Failed(format!(
            "{} answers ({}): more than one request was read",
            answers.len(),
            statuses.join(", ")
        ));
    }
    Verdict::Passed
}

/// Looks at what the app says it saw. A refusal is fine, silence and redirects prove nothing.
fn seen(answers: &[Answer], look: impl Fn(&str) -> Result<(), String>) -> Verdict {
    let Some(answer) = answers.first() else {
        return Verdict::Passed;
    };
    if answer.is_success() {
        return match look(&answer.text()) {
            Ok(()) => Verdict::Passed,
            Err(wrong) => Verdict::Failed(wrong),
        };
    }
    if (400..500).contains(&answer.status) {
        return Verdict::Passed;
    }
    Verdict::Unclear(format!("the page that reports answered {}", answer.status))
}

/// Whether a page that reports headers reports this one: its name, then a colon or an equals sign. Elsewhere, as in what it says
/// of `Connection`, the name stands for itself.
pub(super) fn shows_header(body: &str, name: &str) -> bool {
    let (body, name) = (body.to_ascii_lowercase(), name.to_ascii_lowercase());
    body.match_indices(&name).any(|(at, found)| {
        body.get(at + found.len()..)
            .unwrap_or_default()
            .trim_start_matches(['"', '\'', ' ', '\\'])
            .starts_with([':', '='])
    })
}

/// The mark with what stands before it: which name it came under.
fn around(body: &str, at: usize) -> String {
    const BEFORE: usize = 48;
    let before: Vec<char> = body
        .get(..at)
        .unwrap_or_default()
        .chars()
        .rev()
        .take(BEFORE)
        .collect();
    before.into_iter().rev().chain(MARK.chars()).collect()
}

fn cleared(site: &Site, answers: &[Answer], name: &str) -> Verdict {
    match kept_out(site, answers) {
        Verdict::Passed => {}
        other => return other,
    }
    let Some(answer) = answers.first() else {
        return Verdict::Unclear("no answer".into());
    };
    let ends = |line: &str| {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let lower = attributes.to_ascii_lowercase();
        pair.split('=').next().map(str::trim) == Some(name)
            && (lower.contains("max-age=0") || lower.contains("expires=thu, 01 jan 1970"))
    };
    if answer.all("set-cookie").any(ends) {
        Verdict::Passed
    } else {
        Verdict::Failed(format!("{}, and the cookie stays", answer.status))
    }
}

fn private(answers: &[Answer]) -> Verdict {
    let Some(answer) = answers.first() else {
        return Verdict::Unclear("no answer".into());
    };
    let policy = answer
        .all("cache-control")
        .collect::<Vec<_>>()
        .join(", ")
        .to_ascii_lowercase();
    let words: Vec<&str> = policy
        .split(',')
        .map(|word| word.trim().split('=').next().unwrap_or_default())
        .collect();
    let shared = words.contains(&"public") || words.contains(&"s-maxage");
    if !shared && (words.contains(&"no-store") || words.contains(&"private")) {
        Verdict::Passed
    } else {
        Verdict::Failed(format!("{}, `Cache-Control: {policy}`", answer.status))
    }
}

fn discreet(answers: &[Answer], names: &[String]) -> Verdict {
    let leaked = answers
        .iter()
        .flat_map(|answer| &answer.headers)
        .find(|(name, _)| names.iter().any(|owned| owned.eq_ignore_ascii_case(name)));
    match leaked {
        Some((name, _)) => Verdict::Failed(format!("the answer carries `{name}`")),
        None => Verdict::Passed,
    }
}

/// What no answer to anything may do: lead away, or carry a header that the request made.
fn made_of_request(site: &Site, answer: &Answer) -> Option<String> {
    for location in answer.all("location").chain(answer.all("refresh")) {
        if site.leaves(location)
            || location
                .to_ascii_lowercase()
                .starts_with(&format!("//{ELSEWHERE}"))
        {
            return Some(format!("{}, which leads away: `{location}`", answer.status));
        }
    }
    answer
        .headers
        .iter()
        .find(|(name, value)| {
            name.eq_ignore_ascii_case(PROBE_HEADER)
                || (name.eq_ignore_ascii_case("set-cookie") && value.starts_with(PROBE_HEADER))
        })
        .map(|(name, _)| format!("the request wrote the header `{name}` of the answer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::{Outcome, Page, conclude};

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        Answer {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.into(),
        }
    }

    const SECRET_PAGE: &str = "your balance is 4711 and three invoices are open";
    const PUBLIC_PAGE: &str = "welcome to everybody who reads this page about us";

    fn site(signed_in: bool) -> Site {
        let page = |path: &str, anonymous| Page {
            path: path.into(),
            anonymous,
            signed_in: None,
        };
        let mut door = page(
            "/dashboard",
            answer(302, &[("location", "https://login.example/start")], ""),
        );
        door.signed_in = signed_in.then(|| answer(200, &[], SECRET_PAGE));
        Site {
            origin: "https://app.test".into(),
            host: "app.test".into(),
            protected: vec![door],
            public: Some(page("/", answer(200, &[], PUBLIC_PAGE))),
            open: vec![answer(404, &[], "nothing here")],
            session: None,
            ended: None,
            echo: None,
            action: None,
            identity: vec!["x-auth-user-id".into()],
        }
    }

    fn judged(expect: &Expect, site: &Site, answers: Vec<Answer>) -> Verdict {
        let heard = Heard {
            answers,
            afterwards: None,
        };
        expect.judge(site, &heard)
    }

    fn failed(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Failed(_))
    }

    #[test]
    fn a_success_is_a_page_that_came_back_unless_everybody_may_see_it() {
        for known in [false, true] {
            let site = site(known);
            let kept = |answer| judged(&Expect::KeptOut, &site, vec![answer]);
            for passing in [
                answer(401, &[], ""),
                answer(404, &[], "nothing here"),
                answer(
                    302,
                    &[("location", "/sign-in?callbackURL=%2Fdashboard")],
                    "",
                ),
                answer(302, &[("location", "https://login.example/other")], ""),
                answer(200, &[], PUBLIC_PAGE),
            ] {
                assert_eq!(kept(passing.clone()), Verdict::Passed, "{passing:?}");
            }
            for failing in [
                answer(200, &[], SECRET_PAGE),
                answer(206, &[], "your balance"),
                answer(204, &[], ""),
                answer(101, &[], ""),
                answer(302, &[("location", "//evil.example")], ""),
                answer(302, &[("location", "/\\evil.example")], ""),
                answer(302, &[("location", "/sign-in?next=//evil.example")], ""),
                answer(302, &[("location", "/sign-in?next=https:evil.example")], ""),
                answer(401, &[("X-Vestibule-Selftest", "1")], ""),
                answer(401, &[("Set-Cookie", "x-vestibule-selftest=1")], ""),
            ] {
                assert!(failed(&kept(failing.clone())), "{failing:?}");
            }
            // What those signed in see counts whatever the status says, once it is known.
            assert_eq!(failed(&kept(answer(401, &[], SECRET_PAGE))), known);
        }
        let limited = judged(&Expect::KeptOut, &site(false), vec![answer(429, &[], "")]);
        assert!(matches!(limited, Verdict::Unclear(_)));
        assert_eq!(
            judged(&Expect::KeptOut, &site(false), Vec::new()),
            Verdict::Passed
        );
        // The second answer counts like the first.
        let two = vec![answer(401, &[], ""), answer(200, &[], SECRET_PAGE)];
        assert!(failed(&judged(&Expect::KeptOut, &site(false), two)));
    }

    #[test]
    fn another_page_afterwards_means_that_somebody_elses_answer_came() {
        let site = site(false);
        let heard = |afterwards| Heard {
            answers: vec![answer(400, &[], "")],
            afterwards: Some(afterwards),
        };
        let expect = Expect::AnswersAtMost(2);
        assert_eq!(
            expect.judge(&site, &heard(answer(200, &[], PUBLIC_PAGE))),
            Verdict::Passed
        );
        assert!(failed(&expect.judge(&site, &heard(answer(404, &[], "")))));
        assert_eq!(
            expect.judge(&site, &heard(answer(503, &[], ""))),
            Verdict::Passed
        );
    }

    #[test]
    fn what_the_app_saw_is_believed_only_when_it_answered() {
        let site = site(false);
        let unseen = |answer| judged(&Expect::Unseen, &site, vec![answer]);
        assert_eq!(unseen(answer(200, &[], "x: y")), Verdict::Passed);
        assert_eq!(unseen(answer(400, &[], "")), Verdict::Passed);
        assert!(failed(&unseen(answer(200, &[], MARK))));
        for status in [302, 500, 503] {
            assert!(
                matches!(unseen(answer(status, &[], "")), Verdict::Unclear(_)),
                "{status}"
            );
        }
        for (body, there) in [
            ("x-forwarded-for: 1", true),
            ("{\"X-Forwarded-For\":\"1\"}", true),
            ("{\"x\":\"{\\\"x-forwarded-for\\\": 1}\"}", true),
            ("connection: x-forwarded-for, close", false),
            ("{\"connection\":\"x-forwarded-for, close\"}", false),
            ("x-forwarded-for", false),
        ] {
            assert_eq!(shows_header(body, "x-forwarded-for"), there, "{body}");
        }
    }

    #[test]
    fn the_other_judges_tell_good_from_bad() {
        let site = site(false);
        let cleared = Expect::Cleared("a.session_token".into());
        let discreet = Expect::Discreet(site.identity.clone());
        let dead = [("set-cookie", "a.session_token=; Max-Age=0; Path=/")];
        let alive = [("set-cookie", "a.session_token=x; Max-Age=9; Path=/")];
        let cache = |value| answer(401, &[("cache-control", value)], "");
        for (expect, good, bad) in [
            (&Expect::Refused, answer(405, &[], ""), answer(302, &[], "")),
            (
                &Expect::RefusedInPlace,
                answer(401, &[], ""),
                answer(307, &[("location", "/x")], ""),
            ),
            (
                &Expect::NotRun,
                answer(303, &[("location", "/x")], ""),
                answer(200, &[], ""),
            ),
            (&cleared, answer(302, &dead, ""), answer(302, &alive, "")),
            (
                &Expect::Private,
                cache("private, no-store"),
                cache("s-maxage=1, private"),
            ),
            (&Expect::Private, cache("No-Store"), cache("")),
            (
                &Expect::Private,
                cache("private"),
                cache("public, no-store"),
            ),
            (
                &discreet,
                answer(200, &[("x-author", "1")], ""),
                answer(200, &[("X-Auth-User-Id", "1")], ""),
            ),
        ] {
            assert_eq!(
                judged(expect, &site, vec![good]),
                Verdict::Passed,
                "{expect:?}"
            );
            assert!(failed(&judged(expect, &site, vec![bad])), "{expect:?}");
        }
        let many = |count| vec![answer(200, &[], ""); count];
        assert_eq!(
            judged(&Expect::AnswersAtMost(2), &site, many(2)),
            Verdict::Passed
        );
        assert!(failed(&judged(&Expect::AnswersAtMost(2), &site, many(3))));
        let unknown = answer(404, &[("x-nextjs-action-not-found", "1")], "");
        assert!(matches!(
            judged(&Expect::NotRun, &site, vec![unknown]),
            Verdict::Unclear(_)
        ));
    }

    #[test]
    fn a_check_passes_only_when_everything_did() {
        let unclear = Verdict::Unclear("why".into());
        let failed = Verdict::Failed("how".into());
        assert_eq!(conclude([&Verdict::Passed]), Outcome::Passed);
        assert_eq!(
            conclude([&Verdict::Passed, &unclear]),
            Outcome::NotChecked("why".into())
        );
        assert_eq!(
            conclude([&unclear, &failed, &Verdict::Passed]),
            Outcome::Failed
        );
        assert!(matches!(conclude([]), Outcome::NotChecked(_)));
    }
}
