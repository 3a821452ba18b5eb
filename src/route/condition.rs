//! `has` and `missing`: what else must be true of a request.
//!
//! Source: Next.js 16.4.6, prepare-destination.ts, `matchHas`; golden data in `tests/golden/nextjs-matcher.json`.

use std::borrow::Cow;

use crate::credential::cookies;
use crate::request::RequestView;
use crate::route::expression::{Expression, Outcome};
use crate::route::{ConditionOn, ConditionSpec, SourceSpec};

/// All conditions of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    has: Vec<Condition>,
    missing: Vec<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    on: ConditionOn,
    value: Option<Expression>,
}

impl Conditions {
    /// # Errors
    /// Says which value cannot be run.
    pub(super) fn compile(spec: &SourceSpec) -> Result<Self, String> {
        let all = |specs: &[ConditionSpec]| {
            specs
                .iter()
                .map(Condition::compile)
                .collect::<Result<_, _>>()
        };
        Ok(Self {
            has: all(&spec.has)?,
            missing: all(&spec.missing)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.has.is_empty() && self.missing.is_empty()
    }

    /// Whether every `has` holds and no `missing` does.
    pub(super) fn hold(&self, request: &RequestView<'_>) -> Outcome {
        let mut unsure = false;
        for (condition, wanted) in self
            .has
            .iter()
            .map(|condition| (condition, Outcome::Yes))
            .chain(
                self.missing
                    .iter()
                    .map(|condition| (condition, Outcome::No)),
            )
        {
            match condition.holds(request) {
                Outcome::Unsure => unsure = true,
                found if found != wanted => return Outcome::No,
                _ => {}
            }
        }
        if unsure {
            Outcome::Unsure
        } else {
            Outcome::Yes
        }
    }
}

impl Condition {
    fn compile(spec: &ConditionSpec) -> Result<Self, String> {
        let value = match spec.value.as_deref() {
            None | Some("") => None,
            // Next.js puts nothing around the value, so `a|b` means `^a` or `b$`.
            Some(value) => Some(
                Expression::compile(&format!("^{value}$"))
                    .map_err(|why| format!("condition value `{value}`: {why}"))?,
            ),
        };
        Ok(Self {
            on: spec.on.clone(),
            value,
        })
    }

    fn holds(&self, request: &RequestView<'_>) -> Outcome {
        let value: Option<Cow<'_, str>> = match &self.on {
            ConditionOn::Header(name) => joined(request, name),
            ConditionOn::Cookie(name) => cookies::find(request.headers, name)
                .map(|value| Cow::Owned(String::from_utf8_lossy(&value).into_owned())),
            ConditionOn::Query(key) => {
                let query = request.target.query().unwrap_or_default();
                let mut values = url::form_urlencoded::parse(query.as_bytes())
                    .filter(|(found, _)| found == key)
                    .map(|(_, value)| value);
                let first = values.next();
                match values.last() {
                    // The router of Next.js looks at the list of them, which is not empty, its server only at the last one.
                    Some(last) if last.is_empty() => {
                        return match &self.value {
                            Some(expression) if expression.matches("") == Outcome::No => {
                                Outcome::No
                            }
                            _ => Outcome::Unsure,
                        };
                    }
                    last => last.or(first),
                }
            }
            ConditionOn::Host => Some(Cow::Borrowed(request.host)),
        };
        // An empty value counts as none.
        match (value.filter(|value| !value.is_empty()), &self.value) {
            (None, _) => Outcome::No,
            (Some(_), None) => Outcome::Yes,
            (Some(value), Some(expression)) => expression.matches(&value),
        }
    }
}

/// All values of a header as Node joins them, each byte a letter.
fn joined<'r>(request: &RequestView<'r>, name: &str) -> Option<Cow<'r, str>> {
    let mut values = request.headers.get_all(name).iter();
    let mut text: String = values
        .next()?
        .as_bytes()
        .iter()
        .map(|&b| char::from(b))
        .collect();
    for value in values {
        text.push_str(", ");
        text.extend(value.as_bytes().iter().map(|&b| char::from(b)));
    }
    Some(Cow::Owned(text))
}

impl ConditionSpec {
    /// Whether the client alone decides it.
    pub(super) fn is_client_controlled(&self) -> bool {
        match self.on {
            ConditionOn::Header(_) | ConditionOn::Cookie(_) | ConditionOn::Query(_) => true,
            ConditionOn::Host => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::target::Target;

    fn hold(spec: &SourceSpec, target: &str, headers: &[(&'static str, &str)]) -> bool {
        outcome(spec, target, headers) == Outcome::Yes
    }

    fn outcome(spec: &SourceSpec, target: &str, headers: &[(&'static str, &str)]) -> Outcome {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let request = RequestView {
            method: &Method::GET,
            target: Target::parse(target.as_bytes()).unwrap(),
            host: "app.example.com",
            headers: &map,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        Conditions::compile(spec).unwrap().hold(&request)
    }

    fn has(on: ConditionOn, value: Option<&str>) -> SourceSpec {
        SourceSpec {
            has: vec![ConditionSpec {
                on,
                value: value.map(str::to_owned),
            }],
            ..SourceSpec::default()
        }
    }

    #[test]
    fn presence_counts_only_with_a_value() {
        let header = has(ConditionOn::Header("x-present".to_owned()), None);
        assert!(hold(&header, "/", &[("x-present", "1")]));
        assert!(!hold(&header, "/", &[("x-present", "")]));
        assert!(!hold(&header, "/", &[]));
        let query = has(ConditionOn::Query("open".to_owned()), None);
        assert!(hold(&query, "/?open=1", &[]));
        assert!(!hold(&query, "/?open=", &[]));
        assert!(hold(&query, "/?open=&open=1", &[]));
        // Presence of several: its router and its server do not agree.
        assert!(!hold(&query, "/?open=1&open=", &[]));
        let cookie = has(ConditionOn::Cookie("a".to_owned()), Some("y s"));
        assert!(hold(&cookie, "/", &[("cookie", "b=1; a=y%20s; a=no")]));
        assert!(!hold(&cookie, "/", &[("cookie", "a=no; a=y%20s")]));
        let host = has(ConditionOn::Host, Some(r"app\..*"));
        assert!(hold(&host, "/", &[]));
        assert!(!hold(&has(ConditionOn::Host, Some("api")), "/", &[]));
    }

    #[test]
    fn a_repeated_query_that_ends_empty_is_doubt_wherever_an_empty_value_would_do() {
        for (value, wanted) in [
            (None, Outcome::Unsure),
            (Some(".*"), Outcome::Unsure),
            (Some("yes"), Outcome::No),
        ] {
            let spec = has(ConditionOn::Query("x".to_owned()), value);
            let found = outcome(&spec, "/?x=yes&x=", &[]);
            assert_eq!(found, wanted, "{value:?}");
            assert_eq!(outcome(&spec, "/?x=", &[]), Outcome::No, "{value:?}");
            assert_eq!(outcome(&spec, "/?x=&x=yes", &[]), Outcome::Yes, "{value:?}");
        }
    }

    #[test]
    fn one_missing_condition_that_holds_is_enough_to_fail() {
        let missing = SourceSpec {
            missing: has(ConditionOn::Header("purpose".to_owned()), Some("prefetch")).has,
            ..SourceSpec::default()
        };
        assert!(hold(&missing, "/", &[]));
        assert!(hold(&missing, "/", &[("purpose", "other")]));
        assert!(!hold(&missing, "/", &[("purpose", "prefetch")]));
    }
}
