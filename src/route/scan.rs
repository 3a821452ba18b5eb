//! Finds the Server Actions that a request's body names, while it passes.
//!
//! What is looked for is the id itself, not a place in a form: parsers differ in what they take for a boundary, a header or a name,
//! but an id must stand in the body to reach them. It can only be spelled differently, and every spelling that a parser undoes is
//! undone here: percent and JSON escapes, UTF-16, shifts of ISO-2022-JP, backslashes in a name. A field name that shows only after
//! that, an encoding that hides what it holds, and a form that names no id at all may stand for any action: the rules of all hold.

use std::sync::Arc;

use crate::route::RouteId;
use crate::route::actions::{Actions, ID_BYTES_MAX};

/// What all field names begin with by which a form names its action.
const MARK: &[u8] = b"$ACTION_";

/// The end of the name of the header that says how a part is encoded. undici undoes base64.
const ENCODING: &[u8] = b"-transfer-encoding";

/// Begins a shift of ISO-2022-JP, which leaves no character behind.
const ESCAPE: u8 = 0x1b;

/// In what kind of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// A form that names its action by fields; without any it is an ordinary form, whatever it holds.
    Form,
    /// The arguments of an action that a header names. They may name others, and those run where the action calls what it was given.
    Call,
}

/// Reads a body in pieces of any size. Holds no more of it than one id.
#[derive(Debug)]
pub struct Scanner {
    actions: Arc<Actions>,
    seek: Seek,
    /// Whether ids count yet: in a form, from its first field of an action on.
    is_counting: bool,
    has_id: bool,
    /// The rules that hold, each once.
    routes: Vec<RouteId>,
    /// How far the mark has come, letter by letter as sent, and after everything was undone.
    mark: usize,
    mark_undone: usize,
    encoding: usize,
    has_encoding: bool,
    percent: Held<2>,
    shift: Held<2>,
    json: Held<5>,
    word: Word,
    /// The same in a form without the backslashes in it, which some parsers take out of names.
    joined: Word,
    is_joined: bool,
    /// Whether the rules of all actions hold already.
    is_doubted: bool,
}

/// The word being read; longer than its room: no id.
#[derive(Debug)]
struct Word {
    bytes: [u8; ID_BYTES_MAX],
    length: usize,
}

impl Word {
    const fn new() -> Self {
        Self {
            bytes: [0; ID_BYTES_MAX],
            length: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    /// What was read, if it has room; it begins anew.
    fn take(&mut self) -> Option<&[u8]> {
        let length = std::mem::take(&mut self.length);
        self.bytes.get(..length).filter(|word| !word.is_empty())
    }
}

/// The beginning of an escape, until it is clear whether it is one.
#[derive(Debug, Default)]
struct Held<const MAX: usize> {
    bytes: [u8; 6],
    length: usize,
}

impl<const MAX: usize> Held<MAX> {
    const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    const fn is_full(&self) -> bool {
        self.length > MAX
    }

    fn take(&mut self) -> ([u8; 6], usize) {
        (self.bytes, std::mem::take(&mut self.length))
    }
}

impl Scanner {
    pub(super) fn new(actions: Arc<Actions>, seek: Seek) -> Self {
        Self {
            actions,
            seek,
            is_counting: seek == Seek::Call,
            // The header names one.
            has_id: seek == Seek::Call,
            routes: Vec::new(),
            mark: 0,
            mark_undone: 0,
            encoding: 0,
            has_encoding: false,
            percent: Held::default(),
            shift: Held::default(),
            json: Held::default(),
            word: Word::new(),
            joined: Word::new(),
            is_joined: false,
            is_doubted: false,
        }
    }

    /// The routes whose rules hold besides those of the path, as far as the body was read.
    pub fn routes(&self) -> &[RouteId] {
        &self.routes
    }

    /// Reads on. Whether there are more routes now: then the piece must wait until they were asked.
    pub fn read(&mut self, piece: &[u8]) -> bool {
        let before = self.routes.len();
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            if self.is_idle() {
                // Most of an upload is passed over here.
                match rest.iter().position(|byte| begins_something(*byte)) {
                    Some(0) => {}
                    Some(at) => {
                        rest = rest.get(at..).unwrap_or_default();
                        continue;
                    }
                    None => break,
                }
            }
            self.see_sent(byte);
            rest = after;
        }
        self.routes.len() > before
    }

    /// The body is over. Whether there are more routes now.
    pub fn finish(&mut self) -> bool {
        let before = self.routes.len();
        self.flush_percent();
        self.flush_shift();
        self.flush_json();
        self.end_word();
        self.end_joined();
        // Some action it is, by its fields.
        if self.is_counting && !self.has_id {
            self.doubt();
        }
        self.routes.len() > before
    }

    /// Whether nothing has begun: until the next byte that begins something, all others can be passed over.
    const fn is_idle(&self) -> bool {
        !self.is_counting
            && self.mark == 0
            && self.mark_undone == 0
            && self.encoding == 0
            && self.percent.is_empty()
            && self.shift.is_empty()
            && self.json.is_empty()
    }

    fn see_sent(&mut self, byte: u8) {
        if self.seek == Seek::Form {
            if advance(&mut self.mark, MARK, byte) {
                self.is_counting = true;
                // Undone, the same letters are no other spelling.
                self.mark_undone = 0;
                (self.word.length, self.joined.length, self.is_joined) = (0, 0, false);
                if self.has_encoding {
                    self.doubt();
                }
                return;
            }
            if advance(&mut self.encoding, ENCODING, byte.to_ascii_lowercase()) {
                self.has_encoding = true;
                if self.is_counting {
                    self.doubt();
                }
            }
        }
        // Every other byte of UTF-16.
        if byte != 0 {
            self.undo_percent(byte);
        }
    }

    fn undo_percent(&mut self, byte: u8) {
        if !self.percent.is_empty() && !byte.is_ascii_hexdigit() {
            self.flush_percent();
        }
        if self.percent.is_empty() && byte != b'%' {
            return self.undo_shift(byte);
        }
        self.percent.push(byte);
        if self.percent.is_full() {
            let (held, _) = self.percent.take();
            let [_, high, low, ..] = held;
            match nibble(high) << 4 | nibble(low) {
                0 => {}
                byte => self.undo_shift(byte),
            }
        }
    }

    fn undo_shift(&mut self, byte: u8) {
        if self.shift.is_empty() && byte != ESCAPE {
            return self.undo_json(byte);
        }
        if byte == ESCAPE {
            self.flush_shift();
        }
        self.shift.push(byte);
        if self.shift.is_full() {
            let [_, kind, set, ..] = self.shift.bytes;
            if matches!(
                (kind, set),
                (b'(', b'B' | b'J' | b'I') | (b'$', b'@' | b'B')
            ) {
                self.shift.take();
            } else {
                self.flush_shift();
            }
        }
    }

    fn undo_json(&mut self, byte: u8) {
        let fits = match self.json.length {
            0 => byte == b'\\',
            1 => byte == b'u',
            _ => byte.is_ascii_hexdigit(),
        };
        if !fits {
            self.flush_json();
            if byte != b'\\' {
                return self.see(byte);
            }
        }
        self.json.push(byte);
        if self.json.is_full() {
            let (held, _) = self.json.take();
            let [_, _, high, low, higher, lower] = held;
            let above = nibble(high) << 4 | nibble(low);
            let byte = nibble(higher) << 4 | nibble(lower);
            // Nothing outside ASCII is in an id or in a name.
            self.see(if above == 0 { byte } else { 0x80 });
        }
    }

    fn flush_percent(&mut self) {
        let (bytes, length) = self.percent.take();
        bytes
            .iter()
            .take(length)
            .for_each(|byte| self.undo_shift(*byte));
    }

    fn flush_shift(&mut self) {
        let (bytes, length) = self.shift.take();
        bytes
            .iter()
            .take(length)
            .for_each(|byte| self.undo_json(*byte));
    }

    fn flush_json(&mut self) {
        let (bytes, length) = self.json.take();
        bytes.iter().take(length).for_each(|byte| self.see(*byte));
    }

    /// A character, after everything was undone.
    fn see(&mut self, byte: u8) {
        // Parsers that fold lines, skip blanks or take a backslash out of a quoted name read on behind it.
        let skipped = matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\\' | 0);
        if self.seek == Seek::Form && !skipped && advance(&mut self.mark_undone, MARK, byte) {
            self.is_counting = true;
            // As sent, it was seen already, unless it was spelled otherwise.
            self.doubt();
        }
        if byte.is_ascii_alphanumeric() {
            self.word.push(byte);
            self.joined.push(byte);
            return;
        }
        self.end_word();
        if byte == b'\\' && self.seek == Seek::Form {
            self.is_joined = true;
        } else {
            self.end_joined();
        }
    }

    fn end_word(&mut self) {
        let word = self.word.take().filter(|_| self.is_counting);
        let Some(owners) = word.and_then(|word| self.actions.owners_of_word(word)) else {
            return;
        };
        self.has_id = true;
        add(&mut self.routes, owners);
    }

    fn end_joined(&mut self) {
        let is_joined = std::mem::take(&mut self.is_joined) && self.is_counting;
        let word = self.joined.take().filter(|_| is_joined);
        if let Some(owners) = word.and_then(|word| self.actions.owners_of_word(word)) {
            self.has_id = true;
            add(&mut self.routes, owners);
        }
    }

    /// It cannot be told which action is meant.
    fn doubt(&mut self) {
        self.has_id = true;
        if !std::mem::replace(&mut self.is_doubted, true) {
            add(&mut self.routes, self.actions.all());
        }
    }
}

/// Adds routes that are not among them yet.
fn add(routes: &mut Vec<RouteId>, more: &[RouteId]) {
    for route in more {
        if !routes.contains(route) {
            routes.push(*route);
        }
    }
}

/// Moves on by one byte of a text; whether it is complete now. A mismatch falls back to the first byte alone: of what stands right
/// before these texts (a quote, `content`), nothing can be taken for their beginning.
fn advance(at: &mut usize, text: &[u8], byte: u8) -> bool {
    *at = match text.get(*at) {
        Some(expected) if *expected == byte => *at + 1,
        _ => usize::from(text.first() == Some(&byte)),
    };
    if *at < text.len() {
        return false;
    }
    *at = 0;
    true
}

const fn begins_something(byte: u8) -> bool {
    matches!(byte, b'$' | b'%' | b'\\' | b'-' | ESCAPE)
}

/// The value of a hexadecimal digit, of which it is known that it is one.
const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::sync::LazyLock;

    use crate::route::RouteTable;
    use crate::route::actions::tests::{OPEN, OTHERWISE, SHUT, STALE, table};

    static TABLE: LazyLock<RouteTable> = LazyLock::new(table);

    const FORM: Seek = Seek::Form;
    const CALL: Seek = Seek::Call;

    /// The patterns of the routes of all actions, sorted.
    fn all() -> Vec<String> {
        let table = &*TABLE;
        let actions = table.actions();
        let patterns = actions
            .all()
            .iter()
            .map(|id| table.route(*id).pattern.clone());
        let mut all: Vec<String> = patterns.collect();
        all.sort();
        assert!(all.len() > 3 && all.contains(&OTHERWISE.to_owned()));
        all
    }

    /// What a body asks for, by the patterns of the routes, cut into pieces of every size.
    fn named(seek: Seek, body: &[u8]) -> Vec<String> {
        let table = &*TABLE;
        let scan = |size: usize| {
            let mut scanner = Scanner::new(table.actions(), seek);
            let mut more = 0;
            for piece in body.chunks(size) {
                let before = scanner.routes().len();
                assert_eq!(scanner.read(piece), scanner.routes().len() > before);
                more = scanner.routes().len();
            }
            assert_eq!(scanner.finish(), scanner.routes().len() > more);
            let mut routes: Vec<String> = scanner
                .routes()
                .iter()
                .map(|id| table.route(*id).pattern.clone())
                .collect();
            routes.sort();
            routes
        };
        let whole = scan(body.len().max(1));
        for size in [1, 2, 3, 7, 41, 42, 43] {
            assert_eq!(scan(size), whole, "in pieces of {size}");
        }
        whole
    }

    fn field(head: &str, value: &str) -> Vec<u8> {
        format!("--b\r\n{head}\r\n\r\n{value}\r\n--b--\r\n").into_bytes()
    }

    fn disposition(name: &str) -> String {
        format!("Content-Disposition: form-data; {name}")
    }

    #[test]
    fn a_form_asks_for_the_action_it_names() {
        for (id, routes) in [
            (OPEN, vec!["/"]),
            (SHUT, vec!["/dashboard"]),
            (STALE, vec![OTHERWISE]),
        ] {
            let by_name = field(&disposition(&format!("name=\"$ACTION_ID_{id}\"")), "");
            assert_eq!(named(FORM, &by_name), routes, "{id}");
            let mut bound = field(&disposition("name=\"$ACTION_REF_1\""), "");
            let value = format!("{{\"id\":\"{id}\",\"bound\":\"$@1\"}}");
            bound.extend(field(&disposition("name=\"$ACTION_1:0\""), &value));
            assert_eq!(named(FORM, &bound), routes, "{id}");
        }
    }

    #[test]
    fn a_form_without_an_action_asks_for_nothing() {
        for value in [
            "",
            "text",
            SHUT,
            STALE,
            "$ACTION",
            "100% \\u00zz $",
            "\u{1b}(B",
        ] {
            let body = field(&disposition("name=\"text\""), value);
            assert_eq!(named(FORM, &body), [""; 0], "{value}");
        }
    }

    #[test]
    fn a_form_that_names_no_id_may_mean_any() {
        for name in [
            "$ACTION_REF_1",
            "$ACTION_ID_",
            "$ACTION_ID_zz",
            "$ACTION_KEY",
        ] {
            let body = field(&disposition(&format!("name=\"{name}\"")), "x");
            assert_eq!(named(FORM, &body), all(), "{name}");
        }
    }

    #[test]
    fn an_id_with_backslashes_in_it_is_found_in_a_form() {
        let id = format!("{}\\{}\\{}", &SHUT[..7], &SHUT[7..9], &SHUT[9..]);
        let mut body = field(&disposition(&format!("name=\"$ACTION_ID_{OPEN}\"")), "");
        assert_eq!(named(FORM, &body), ["/"]);
        body.extend(field(
            &disposition(&format!("name=\"$ACTION_ID_{id}\"")),
            "a\\b",
        ));
        assert_eq!(named(FORM, &body), ["/", "/dashboard"]);
        // Backslashes around an id hide nothing either.
        let value = format!("[\"\\\"{SHUT}\\\"\"]");
        let mut body = field(&disposition("name=\"$ACTION_REF_1\""), "");
        body.extend(field(&disposition("name=\"$ACTION_1:0\""), &value));
        assert_eq!(named(FORM, &body), ["/dashboard"]);
    }

    #[test]
    fn an_id_behind_another_is_found_too() {
        let twice = format!("{{\"id\":\"{OPEN}\",\"id\":\"{SHUT}\"}}");
        let body = field(&disposition("name=\"$ACTION_1:0\""), &twice);
        assert_eq!(named(FORM, &body), ["/", "/dashboard"]);
    }

    #[test]
    fn a_name_in_any_other_spelling_may_mean_any() {
        let id = format!("ID_{OPEN}");
        for name in [
            format!("name*=utf-8''%24ACTION_{id}"),
            format!("name*=utf-8''%24%41%43%54%49%4F%4E%5F{id}"),
            format!("name=\"$AC\\TION_{id}\""),
            format!("name=$ACT ION_{id}"),
            format!("name=$ACT\r\n ION_{id}"),
            format!("name=\"$ACTION\r\n\t_{id}\""),
            format!("name*=utf-16le''%24%00A%00C%00T%00I%00O%00N%00_%00{id}"),
            format!("name*=iso-2022-jp''%24%1B%28BACTION_{id}"),
            "name=\"\\u0024ACTION_x\"".to_owned(),
        ] {
            let body = field(&disposition(&name), "");
            assert_eq!(named(FORM, &body), all(), "{name}");
        }
    }

    #[test]
    fn an_encoding_that_hides_a_value_may_mean_any() {
        let name = disposition("name=\"$ACTION_REF_1\"");
        let encoded = "Content-Transfer-Encoding: base64";
        for head in [
            format!("{encoded}\r\n{name}"),
            format!("{name}\r\n{encoded}")
                .to_lowercase()
                .replace("action_ref", "ACTION_REF"),
        ] {
            let mut body = field(&head, "eyJpZCI6");
            body.extend(field(&disposition("name=\"x\""), OPEN));
            assert_eq!(named(FORM, &body), all(), "{head}");
        }
        // It says nothing of an upload without any action.
        let upload = format!("{}\r\n{encoded}", disposition("name=\"file\""));
        assert_eq!(named(FORM, &field(&upload, "eyJpZCI6")), [""; 0]);
    }

    #[test]
    fn the_arguments_of_a_call_ask_for_the_actions_they_name() {
        let utf16 = |text: &str, at: usize| -> Vec<u8> {
            let pairs = text
                .bytes()
                .map(|byte| if at == 0 { [byte, 0] } else { [0, byte] });
            pairs.flatten().collect()
        };
        let digits: String = SHUT.bytes().map(|b| format!("\\u{b:04X}")).collect();
        let percent: String = SHUT.bytes().map(|b| format!("%{b:02x}")).collect();
        let both = digits.replace('\\', "%5C");
        for id in [
            SHUT,
            &digits,
            &percent,
            &both,
            &format!("{}\u{1b}(B{}", &SHUT[..9], &SHUT[9..]),
        ] {
            let row = format!("{{\"id\":\"{id}\",\"bound\":null}}");
            assert_eq!(named(CALL, row.as_bytes()), ["/dashboard"], "{row}");
            assert_eq!(named(CALL, &utf16(&row, 0)), ["/dashboard"], "{row}");
            assert_eq!(named(CALL, &utf16(&row, 1)), ["/dashboard"], "{row}");
        }
        for text in [
            "[\"a note\"]",
            &SHUT[1..],
            &format!("{SHUT}0"),
            &SHUT.to_uppercase(),
        ] {
            let row = format!("[\"{text}\"]");
            assert_eq!(named(CALL, row.as_bytes()), [""; 0], "{row}");
        }
        // A form may be quoted in a text.
        assert_eq!(
            named(CALL, b"[\"$ACTION_REF_1 content-transfer-encoding\"]"),
            [""; 0]
        );
    }

    #[test]
    fn what_holds_an_escape_back_never_eats_the_quote_before_an_id() {
        for before in [
            "%", "%4", "\\", "\\u", "\\u00", "\u{1b}", "\u{1b}(", "%1b", "%1b%28", "\0", "%5Cu003",
        ] {
            let row = format!("{before}\"{SHUT}\"");
            assert_eq!(named(CALL, row.as_bytes()), ["/dashboard"], "{before:?}");
        }
    }

    proptest! {
        /// Whatever stands around it, and however it is cut: an id between quotes is found.
        #[test]
        fn an_id_between_quotes_is_found(
            before in proptest::collection::vec(any::<u8>(), 0..64),
            after in proptest::collection::vec(any::<u8>(), 0..64),
            cut in 1_usize..50,
        ) {
            let mut body = before;
            body.extend_from_slice(format!("\"{SHUT}\"").as_bytes());
            body.extend(after);
            let table = &*TABLE;
            let mut scanner = Scanner::new(table.actions(), CALL);
            for piece in body.chunks(cut) {
                scanner.read(piece);
            }
            scanner.finish();
            let found = scanner.routes().iter().any(|id| table.route(*id).pattern == "/dashboard");
            prop_assert!(found);
        }

        /// A field of an action is found behind any bytes, and an id behind it.
        #[test]
        fn a_field_of_an_action_is_found(
            before in proptest::collection::vec(any::<u8>(), 0..64),
            cut in 1_usize..50,
        ) {
            let mut body = before;
            body.extend(field(&disposition(&format!("name=\"$ACTION_ID_{SHUT}\"")), ""));
            let table = &*TABLE;
            let mut scanner = Scanner::new(table.actions(), FORM);
            for piece in body.chunks(cut) {
                scanner.read(piece);
            }
            let found = scanner.routes().iter().any(|id| table.route(*id).pattern == "/dashboard");
            prop_assert!(found);
        }
    }
}
