//! Password hashes of every system people come from: one file and one line each.
//!
//! The scheme is told, never guessed: many hashes look alike. A stored hash is first parsed (a corrupt one is an error), then its cost
//! is held against the ceilings of [`cost`] (before any work), and only then is a password held against it (a wrong one is a result).

pub mod cost;
pub mod keeping;
pub mod native;

mod algorithm;
mod aliases;
mod argon2;
mod aspnet;
mod auth0;
mod bcrypt;
mod bcrypt_prehash;
mod clerk;
mod crypt;
mod digest;
mod django;
mod encoding;
mod firebase;
mod iterated;
mod joomla;
mod keycloak;
mod kratos;
mod ldap;
mod lucia;
mod passport;
mod pbkdf2;
mod phpass;
mod product;
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
    bcrypt_prehash::PASSLIB_V2,
    bcrypt_prehash::PASSLIB_V1,
    bcrypt_prehash::DJANGO_SHA256,
    bcrypt_prehash::DJANGO,
    bcrypt_prehash::SHA256_HEX,
    bcrypt_prehash::SHA256_B64,
    bcrypt_prehash::SHA384_B64,
    bcrypt_prehash::SHA512_B64,
    bcrypt_prehash::SHA512_HEX,
    bcrypt_prehash::SHA1_HEX,
    bcrypt_prehash::MD5_HEX,
    bcrypt_prehash::WORDPRESS,
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
    firebase::KIND,
    firebase::CLERK,
    firebase::SUPABASE,
    firebase::SUPERTOKENS,
    firebase::KRATOS,
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
    keycloak::PBKDF2,
    keycloak::PBKDF2_SHA256,
    keycloak::PBKDF2_SHA512,
    keycloak::ARGON2,
    aspnet::V2,
    aspnet::V3,
    passport::KIND,
    crypt::MD5,
    crypt::APR1,
    crypt::SHA256,
    crypt::SHA512,
    crypt::SHA1,
    crypt::YESCRYPT,
    phpass::KIND,
    phpass::OVER_MD5,
    phpass::DRUPAL,
    ldap::SSHA,
    ldap::SSHA256,
    ldap::SSHA384,
    ldap::SSHA512,
    ldap::SMD5,
    ldap::SHA,
    ldap::SHA256,
    ldap::SHA512,
    ldap::MD5,
    django::MD5,
    django::SHA1,
    kratos::MD5,
    kratos::SHA,
    kratos::HMAC,
    iterated::SYMFONY,
    iterated::DEVISE_SHA1,
    iterated::DEVISE_SHA512,
    iterated::VBULLETIN,
    joomla::KIND,
    clerk::MD5_SALTED,
    clerk::SHA256_SALTED,
    clerk::HMAC_UTF16,
    auth0::KIND,
    product::DJANGO,
    product::WORDPRESS,
    product::LDAP,
    product::CRYPT,
    product::KRATOS,
    product::SUPABASE,
    product::SUPERTOKENS,
    product::LARAVEL,
    product::WERKZEUG,
    product::KEYCLOAK,
    product::ASPNET,
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
    let named = |name: &str| KINDS.iter().find(|kind| kind.name == name);
    named(scheme).or_else(|| {
        let alias = aliases::ALIASES.iter().find(|(word, _)| *word == scheme);
        alias.and_then(|(_, name)| named(name))
    })
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

/// Whether a password fits a hash that was [`read`]. No password is longer than [`PASSWORD_BYTES_MAX`].
pub fn fits(hash: &dyn Hash, password: &[u8]) -> bool {
    password.len() <= PASSWORD_BYTES_MAX && hash.verify(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_unique_and_words_of_others_lead_to_them() {
        let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let words = aliases::ALIASES.iter();
        for (word, name) in words.clone() {
            assert!(names.contains(name), "{word} leads to {name}");
            assert_eq!(find(word).map(|kind| kind.name), Some(*name));
        }
        names.extend(words.map(|(word, _)| *word));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands there twice");
        assert!(find("plaintext").is_none() && find("").is_none() && find("unknown").is_none());
    }

    #[test]
    fn what_was_switched_off_is_no_password_under_any_scheme() {
        for text in ["", " ", "!", "!abc", "*", "*LK*", "NULL", "null"] {
            let stored = Stored::plain(Secret::new(text));
            for kind in KINDS {
                let found = check(&stored, kind.name, b"", &Ceilings::DEFAULT);
                assert_eq!(found, Err(Unusable::Disabled), "{} {text}", kind.name);
            }
        }
    }

    #[test]
    fn a_plain_password_in_the_column_never_fits_itself() {
        for text in [
            "correct horse battery staple",
            "x",
            "hunter2",
            "abc:def",
            "a$b$c",
        ] {
            let stored = Stored::plain(Secret::new(text));
            for kind in KINDS {
                let found = check(&stored, kind.name, text.as_bytes(), &Ceilings::DEFAULT);
                assert_ne!(found, Ok(true), "{} {text}", kind.name);
            }
        }
    }

    #[test]
    fn no_password_is_longer_than_is_hashed() {
        let stored = Stored::plain(Secret::new("9cc2ae8a1ba7a93da39b46fc1019c481"));
        let of = |length: usize| {
            let digest = algorithm::Algorithm::Md5.digest(&[&vec![b'x'; length]]);
            Stored::plain(Secret::new(data_encoding::HEXLOWER.encode(&digest)))
        };
        let fits = |stored: &Stored, length: usize| {
            let password = vec![b'x'; length];
            check(stored, "md5-hex", &password, &Ceilings::DEFAULT)
        };
        assert_eq!(fits(&of(PASSWORD_BYTES_MAX), PASSWORD_BYTES_MAX), Ok(true));
        let over = PASSWORD_BYTES_MAX + 1;
        assert_eq!(fits(&of(over), over), Ok(false));
        assert_eq!(fits(&stored, 0), Ok(false));
        let long = Stored::plain(Secret::new("a".repeat(STORED_BYTES_MAX + 1)));
        assert!(check(&long, "md5-hex", b"", &Ceilings::DEFAULT).is_err());
    }

    /// Costs so low that whatever noise makes of a hash is quick.
    const LOW: Ceilings = Ceilings {
        argon2_memory_kib: 64,
        argon2_passes: 2,
        argon2_lanes: 2,
        scrypt_bytes: 64 * 1024,
        rounds: 100,
        bcrypt: 4,
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn noise_never_panics_and_never_fits(
            text in r"(\$|\{)?(2b|argon2id|scrypt|pbkdf2|y|7|1|5|P|sha1|bcrypt-sha256|md5|\PC{0,6})(\$|:|\}|,|=|\PC){0,3}[\PC]{0,90}",
            password in r"\PC{0,20}",
            beside in r"[0-9a-f=+/A-Z]{0,12}",
        ) {
            let names = ["salt", "key", "pepper", "signerKey", "rounds", "memCost", "saltSeparator", "iterations", "N", "husk"];
            let stored = Stored {
                hash: Secret::new(text),
                params: names.iter().map(|name| ((*name).to_owned(), Secret::new(beside.clone()))).collect(),
            };
            for kind in KINDS {
                let found = check(&stored, kind.name, password.as_bytes(), &LOW);
                prop_assert_ne!(found, Ok(true), "{}", kind.name);
                let wrapped = format!("native({})", kind.name);
                let _ = read(&stored, &wrapped, &LOW).map(|_| ());
            }
        }

        #[test]
        fn settings_that_are_numbers_never_panic(a in any::<u64>(), b in any::<u32>(), c in 0u32..70) {
            for text in [
                format!("$scrypt$ln={c},r={b},p={a}$c2FsdHNhbHQ$c2FsdHNhbHQ"),
                format!("$scrypt$ln={a},r={b},p={c}$c2FsdHNhbHQ$c2FsdHNhbHQ"),
                format!("scrypt:{a}:{b}:{c}$salt$abcd"),
                format!("$argon2id$v=19$m={b},t={c},p={a}$c2FsdHNhbHQ$c2FsdHNhbHQ"),
                format!("$argon2id$v=19$m={a},t={b},p={c}$c2FsdHNhbHQ$c2FsdHNhbHQ"),
                format!("$pbkdf2-sha256$i={a},l=8$c2FsdHNhbHQ$c2FsdHNhbHQ"),
                format!("$2b${c:02}$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y"),
                format!("$fbscrypt$v=1,n={c},r={b},p=1,ss=Bw==,sk=AAAA$AAAA$AAAA"),
                format!("$6$rounds={a}$salt${}", "a".repeat(86)),
                format!("$sha1${b}$salt${}", "a".repeat(28)),
            ] {
                let stored = Stored::plain(Secret::new(text));
                for kind in KINDS {
                    let found = check(&stored, kind.name, b"password", &LOW);
                    prop_assert_ne!(found, Ok(true), "{}", kind.name);
                }
            }
        }
    }
}
