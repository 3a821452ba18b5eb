//! Sources of whole segments, indexed: finding the most specific one reads the path once and allocates nothing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::route::pattern::{Segment, is_parameter, segments_match};

/// A place in the order of all sources: the lower, the more specific.
pub(super) type Rank = u32;

/// How specific a source of whole segments is: segment by segment, literal before parameter before optional before catch-all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Specificity {
    codes: Vec<u8>,
    choices: usize,
}

impl Specificity {
    pub(super) fn of(segments: &[Segment]) -> Self {
        let code = |segment: &Segment| match segment {
            Segment::Literal(_) | Segment::Choice(_) | Segment::Prefix(_) => 0,
            Segment::One => 1,
            Segment::OptionalChoice(_) => 2,
            Segment::Optional => 3,
            Segment::Plus => 4,
            Segment::Rest => 5,
            Segment::Star => 6,
        };
        // One that ends earlier comes first (where both match, the longer one matched nothing with its rest), unless it ends in
        // a catch-all, which then swallows what the longer one spells out.
        let closing = matches!(
            segments.last(),
            Some(Segment::Plus | Segment::Rest | Segment::Star)
        )
        .then_some(u8::MAX);
        Self {
            codes: segments.iter().map(code).chain(closing).collect(),
            choices: segments
                .iter()
                .filter(|s| matches!(s, Segment::Choice(_) | Segment::Prefix(_)))
                .count(),
        }
    }
}

impl PartialOrd for Specificity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Specificity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.codes
            .cmp(&other.codes)
            .then(self.choices.cmp(&other.choices))
    }
}

/// A path as the index reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'p> {
    /// Begins with a slash and has lost its trailing one; `/` is the root.
    pub(super) path: &'p str,
    /// Whether it had one.
    pub(super) slash: bool,
    /// Whether it holds `#` or `?` (after decoding), which parameters do not take.
    pub(super) odd: bool,
}

impl<'p> Walk<'p> {
    pub(super) fn of(path: &'p str) -> Self {
        let (trimmed, slash) = match path.strip_suffix('/') {
            Some("") => (path, true),
            Some(trimmed) => (trimmed, true),
            None => (path, false),
        };
        Self {
            path: trimmed,
            slash,
            odd: false,
        }
    }
}

/// All sources of whole segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    nodes: Vec<Node>,
    /// Sources with something optional or repeating before their end: tried one by one, in order.
    loose: Vec<(Rank, Vec<Segment>)>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize, BuildHasherDefault<Fnv>>,
    one: Option<usize>,
    end: Vec<Rank>,
    optional: Vec<Rank>,
    plus: Vec<Rank>,
    rest: Vec<Rank>,
    star: Vec<Rank>,
}

/// FNV-1a. What is in the maps comes from the configuration, so a client cannot make them collide.
#[derive(Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Index {
    /// Adds a source. Ranks must be added in rising order.
    pub(super) fn insert(&mut self, rank: Rank, segments: &[Segment]) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let body = segments.len().saturating_sub(1);
        let fixed = |segment: &Segment| matches!(segment, Segment::Literal(_) | Segment::One);
        let is_choice = |segment: &Segment| {
            matches!(
                segment,
                Segment::Choice(_) | Segment::OptionalChoice(_) | Segment::Prefix(_)
            )
        };
        if segments.iter().any(is_choice) || !segments.iter().take(body).all(fixed) {
            self.loose.push((rank, segments.to_vec()));
            return;
        }
        let mut at = 0;
        for segment in segments {
            let fresh = self.nodes.len();
            // `at` is 0 or an index handed out below, and nodes are never removed.
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            let next = match segment {
                Segment::Literal(text) => {
                    *node.literals.entry(text.as_str().into()).or_insert(fresh)
                }
                Segment::One => *node.one.get_or_insert(fresh),
                Segment::Optional => return node.optional.push(rank),
                Segment::Plus => return node.plus.push(rank),
                Segment::Rest => return node.rest.push(rank),
                Segment::Star => return node.star.push(rank),
                Segment::Choice(_) | Segment::OptionalChoice(_) | Segment::Prefix(_) => return,
            };
            if next == fresh {
                self.nodes.push(Node::default());
            }
            at = next;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.end.push(rank);
        }
    }

    /// The most specific source that matches the path and is admitted.
    pub(super) fn best(
        &self,
        walk: Walk<'_>,
        admits: &mut impl FnMut(Rank) -> bool,
    ) -> Option<Rank> {
        let rest = walk.path.strip_prefix('/')?;
        let rest = (!rest.is_empty()).then_some(rest);
        let indexed = self.descend(0, rest, walk, admits);
        for (rank, segments) in &self.loose {
            if indexed.is_some_and(|best| best < *rank) {
                break;
            }
            if segments_match(segments, walk.path, walk.slash) && admits(*rank) {
                return Some(*rank);
            }
        }
        indexed
    }

    fn descend(
        &self,
        at: usize,
        rest: Option<&str>,
        walk: Walk<'_>,
        admits: &mut impl FnMut(Rank) -> bool,
    ) -> Option<Rank> {
        let node = self.nodes.get(at)?;
        let Some(rest) = rest else {
            return first(&node.end, admits)
                .or_else(|| first(&node.optional, admits))
                .or_else(|| {
                    if walk.slash {
                        first(&node.rest, admits)
                    } else {
                        None
                    }
                })
                .or_else(|| first(&node.star, admits));
        };
        let (part, after) = match rest.bytes().position(|b| b == b'/') {
            Some(slash) => (rest.get(..slash)?, rest.get(slash + 1..)),
            None => (rest, None),
        };
        if let Some(&next) = node.literals.get(part)
            && let Some(found) = self.descend(next, after, walk, admits)
        {
            return Some(found);
        }
        let parameter = !part.is_empty() && (!walk.odd || is_parameter(part));
        if parameter
            && let Some(next) = node.one
            && let Some(found) = self.descend(next, after, walk, admits)
        {
            return Some(found);
        }
        let all = || parameter && (!walk.odd || rest.split('/').all(is_parameter));
        let mut found = None;
        if after.is_none() && parameter {
            found = first(&node.optional, admits);
        }
        if found.is_none() && !node.plus.is_empty() && all() {
            found = first(&node.plus, admits);
        }
        if found.is_none() {
            found = first(&node.rest, admits);
        }
        if found.is_none() && !node.star.is_empty() && all() {
            found = first(&node.star, admits);
        }
        found
    }
}

fn first(ranks: &[Rank], admits: &mut impl FnMut(Rank) -> bool) -> Option<Rank> {
    ranks.iter().copied().find(|rank| admits(*rank))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::pattern::Pattern;

    proptest! {
        #[test]
        fn the_index_finds_what_trying_them_all_in_order_finds(
            sources in proptest::collection::btree_set("(/(a|b|:x|:x\\(a\\|b\\))){0,3}(/:x\\?|/:x\\+|/:x\\*|/\\(\\.\\*\\)|/:x\\*/a|/:x\\?/a)?", 1..12),
            path in "(/[abc#]){0,5}/?",
            refused in any::<u16>(),
        ) {
            let mut patterns: Vec<(Specificity, Vec<Segment>)> = sources
                .iter()
                .filter(|source| !source.is_empty())
                .map(|source| Pattern::parse(source).unwrap().segments().unwrap().to_vec())
                .map(|segments| (Specificity::of(&segments), segments))
                .collect();
            patterns.sort_by(|a, b| a.0.cmp(&b.0));
            let mut index = Index::default();
            for (rank, (_, segments)) in (0..).zip(&patterns) {
                index.insert(rank, segments);
            }
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let walk = Walk { odd: true, ..Walk::of(&path) };
            let admitted = |rank: Rank| rank >= 16 || refused & (1 << rank) == 0;
            let expected = (0..)
                .zip(&patterns)
                .find(|(rank, (_, segments))| admitted(*rank) && segments_match(segments, walk.path, walk.slash))
                .map(|(rank, _)| rank);
            prop_assert_eq!(index.best(walk, &mut |rank| admitted(rank)), expected);
        }
    }
}
