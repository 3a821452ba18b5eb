//! `vestibule hash`: which scheme an old hash may be of, and whether a password fits it.
//!
//! Hash and password are read from a prompt or from standard input, never from the arguments: those are seen by everybody on the machine.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal as _, Read as _};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::{DONE, Failure, PROBLEMS, USAGE, World};
use crate::migration::password::cost::Ceilings;
use crate::migration::password::{self, STORED_BYTES_MAX, Stored, Unusable};
use crate::secret::Secret;

/// Everything that is read, at most.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// Arguments of `hash`.
#[derive(Debug, clap::Args)]
pub struct Hash {
    /// What to do.
    #[command(subcommand)]
    pub command: Asked,
}

/// What can be asked of a hash.
#[derive(Debug, clap::Subcommand)]
pub enum Asked {
    /// Tell which schemes a hash may be of. Several look alike: only the old system knows which one it is.
    #[command(
        after_help = "Standard input: the hash; then, a line each, what stands beside it in the old system, as salt=...\n\nExample:\n  vestibule hash identify < hash.txt\n\nExit codes: 0 some scheme reads it, 1 none does, 2 usage"
    )]
    Identify,
    /// Tell whether a password fits a hash.
    #[command(
        after_help = "Standard input: the hash; the password; then, a line each, what stands beside it in the old system, as salt=...\n\nExample:\n  vestibule hash verify --scheme bcrypt\n  printf '%s\\n%s\\n' \"$HASH\" \"$PASSWORD\" | vestibule hash verify --scheme django\n\nExit codes: 0 it fits, 1 it does not, 2 usage, or a hash that cannot be used"
    )]
    Verify {
        /// The scheme, as `vestibule hash schemes` lists them, or the old system's word for it.
        #[arg(long, value_name = "SCHEME")]
        scheme: String,
    },
    /// List the schemes.
    #[command(after_help = "Example:\n  vestibule hash schemes")]
    Schemes,
}

impl Hash {
    /// Does what is asked.
    ///
    /// # Errors
    /// When what is read cannot be used.
    pub fn run(self, world: &mut World<'_>) -> Result<u8, Failure> {
        match self.command {
            Asked::Schemes => {
                let mut out = String::new();
                for kind in password::KINDS {
                    // Formatting into a string cannot fail.
                    let _ = writeln!(out, "{:<30}{}", kind.name, kind.about);
                }
                world.say(&out);
                Ok(DONE)
            }
            Asked::Identify => {
                let (stored, _) = ask(world, false)?;
                Ok(identify(world, &stored))
            }
            Asked::Verify { scheme } => {
                if password::find(&scheme).is_none() {
                    return Err(Failure {
                        message: format!("`{scheme}` is no scheme"),
                        advice: "see `vestibule hash schemes`".into(),
                        code: USAGE,
                    });
                }
                let (stored, password) = ask(world, true)?;
                verify(world, &scheme, &stored, &password)
            }
        }
    }
}

fn identify(world: &mut World<'_>, stored: &Stored) -> u8 {
    let (mut candidates, mut out, mut switched_off) = (0_usize, String::new(), false);
    for kind in password::KINDS {
        let what = match password::read(stored, kind.name, &Ceilings::DEFAULT) {
            Ok(_) => String::new(),
            Err(Unusable::Missing(name)) => format!("; needs `{name}` beside it"),
            Err(Unusable::TooCostly(what)) => format!("; refused: {what}"),
            Err(Unusable::Disabled) => {
                switched_off = true;
                continue;
            }
            Err(Unusable::Malformed(_) | Unusable::Unknown) => continue,
        };
        candidates += 1;
        let _ = writeln!(out, "{:<30}{}{what}", kind.name, kind.about);
    }
    world.say(&out);
    match candidates {
        _ if switched_off => world.complain("it was switched off in the old system: whoever has it needs a reset\n"),
        0 => world.complain("no scheme reads it\n"),
        1 => {}
        _ => world.complain(&format!(
            "{candidates} schemes look like this: the text does not tell them apart. Ask the old system which one it writes, and try it with `vestibule hash verify`\n"
        )),
    }
    if candidates > 0 { DONE } else { PROBLEMS }
}

fn verify(
    world: &mut World<'_>,
    scheme: &str,
    stored: &Stored,
    password: &str,
) -> Result<u8, Failure> {
    match password::check(stored, scheme, password.as_bytes(), &Ceilings::DEFAULT) {
        Ok(true) => {
            world.say("it fits\n");
            Ok(DONE)
        }
        Ok(false) => {
            world.say("it does not fit\n");
            Ok(PROBLEMS)
        }
        Err(unusable) => Err(Failure {
            message: format!("no password can be held against it: {unusable}"),
            advice: match unusable {
                Unusable::Missing(name) => {
                    format!("write `{name}=...` in a line of its own, after the password")
                }
                Unusable::Malformed(_) => {
                    "see what else it may be: `vestibule hash identify`".into()
                }
                Unusable::TooCostly(_) | Unusable::Disabled | Unusable::Unknown => {
                    "whoever has it needs a reset".into()
                }
            },
            code: USAGE,
        }),
    }
}

/// Reads the hash, the password if there is one to be read, and what stands beside the hash.
fn ask(world: &mut World<'_>, with_password: bool) -> Result<(Stored, Zeroizing<String>), Failure> {
    let input = std::io::stdin();
    let prompts = input.is_terminal();
    let mut lines = input.lock().take(INPUT_BYTES_MAX);
    let mut line = |prompt: &str| {
        if prompts {
            world.complain(&format!("\n{prompt}"));
        }
        read_line(&mut lines)
    };
    let hash = line("hash: ")?.unwrap_or_default();
    if hash.len() > STORED_BYTES_MAX {
        return Err(unreadable("the hash is too long"));
    }
    let password = if with_password {
        let _hidden = prompts.then(Hidden::new);
        let password = line("password (not shown): ")?;
        password.ok_or_else(|| unreadable("there is no password"))?
    } else {
        Zeroizing::default()
    };
    let mut stored = Stored::plain(Secret::new(hash.as_str()));
    while let Some(pair) = line("beside it, as salt=... (an empty line ends): ")? {
        if pair.is_empty() {
            break;
        }
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| unreadable("a line is not NAME=VALUE"))?;
        stored.params.insert(name.to_owned(), Secret::new(value));
    }
    Ok((stored, password))
}

/// One line, without its end; `None` after the last.
fn read_line(input: &mut impl BufRead) -> Result<Option<Zeroizing<String>>, Failure> {
    // As large as the longest that is any use, so that it does not grow and leave pieces of itself behind.
    let mut line = Zeroizing::new(String::with_capacity(STORED_BYTES_MAX));
    let read = input.read_line(&mut line);
    if read.map_err(|_| unreadable("it is no text"))? == 0 {
        return Ok(None);
    }
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(Some(line))
}

fn unreadable(what: &str) -> Failure {
    Failure {
        message: format!("standard input cannot be used: {what}"),
        advice: "see `vestibule hash --help`".into(),
        code: USAGE,
    }
}

/// What is typed is not shown as long as this lives.
struct Hidden;

impl Hidden {
    fn new() -> Self {
        echo("-echo");
        Self
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        echo("echo");
    }
}

/// Where there is no `stty`, what is typed is seen by whoever looks at the screen, and by nobody else.
fn echo(mode: &str) {
    let _ = Command::new("stty")
        .arg(mode)
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status();
}
