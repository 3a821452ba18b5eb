//! JSON of any size: entries out of a list, of lists in the members of an object, of objects one after another.
//!
//! Only where an entry begins and ends is told here; what it says is left to a parser, so that one broken inside is refused and the next
//! one read. Where brackets do not match, nobody can know where the next one begins.

use serde_json::Value;

use super::super::record::Oddity;
use super::super::source::Lists;
use super::lines::json_error;
use super::{ENTRY_BYTES_MAX, Found, Stop, Tell, note, too_long};

/// Deepest nesting of an entry. The parser takes 128.
const DEPTH_MAX: usize = 256;

/// Longest name of a member, in bytes. They are names of tables and ids.
const NAME_BYTES_MAX: usize = 1024;

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Outside of everything: between documents.
    Outside,
    /// In a list of entries, between them.
    List,
    /// In an entry, or in a member of an object that is looked through.
    Value,
    /// In an object that is looked through, between members.
    Object,
    /// In the name of a member.
    Name,
    /// Between the name of a member and its value.
    Colon,
    /// Before the value of a member.
    Member,
}

/// Entries out of bytes.
pub(super) struct Values {
    lists: Lists,
    at: At,
    /// How many lists are open around an entry: pages may stand in a list of their own.
    depth: usize,
    /// Whether an object is looked through, whether it held a list, and its own text as long as it did not.
    within: bool,
    held: bool,
    bare: Vec<u8>,
    bare_long: bool,
    /// The member's name; the table of its list.
    name: Vec<u8>,
    table: String,
    /// The text of the value, and what is open in it.
    text: Vec<u8>,
    long: bool,
    open: Vec<u8>,
    string: bool,
    escape: bool,
    line: u64,
    begun: u64,
    row: u64,
}

impl Values {
    pub(super) fn new(lists: Lists) -> Self {
        Self {
            lists,
            at: At::Outside,
            depth: 0,
            within: false,
            held: false,
            bare: Vec::new(),
            bare_long: false,
            name: Vec::new(),
            table: String::new(),
            text: Vec::new(),
            long: false,
            open: Vec::new(),
            string: false,
            escape: false,
            line: 1,
            begun: 1,
            row: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], tell: Tell<'_>) -> Result<(), Stop> {
        for byte in bytes {
            self.line += u64::from(*byte == b'\n');
            self.byte(*byte, tell)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        if self.at == At::Value && self.is_entry() {
            // What had begun is an entry all the same.
            self.refuse(tell, "it ends in the middle");
        } else if self.at != At::Outside && self.within && !self.held {
            self.refuse(tell, "it ends in the middle");
        }
        match self.at {
            At::Outside => Ok(()),
            At::Value => Err(Stop::CutOff(self.begun, "an object is never closed".into())),
            At::List => Err(Stop::CutOff(self.line, "a list is never closed".into())),
            At::Object | At::Name | At::Colon | At::Member => {
                Err(Stop::CutOff(self.line, "an object is never closed".into()))
            }
        }
    }

    /// Whether the value that is read is an entry, and not a member that is looked through.
    fn is_entry(&self) -> bool {
        self.depth > 0
    }

    fn byte(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        let blank = byte.is_ascii_whitespace();
        match self.at {
            At::Value => return self.value(byte, tell),
            At::Name => return self.naming(byte),
            _ if blank => {}
            At::Outside => match byte {
                b'[' => {
                    self.table.clear();
                    self.enter();
                }
                b'{' => {
                    self.within = true;
                    self.held = false;
                    self.bare.clear();
                    self.bare_long = false;
                    self.begun = self.line;
                    self.at = At::Object;
                }
                // Documents are put one after another in more than one way.
                b',' | 0x1E => {}
                _ => return Err(self.lost("neither a list nor an object begins there")),
            },
            At::List => match byte {
                b',' => {}
                b']' => {
                    self.depth -= 1;
                    self.at = match (self.depth, self.within) {
                        (0, true) => At::Object,
                        (0, false) => At::Outside,
                        _ => At::List,
                    };
                }
                b'[' if self.depth < DEPTH_MAX => self.depth += 1,
                b'}' | b':' => return Err(self.lost("a bracket does not match")),
                byte => {
                    self.begin();
                    return self.value(byte, tell);
                }
            },
            At::Object => match byte {
                b',' => {}
                b'"' => {
                    self.name.clear();
                    self.at = At::Name;
                }
                b'}' => {
                    self.within = false;
                    self.at = At::Outside;
                    if !self.held {
                        self.whole(tell);
                    }
                }
                _ => return Err(self.lost("no name of a member stands where one was expected")),
            },
            At::Colon => match byte {
                b':' => self.at = At::Member,
                _ => return Err(self.lost("no colon stands where one was expected")),
            },
            At::Member => {
                if byte == b'[' && self.is_list() {
                    self.held = true;
                    self.bare.clear();
                    self.enter();
                } else {
                    self.begin();
                    return self.value(byte, tell);
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self) {
        self.depth = 1;
        self.at = At::List;
        if !self.table.is_empty() {
            self.row = 0;
        }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.long = false;
        self.open.clear();
        self.string = false;
        self.escape = false;
        self.begun = self.line;
        self.at = At::Value;
    }

    /// Whether the member whose name was read holds entries; its name is their table where it is one of many.
    fn is_list(&mut self) -> bool {
        let quoted = [b"\"".as_slice(), &self.name, b"\""].concat();
        let Ok(name) = serde_json::from_slice::<String>(&quoted) else {
            return false;
        };
        match self.lists {
            Lists::Named(names) => {
                self.table.clear();
                names.contains(&name.as_str())
            }
            Lists::Any => {
                self.table = name;
                true
            }
        }
    }

    fn naming(&mut self, byte: u8) -> Result<(), Stop> {
        if byte == b'"' && !self.escape {
            self.at = At::Colon;
            return Ok(());
        }
        self.escape = byte == b'\\' && !self.escape;
        if self.name.len() >= NAME_BYTES_MAX {
            return Err(self.lost("the name of a member is too long"));
        }
        self.name.push(byte);
        Ok(())
    }

    fn value(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        if self.string {
            self.push(byte);
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => {
                    self.string = false;
                    if self.open.is_empty() {
                        self.end(tell);
                    }
                }
                _ => {}
            }
            return Ok(());
        }
        let ends_scalar = byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        if self.open.is_empty() && ends_scalar {
            // A number or a word ends where something else begins, and that is read again.
            self.end(tell);
            return self.byte_again(byte, tell);
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => {
                if self.open.len() >= DEPTH_MAX {
                    return Err(self.lost_in(tell, "it is nested too deep"));
                }
                self.open.push(byte);
            }
            b'}' | b']' => {
                let opened = self.open.pop();
                let fits = matches!((opened, byte), (Some(b'{'), b'}') | (Some(b'['), b']'));
                if !fits {
                    return Err(self.lost_in(tell, "a bracket does not match"));
                }
                self.push(byte);
                if self.open.is_empty() {
                    self.end(tell);
                }
                return Ok(());
            }
            _ => {}
        }
        self.push(byte);
        Ok(())
    }

    fn byte_again(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        match self.at {
            At::Value | At::Name => Ok(()),
            _ => self.byte(byte, tell),
        }
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < ENTRY_BYTES_MAX {
            self.text.push(byte);
        } else {
            self.long = true;
        }
    }

    /// A value is complete: an entry, or a member of an object that is looked through.
    fn end(&mut self, tell: Tell<'_>) {
        if self.is_entry() {
            self.at = At::List;
            self.row += 1;
            let what = match serde_json::from_slice(&self.text) {
                _ if self.long => Err(too_long()),
                Ok(value) => Ok(value),
                Err(error) => Err(note(Oddity::Unreadable, json_error(&error))),
            };
            tell(Found {
                table: &self.table,
                row: self.row,
                what,
            });
            self.text.clear();
            return;
        }
        self.at = At::Object;
        if self.held {
            return;
        }
        let room = ENTRY_BYTES_MAX.saturating_sub(self.bare.len());
        if self.long || self.name.len() + self.text.len() + 4 > room {
            self.bare_long = true;
            self.bare.clear();
            return;
        }
        self.bare
            .push(if self.bare.is_empty() { b'{' } else { b',' });
        self.bare.push(b'"');
        self.bare.extend_from_slice(&self.name);
        self.bare.extend_from_slice(b"\":");
        self.bare.extend_from_slice(&self.text);
    }

    /// An object without lists is an entry itself.
    fn whole(&mut self, tell: Tell<'_>) {
        if self.bare.is_empty() && !self.bare_long {
            // An object without members: no entry, as an empty list is none.
            return;
        }
        self.bare.push(b'}');
        self.row += 1;
        let what = match serde_json::from_slice::<Value>(&self.bare) {
            _ if self.bare_long => Err(too_long()),
            Ok(value) => Ok(value),
            Err(error) => Err(note(Oddity::Unreadable, json_error(&error))),
        };
        self.bare.clear();
        tell(Found {
            table: "",
            row: self.row,
            what,
        });
    }

    fn refuse(&mut self, tell: Tell<'_>, why: &str) {
        self.row += 1;
        tell(Found {
            table: if self.is_entry() { &self.table } else { "" },
            row: self.row,
            what: Err(note(Oddity::Unreadable, why)),
        });
    }

    fn lost(&self, what: &str) -> Stop {
        Stop::Lost(self.line, what.to_owned())
    }

    /// The same within an entry, which is refused first.
    fn lost_in(&mut self, tell: Tell<'_>, what: &str) -> Stop {
        if self.is_entry() {
            self.refuse(tell, what);
        }
        self.lost(what)
    }
}
