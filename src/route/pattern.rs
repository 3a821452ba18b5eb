//! Next.js matcher sources: what they are made of, and when the app's own middleware would run.
//!
//! Source: path-to-regexp 6.3.0, dist/index.js, `lexer`, `parse` and `tokensToRegexp`, as bundled by Next.js 16.4.6, and what
//! its build puts around every source; golden data in `tests/golden/nextjs-matcher.json`.

use crate::app::NextJs;
use crate::request::RequestView;
use crate::route::SourceSpec;
use crate::route::condition::Conditions;
use crate::route::expression::{Expression, Outcome};

/// Letters a source may have once Next.js has put its own around it.
const SOURCE_LETTERS_MAX: usize = 4096;
/// What a parameter without its own expression stands for.
const ONE_SEGMENT: &str = r"[^\/#\?]+?";
const DATA_PREFIX: &str = r"(?:\/(_next\/data\/[^/]{1,}))?";
const LOCALE: &str = r"(?:\/((?!_next\/)[^/.]{1,}))";
const SUFFIX: &str = r"(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?";
const ROOT: &str =
    r"(?:\/(\/?index|\/?index\.json|\/?index(?:\.rsc|\.segments\/.+\.segment\.rsc)))?";
/// What the root of an app with locales goes by.
const LOCALIZED_ROOT_GROUP: &str =
    r"(|\.json|\/?index|\/?index\.json|\/?index(?:\.rsc|\.segments\/.+\.segment\.rsc))";
const END: &str = r"[\/#\?]?$";

/// A source, read.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    tokens: Vec<Token>,
    segments: Option<Vec<Segment>>,
}

/// One part of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Group {
        prefix: String,
        expression: String,
        suffix: String,
        modifier: Option<char>,
    },
}

/// One segment of a source that needs no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// Exactly this.
    Literal(String),
    /// Anything that begins with this; only the gateway's own routes use it.
    Prefix(String),
    /// One of these: `:p(a|b)`.
    Choice(Vec<String>),
    /// One of these, or no segment: `:p(a|b)?`.
    OptionalChoice(Vec<String>),
    /// `:p`.
    One,
    /// `:p?`.
    Optional,
    /// `:p+`.
    Plus,
    /// `(.*)` at the end.
    Rest,
    /// `:p*`.
    Star,
}

impl Pattern {
    /// Reads a source.
    ///
    /// # Errors
    /// Says what is wrong, in the words Next.js uses.
    pub fn parse(source: &str) -> Result<Self, String> {
        if !source.starts_with('/') {
            return Err("source must start with /".to_owned());
        }
        let tokens = Parser::new(source)?.run()?;
        let segments = segments_of(&tokens);
        let pattern = Self {
            source: source.to_owned(),
            tokens,
            segments,
        };
        let around = DATA_PREFIX.len() + LOCALE.len() + SUFFIX.len();
        if source.chars().count() + around > SOURCE_LETTERS_MAX {
            return Err(format!(
                "source is longer than {SOURCE_LETTERS_MAX} letters"
            ));
        }
        // Custom expressions are checked here even where only the segments are used later.
        Expression::compile(&pattern.core())?;
        Ok(pattern)
    }

    /// The source as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The expression the app's build makes of it.
    ///
    /// # Errors
    /// When the base path makes it too large to run.
    pub fn expression(&self, nextjs: &NextJs, locale: bool) -> Result<Expression, String> {
        let localized = locale && !nextjs.locales.is_empty();
        if self.source == "/" && !locale && !nextjs.locales.is_empty() {
            let base = escape(&nextjs.base_path);
            return Expression::compile(&format!(
                "^{base}{DATA_PREFIX}(?:\\/{LOCALIZED_ROOT_GROUP})?{END}"
            ));
        }
        Expression::compile(&self.with_transports(&nextjs.base_path, localized))
    }

    /// Its segments, when it needs no regular expression.
    pub(super) fn segments(&self) -> Option<&[Segment]> {
        self.segments.as_deref()
    }

    /// The text of its first segment, when that is fixed.
    pub(super) fn head(&self) -> Option<&str> {
        match self.tokens.first() {
            Some(Token::Text(text)) => text.strip_prefix('/')?.split('/').next(),
            _ => None,
        }
    }

    /// The whole segments it begins with that are fixed.
    pub(super) fn fixed_segments(&self) -> Vec<&str> {
        let Some(Token::Text(text)) = self.tokens.first() else {
            return Vec::new();
        };
        let mut parts: Vec<&str> = text.split('/').skip(1).collect();
        let whole = match self.tokens.get(1) {
            Some(Token::Group { prefix, .. }) => prefix == "/",
            _ => true,
        };
        if !whole {
            parts.pop();
        }
        parts
    }

    /// The fixed text it ends with.
    pub(super) fn tail(&self) -> Option<&str> {
        match self.tokens.last() {
            Some(Token::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The expression of the source alone.
    pub(super) fn core(&self) -> String {
        format!("^{}{END}", self.body())
    }

    /// The expression with the data prefix and the transport suffixes Next.js adds; `base_path` stands in front.
    pub(super) fn with_transports(&self, base_path: &str, localized: bool) -> String {
        let base = escape(base_path);
        let locale = if localized { LOCALE } else { "" };
        match (self.source.as_str(), localized) {
            ("/", false) => format!("^{base}{DATA_PREFIX}{ROOT}{END}"),
            ("/", true) => format!("^{base}{DATA_PREFIX}{LOCALE}{LOCALIZED_ROOT_GROUP}?{END}"),
            _ => format!("^{base}{DATA_PREFIX}{locale}{}{SUFFIX}{END}", self.body()),
        }
    }

    /// The expression of the source alone behind `base_path`.
    pub(super) fn behind(&self, base_path: &str) -> String {
        format!("^{}{}{END}", escape(base_path), self.body())
    }

    fn body(&self) -> String {
        self.tokens.iter().map(Token::expression).collect()
    }
}

impl Token {
    fn expression(&self) -> String {
        let (prefix, expression, suffix, modifier) = match self {
            Self::Text(text) => return escape(text),
            Self::Group {
                prefix,
                expression,
                suffix,
                modifier,
            } => (escape(prefix), expression, escape(suffix), modifier),
        };
        let sign = modifier.map(String::from).unwrap_or_default();
        if expression.is_empty() {
            return format!("(?:{prefix}{suffix}){sign}");
        }
        match modifier {
            Some('*' | '+') => {
                let none = if *modifier == Some('*') { "?" } else { "" };
                format!(
                    "(?:{prefix}((?:{expression})(?:{suffix}{prefix}(?:{expression}))*){suffix}){none}"
                )
            }
            _ if prefix.is_empty() && suffix.is_empty() => format!("({expression}){sign}"),
            _ => format!("(?:{prefix}({expression}){suffix}){sign}"),
        }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if r".+*?=^!:${}()[]|/\".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

// ---- reading a source --------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lexeme {
    Modifier(char),
    Escaped(char),
    Open,
    Close,
    Name,
    Expression(String),
    Letter(char),
    End,
}

impl Lexeme {
    fn word(&self) -> &'static str {
        match self {
            Self::Modifier(_) => "MODIFIER",
            Self::Escaped(_) => "ESCAPED_CHAR",
            Self::Open => "OPEN",
            Self::Close => "CLOSE",
            Self::Name => "NAME",
            Self::Expression(_) => "PATTERN",
            Self::Letter(_) => "CHAR",
            Self::End => "END",
        }
    }
}

fn lex(source: &str) -> Result<Vec<(usize, Lexeme)>, String> {
    let letters: Vec<char> = source.chars().collect();
    let at = |index: usize| letters.get(index).copied();
    let mut lexemes = Vec::new();
    let mut index = 0;
    while let Some(letter) = at(index) {
        let start = index;
        index += 1;
        let lexeme = match letter {
            '*' | '+' | '?' => Lexeme::Modifier(letter),
            '\\' => {
                index += 1;
                Lexeme::Escaped(
                    at(start + 1).ok_or_else(|| format!("Unexpected end after \\ at {start}"))?,
                )
            }
            '{' => Lexeme::Open,
            '}' => Lexeme::Close,
            ':' => {
                while at(index).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    index += 1;
                }
                if index == start + 1 {
                    return Err(format!("Missing parameter name at {start}"));
                }
                Lexeme::Name
            }
            '(' => {
                let (expression, after) = lex_expression(&letters, start)?;
                index = after;
                Lexeme::Expression(expression)
            }
            other => Lexeme::Letter(other),
        };
        lexemes.push((start, lexeme));
    }
    lexemes.push((index, Lexeme::End));
    Ok(lexemes)
}

fn lex_expression(letters: &[char], start: usize) -> Result<(String, usize), String> {
    let at = |index: usize| letters.get(index).copied();
    let mut index = start + 1;
    if at(index) == Some('?') {
        return Err(format!("Pattern cannot start with \"?\" at {index}"));
    }
    let mut depth = 1;
    let mut expression = String::new();
    while let Some(letter) = at(index) {
        match letter {
            '\\' => {
                expression.push(letter);
                expression.extend(at(index + 1));
                index += 2;
                continue;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    index += 1;
                    break;
                }
            }
            '(' => {
                depth += 1;
                if at(index + 1) != Some('?') {
                    return Err(format!("Capturing groups are not allowed at {index}"));
                }
            }
            _ => {}
        }
        expression.push(letter);
        index += 1;
    }
    if depth > 0 {
        return Err(format!("Unbalanced pattern at {start}"));
    }
    if expression.is_empty() {
        return Err(format!("Missing pattern at {start}"));
    }
    Ok((expression, index))
}

struct Parser {
    lexemes: std::iter::Peekable<std::vec::IntoIter<(usize, Lexeme)>>,
    tokens: Vec<Token>,
    text: String,
}

impl Parser {
    fn new(source: &str) -> Result<Self, String> {
        Ok(Self {
            lexemes: lex(source)?.into_iter().peekable(),
            tokens: Vec::new(),
            text: String::new(),
        })
    }

    fn run(mut self) -> Result<Vec<Token>, String> {
        loop {
            let letter = self.letter();
            let named = self.name();
            let expression = self.expression();
            if named || expression.is_some() {
                let mut prefix = String::new();
                match letter {
                    Some(letter @ ('.' | '/')) => prefix.push(letter),
                    Some(letter) => self.text.push(letter),
                    None => {}
                }
                self.flush();
                let expression = match expression {
                    Some(expression) => expression,
                    None => self.default_expression(&prefix)?,
                };
                let modifier = self.modifier();
                self.group(prefix, expression, String::new(), modifier)?;
                continue;
            }
            if let Some(letter) = letter.or_else(|| self.escaped()) {
                self.text.push(letter);
                continue;
            }
            self.flush();
            if self.lexemes.next_if(|(_, l)| *l == Lexeme::Open).is_some() {
                let prefix = self.plain_text();
                let named = self.name();
                let expression = match self.expression() {
                    Some(expression) => expression,
                    None if named => self.default_expression(&prefix)?,
                    None => String::new(),
                };
                let suffix = self.plain_text();
                self.must(&Lexeme::Close)?;
                let modifier = self.modifier();
                self.group(prefix, expression, suffix, modifier)?;
                continue;
            }
            self.must(&Lexeme::End)?;
            return Ok(self.tokens);
        }
    }

    fn group(
        &mut self,
        prefix: String,
        expression: String,
        suffix: String,
        modifier: Option<char>,
    ) -> Result<(), String> {
        let bare = prefix.is_empty() && suffix.is_empty();
        if bare && !expression.is_empty() && matches!(modifier, Some('*' | '+')) {
            return Err("Can not repeat a parameter without a prefix and suffix".to_owned());
        }
        self.tokens.push(Token::Group {
            prefix,
            expression,
            suffix,
            modifier,
        });
        Ok(())
    }

    /// A parameter right behind text may not run over that text again.
    fn default_expression(&self, prefix: &str) -> Result<String, String> {
        let before = match (prefix, self.tokens.last()) {
            ("", Some(Token::Text(text))) => text.as_str(),
            ("", Some(Token::Group { .. })) => {
                return Err("Must have text between two parameters".to_owned());
            }
            (prefix, _) => prefix,
        };
        Ok(if before.is_empty() || before.contains(['/', '#', '?']) {
            ONE_SEGMENT.to_owned()
        } else {
            format!(r"(?:(?!{})[^\/#\?])+?", escape(before))
        })
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.tokens
                .push(Token::Text(std::mem::take(&mut self.text)));
        }
    }

    fn letter(&mut self) -> Option<char> {
        match self
            .lexemes
            .next_if(|(_, l)| matches!(l, Lexeme::Letter(_)))
        {
            Some((_, Lexeme::Letter(letter))) => Some(letter),
            _ => None,
        }
    }

    fn escaped(&mut self) -> Option<char> {
        match self
            .lexemes
            .next_if(|(_, l)| matches!(l, Lexeme::Escaped(_)))
        {
            Some((_, Lexeme::Escaped(letter))) => Some(letter),
            _ => None,
        }
    }

    fn name(&mut self) -> bool {
        self.lexemes.next_if(|(_, l)| *l == Lexeme::Name).is_some()
    }

    fn expression(&mut self) -> Option<String> {
        match self
            .lexemes
            .next_if(|(_, l)| matches!(l, Lexeme::Expression(_)))
        {
            Some((_, Lexeme::Expression(expression))) => Some(expression),
            _ => None,
        }
    }

    fn modifier(&mut self) -> Option<char> {
        match self
            .lexemes
            .next_if(|(_, l)| matches!(l, Lexeme::Modifier(_)))
        {
            Some((_, Lexeme::Modifier(sign))) => Some(sign),
            _ => None,
        }
    }

    fn plain_text(&mut self) -> String {
        let mut text = String::new();
        while let Some(letter) = self.letter().or_else(|| self.escaped()) {
            text.push(letter);
        }
        text
    }

    fn must(&mut self, wanted: &Lexeme) -> Result<(), String> {
        match self.lexemes.next() {
            Some((_, found)) if found == *wanted => Ok(()),
            Some((at, found)) => Err(format!(
                "Unexpected {} at {at}, expected {}",
                found.word(),
                wanted.word()
            )),
            None => Err(format!("Unexpected END, expected {}", wanted.word())),
        }
    }
}

// ---- sources that need no regular expression ---------------------------------------------------------------------

fn segments_of(tokens: &[Token]) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let last = index + 1 == tokens.len();
        match token {
            Token::Text(text) if text == "/" && tokens.len() == 1 => {}
            Token::Text(text) => {
                for part in text.strip_prefix('/')?.split('/') {
                    if part.is_empty() || part.contains(['#', '?']) {
                        return None;
                    }
                    segments.push(Segment::Literal(part.to_owned()));
                }
            }
            Token::Group {
                prefix,
                expression,
                suffix,
                modifier,
            } if prefix == "/" && suffix.is_empty() => {
                segments.push(match (expression.as_str(), modifier) {
                    (ONE_SEGMENT, None) => Segment::One,
                    (ONE_SEGMENT, Some('?')) => Segment::Optional,
                    (ONE_SEGMENT, Some('+')) => Segment::Plus,
                    (ONE_SEGMENT, Some('*')) => Segment::Star,
                    (".*", None) if last => Segment::Rest,
                    (list, None) => Segment::Choice(choices(list)?),
                    (list, Some('?')) => Segment::OptionalChoice(choices(list)?),
                    _ => return None,
                })
            }
            Token::Group { .. } => return None,
        }
    }
    Some(segments)
}

/// The words of `a|b|c`, when there is nothing else to it.
fn choices(list: &str) -> Option<Vec<String>> {
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    list.split('|')
        .map(|text| word(text).then(|| text.to_owned()))
        .collect()
}

/// Whether segments match a path that begins with a slash and has lost its trailing one (`slash` says whether it had one).
pub(super) fn segments_match(segments: &[Segment], path: &str, slash: bool) -> bool {
    // States of a small automaton: how many segments are used up. A repeating one stays in its own state.
    let mut states = vec![false; segments.len() + 1];
    if let Some(first) = states.first_mut() {
        *first = true;
    }
    skip_optional(segments, &mut states);
    let parts = path.strip_prefix('/').filter(|rest| !rest.is_empty());
    for part in parts.into_iter().flat_map(|rest| rest.split('/')) {
        let mut next = vec![false; states.len()];
        for (index, segment) in segments.iter().enumerate() {
            if !states.get(index).copied().unwrap_or(false) {
                continue;
            }
            let (taken, stays) = match segment {
                Segment::Literal(text) => (text == part, false),
                Segment::Choice(list) | Segment::OptionalChoice(list) => {
                    (list.iter().any(|t| t == part), false)
                }
                Segment::Prefix(text) => (part.starts_with(text.as_str()), false),
                Segment::One | Segment::Optional => (is_parameter(part), false),
                Segment::Plus | Segment::Star => (is_parameter(part), true),
                Segment::Rest => (true, true),
            };
            if taken {
                for target in [Some(index + 1), stays.then_some(index)]
                    .into_iter()
                    .flatten()
                {
                    if let Some(state) = next.get_mut(target) {
                        *state = true;
                    }
                }
            }
        }
        states = next;
        skip_optional(segments, &mut states);
    }
    let ended = states.last().copied().unwrap_or(false);
    // `/x/(.*)` also covers `/x/`: nothing behind the slash.
    let open = slash
        && matches!(segments.last(), Some(Segment::Rest))
        && states.get(segments.len() - 1).copied().unwrap_or(false);
    ended || open
}

fn skip_optional(segments: &[Segment], states: &mut [bool]) {
    for (index, segment) in segments.iter().enumerate() {
        let skips = matches!(
            segment,
            Segment::Optional | Segment::OptionalChoice(_) | Segment::Star
        );
        if skips
            && states.get(index).copied().unwrap_or(false)
            && let Some(state) = states.get_mut(index + 1)
        {
            *state = true;
        }
    }
}

/// What a parameter can stand for.
pub(super) fn is_parameter(part: &str) -> bool {
    !part.is_empty() && !part.contains(['#', '?'])
}

// ---- when the app's middleware runs ------------------------------------------------------------------------------

/// The value of `config.matcher`: says for which requests the app's own `proxy.ts` or `middleware.ts` runs.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// `None` stands for every request.
    patterns: Option<Vec<(Expression, Conditions)>>,
    nextjs: NextJs,
}

impl Matcher {
    /// Compiles the sources of one `config.matcher`.
    ///
    /// # Errors
    /// Names the source and says what is wrong with it.
    pub fn compile(sources: &[SourceSpec], nextjs: &NextJs) -> Result<Self, String> {
        let compile = |spec: &SourceSpec| {
            let expression = Pattern::parse(&spec.source)?.expression(nextjs, spec.locale)?;
            Ok::<_, String>((expression, Conditions::compile(spec)?))
        };
        let patterns = sources
            .iter()
            .map(|spec| {
                compile(spec).map_err(|why| format!("Invalid source '{}': {why}", spec.source))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            patterns: Some(patterns),
            nextjs: nextjs.clone(),
        })
    }

    /// Takes what a build has compiled: expressions, each with its conditions.
    ///
    /// # Errors
    /// Says which of them cannot be run here.
    pub(super) fn compiled(
        expressions: &[(String, SourceSpec)],
        nextjs: &NextJs,
    ) -> Result<Self, String> {
        let patterns = expressions
            .iter()
            .map(|(regex, spec)| Ok((Expression::compile(regex)?, Conditions::compile(spec)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            patterns: Some(patterns),
            nextjs: nextjs.clone(),
        })
    }

    /// No `config.matcher`: the middleware runs for everything.
    pub fn everything() -> Self {
        Self {
            patterns: None,
            nextjs: NextJs::default(),
        }
    }

    /// Whether the middleware runs for this request. A step bound that is hit counts as yes; every build id counts as the
    /// current one.
    pub fn covers(&self, request: &RequestView<'_>) -> bool {
        let Some(patterns) = &self.patterns else {
            return true;
        };
        let path = self.with_locale(request.target.path(), request.host);
        let path = self.page(&path, request.host).unwrap_or(path);
        let decoded = crate::percent::decode(path.as_bytes())
            .and_then(|bytes| String::from_utf8(bytes.into_owned()).ok());
        patterns.iter().any(|(expression, conditions)| {
            let mut spellings = std::iter::once(&path).chain(&decoded);
            spellings.any(|path| expression.matches(path) != Outcome::No)
                && conditions.hold(request).or(true)
        })
    }

    /// A path without a locale is taken to be in the default one.
    fn with_locale(&self, path: &str, host: &str) -> String {
        let base = self.nextjs.base_path.as_str();
        let (base, inner) = match path.strip_prefix(base) {
            Some(inner) if inner.is_empty() || inner.starts_with('/') => (base, inner),
            _ => ("", path),
        };
        let Some(default) = self.nextjs.implied_locale(host) else {
            return path.to_owned();
        };
        if self.nextjs.locale_of(inner).is_some() || inner.starts_with("/_next/") {
            return path.to_owned();
        }
        let inner = if inner == "/" && !self.nextjs.trailing_slash {
            ""
        } else {
            inner
        };
        format!("{base}/{default}{inner}")
    }

    /// The page whose data is asked for.
    fn page(&self, path: &str, host: &str) -> Option<String> {
        let base = self.nextjs.base_path.as_str();
        let inner = path
            .strip_prefix(base)?
            .strip_prefix("/_next/data/")?
            .strip_suffix(".json")?;
        let page = inner
            .find('/')
            .and_then(|at| inner.get(at..))
            .unwrap_or("/");
        let page = match page.strip_prefix("/index") {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => page,
        };
        let mut page = match self.nextjs.implied_locale(host) {
            Some(default) if self.nextjs.locale_of(page).is_none() => {
                format!("/{default}{}", if page == "/" { "" } else { page })
            }
            _ => page.to_owned(),
        };
        if !base.is_empty() {
            page = format!("{base}{}", if page == "/" { "" } else { &page });
        }
        if self.nextjs.trailing_slash && !page.ends_with('/') {
            page.push('/');
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_compile_to_what_the_build_writes() {
        for (source, expected) in [
            (
                "/about/:path*",
                r"^\/about(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?[\/#\?]?$",
            ),
            (
                "/:a-:b",
                r"^(?:\/([^\/#\?]+?))-((?:(?!-)[^\/#\?])+?)[\/#\?]?$",
            ),
            (
                "/x/:p*(\\d+)",
                r"^\/x(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?(\d+)[\/#\?]?$",
            ),
            (
                "/a{/:b/c}+",
                r"^\/a(?:\/((?:[^\/#\?]+?)(?:\/c\/(?:[^\/#\?]+?))*)\/c)[\/#\?]?$",
            ),
            ("/a\\(b\\)", r"^\/a\(b\)[\/#\?]?$"),
        ] {
            assert_eq!(Pattern::parse(source).unwrap().core(), expected);
        }
    }

    #[test]
    fn a_wrong_source_is_refused_in_the_words_of_the_build() {
        for (source, why) in [
            ("about", "source must start with /"),
            ("/about/(", "Unbalanced pattern at 7"),
            ("/about/:", "Missing parameter name at 7"),
            ("/(?!x)", "Pattern cannot start with \"?\" at 2"),
            ("/about/{a", "Unexpected END at 9, expected CLOSE"),
            ("/x*", "Unexpected MODIFIER at 2, expected END"),
            ("/()", "Missing pattern at 1"),
            ("/((a))", "Capturing groups are not allowed at 2"),
        ] {
            assert_eq!(
                Pattern::parse(source).map(|_| ()),
                Err(why.to_owned()),
                "{source}"
            );
        }
        for source in ["/:a:b", "{/:r*}?", "/a{(b)}*", "/:a([b-a])", "/\\"] {
            assert!(Pattern::parse(source).is_err(), "{source}");
        }
        assert!(Pattern::parse(&format!("/{}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn only_sources_of_whole_segments_are_indexed() {
        for source in [
            "/",
            "/a",
            "/a/:b",
            "/a/:b?",
            "/a/:b+/c",
            "/a/:b*",
            "/a/(.*)",
            "/:l(en|fr)?/x",
            "/a{/:b}?",
            "/café/a b",
        ] {
            assert!(
                Pattern::parse(source).unwrap().segments().is_some(),
                "{source}"
            );
        }
        for source in [
            "/a/",
            "/:a.:b",
            "/a-:b",
            "/:a(\\d+)",
            "/((?!api).*)",
            "/a/(.*)/b",
            "/a{-:b}?",
            "/:a(x|y)+",
        ] {
            assert!(
                Pattern::parse(source).unwrap().segments().is_none(),
                "{source}"
            );
        }
    }

    proptest! {
        #[test]
        fn segments_agree_with_the_expression(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("/a"), Just("/b"), Just("/:x"), Just("/:x?"), Just("/:x+"), Just("/:x*"), Just("/:x(a|b)"), Just("/:x(a|b)?"),
                ], 1..5),
            rest in any::<bool>(),
            path in "(/[abc]{1,2}#?){0,6}/?",
        ) {
            let source = parts.concat() + if rest { "/(.*)" } else { "" };
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let pattern = Pattern::parse(&source).unwrap();
            let expected = Expression::compile(&pattern.core()).unwrap().matches(&path) == Outcome::Yes;
            let trimmed = path.strip_suffix(['/', '#']).unwrap_or(&path);
            let segments = pattern.segments().unwrap();
            let slash = path.ends_with('/');
            let found = segments_match(segments, trimmed, slash) || (!slash && segments_match(segments, &path, false));
            prop_assert_eq!(found, expected, "{} on {}", source, path);
        }
    }
}
