//! Every way a path may be read by what is behind us.
//!
//! A *contest* is one reading in one or two spellings nobody tells apart: one route wins it. A *group* is a set of contests
//! about the same thing: the default route stands in for it when none of them was won.

use std::borrow::Cow;

use crate::route::NextJs;
use crate::target::{Ambiguity, Target, bare};

/// Readings looked at before a target is refused. Ordinary ones have fewer than ten; only repeated `.segments/` makes more.
const CONTESTS_MAX: usize = 64;

/// How the data of a page of the app router ends.
pub const RSC: &str = ".rsc";
/// The same for its prefetch, before prefetches came in segments.
pub const PREFETCH: &str = ".prefetch.rsc";
/// How the prefetch of one segment of a page ends.
pub const SEGMENT: &str = ".segment.rsc";
/// What stands between the page and its segment.
pub const SEGMENTS: &str = ".segments";

/// What stands before the build in the address of a page's data.
const DATA: &str = "/_next/data/";

/// Matched by sources that count from the locale on.
pub(super) const INNER: u8 = 1;
/// Matched by sources that spell the locale out.
pub(super) const FULL: u8 = 2;
/// Matched by routes that have no locale.
pub(super) const WIRE: u8 = 4;
/// Without locales all three are one.
pub(super) const ANY_FORM: u8 = INNER | FULL | WIRE;

/// Which sources may win a contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// All.
    Any,
    /// Those whose first segment is fixed.
    FixedHead,
    /// Those that spell the path's end out.
    FixedTail,
}

/// One reading.
#[derive(Debug)]
pub(super) struct Contest<'p> {
    pub(super) name: &'static str,
    pub(super) spellings: Vec<(Cow<'p, str>, u8)>,
    pub(super) filter: Filter,
}

/// What the winner of a contest spells out itself, so that it is not taken away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spelled {
    /// `.json`, `.rsc` or `.segment.rsc` at the end.
    pub(super) suffix: bool,
    /// A `;`.
    pub(super) parameters: bool,
    /// `/index`.
    pub(super) index: bool,
}

/// Looks at each contest, and learns where the default stands in.
pub(super) trait Judge {
    /// `None` when nothing won.
    fn contest(&mut self, contest: &Contest<'_>) -> Option<Spelled>;
    /// No contest of a group was won.
    fn unclaimed(&mut self);
}

/// What a path can be told apart by, and who is told.
pub(super) struct Reader<'t, 'j> {
    pub(super) nextjs: &'t NextJs,
    /// The host asked for: it may have a default locale of its own.
    pub(super) host: &'t str,
    pub(super) judge: &'j mut dyn Judge,
    pub(super) contests: usize,
}

type Spellings<'p> = Vec<Cow<'p, str>>;

impl Reader<'_, '_> {
    /// Goes through all readings of a target, the one closest to what was received first.
    pub(super) fn read(&mut self, target: Target<'_>) -> Result<(), Ambiguity> {
        let raw = target.path();
        let spelling = target.spelling();
        if !spelling.escapes {
            return self.with_parameters(
                "as received",
                vec![Cow::Borrowed(raw)],
                spelling.parameters,
            );
        }
        let decoded = target.decoded_path();
        if spells_only_what_must_be_escaped(raw) {
            let both = vec![Cow::Borrowed(raw), Cow::Borrowed(&*decoded)];
            return self.with_parameters("as received", both, spelling.parameters);
        }
        self.with_parameters("as received", vec![Cow::Borrowed(raw)], spelling.parameters)?;
        self.with_parameters(
            "decoded",
            vec![Cow::Borrowed(&*decoded)],
            spelling.parameters,
        )?;
        if decoded.contains('\\') {
            let slashed = vec![Cow::Owned(decoded.replace('\\', "/"))];
            self.with_parameters(
                "decoded, backslashes as slashes",
                slashed,
                spelling.parameters,
            )?;
        }
        Ok(())
    }

    fn with_parameters(
        &mut self,
        name: &'static str,
        spellings: Spellings<'_>,
        parameters: bool,
    ) -> Result<(), Ambiguity> {
        let kept = self.base(name, &spellings)?.parameters;
        self.intercepted(&spellings)?;
        if !parameters || kept {
            return Ok(());
        }
        let stripped: Spellings<'_> = spellings
            .iter()
            .filter(|path| path.contains(';'))
            .map(|path| Cow::Owned(path.split('/').map(bare).collect::<Vec<_>>().join("/")))
            .collect();
        if !stripped.is_empty() {
            self.base("without parameters", &stripped)?;
            self.intercepted(&stripped)?;
        }
        Ok(())
    }

    /// A page of the app router that shows itself in another's place lives in a folder named after that other, and Next.js serves it by
    /// the folder's literal name too: `/gallery/(..)dashboard/7` is about `/dashboard/7`.
    ///
    /// Source: Next.js 16.4.6, interception-routes.ts, `extractInterceptionRouteInformation`.
    fn intercepted(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        for path in spellings {
            let Some(inner) = inner_of(path, base_path) else {
                continue;
            };
            for (at, _) in inner.match_indices("/(") {
                let (before, rest) = inner.split_at(at);
                let Some((up, rest)) = rest.get(1..).and_then(marked) else {
                    continue;
                };
                let page = format!("{}/{}", above(before, up), rest.trim_start_matches('/'));
                self.base("page shown in another's place", &[behind(base_path, &page)])?;
            }
        }
        Ok(())
    }

    fn base(
        &mut self,
        name: &'static str,
        spellings: &[Cow<'_, str>],
    ) -> Result<Spelled, Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        let data: Vec<Data<'_>> = spellings
            .iter()
            .filter_map(|path| Data::of(path, self.nextjs))
            .collect();
        let won = match data.first() {
            Some(Data { page: Some(_), .. }) => self.page_data(name, spellings, &data)?,
            Some(_) => {
                let won = self.group(name, slices(spellings), Filter::Any, true)?;
                let rest: Spellings<'_> = data.iter().map(|d| behind(base_path, d.rest)).collect();
                self.group("without data prefix", slices(&rest), Filter::Any, true)?;
                self.suffixes(&rest)?;
                self.any_locale(&data)?;
                won
            }
            None => {
                let won = self.group(name, slices(spellings), Filter::Any, true)?;
                if !won.suffix {
                    self.suffixes(spellings)?;
                }
                if !won.index {
                    self.index(spellings)?;
                }
                self.data_behind_a_prefix(spellings)?;
                won
            }
        };
        // A decoded `#` or `?` may end the path for somebody else.
        let cut: Spellings<'_> = spellings
            .iter()
            .filter_map(|path| path.find(['#', '?']).and_then(|at| path.get(..at)))
            .map(Cow::Borrowed)
            .collect();
        self.group("cut at an encoded mark", cut, Filter::Any, false)?;
        Ok(won)
    }

    /// `/_next/data/<build>/<page>.json` is that page: only a route about `/_next/…` says anything of the address itself.
    fn page_data(
        &mut self,
        name: &'static str,
        spellings: &[Cow<'_, str>],
        data: &[Data<'_>],
    ) -> Result<Spelled, Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        let won = self.group(name, slices(spellings), Filter::FixedHead, false)?;
        let pages: Spellings<'_> = data
            .iter()
            .filter_map(|d| d.page)
            .map(|page| behind(base_path, page))
            .collect();
        self.pages(pages, true)?;
        let rest: Spellings<'_> = data.iter().map(|d| behind(base_path, d.rest)).collect();
        self.group("without data prefix", rest, Filter::FixedTail, false)?;
        self.any_locale(data)?;
        Ok(won)
    }

    /// Data are asked for by data addresses too: an app with a middleware takes one prefix and one `.json` off before it looks at what
    /// it has, and then another.
    ///
    /// Source: Next.js 15.5.28 and 16.4.6, resolve-routes.ts, `middleware_next_data`; filesystem.ts, `getItem`.
    fn pages(&mut self, pages: Spellings<'_>, default: bool) -> Result<(), Ambiguity> {
        let (nested, pages): (Spellings<'_>, _) =
            pages.into_iter().partition(|page| page.contains(DATA));
        self.group("page of the data", pages, Filter::Any, default)?;
        if !nested.is_empty() {
            self.base("data of data", &nested)?;
        }
        Ok(())
    }

    /// Behind a prefix for assets the app reads data addresses as without it (it writes that rewrite itself), and another app below a
    /// path of its own reads its own pages. Only rules about those pages count: the address has the rule of an ordinary one besides.
    ///
    /// Source: Next.js 16.4.6, load-custom-routes.ts, `maybeAssetPrefixRewrite`.
    fn data_behind_a_prefix(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        for path in spellings {
            let Some((before, from)) = path.find(DATA).and_then(|at| path.split_at_checked(at))
            else {
                continue;
            };
            let Some(data) = Data::below(from).filter(|data| data.page.is_some()) else {
                continue;
            };
            let page = data.page.unwrap_or_default();
            self.pages(vec![behind(base_path, page)], false)?;
            self.pages(vec![behind(before, page)], false)?;
            self.any_locale(&[data])?;
        }
        Ok(())
    }

    /// Below the data prefix, the app's build lets any first segment pass for a locale.
    fn any_locale(&mut self, data: &[Data<'_>]) -> Result<(), Ambiguity> {
        if self.nextjs.locales.is_empty() {
            return Ok(());
        }
        let base_path = self.nextjs.base_path.as_str();
        let beyond = data
            .iter()
            .map(|d| d.page.unwrap_or(d.rest))
            .filter(|page| self.nextjs.locale_of(page).is_none())
            .filter_map(|page| page.get(1..))
            .map(|page| page.find('/').and_then(|at| page.get(at..)).unwrap_or("/"))
            .map(|page| (behind(base_path, page), INNER))
            .collect();
        self.contest("page of the data, any locale", beyond, Filter::Any)?;
        Ok(())
    }

    fn suffixes(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        for path in spellings {
            let path = trimmed(path);
            for suffix in [".json", RSC, PREFETCH] {
                if let Some(stem) = path.strip_suffix(suffix) {
                    self.without_suffix(stem)?;
                }
            }
            let Some(body) = path.strip_suffix(SEGMENT) else {
                continue;
            };
            for (at, mark) in body.match_indices(".segments/") {
                if at + mark.len() < body.len()
                    && let Some(stem) = body.get(..at)
                {
                    self.without_suffix(stem)?;
                }
            }
        }
        Ok(())
    }

    fn without_suffix(&mut self, stem: &str) -> Result<(), Ambiguity> {
        let stem = if stem.is_empty() { "/" } else { stem };
        let stem = [Cow::Borrowed(stem)];
        self.group("without transport suffix", slices(&stem), Filter::Any, true)?;
        self.index(&stem)
    }

    /// `/` also goes by `/index`.
    fn index(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        let roots: Spellings<'_> = spellings
            .iter()
            .filter_map(|path| {
                let inner = inner_of(trimmed(path), base_path)?;
                let parent = inner.strip_suffix("/index")?;
                let root = parent.is_empty()
                    || (self.nextjs.locale_of(parent).is_some() && !parent.get(1..)?.contains('/'));
                root.then(|| {
                    behind(base_path, if parent.is_empty() { "/" } else { parent }).into_owned()
                })
            })
            .map(Cow::Owned)
            .collect();
        self.group("index of a folder", roots, Filter::Any, false)?;
        Ok(())
    }

    /// Tries a path with and without its locale. The default route answers for it when nothing else does and `default` is set.
    fn group(
        &mut self,
        name: &'static str,
        spellings: Spellings<'_>,
        filter: Filter,
        default: bool,
    ) -> Result<Spelled, Ambiguity> {
        if spellings.is_empty() {
            return Ok(Spelled::default());
        }
        let mut near = Vec::with_capacity(spellings.len());
        let mut full = Vec::new();
        for path in spellings {
            // The compiled end of a source tolerates one of these.
            if let Some(stem) = path
                .strip_suffix(['#', '?'])
                .filter(|stem| !stem.is_empty())
            {
                self.localize(Cow::Owned(stem.to_owned()), &mut near, &mut full);
            }
            self.localize(path, &mut near, &mut full);
        }
        let won = self.contest(name, near, filter)?;
        let also = self.contest(name, full, filter)?;
        if default && won.is_none() && also.is_none() {
            self.judge.unclaimed();
        }
        Ok(won.or(also).unwrap_or_default())
    }

    fn localize<'p>(
        &self,
        path: Cow<'p, str>,
        near: &mut Vec<(Cow<'p, str>, u8)>,
        full: &mut Vec<(Cow<'p, str>, u8)>,
    ) {
        let Some(default) = self.nextjs.implied_locale(self.host) else {
            near.push((path, ANY_FORM));
            return;
        };
        let base_path = self.nextjs.base_path.as_str();
        let Some(inner) = inner_of(&path, base_path) else {
            near.push((path, WIRE));
            return;
        };
        if inner.starts_with("/_next/") {
            near.push((path, ANY_FORM));
        } else if let Some(locale) = self.nextjs.locale_of(inner) {
            let page = inner
                .get(1 + locale.len()..)
                .filter(|page| !page.is_empty())
                .unwrap_or("/");
            let canonical = format!("/{locale}{}", if page == "/" { "" } else { page });
            near.push((Cow::Owned(behind(base_path, page).into_owned()), INNER));
            full.push((Cow::Owned(behind(base_path, &canonical).into_owned()), FULL));
            full.push((path.clone(), FULL));
            near.push((path, WIRE));
        } else {
            let explicit = format!("/{default}{}", if inner == "/" { "" } else { inner });
            full.push((Cow::Owned(behind(base_path, &explicit).into_owned()), FULL));
            near.push((path, INNER | WIRE));
        }
    }

    fn contest(
        &mut self,
        name: &'static str,
        spellings: Vec<(Cow<'_, str>, u8)>,
        filter: Filter,
    ) -> Result<Option<Spelled>, Ambiguity> {
        if spellings.is_empty() {
            return Ok(None);
        }
        self.contests += 1;
        if self.contests > CONTESTS_MAX {
            return Err(Ambiguity::TooManyReadings);
        }
        Ok(self.judge.contest(&Contest {
            name,
            spellings,
            filter,
        }))
    }
}

/// An address below `/_next/data/<build>`.
struct Data<'p> {
    /// What follows the build id.
    rest: &'p str,
    /// The page, when it ends in `.json`.
    page: Option<&'p str>,
}

impl<'p> Data<'p> {
    /// The locale may stand in front as well as behind.
    ///
    /// Source: Next.js 15.5.28 and 16.4.6, filesystem.ts, `getItem`, which takes it off before the prefix and again after it.
    fn of(path: &'p str, nextjs: &NextJs) -> Option<Self> {
        let inner = path.strip_prefix(nextjs.base_path.as_str())?;
        let page = nextjs
            .locale_of(inner)
            .and_then(|locale| inner.get(1 + locale.len()..));
        Self::below(page.unwrap_or(inner))
    }

    fn below(inner: &'p str) -> Option<Self> {
        let below = inner.strip_prefix(DATA)?;
        let rest = below
            .find('/')
            .and_then(|at| below.get(at..))
            .unwrap_or("/");
        let page =
            trimmed(rest)
                .strip_suffix(".json")
                .map(|page| match page.strip_prefix("/index") {
                    Some("") => "/",
                    Some(under) if under.starts_with('/') => under,
                    _ if page.is_empty() => "/",
                    _ => page,
                });
        Some(Self { rest, page })
    }
}

/// Whether a path is (or may be) anything but itself to the app, judged by its end and its beginning.
pub(super) fn has_transport(path: &str, base_path: &str) -> bool {
    let path = trimmed(path);
    if path.ends_with(".json") || path.ends_with(RSC) || path.ends_with("/index") {
        return true;
    }
    path.strip_prefix(base_path)
        .is_some_and(|inner| inner.starts_with(DATA))
}

/// How many folders up the mark at the beginning of a segment leads, and what follows it.
fn marked(segment: &str) -> Option<(usize, &str)> {
    if let Some(rest) = segment.strip_prefix("(.)") {
        return Some((0, rest));
    }
    if let Some(rest) = segment.strip_prefix("(...)") {
        return Some((usize::MAX, rest));
    }
    let mut up = 0;
    let mut rest = segment;
    while let Some(after) = rest.strip_prefix("(..)") {
        up += 1;
        rest = after;
    }
    (up > 0).then_some((up, rest))
}

/// A folder so many levels up, without a slash at its end.
fn above(folder: &str, up: usize) -> &str {
    let mut folder = folder;
    for _ in 0..up {
        let Some((parent, _)) = folder.rsplit_once('/') else {
            return "";
        };
        folder = parent;
    }
    folder
}

fn slices<'p>(spellings: &'p [Cow<'_, str>]) -> Spellings<'p> {
    spellings
        .iter()
        .map(|path| Cow::Borrowed(path.as_ref()))
        .collect()
}

fn trimmed(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

pub(super) fn inner_of<'p>(path: &'p str, base_path: &str) -> Option<&'p str> {
    match path.strip_prefix(base_path)? {
        "" => Some("/"),
        inner => inner.starts_with('/').then_some(inner),
    }
}

fn behind<'p>(base_path: &str, inner: &'p str) -> Cow<'p, str> {
    match (base_path, inner) {
        ("", _) => Cow::Borrowed(inner),
        (_, "/") => Cow::Owned(base_path.to_owned()),
        _ => Cow::Owned(format!("{base_path}{inner}")),
    }
}

/// Whether every escape stands for something that cannot stand in a path by itself, so that the two spellings are one.
fn spells_only_what_must_be_escaped(raw: &str) -> bool {
    raw.split('%').skip(1).all(|after| {
        let code = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        code.is_some_and(|byte| !byte.is_ascii() || b" \"<>[]^`{|}%#?".contains(&byte))
    })
}
