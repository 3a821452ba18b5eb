//! What crypt writes: `$1$`, `$apr1$`, `$5$`, `$6$`, `$sha1$`, `$y$`. Kratos spells the first ones out: `$md5-crypt$`, `$sha256-crypt$`,
//! `$sha512-crypt$`.

use std::str::FromStr as _;

use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::cost::Cost;
use super::encoding::{Bytes, affordable, crypt_bytes, crypt_text, same, small};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// `$1$`.
pub const MD5: Kind<Parse> = Kind {
    name: "md5crypt",
    about: "crypt: $1$ (MD5), or $md5-crypt$",
    build: |stored| md5(stored, &["$1$", "$md5-crypt$"], "$1$"),
};

/// `$apr1$`.
pub const APR1: Kind<Parse> = Kind {
    name: "apr1",
    about: "htpasswd: $apr1$ (MD5)",
    build: |stored| md5(stored, &["$apr1$"], "$apr1$"),
};

/// `$5$`.
pub const SHA256: Kind<Parse> = Kind {
    name: "sha256crypt",
    about: "crypt: $5$ (SHA-256), or $sha256-crypt$",
    build: |stored| sha(stored, &["$5$", "$sha256-crypt$"], false),
};

/// `$6$`.
pub const SHA512: Kind<Parse> = Kind {
    name: "sha512crypt",
    about: "crypt: $6$ (SHA-512), or $sha512-crypt$",
    build: |stored| sha(stored, &["$6$", "$sha512-crypt$"], true),
};

/// `$sha1$`.
pub const SHA1: Kind<Parse> = Kind {
    name: "sha1crypt",
    about: "crypt on NetBSD: $sha1$",
    build: sha1,
};

/// `$y$`.
pub const YESCRYPT: Kind<Parse> = Kind {
    name: "crypt-y-yescrypt",
    about: "crypt: $y$ (yescrypt)",
    build: yescrypt,
};

/// crypt takes no longer passwords (libxcrypt, `CRYPT_MAX_PASSPHRASE_SIZE`): nobody has one.
const PASSWORD_BYTES_MAX: usize = 511;

/// What comes behind one of these words.
fn behind<'t>(text: &'t str, words: &[&str]) -> Result<&'t str, Unusable> {
    let mut found = words.iter().filter_map(|word| text.strip_prefix(word));
    found
        .next()
        .ok_or(Unusable::Malformed("it begins with another word"))
}

/// Bytes in the order in which a format writes them.
fn ordered(bytes: &[u8], order: impl IntoIterator<Item = usize>) -> Zeroizing<String> {
    let found = order.into_iter().filter_map(|at| bytes.get(at).copied());
    Zeroizing::new(crypt_text(&Zeroizing::new(found.collect::<Vec<u8>>())))
}

/// Whether a text is what a digest of so many letters looks like.
fn looks(text: &str, letters: usize) -> Result<(), Unusable> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    if text.len() != letters || !text.bytes().all(known) {
        return Err(Unusable::Malformed("its digest is of another length"));
    }
    Ok(())
}

/// The first so many bytes of a salt: crypt reads no more.
fn salted(salt: &str, most: usize) -> Result<Vec<u8>, Unusable> {
    let salt = salt.as_bytes();
    if salt.is_empty() {
        return Err(Unusable::Malformed("a part is empty"));
    }
    Ok(salt.get(..most).unwrap_or(salt).to_vec())
}

struct Md5 {
    magic: &'static str,
    salt: Vec<u8>,
    digest: Secret,
}

fn md5(stored: &Stored, words: &[&str], magic: &'static str) -> Result<Box<dyn Hash>, Unusable> {
    let rest = behind(stored.hash.expose(), words)?;
    let parted = rest.split_once('$');
    let (salt, digest) = parted.ok_or(Unusable::Malformed("a part is missing"))?;
    looks(digest, 22)?;
    Ok(Box::new(Md5 {
        magic,
        salt: salted(salt, 8)?,
        digest: Secret::new(digest),
    }))
}

impl Hash for Md5 {
    fn cost(&self) -> Cost {
        Cost::Rounds(1000)
    }

    /// Source: FreeBSD, lib/libcrypt/crypt-md5.c.
    fn verify(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let salt = self.salt.as_slice();
        let digest = |parts: &[&[u8]]| Algorithm::Md5.digest(parts);
        let alternate = digest(&[password, salt, password]);
        let mut first = Zeroizing::new([password, self.magic.as_bytes(), salt].concat());
        first.extend(alternate.iter().cycle().take(password.len()));
        let mut bits = password.len();
        while bits > 0 {
            // A NUL for a bit that is set, the first letter for one that is not: an old mistake that became the format.
            let letter = if bits & 1 == 1 {
                Some(&0)
            } else {
                password.first()
            };
            first.extend(letter);
            bits >>= 1;
        }
        let mut last = digest(&[&first]);
        for round in 0..1000 {
            let (begin, end): (&[u8], &[u8]) = if round & 1 == 1 {
                (password, &last)
            } else {
                (&last, password)
            };
            let third: &[u8] = if round % 3 == 0 { &[] } else { salt };
            let seventh: &[u8] = if round % 7 == 0 { &[] } else { password };
            last = digest(&[begin, third, seventh, end]);
        }
        const ORDER: [usize; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];
        let text = ordered(&last, ORDER);
        same(text.as_bytes(), self.digest.expose().as_bytes())
    }
}

struct Sha {
    rounds: u32,
    salt: Vec<u8>,
    digest: Secret,
    long: bool,
}

fn sha(stored: &Stored, words: &[&str], long: bool) -> Result<Box<dyn Hash>, Unusable> {
    let mut rest = behind(stored.hash.expose(), words)?;
    let missing = Unusable::Malformed("a part is missing");
    let mut rounds = sha_crypt::Params::RECOMMENDED_ROUNDS;
    if let Some(said) = rest.strip_prefix("rounds=") {
        let (said, behind) = said.split_once('$').ok_or(missing)?;
        // crypt reads fewer than a thousand as a thousand.
        rounds = small(said)?.max(sha_crypt::Params::ROUNDS_MIN);
        rest = behind;
    }
    let (salt, digest) = rest.split_once('$').ok_or(missing)?;
    looks(digest, if long { 86 } else { 43 })?;
    Ok(Box::new(Sha {
        rounds,
        salt: salted(salt, 16)?,
        digest: Secret::new(digest),
        long,
    }))
}

impl Hash for Sha {
    fn cost(&self) -> Cost {
        Cost::Rounds(self.rounds.into())
    }

    fn verify(&self, password: &[u8]) -> bool {
        let fair = password.len() <= PASSWORD_BYTES_MAX && affordable(self.rounds.into(), password);
        let Ok(params) = sha_crypt::Params::new(self.rounds) else {
            return false;
        };
        if !fair {
            return false;
        }
        // Three bytes at a time, from each third of the digest, in an order that turns.
        let text = if self.long {
            let made = Zeroizing::new(sha_crypt::sha512_crypt(password, &self.salt, params));
            let turns = (0..21).flat_map(|at| {
                let (a, b, c) = (at, at + 21, at + 42);
                match at % 3 {
                    0 => [c, b, a],
                    1 => [a, c, b],
                    _ => [b, a, c],
                }
            });
            ordered(made.as_slice(), turns.chain([63]))
        } else {
            let made = Zeroizing::new(sha_crypt::sha256_crypt(password, &self.salt, params));
            let turns = (0..10).flat_map(|at| {
                let (a, b, c) = (at, at + 10, at + 20);
                match at % 3 {
                    0 => [c, b, a],
                    1 => [b, a, c],
                    _ => [a, c, b],
                }
            });
            ordered(made.as_slice(), turns.chain([30, 31]))
        };
        same(text.as_bytes(), self.digest.expose().as_bytes())
    }
}

struct Sha1 {
    rounds: u32,
    salt: String,
    digest: Secret,
}

fn sha1(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let rest = behind(stored.hash.expose(), &["$sha1$"])?;
    let [rounds, salt, digest] = super::encoding::parts(rest, '$')?;
    let rounds = small(rounds)?;
    if rounds == 0 || salt.is_empty() {
        return Err(Unusable::Malformed("it has no rounds or no salt"));
    }
    looks(digest, 28)?;
    Ok(Box::new(Sha1 {
        rounds,
        salt: salt.to_owned(),
        digest: Secret::new(digest),
    }))
}

impl Hash for Sha1 {
    fn cost(&self) -> Cost {
        Cost::Rounds(self.rounds.into())
    }

    /// Source: NetBSD, lib/libcrypt/crypt-sha1.c.
    fn verify(&self, password: &[u8]) -> bool {
        let fair = password.len() <= PASSWORD_BYTES_MAX && affordable(self.rounds.into(), password);
        if !fair {
            return false;
        }
        let first = format!("{}$sha1${}", self.salt, self.rounds);
        let mut made = Algorithm::Sha1.hmac(password, first.as_bytes());
        for _ in 1..self.rounds {
            made = Algorithm::Sha1.hmac(password, &made);
        }
        let turns = (0..18).map(|at| at / 3 * 3 + 2 - at % 3);
        let text = ordered(&made, turns.chain([0, 19, 18]));
        same(text.as_bytes(), self.digest.expose().as_bytes())
    }
}

struct Yescrypt {
    params: yescrypt::Params,
    salt: Bytes,
    digest: Bytes,
}

fn yescrypt(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let rest = behind(stored.hash.expose(), &["$y$"])?;
    let [settings, salt, digest] = super::encoding::parts(rest, '$')?;
    let costs = Unusable::Malformed("its costs make no sense");
    let params = yescrypt::Params::from_str(settings).map_err(|_| costs)?;
    // Written out again, so that what would only cost time (`t`, upgrades) is refused: nothing writes it.
    let again = yescrypt::Params::new(
        yescrypt::Mode::default(),
        params.n(),
        params.r(),
        params.p(),
    );
    if again != Ok(params) {
        return Err(costs);
    }
    let part = Unusable::Malformed("a part is of another length");
    let digest = crypt_bytes(digest)
        .filter(|digest| digest.len() == 32)
        .ok_or(part)?;
    let salt = crypt_bytes(salt)
        .filter(|salt| !salt.is_empty() && salt.len() <= 64)
        .ok_or(part)?;
    Ok(Box::new(Yescrypt {
        params,
        salt,
        digest,
    }))
}

impl Hash for Yescrypt {
    fn cost(&self) -> Cost {
        Cost::Scrypt {
            n: self.params.n(),
            r: self.params.r(),
            p: self.params.p(),
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        let mut made = Zeroizing::new([0; 32]);
        password.len() <= PASSWORD_BYTES_MAX
            && yescrypt::yescrypt(password, &self.salt, &self.params, made.as_mut_slice()).is_ok()
            && same(made.as_slice(), &self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(kind: &Kind<Parse>, text: &str, password: &str) -> bool {
        let stored = Stored::plain(Secret::new(text));
        (kind.build)(&stored)
            .ok()
            .unwrap()
            .verify(password.as_bytes())
    }

    #[test]
    fn yescrypt_as_libxcrypt_writes_it() {
        // perl -e 'print crypt("correct horse", "\$y\$j9T\$abcdefgh")', libxcrypt 4.4.
        let text = "$y$j9T$abcdefgh$4mqd6JVlUo/.JMgenptcdPqIowfqDPoC9lSyWQhPMf1";
        assert!(fits(&YESCRYPT, text, "correct horse"));
        assert!(!fits(&YESCRYPT, text, "correct horsf"));
    }

    #[test]
    fn what_libxcrypt_writes_of_odd_lengths() {
        // perl -e 'print crypt(…)', libxcrypt 4.4: salts that are cut, no password at all, one longer than a block.
        for (kind, text, password) in [
            (
                &SHA256,
                "$5$rounds=1400$anotherlongsalts$C23BQGC1JjdvIP45q4elXCHdI8q1QuLnZ8bU71sLJz1",
                "a password",
            ),
            (
                &SHA512,
                "$6$rounds=1400$anotherlongsalts$2CUv7eE.fIAnkVYEFAzVQRVdH3J.BPPYJ5CWSA9e01S1QhEt33B3FzrqciR0SWLovIrEYVhaVAeGamgx4V6Yh0",
                "a password",
            ),
            (&MD5, "$1$longersa$W4zOWGDObxFzAhRF.J/X70", "a password"),
            (&MD5, "$1$salt$UsdFqFVB.FsuinRDK5eE..", ""),
            (
                &SHA1,
                "$sha1$100$saltsalt$fiJQusmuop5SBtOFoJdG7LMllZyD",
                &"x".repeat(200),
            ),
        ] {
            assert!(fits(kind, text, password), "{text}");
            assert!(!fits(kind, text, &format!("{password}.")), "{text}");
        }
        let spelled = "$md5-crypt$longersa$W4zOWGDObxFzAhRF.J/X70";
        assert!(fits(&MD5, spelled, "a password"), "as Kratos spells it");
    }
}
