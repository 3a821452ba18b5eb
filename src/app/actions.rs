//! Which pages own which Server Action, as the build says. Browsers may call an action at any path: Next.js hands it to a page that
//! owns it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Action;

/// Pages that Next.js makes itself: they stand at no path of their own, and own whatever the outermost layout does.
const PAGES_WITHOUT_PATH: [&str; 2] = ["/_not-found", "/_global-error"];

/// How a page is marked that is shown in place of another one, with how many segments up that one is; `None`: at the root.
///
/// The longest mark comes first.
const INTERCEPTIONS: [(&str, Option<usize>); 4] = [
    ("(..)(..)", Some(2)),
    ("(...)", None),
    ("(..)", Some(1)),
    ("(.)", Some(0)),
];

/// A build's list of them.
#[derive(Deserialize)]
pub(super) struct ActionList {
    #[serde(default)]
    node: BTreeMap<String, Entry>,
    #[serde(default)]
    edge: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// What a page needs to run it differs between versions and bundlers. The names are the same.
    #[serde(default)]
    workers: BTreeMap<String, serde::de::IgnoredAny>,
}

impl ActionList {
    /// What it lists. An action of both runtimes is there once, with the pages of both.
    ///
    /// Functions with `use cache` that reach a browser are among them: Next.js runs any id of its list the same way.
    pub(super) fn actions(self) -> Vec<Action> {
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, entry) in self.node.into_iter().chain(self.edge) {
            let pages = entry.workers.into_keys().map(|worker| page_of(&worker));
            owners.entry(id).or_default().extend(pages);
        }
        let actions = owners.into_iter().map(|(id, mut pages)| {
            // Left alone where nobody else owns it: then it is nobody's we know.
            if !pages.iter().all(|page| has_no_path(page)) {
                pages.retain(|page| !has_no_path(page));
            }
            Action {
                id,
                pages: pages.into_iter().collect(),
            }
        });
        actions.collect()
    }
}

fn has_no_path(page: &str) -> bool {
    PAGES_WITHOUT_PATH.contains(&page)
}

/// The page an entry of the bundle stands for, without what leaves no trace in its path: `app/(shop)/@cart/items/page` is `/items`.
fn page_of(worker: &str) -> String {
    let inner = match worker.strip_prefix("app") {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => inner,
        _ => worker,
    };
    let mut parts: Vec<&str> = inner.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(&("page" | "route")) = parts.last() {
        parts.pop();
    }
    parts.retain(|part| !is_group(part) && !part.starts_with('@'));
    format!("/{}", parts.join("/"))
}

fn is_group(part: &str) -> bool {
    part.starts_with('(') && part.ends_with(')')
}

/// The page that is at the path where this one is shown, and the one it is shown on: `/feed/(.)photo/[id]` stands in for
/// `/feed/photo/[id]`, on `/feed`. `None`: it stands for itself.
pub fn intercepted(page: &str) -> Option<[String; 2]> {
    let parts: Vec<&str> = page.split('/').filter(|part| !part.is_empty()).collect();
    let marked = |part: &&str| {
        let marks = INTERCEPTIONS.iter();
        marks.clone().any(|(mark, _)| part.starts_with(mark))
    };
    let at = parts.iter().position(marked)?;
    let (before, after) = parts.split_at_checked(at)?;
    let (first, rest) = after.split_first()?;
    let (mark, up) = INTERCEPTIONS
        .iter()
        .find(|(mark, _)| first.starts_with(mark))?;
    let kept = up.map_or(0, |up| before.len().saturating_sub(up));
    let name = first.strip_prefix(mark)?;
    let shown = before.iter().take(kept).chain([&name]).chain(rest);
    let shown = shown.copied().collect::<Vec<_>>().join("/");
    Some([format!("/{shown}"), format!("/{}", before.join("/"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Action>, serde_json::Error> {
        serde_json::from_str(text).map(ActionList::actions)
    }

    const A: &str = "400f89a320cc5fb8ea8c6a2c86d1a79c96f11d8504";
    const B: &str = "c069b4c6540d9ca920f206d21443290b66939f39a8";

    fn pages<'a>(actions: &'a [Action], id: &str) -> Vec<&'a str> {
        let action = actions.iter().find(|action| action.id == id).unwrap();
        action.pages.iter().map(String::as_str).collect()
    }

    #[test]
    fn every_bundler_and_version_names_the_owners_alike() {
        // Next.js 15 with webpack (numbers, layers), 16 with Turbopack (objects), both runtimes.
        let text = format!(
            r#"{{"node":{{"{A}":{{"workers":{{"app/dashboard/page":{{"moduleId":32591,"async":false}},"app/page":7}},"layer":{{"app/page":"rsc"}}}}}},
                "edge":{{"{A}":{{"workers":{{"app/edge/page":"x"}}}},"{B}":{{"workers":{{"app/api/x/route":{{}}}},"filename":"x.ts"}}}},
                "encryptionKey":"k"}}"#
        );
        let actions = parse(&text).unwrap();
        assert_eq!(pages(&actions, A), ["/", "/dashboard", "/edge"]);
        assert_eq!(pages(&actions, B), ["/api/x"]);
        assert_eq!(actions.len(), 2);
    }

    #[test]
    fn what_leaves_no_trace_in_a_path_leaves_none_in_an_owner() {
        for (worker, page) in [
            ("app/page", "/"),
            ("app/(shop)/page", "/"),
            ("app/(shop)/items/page", "/items"),
            ("app/(shop)/@cart/items/[id]/page", "/items/[id]"),
            ("app/@modal/(group)/page", "/"),
            ("app/docs/[[...path]]/page", "/docs/[[...path]]"),
            ("app/page/page", "/page"),
            ("app/route/route", "/route"),
            ("app/apple/page", "/apple"),
            ("/dashboard/page", "/dashboard"),
            ("application/page", "/application"),
        ] {
            assert_eq!(page_of(worker), page, "{worker}");
        }
    }

    #[test]
    fn a_page_shown_in_place_of_another_needs_what_that_one_does() {
        for (page, shown) in [
            ("/feed/(.)photo/[id]", Some(["/feed/photo/[id]", "/feed"])),
            ("/(.)photo", Some(["/photo", "/"])),
            (
                "/feed/all/(..)photo/[id]",
                Some(["/feed/photo/[id]", "/feed/all"]),
            ),
            ("/a/b/c/(..)(..)photo", Some(["/a/photo", "/a/b/c"])),
            ("/a/b/(...)photo/x", Some(["/photo/x", "/a/b"])),
            ("/a/(..)(..)photo", Some(["/photo", "/a"])),
            ("/feed/photo", None),
            ("/", None),
        ] {
            let shown = shown.map(|pages| pages.map(str::to_owned));
            assert_eq!(intercepted(page), shown, "{page}");
        }
    }

    #[test]
    fn the_page_for_what_is_not_there_owns_nothing_unless_nobody_else_does() {
        let text = format!(
            r#"{{"node":{{"{A}":{{"workers":{{"app/_not-found/page":1,"app/page":1}}}},"{B}":{{"workers":{{"app/_not-found/page":1}}}}}},"edge":{{}}}}"#
        );
        let actions = parse(&text).unwrap();
        assert_eq!(pages(&actions, A), ["/"]);
        assert_eq!(pages(&actions, B), ["/_not-found"]);
    }

    #[test]
    fn what_is_no_list_is_said_to_be_none() {
        for text in [
            "",
            "7",
            "{\"node\":[7]}",
            "{\"node\":{\"x\":{\"workers\":[7]}}}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("{}").unwrap(), []);
    }
}
