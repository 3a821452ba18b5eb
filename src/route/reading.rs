//! Every way a path may be read by what is behind us.
//!
//! A *contest* is one reading in one or two spellings nobody tells apart: one route wins it. A *group* is a set of contests
//! about the same thing: the default route stands in for it when none of them was won.

use std::borrow::Cow;

use crate::app::NextJs;
use crate::app::paths::{DATA, PREFETCH, RSC, SEGMENT};
use crate::target::{Ambiguity, Target, bare};

/// Readings looked at before a target is refused. Ordinary ones have fewer than ten; only repeated `.segments/` makes more.
const CONTESTS_MAX: usize = 64;

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

/// How a path without a locale is to be told from one with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locales {
    /// By its first segment.
    Read,
    /// It has none, whatever its first segment: that became one only when something was taken away or decoded, and the app put the
    /// implied one in front before.
    Implied,
    /// Its locale was taken away: only sources that count from the locale on are meant.
    Taken,
    /// Nobody puts one in front: only sources that spell the locale out are meant.
    Unwanted,
}

/// What a path can be told apart by, and who is told.
pub(super) struct Reader<'t, 'j> {
    pub(super) nextjs: &'t NextJs,
    /// The host asked for: it may have a default locale of its own.
    pub(super) host: &'t str,
    judge: &'j mut dyn Judge,
    contests: usize,
    locales: Locales,
}

type Spellings<'p> = Vec<Cow<'p, str>>;

impl<'t, 'j> Reader<'t, 'j> {
    pub(super) fn new(nextjs: &'t NextJs, host: &'t str, judge: &'j mut dyn Judge) -> Self {
        Self {
            nextjs,
            host,
            judge,
            contests: 0,
            locales: Locales::Read,
        }
    }

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
        if self.names_locale(&decoded) && !self.names_locale(raw) {
            // The app looks for a locale before it decodes.
            let both = [Cow::Borrowed(&*decoded)];
            self.under(Locales::Implied, |reader| {
                reader.base("decoded, no locale", &both)
            })?;
        }
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
        self.taken_in(&spellings)?;
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

    /// The app puts the implied locale in front of a path outside its base path too. Where the base path is called like that locale, the
    /// path is below it from then on, and its first segment passes for the locale.
    fn taken_in(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        let implied = self.nextjs.implied_locale(self.host);
        if implied.is_none() || base_path.strip_prefix('/') != implied {
            return Ok(());
        }
        let below: Spellings<'_> = spellings
            .iter()
            .filter(|path| inner_of(path, base_path).is_none())
            .map(|path| Cow::Owned(format!("{base_path}{path}")))
            .collect();
        if below.is_empty() {
            return Ok(());
        }
        self.base("below the base path by the locale", &below)?;
        self.any_locale(&below, None)
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

    /// Reads on under another assumption about locales.
    fn under<T>(
        &mut self,
        locales: Locales,
        read: impl FnOnce(&mut Self) -> Result<T, Ambiguity>,
    ) -> Result<T, Ambiguity> {
        let before = std::mem::replace(&mut self.locales, locales);
        let read = read(self);
        self.locales = before;
        read
    }

    /// Whether only what was taken off a path's end makes it begin with a locale.
    fn becomes_locale(&self, path: &str, stem: &str) -> bool {
        self.locales == Locales::Read && self.names_locale(stem) && !self.names_locale(path)
    }

    /// Whether a path, or the page whose data it is, begins with a locale.
    fn names_locale(&self, path: &str) -> bool {
        let base_path = self.nextjs.base_path.as_str();
        let inner = match Data::of(path, self.nextjs) {
            Some(data) => Some(data.page.unwrap_or(data.rest)),
            None => inner_of(path, base_path),
        };
        inner.is_some_and(|inner| self.nextjs.locale_of(inner).is_some())
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
                if !won.suffix {
                    self.suffixes(spellings)?;
                }
                let rest: Spellings<'_> = data.iter().map(|d| behind(base_path, d.rest)).collect();
                let claim = self.claim("without data prefix", slices(&rest), Filter::Any, true)?;
                self.suffixes(&rest)?;
                self.index(&rest)?;
                self.any_locale(&rest, claim)?;
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

    /// `/_next/data/<build>/<page>.json` is that page: only a route about `/_next/…` says anything of the address itself, unless no
    /// route says anything of the page. The app takes the address as text when it names another build than its own.
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
        let (nested, pages): (Spellings<'_>, Spellings<'_>) =
            pages.into_iter().partition(|page| page.contains(DATA));
        let mut asked = slices(&pages);
        if self.nextjs.trailing_slash {
            let slashed = pages.iter().map(|page| Cow::Owned(format!("{page}/")));
            asked.extend(slashed);
        }
        let claim = self.claim("page of the data", asked, Filter::Any, true)?;
        let spelled = claim.unwrap_or_default();
        if !spelled.suffix {
            self.suffixes(&pages)?;
        }
        if !spelled.index {
            self.index(&pages)?;
        }
        self.any_locale(&pages, claim)?;
        self.nested(&nested)?;
        let rest: Spellings<'_> = data.iter().map(|d| behind(base_path, d.rest)).collect();
        let texts: Spellings<'_> = data
            .iter()
            .filter(|d| d.page.is_some_and(|page| page != d.text))
            .map(|d| behind(base_path, d.text))
            .collect();
        if claim.is_some() {
            self.group("without data prefix", rest, Filter::FixedTail, false)?;
            self.group(
                "page of the data, as spelled",
                texts,
                Filter::FixedHead,
                false,
            )?;
            return Ok(won);
        }
        self.group("as text", slices(spellings), Filter::Any, false)?;
        self.suffixes(spellings)?;
        for (name, paths) in [
            ("without data prefix", rest),
            ("page of the data, as spelled", texts),
        ] {
            self.group(name, slices(&paths), Filter::Any, false)?;
            self.any_locale(&paths, None)?;
        }
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
        self.nested(&nested)
    }

    fn nested(&mut self, data: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        if !data.is_empty() {
            self.base("data of data", data)?;
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
            self.any_locale(&[behind(base_path, page)], None)?;
        }
        Ok(())
    }

    /// Below the data prefix, the app's build lets any first segment pass for a locale, and puts none in front.
    ///
    /// Beside a rule about the page itself (`claim`) only sources that spell their first segment out say anything: a catch-all matches
    /// the rest of every path.
    fn any_locale(
        &mut self,
        pages: &[Cow<'_, str>],
        claim: Option<Spelled>,
    ) -> Result<(), Ambiguity> {
        if self.nextjs.locales.is_empty() || self.locales == Locales::Taken {
            return Ok(());
        }
        let base_path = self.nextjs.base_path.as_str();
        let beyond: Spellings<'_> = pages
            .iter()
            .filter_map(|page| inner_of(page, base_path))
            .filter(|page| self.nextjs.locale_of(page).is_none())
            .filter_map(|page| page.get(1..))
            .map(|page| page.find('/').and_then(|at| page.get(at..)).unwrap_or("/"))
            .map(|page| behind(base_path, page))
            .collect();
        let filter = claim.map_or(Filter::Any, |_| Filter::FixedHead);
        let read = |reader: &mut Self, name, paths: &[Cow<'_, str>]| {
            reader.group(name, slices(paths), filter, false)?;
            reader.suffixes(paths)?;
            reader.index(paths)
        };
        self.under(Locales::Taken, |reader| {
            read(reader, "page of the data, any locale", &beyond)
        })?;
        self.under(Locales::Unwanted, |reader| {
            read(reader, "page of the data, no locale", pages)
        })
    }

    fn suffixes(&mut self, spellings: &[Cow<'_, str>]) -> Result<(), Ambiguity> {
        for path in spellings {
            let path = trimmed(path);
            for suffix in [".json", RSC, PREFETCH] {
                if let Some(stem) = path.strip_suffix(suffix) {
                    self.without_suffix(path, stem)?;
                }
            }
            let Some(body) = path.strip_suffix(SEGMENT) else {
                continue;
            };
            for (at, mark) in body.match_indices(".segments/") {
                if at + mark.len() < body.len()
                    && let Some(stem) = body.get(..at)
                {
                    self.without_suffix(path, stem)?;
                }
            }
        }
        Ok(())
    }

    fn without_suffix(&mut self, path: &str, stem: &str) -> Result<(), Ambiguity> {
        let stem = if stem.is_empty() { "/" } else { stem };
        if self.becomes_locale(path, stem) {
            // `/fr.rsc` is in no locale: the page is called `/fr`.
            self.under(Locales::Implied, |reader| reader.without_suffix(path, stem))?;
        }
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
        let claim = self.claim(name, spellings, filter, default)?;
        Ok(claim.unwrap_or_default())
    }

    /// The same; `None` when no route says anything of it.
    fn claim(
        &mut self,
        name: &'static str,
        spellings: Spellings<'_>,
        filter: Filter,
        default: bool,
    ) -> Result<Option<Spelled>, Ambiguity> {
        if spellings.is_empty() {
            return Ok(None);
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
                if self.becomes_locale(&path, stem) {
                    let stem = vec![Cow::Owned(stem.to_owned())];
                    self.under(Locales::Implied, |reader| {
                        reader.claim(name, stem, filter, false)
                    })?;
                }
            }
            self.localize(path, &mut near, &mut full);
        }
        let won = self.contest(name, near, filter)?;
        let also = self.contest(name, full, filter)?;
        let read_whole = matches!(self.locales, Locales::Read | Locales::Implied);
        if default && read_whole && won.is_none() && also.is_none() {
            self.judge.unclaimed();
        }
        Ok(won.or(also))
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
        let locale = match self.locales {
            Locales::Taken => return near.push((path, INNER)),
            Locales::Unwanted => return full.push((path, FULL)),
            Locales::Implied => None,
            Locales::Read => self.nextjs.locale_of(inner),
        };
        if inner.starts_with("/_next/") {
            near.push((path, ANY_FORM));
        } else if let Some(locale) = locale {
            let page = inner
                .get(1 + locale.len()..)
                .filter(|page| !page.is_empty())
                .unwrap_or("/");
            let canonical = format!("/{locale}{}", if page == "/" { "" } else { page });
            let near_page = match page {
                // A slash at the end is one that was sent.
                "/" if inner.ends_with('/') => format!("{base_path}/"),
                _ => behind(base_path, page).into_owned(),
            };
            near.push((Cow::Owned(near_page), INNER));
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
    /// The same without `.json`.
    text: &'p str,
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
        let text = trimmed(rest).strip_suffix(".json");
        let page = text.map(|page| match page.strip_prefix("/index") {
            Some("") => "/",
            Some(under) if under.starts_with('/') => under,
            _ if page.is_empty() => "/",
            _ => page,
        });
        let text = text.filter(|text| !text.is_empty()).unwrap_or("/");
        Some(Self { rest, text, page })
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

/// Without what the compiled end of a source tolerates.
fn trimmed(path: &str) -> &str {
    path.strip_suffix(['/', '#', '?']).unwrap_or(path)
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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use crate::app::NextJs;
    use crate::policy::{Conditions, Need, Rule};
    use crate::request::RequestView;
    use crate::route::{RouteSpec, RouteTable, Settings, SourceSpec};
    use crate::session::Freshness;
    use crate::target::Target;

    fn rule(need: Need) -> Rule {
        Rule {
            need,
            freshness: Freshness::default(),
        }
    }

    fn signed_in() -> Need {
        Need::SignedIn(Conditions::default())
    }

    /// A source, and whether it counts from the locale on.
    fn table(nextjs: &NextJs, routes: &[(&str, bool, Need)]) -> RouteTable {
        let routes = routes.iter().map(|(source, locale, need)| RouteSpec {
            sources: vec![SourceSpec {
                source: (*source).to_owned(),
                locale: *locale,
                ..SourceSpec::default()
            }],
            methods: Vec::new(),
            hosts: Vec::new(),
            upstream: 0,
            rule: rule(need.clone()),
            app_caches: false,
            line: None,
        });
        let built = RouteTable::build(&Settings {
            nextjs: nextjs.clone(),
            routes: routes.collect(),
            default: rule(Need::Public),
            default_upstream: 0,
            same_app: Vec::new(),
            auth_base_path: "/zz/auth".to_owned(),
            auth_upstream: 0,
            sign_in_path: None,
            dev: false,
        });
        built.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn localized() -> NextJs {
        NextJs {
            locales: ["en", "fr"].map(str::to_owned).to_vec(),
            ..NextJs::default()
        }
    }

    fn is_open(table: &RouteTable, target: &str) -> bool {
        let matches = table.find(&RequestView {
            method: &Method::GET,
            target: Target::parse(target.as_bytes()).unwrap(),
            host: "app",
            headers: &HeaderMap::new(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        });
        matches.is_ok_and(|found| {
            found
                .all()
                .all(|id| table.route(id).rule == rule(Need::Public))
        })
    }

    /// Asks for each target with one source that keeps strangers out; everything else is open.
    fn check(nextjs: &NextJs, source: &str, locale: bool, targets: &[(&str, bool)]) {
        let table = table(nextjs, &[(source, locale, signed_in())]);
        for (target, open) in targets {
            assert_eq!(is_open(&table, target), *open, "{target} for {source}");
        }
    }

    #[test]
    fn a_page_called_like_a_locale_is_found_behind_its_transport_suffix() {
        check(
            &localized(),
            "/fr",
            true,
            &[
                ("/fr.rsc", false),
                ("/fr.json", false),
                ("/fr.segments/_tree.segment.rsc", false),
                ("/en/fr", false),
                ("/_next/data/B/fr.rsc.json", false),
                // The home page in French.
                ("/fr", true),
                ("/fr/", true),
                ("/_next/data/B/fr.json", true),
                ("/de.rsc", true),
            ],
        );
    }

    #[test]
    fn an_encoded_locale_is_a_segment_of_the_page_as_well() {
        check(
            &localized(),
            "/:path+/account",
            true,
            &[
                ("/%66r/account", false),
                ("/%66r/account.rsc%2f", false),
                ("/_next/data/B/%66r/account.json", false),
                ("/fr/fr/account", false),
                ("/fr/account", true),
                ("/account", true),
            ],
        );
    }

    #[test]
    fn an_encoded_mark_may_end_a_path_behind_its_transport_suffix() {
        check(
            &NextJs::default(),
            "/account",
            true,
            &[
                ("/account.json%23", false),
                ("/account.rsc%3F", false),
                ("/account.segments/a/b.segment.rsc%23", false),
                ("/_next/data/B/account.json%3f", false),
                ("/account.jso%6e%3F", false),
                ("/accounts.json%23", true),
                ("/_next/data/B/open.json%3f", true),
            ],
        );
    }

    #[test]
    fn the_page_of_data_has_transport_suffixes_and_an_index_too() {
        check(
            &NextJs::default(),
            "/account",
            true,
            &[
                ("/_next/data/B/account.rsc.json", false),
                (
                    "/_next/data/B/account.segments/_tree.segment.rsc.json",
                    false,
                ),
                ("/_next/data/B/index/account.json", false),
                ("/_next/data/B/open.rsc.json", true),
            ],
        );
        check(
            &NextJs::default(),
            "/",
            true,
            &[
                ("/_next/data/B/index/index.json", false),
                ("/_next/data/B/index", false),
                ("/_next/data/B/.json", false),
                ("/_next/data/B/index/open.json", true),
                ("/_next/data/B/open/index.json", true),
            ],
        );
    }

    #[test]
    fn data_of_another_build_are_taken_as_text_where_no_rule_is_about_the_page() {
        check(
            &NextJs::default(),
            "/index/:path*/:lang(en|fr)",
            true,
            &[
                ("/_next/data/B/index/en.json", false),
                ("/_next/data/B/index/a/fr.json", false),
                ("/_next/data/B/index/de.json", true),
            ],
        );
        check(
            &NextJs::default(),
            "/:name.:ext/data/x-:id",
            true,
            &[
                ("/_next/data/B/a.b/data/x-.json", false),
                ("/_next/data/B/a/data/x-.json", true),
            ],
        );
        check(
            &NextJs::default(),
            "/((?!api).*)",
            true,
            &[("/_next/data/B/apiary.json", false), ("/apiary", true)],
        );
        check(
            &localized(),
            "/:name.:ext",
            true,
            &[
                ("/_next/data/B/de/a.json", false),
                ("/_next/data/B/de/a/b.json", true),
            ],
        );
    }

    #[test]
    fn data_of_an_open_page_stay_open_beside_a_rule_for_everything_else() {
        for everything in ["/:path*", "/(.*)", "/((?!api).*)"] {
            for nextjs in [NextJs::default(), localized()] {
                let routes = [
                    ("/", true, Need::Public),
                    ("/open", true, Need::Public),
                    ("/open/:path*", true, Need::Public),
                    (everything, true, signed_in()),
                ];
                let table = table(&nextjs, &routes);
                for (target, open) in [
                    ("/_next/data/B/index.json", true),
                    ("/_next/data/B/open.json", true),
                    ("/_next/data/B/open/a.json", true),
                    ("/_next/data/B/closed.json", false),
                    ("/_next/data/B/closed/index.json", false),
                ] {
                    assert_eq!(
                        is_open(&table, target),
                        open,
                        "{target} beside {everything}"
                    );
                }
            }
        }
    }

    #[test]
    fn data_without_a_locale_are_matched_by_sources_that_spell_none_out() {
        for source in ["/", "/index"] {
            check(
                &localized(),
                source,
                false,
                &[("/_next/data/B/index.json", false), ("/open", true)],
            );
        }
        check(
            &localized(),
            "/",
            false,
            &[
                ("/_next/data/B/", false),
                ("/_next/data/B/.json", false),
                ("/", true),
            ],
        );
        check(
            &localized(),
            "/account",
            false,
            &[
                ("/_next/data/B/account.json", false),
                ("/_next/data/B/account.rsc", false),
                ("/account", true),
                ("/en/account", true),
            ],
        );
    }

    #[test]
    fn the_page_of_data_ends_in_a_slash_where_the_app_puts_one() {
        let slashed = NextJs {
            trailing_slash: true,
            ..NextJs::default()
        };
        let targets = |open| [("/_next/data/B/a.json", open), ("/a/", false)];
        check(
            &slashed,
            "/((?!_next)[a-z]*)/:path(.*)",
            true,
            &targets(false),
        );
        check(
            &NextJs::default(),
            "/((?!_next)[a-z]*)/:path(.*)",
            true,
            &targets(true),
        );
    }

    #[test]
    fn data_of_another_build_have_a_transport_suffix_as_text() {
        check(
            &NextJs::default(),
            "/:path+/account",
            true,
            &[
                ("/_next/data/B/account.json", false),
                ("/_next/data/B/account.rsc", false),
                ("/_next/data/B/accounts.json", true),
            ],
        );
    }

    #[test]
    fn a_locale_before_an_encoded_mark_is_a_page() {
        check(
            &localized(),
            "/fr",
            true,
            &[
                ("/fr%23", false),
                ("/fr%3F", false),
                ("/de%23", true),
                ("/fr/open%23", true),
            ],
        );
    }

    #[test]
    fn a_path_outside_a_base_path_called_like_the_locale_is_below_it() {
        let taken_in = NextJs {
            base_path: "/en".to_owned(),
            ..localized()
        };
        let targets = |open| {
            [
                ("/en/account", false),
                ("/account", open),
                ("/de/account", open),
                ("/de/account.rsc", open),
                ("/de/a%63count", open),
                ("/open", true),
            ]
        };
        check(&taken_in, "/account", true, &targets(false));
        let apart = NextJs {
            base_path: "/fr".to_owned(),
            ..localized()
        };
        let beside =
            targets(true).map(|(target, open)| (target, open || target.starts_with("/en/")));
        check(&apart, "/account", true, &beside);
    }

    #[test]
    fn the_slash_behind_a_locale_is_there_for_expressions() {
        let based = NextJs {
            base_path: "/app".to_owned(),
            ..localized()
        };
        for nextjs in [based, localized()] {
            let base = nextjs.base_path.clone();
            let (slash, closed, other) = (
                format!("{base}/en/"),
                format!("{base}/fr/a"),
                format!("{base}/en/_next"),
            );
            check(
                &nextjs,
                "/((?!_next).*)",
                true,
                &[
                    (slash.as_str(), false),
                    (closed.as_str(), false),
                    (other.as_str(), true),
                ],
            );
        }
    }
}
