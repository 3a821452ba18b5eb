//! Password hashes of every system people come from: one file and one line each.
//!
//! The scheme is told, never guessed: many hashes look alike. A stored hash is first parsed (a corrupt one is an error), then its cost
//! is held against the ceilings of [`cost`] (before any work), and only then is a password held against it (a wrong one is a result).

pub mod cost;
pub mod keeping;
pub mod native;

mod algorithm;
mod argon2;
mod bcrypt;
mod digest;
mod encoding;
mod lucia;
mod pbkdf2;
mod scrypt;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::secret::Secret;
use cost::{Ceilings, Cost};

/// Longest password that is hashed, in bytes. The framework's own maximum holds for new passwords only: whoever had a longer one in the
/// old system must get in once.
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// Longest stored hash that is parsed, in bytes, parameters included.
pub const STORED_BYTES_MAX: usize = 16 * 1024;

/// An old hash as it was stored, with what stands beside it: a salt column, a pepper, a signer key.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The hash, exactly as the old system wrote it.
    pub hash: Secret,
    /// What the string itself does not hold, by name.
    pub params: BTreeMap<String, Secret>,
}

impl Stored {
    /// A hash that needs nothing beside it.
    pub const fn plain(hash: Secret) -> Self {
        Self {
            hash,
            params: BTreeMap::new(),
        }
    }

    /// What stands beside it under this name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(Secret::expose)
    }

    /// What must stand beside it.
    fn need(&self, name: &'static str) -> Result<&str, Unusable> {
        self.param(name).ok_or(Unusable::Missing(name))
    }

    /// Nobody can sign in with it: it was switched off, or never set. `!` and `*` are what shadow files and Django put before a hash;
    /// no scheme's text begins with either.
    fn is_disabled(&self) -> bool {
        let text = self.hash.expose().trim();
        text.is_empty() || text.starts_with(['!', '*']) || text.eq_ignore_ascii_case("null")
    }
}

/// Why a stored hash cannot be used. Nothing about a password: the answer is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not in the form of its scheme.
    #[error("it is not in the form of its scheme: {0}")]
    Malformed(&'static str),
    /// Something it needs stands beside it in the old system, and was not imported.
    #[error("`{0}` is missing beside it")]
    Missing(&'static str),
    /// It asks for more than the ceilings allow.
    #[error("it costs more than is allowed: {0}")]
    TooCostly(&'static str),
    /// Nobody can have a password that fits: `!`, `*`, an empty text.
    #[error("it was switched off in the old system")]
    Disabled,
    /// No scheme has this name.
    #[error("its scheme is none we know")]
    Unknown,
}

/// How a scheme reads what is stored.
pub type Parse = fn(&Stored) -> Result<Box<dyn Hash>, Unusable>;

/// A stored hash that makes sense.
pub trait Hash: Send + Sync {
    /// What one verification takes. Held against the ceilings before [`Hash::verify`] is called.
    fn cost(&self) -> Cost;

    /// Whether a password fits. Compared in constant time.
    fn verify(&self, password: &[u8]) -> bool;

    /// The digest it is, where it is no more than one: such hashes are wrapped when they are imported.
    fn digest(&self) -> Option<&dyn Digest> {
        None
    }
}

/// A digest of a password, fast to make and so fast to guess.
pub trait Digest {
    /// What is stored.
    fn expected(&self) -> &[u8];

    /// What a password makes: one of these is what is stored, if it is the right one. More than one where a vendor does not say in
    /// which order it joins salt and password.
    fn made(&self, password: &[u8]) -> Vec<Zeroizing<Vec<u8>>>;

    /// The stored text, with zeros in the place of the digest: all that is needed to make it, and nothing that tells it.
    fn husk(&self) -> String;
}

/// Every scheme.
pub static KINDS: &[Kind<Parse>] = &[
    native::KIND,
    native::OSLO,
    lucia::V2,
    lucia::V1,
    bcrypt::KIND,
    bcrypt::TWO_X,
    bcrypt::PEPPERED,
    bcrypt::PEPPER_FIRST,
    bcrypt::PEPPER_HMAC,
    argon2::ANY,
    argon2::ID,
    argon2::I,
    argon2::D,
    argon2::DJANGO,
    scrypt::PASSLIB,
    scrypt::PHC,
    scrypt::KRATOS,
    scrypt::WERKZEUG,
    scrypt::DJANGO,
    scrypt::NODE,
    scrypt::NEST,
    scrypt::CRYPT,
    pbkdf2::DJANGO_SHA256,
    pbkdf2::DJANGO_SHA1,
    pbkdf2::PASSLIB_SHA1,
    pbkdf2::PASSLIB_SHA256,
    pbkdf2::PASSLIB_SHA512,
    pbkdf2::CRYPTACULAR,
    pbkdf2::ATLASSIAN,
    pbkdf2::WERKZEUG,
    pbkdf2::PHC,
    pbkdf2::CLERK_SHA256,
    pbkdf2::CLERK_SHA512,
    pbkdf2::CLERK_SHA512_HEX,
    pbkdf2::CLERK_SHA1,
    pbkdf2::NODE,
    digest::MD4,
    digest::MD4_SALTED,
    digest::MD4_HMAC,
    digest::MD5,
    digest::MD5_SALTED,
    digest::MD5_HMAC,
    digest::SHA1,
    digest::SHA1_SALTED,
    digest::SHA1_HMAC,
    digest::SHA224,
    digest::SHA224_SALTED,
    digest::SHA224_HMAC,
    digest::SHA256,
    digest::SHA256_SALTED,
    digest::SHA256_HMAC,
    digest::SHA384,
    digest::SHA384_SALTED,
    digest::SHA384_HMAC,
    digest::SHA512,
    digest::SHA512_SALTED,
    digest::SHA512_HMAC,
];

/// The scheme of this name, or of this word of a provider's.
pub fn find(scheme: &str) -> Option<&'static Kind<Parse>> {
    KINDS.iter().find(|kind| kind.name == scheme)
}

/// Reads a stored hash and holds its cost against the ceilings, without any work.
///
/// # Errors
/// When no password can ever be held against it.
pub fn read(stored: &Stored, scheme: &str, ceilings: &Ceilings) -> Result<Box<dyn Hash>, Unusable> {
    if stored.is_disabled() {
        return Err(Unusable::Disabled);
    }
    if stored.hash.expose().len() > STORED_BYTES_MAX {
        return Err(Unusable::Malformed("it is too long"));
    }
    let wrapped = scheme.strip_prefix("native(");
    let hash = match wrapped.and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => keeping::unwrap(stored, inner)?,
        None => (find(scheme).ok_or(Unusable::Unknown)?.build)(stored)?,
    };
    hash.cost().allow(ceilings)?;
    Ok(hash)
}

/// Whether a password fits a stored hash of a scheme. This is what the proxy calls; it takes as long as the hash costs.
///
/// # Errors
/// When no password can ever be held against it: never the same as a wrong one.
pub fn check(
    stored: &Stored,
    scheme: &str,
    password: &[u8],
    ceilings: &Ceilings,
) -> Result<bool, Unusable> {
    let hash = read(stored, scheme, ceilings)?;
    Ok(fits(hash.as_ref(), password))
}

/// Whether a password fits a hash that was [read](read). No password is longer than [`PASSWORD_BYTES_MAX`].
pub fn fits(hash: &dyn Hash, password: &[u8]) -> bool {
    password.len() <= PASSWORD_BYTES_MAX && hash.verify(password)
}
