//! JavaScript regular expressions on an engine that gives up instead of running away.
//!
//! Matcher sources and conditions are written for JavaScript (without flags). They are translated, construct by construct, for
//! a backtracking engine with a step bound. What has no faithful translation is refused when the configuration is read.

use fancy_regex::{Regex, RegexBuilder};

/// Backtracks one evaluation may take. A sound source needs about one per letter of the path; one that needs more is a denial
/// of service in waiting, and each evaluation stays well under a few milliseconds.
const BACKTRACKS_MAX: usize = 20_000;
/// Largest number in `{n,m}`: beyond it the compiled program grows out of proportion.
const REPEAT_MAX: u32 = 1_000;
/// Bytes a compiled part may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matches.
    Yes,
    /// It does not.
    No,
    /// The step bound was hit first. Callers take this as the safer of the two.
    Unsure,
}

impl Outcome {
    /// Yes or no, with `Unsure` read as `unsure`.
    pub fn or(self, unsure: bool) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::Unsure => unsure,
        }
    }
}

/// The step bound was hit before anything was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure;

/// A compiled JavaScript regular expression (no flags).
#[derive(Clone, Debug)]
pub struct Expression {
    regex: Regex,
}

impl Expression {
    /// Compiles a JavaScript regular expression.
    ///
    /// # Errors
    /// Says what is wrong with it, or which construct cannot be run here.
    pub fn compile(source: &str) -> Result<Self, String> {
        let translated = Translation::of(source)?;
        let regex = RegexBuilder::new(&translated)
            .backtrack_limit(BACKTRACKS_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| format!("invalid regular expression: {error}"))?;
        Ok(Self { regex })
    }

    /// The same, taking capitals and small letters for one another (the flag `i`).
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_any_case(source: &str) -> Result<Self, String> {
        let translated = Translation::of(source)?;
        let regex = RegexBuilder::new(&translated)
            .case_insensitive(true)
            .backtrack_limit(BACKTRACKS_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| format!("invalid regular expression: {error}"))?;
        Ok(Self { regex })
    }

    /// What its groups hold, in order, where it matches `text`; a group that took no part holds nothing.
    ///
    /// # Errors
    /// The step bound was hit first.
    pub fn groups<'t>(&self, text: &'t str) -> Result<Option<Vec<Option<&'t str>>>, Unsure> {
        let found = self.regex.captures(text).map_err(|_| Unsure)?;
        Ok(found.map(|found| {
            let groups = found.iter().skip(1);
            groups.map(|group| group.map(|g| g.as_str())).collect()
        }))
    }

    /// Whether it matches somewhere in `text`.
    pub fn matches(&self, text: &str) -> Outcome {
        match self.regex.is_match(text) {
            Ok(true) => Outcome::Yes,
            Ok(false) => Outcome::No,
            // Every run-time error of the engine is a bound: backtracks, stack or memory.
            Err(_) => Outcome::Unsure,
        }
    }
}

/// Letters JavaScript calls white space, as class members.
const SPACE: &str = r"\t\n\x{b}\x{c}\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";
const WORD: &str = "0-9A-Za-z_";
const DIGIT: &str = "0-9";

struct Translation<'s> {
    rest: std::iter::Peekable<std::str::Chars<'s>>,
    out: String,
    depth: usize,
}

/// One member of a class.
enum Member {
    Letter(char),
    Set(String),
}

impl Translation<'_> {
    fn of(source: &str) -> Result<String, String> {
        let mut translation = Translation {
            rest: source.chars().peekable(),
            out: String::with_capacity(source.len() * 2),
            depth: 0,
        };
        translation.run()?;
        Ok(translation.out)
    }

    fn run(&mut self) -> Result<(), String> {
        // Whether a quantifier may follow.
        let mut quantifiable = false;
        while let Some(letter) = self.rest.next() {
            match letter {
                '\\' => quantifiable = self.escape()?,
                '[' => {
                    self.class()?;
                    quantifiable = true;
                }
                '(' => {
                    self.open()?;
                    quantifiable = false;
                }
                ')' => {
                    self.depth = self.depth.checked_sub(1).ok_or("unmatched `)`")?;
                    self.out.push(')');
                    quantifiable = true;
                }
                '|' => {
                    self.out.push('|');
                    quantifiable = false;
                }
                '^' | '$' => {
                    self.out.push(letter);
                    quantifiable = false;
                }
                '.' => {
                    self.out.push_str(r"[^\n\r\x{2028}\x{2029}]");
                    quantifiable = true;
                }
                '*' | '+' | '?' => {
                    if !quantifiable {
                        return Err("nothing to repeat".to_owned());
                    }
                    self.out.push(letter);
                    self.lazy();
                    quantifiable = false;
                }
                '{' => match self.counts()? {
                    Some(_) if !quantifiable => return Err("nothing to repeat".to_owned()),
                    Some(counts) => {
                        self.out.push_str(&counts);
                        self.lazy();
                        quantifiable = false;
                    }
                    None => {
                        self.letter('{');
                        quantifiable = true;
                    }
                },
                other => {
                    self.letter(other);
                    quantifiable = true;
                }
            }
        }
        if self.depth == 0 {
            Ok(())
        } else {
            Err("unterminated group".to_owned())
        }
    }

    fn lazy(&mut self) {
        if self.rest.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
    }

    fn letter(&mut self, letter: char) {
        if letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_') {
            self.out.push(letter);
        } else {
            self.out.push_str(&hex(letter));
        }
    }

    /// A group with a name becomes one without: groups are read by their place.
    fn open(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.rest.next_if_eq(&'?').is_none() {
            self.out.push('(');
            return Ok(());
        }
        match self.rest.next() {
            Some(sign @ (':' | '=' | '!')) => {
                self.out.push_str("(?");
                self.out.push(sign);
                Ok(())
            }
            Some('<') => {
                if let Some(sign) = self.rest.next_if(|c| matches!(c, '=' | '!')) {
                    self.out.push_str("(?<");
                    self.out.push(sign);
                    return Ok(());
                }
                for letter in self.rest.by_ref() {
                    if letter == '>' {
                        self.out.push('(');
                        return Ok(());
                    }
                }
                Err("unterminated group name".to_owned())
            }
            _ => Err("groups beginning with `(?` other than `?:`, `?=`, `?!`, `?<=`, `?<!`, `?<name>` are not supported".to_owned()),
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else leaves the brace a letter, as JavaScript does.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let body: String = self.rest.clone().take_while(|&c| c != '}').collect();
        let closed = self.rest.clone().any(|c| c == '}');
        let (low, high) = match body.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (body.as_str(), None),
        };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !closed || !number(low) || high.is_some_and(|high| !high.is_empty() && !number(high)) {
            return Ok(None);
        }
        let bounded = |text: &str| {
            text.parse::<u32>()
                .ok()
                .filter(|n| *n <= REPEAT_MAX)
                .ok_or_else(|| format!("`{{{body}}}` repeats more than {REPEAT_MAX} times"))
        };
        let least = bounded(low)?;
        if let Some(high) = high.filter(|high| !high.is_empty())
            && bounded(high)? < least
        {
            return Err(format!("`{{{body}}}`: numbers out of order"));
        }
        for _ in 0..=body.len() {
            self.rest.next();
        }
        Ok(Some(format!("{{{body}}}")))
    }

    /// An escape outside a class. Says whether a quantifier may follow.
    fn escape(&mut self) -> Result<bool, String> {
        let Some(letter) = self.rest.next() else {
            return Err("`\\` at the end".to_owned());
        };
        match letter {
            'b' | 'B' => {
                let (same, other) = if letter == 'b' {
                    ('!', '=')
                } else {
                    ('=', '!')
                };
                self.out.push_str(&format!(
                    "(?:(?<=[{WORD}])(?{same}[{WORD}])|(?<![{WORD}])(?{other}[{WORD}]))"
                ));
                Ok(false)
            }
            '1'..='9' | 'k' => Err("back references are not supported".to_owned()),
            _ => {
                match self.escaped(letter)? {
                    Member::Letter(letter) => self.letter(letter),
                    Member::Set(set) => {
                        self.out.push('[');
                        self.out.push_str(&set);
                        self.out.push(']');
                    }
                }
                Ok(true)
            }
        }
    }

    /// What an escape stands for, where classes and the rest agree.
    fn escaped(&mut self, letter: char) -> Result<Member, String> {
        Ok(match letter {
            'd' => Member::Set(DIGIT.to_owned()),
            'D' => Member::Set(format!("^{DIGIT}")),
            'w' => Member::Set(WORD.to_owned()),
            'W' => Member::Set(format!("^{WORD}")),
            's' => Member::Set(SPACE.to_owned()),
            'S' => Member::Set(format!("^{SPACE}")),
            't' => Member::Letter('\t'),
            'n' => Member::Letter('\n'),
            'v' => Member::Letter('\u{b}'),
            'f' => Member::Letter('\u{c}'),
            'r' => Member::Letter('\r'),
            '0' if !self.rest.peek().is_some_and(char::is_ascii_digit) => Member::Letter('\0'),
            'x' => Member::Letter(self.hexadecimal(2)?),
            'u' => Member::Letter(self.hexadecimal(4)?),
            other if other.is_alphanumeric() => {
                return Err(format!("the escape `\\{other}` is not supported"));
            }
            other => Member::Letter(other),
        })
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, String> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.rest.next().and_then(|c| c.to_digit(16));
            code = code * 16 + digit.ok_or("incomplete hexadecimal escape")?;
        }
        char::from_u32(code).ok_or_else(|| "surrogates are not supported".to_owned())
    }

    fn class(&mut self) -> Result<(), String> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut members = String::new();
        loop {
            let Some(first) = self.rest.next() else {
                return Err("unterminated class".to_owned());
            };
            if first == ']' {
                break;
            }
            let first = self.member(first)?;
            let mut ahead = self.rest.clone();
            let ranged = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            if !ranged {
                push_member(&mut members, &first);
                continue;
            }
            self.rest.next();
            let Some(last) = self.rest.next() else {
                return Err("unterminated class".to_owned());
            };
            let last = self.member(last)?;
            if let (Member::Letter(from), Member::Letter(to)) = (&first, &last) {
                if from > to {
                    return Err("range out of order in a class".to_owned());
                }
                members.push_str(&format!("{}-{}", hex(*from), hex(*to)));
            } else {
                push_member(&mut members, &first);
                push_member(&mut members, &Member::Letter('-'));
                push_member(&mut members, &last);
            }
        }
        match (members.is_empty(), negated) {
            (true, true) => self.out.push_str(r"[\x{0}-\x{10ffff}]"),
            (true, false) => self.out.push_str("(?:(?!))"),
            (false, _) => {
                self.out.push_str(if negated { "[^" } else { "[" });
                self.out.push_str(&members);
                self.out.push(']');
            }
        }
        Ok(())
    }

    fn member(&mut self, letter: char) -> Result<Member, String> {
        if letter != '\\' {
            return Ok(Member::Letter(letter));
        }
        match self.rest.next() {
            None => Err("`\\` at the end".to_owned()),
            Some('b') => Ok(Member::Letter('\u{8}')),
            Some('-') => Ok(Member::Letter('-')),
            Some(escaped) => self.escaped(escaped),
        }
    }
}

fn push_member(members: &mut String, member: &Member) {
    match member {
        Member::Letter(letter) => members.push_str(&hex(*letter)),
        Member::Set(set) if set.starts_with('^') => members.push_str(&format!("[{set}]")),
        Member::Set(set) => members.push_str(set),
    }
}

fn hex(letter: char) -> String {
    format!("\\x{{{:x}}}", u32::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(source: &str, text: &str) -> Outcome {
        Expression::compile(source).unwrap().matches(text)
    }

    #[test]
    fn groups_hold_what_they_matched() {
        let source = r"^/front(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?(?:/)?$";
        let expression = Expression::compile_any_case(source).unwrap();
        for (text, held) in [
            ("/front/7/8", Some(vec![Some("7/8")])),
            ("/FRONT/7", Some(vec![Some("7")])),
            ("/front", Some(vec![None])),
            ("/back", None),
        ] {
            assert_eq!(expression.groups(text), Ok(held), "{text}");
        }
        let named = Expression::compile(r"^(?<one>a)(?:b)(c|(?=d)d)$").unwrap();
        assert_eq!(named.groups("abd"), Ok(Some(vec![Some("a"), Some("d")])));
    }

    #[test]
    fn javascript_constructs_mean_what_they_mean_there() {
        for (source, yes, no) in [
            (r"^\d+$", "12", "1٢"),
            (r"^\w$", "_", "é"),
            (r"^.$", "é", "\u{2028}"),
            (r"^\s$", "\u{feff}", "x"),
            (r"^[^\W\d]+$", "ab", "a1"),
            (r"^a{2,3}$", "aaa", "a"),
            (r"^a{,3}$", "a{,3}", "aa"),
            (r"^[a\-z]$", "-", "b"),
            (r"^[a-]$", "-", "b"),
            (r"^[&&~]$", "&", "a"),
            (r"^[[]$", "[", "a"),
            (r"^[^]$", "\n", ""),
            (r"^(?:(?!api|_next).*)$", "x/api", "apiary"),
            (r"^(?<n>a|b)$", "b", "c"),
            (r"^(?:a(?=b).)$", "ab", "ac"),
            (r"^.*\.png$", "a.png", "a.pngx"),
            (r"^\bab\b$", "ab", "a b"),
            (r"\u00e9", "é", "e"),
            (r"^]}$", "]}", "x"),
            ("^caf#é $", "caf#é ", "caf"),
            ("^a$", "a", "a\n"),
            // fancy-regex 0.20 takes the second for a match.
            (r"^(?:bc)+x?(?:bc)+$", "bcbc", "bc"),
        ] {
            assert_eq!(matches(source, yes), Outcome::Yes, "{source} on {yes:?}");
            assert_eq!(matches(source, no), Outcome::No, "{source} on {no:?}");
        }
    }

    #[test]
    fn what_cannot_be_run_faithfully_is_refused() {
        for source in [
            "(", ")", "a**", "*", r"(a)\1", r"\k<n>", "(?i:a)", "[b-a]", "[", r"\", "a{2000}",
            "a{3,2}", r"\p{L}", r"\ud83d", "(?<n",
        ] {
            assert!(Expression::compile(source).is_err(), "{source}");
        }
    }

    #[test]
    fn a_runaway_expression_stops_and_says_it_is_unsure() {
        let text = format!("{}!", "a".repeat(4_000));
        assert_eq!(
            matches(r"^(?=a)(?:(?:a|aa)+(?!x))+$", &text),
            Outcome::Unsure
        );
        assert!(Outcome::Unsure.or(true) && !Outcome::Unsure.or(false));
        // The twin: the same kind of text under a sound expression.
        assert_eq!(matches(r"^(?=a)(?:a(?!x))+!$", &text), Outcome::Yes);
    }
}
