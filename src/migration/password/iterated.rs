//! Digests over themselves and the password, as frameworks of the 2000s made them: Symfony, old Devise, vBulletin.

use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::cost::Cost;
use super::digest::{one_of, zeros};
use super::encoding::{Bytes, affordable, base64, hex, small};
use super::{Digest, Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// Symfony's `MessageDigestPasswordEncoder`.
pub const SYMFONY: Kind<Parse> = Kind {
    name: "symfony-sha512",
    about: "Symfony: base64 of SHA-512 over password{salt}, 5000 times; `salt`, `iterations`, `encoding` (base64, hex) beside it",
    build: symfony,
};

/// Devise before 1.2.
pub const DEVISE_SHA1: Kind<Parse> = Kind {
    name: "devise-sha1-stretches",
    about: "Devise before bcrypt: SHA-1; `salt`, `pepper`, `stretches` (10) beside it",
    build: |stored| devise(stored, Algorithm::Sha1),
};

/// Devise, devise-encryptable.
pub const DEVISE_SHA512: Kind<Parse> = Kind {
    name: "devise-sha512-stretches",
    about: "Devise before bcrypt: SHA-512; `salt`, `pepper`, `stretches` (10) beside it",
    build: |stored| devise(stored, Algorithm::Sha512),
};

/// vBulletin 3 and 4.
pub const VBULLETIN: Kind<Parse> = Kind {
    name: "vbulletin-md5",
    about: "vBulletin: MD5 over MD5 in hex and salt; `salt` beside it",
    build: vbulletin,
};

/// How a round goes.
enum Round {
    /// `password{salt}`, then the last digest and that again.
    Symfony,
    /// `--salt--last digest in hex--password--pepper--`, beginning with the pepper.
    Devise { pepper: Secret },
    /// MD5 in hex, then that and the salt.
    Vbulletin,
}

struct Iterated {
    algorithm: Algorithm,
    round: Round,
    rounds: u32,
    salt: Secret,
    expected: Bytes,
    husk: String,
}

impl Iterated {
    fn sound(self) -> Result<Box<dyn Hash>, Unusable> {
        if self.expected.len() != self.algorithm.bytes() || self.rounds == 0 {
            return Err(Unusable::Malformed("its digest is of another length"));
        }
        Ok(Box::new(self))
    }
}

impl Hash for Iterated {
    fn cost(&self) -> Cost {
        Cost::Rounds(self.rounds.into())
    }

    fn verify(&self, password: &[u8]) -> bool {
        one_of(self, password)
    }

    fn digest(&self) -> Option<&dyn Digest> {
        Some(self)
    }
}

impl Digest for Iterated {
    fn expected(&self) -> &[u8] {
        &self.expected
    }

    fn made(&self, password: &[u8]) -> Vec<Bytes> {
        if !affordable(self.rounds.into(), password) {
            return Vec::new();
        }
        let salt = self.salt.expose().as_bytes();
        let digest = |parts: &[&[u8]]| self.algorithm.digest(parts);
        let hex = |bytes: &[u8]| Zeroizing::new(HEXLOWER.encode(bytes));
        vec![match &self.round {
            Round::Symfony => {
                let merged: &[&[u8]] = &[password, b"{", salt, b"}"];
                let merged = Zeroizing::new(merged.concat());
                let mut made = digest(&[&merged]);
                for _ in 1..self.rounds {
                    made = digest(&[&made, &merged]);
                }
                made
            }
            Round::Devise { pepper } => {
                let pepper = pepper.expose();
                let mut made = Bytes::default();
                let mut text = Zeroizing::new(pepper.to_owned());
                for _ in 0..self.rounds {
                    let parts: [&[u8]; 9] = [
                        b"--",
                        salt,
                        b"--",
                        text.as_bytes(),
                        b"--",
                        password,
                        b"--",
                        pepper.as_bytes(),
                        b"--",
                    ];
                    made = digest(&parts);
                    text = hex(&made);
                }
                made
            }
            Round::Vbulletin => digest(&[hex(&digest(&[password])).as_bytes(), salt]),
        }]
    }

    fn husk(&self) -> String {
        self.husk.clone()
    }
}

fn symfony(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let algorithm = Algorithm::named(stored.param("digest").unwrap_or("sha512"));
    let algorithm = algorithm.ok_or(Unusable::Malformed("nobody knows its digest"))?;
    let text = stored.hash.expose();
    // Clerk writes the salt behind the hash.
    let (text, behind) = match text.split_once('$') {
        Some((text, salt)) => (text, Some(salt)),
        None => (text, None),
    };
    let salt = behind.map_or_else(|| stored.need("salt"), Ok)?;
    // The encoder refuses a salt with braces, so that no password can reach into it.
    if salt.contains(['{', '}']) {
        return Err(Unusable::Malformed("its salt has braces"));
    }
    let (expected, nothing) = match stored.param("encoding").unwrap_or("base64") {
        "base64" => (base64(text)?, BASE64.encode(&vec![0; algorithm.bytes()])),
        "hex" => (hex(text)?, zeros(algorithm)),
        _ => return Err(Unusable::Malformed("nobody knows its `encoding`")),
    };
    Iterated {
        algorithm,
        round: Round::Symfony,
        rounds: small(stored.param("iterations").unwrap_or("5000"))?,
        salt: Secret::new(salt),
        expected,
        husk: behind.map_or_else(|| nothing.clone(), |salt| format!("{nothing}${salt}")),
    }
    .sound()
}

fn devise(stored: &Stored, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    Iterated {
        algorithm,
        round: Round::Devise {
            // An application without a pepper has an empty one.
            pepper: Secret::new(stored.param("pepper").unwrap_or_default()),
        },
        rounds: small(stored.param("stretches").unwrap_or("10"))?,
        salt: Secret::new(stored.need("salt")?),
        expected: hex(stored.hash.expose())?,
        husk: zeros(algorithm),
    }
    .sound()
}

fn vbulletin(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    Iterated {
        algorithm: Algorithm::Md5,
        round: Round::Vbulletin,
        rounds: 1,
        salt: Secret::new(stored.need("salt")?),
        expected: hex(stored.hash.expose())?,
        husk: zeros(Algorithm::Md5),
    }
    .sound()
}
