//! PBKDF2 in its spellings. They look alike: `pbkdf2_sha256$rounds$salt$hash` has a salt that is text in Django and base64 in Clerk.

use std::num::NonZeroU32;

use super::algorithm::Algorithm;
use super::cost::Cost;
use super::encoding::{
    Bytes, KEY_BYTES_MAX, base64, dotted_base64, hex, only, parts, same, setting, small, text,
};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// Django's default.
pub const DJANGO_SHA256: Kind<Parse> = Kind {
    name: "django-pbkdf2-sha256",
    about: "Django: pbkdf2_sha256$rounds$salt as text$base64",
    build: |stored| django(stored, "pbkdf2_sha256", Algorithm::Sha256),
};

/// Django's older one.
pub const DJANGO_SHA1: Kind<Parse> = Kind {
    name: "django-pbkdf2-sha1",
    about: "Django: pbkdf2_sha1$rounds$salt as text$base64",
    build: |stored| django(stored, "pbkdf2_sha1", Algorithm::Sha1),
};

/// passlib's.
pub const PASSLIB_SHA1: Kind<Parse> = Kind {
    name: "passlib-pbkdf2-sha1",
    about: "passlib: $pbkdf2$rounds$salt$key, or {PBKDF2}",
    build: |stored| passlib(stored, "$pbkdf2$", "{PBKDF2}", Algorithm::Sha1),
};

/// passlib's.
pub const PASSLIB_SHA256: Kind<Parse> = Kind {
    name: "passlib-pbkdf2-sha256",
    about: "passlib: $pbkdf2-sha256$rounds$salt$key, or {PBKDF2-SHA256}",
    build: |stored| {
        passlib(
            stored,
            "$pbkdf2-sha256$",
            "{PBKDF2-SHA256}",
            Algorithm::Sha256,
        )
    },
};

/// passlib's.
pub const PASSLIB_SHA512: Kind<Parse> = Kind {
    name: "passlib-pbkdf2-sha512",
    about: "passlib: $pbkdf2-sha512$rounds$salt$key, or {PBKDF2-SHA512}",
    build: |stored| {
        passlib(
            stored,
            "$pbkdf2-sha512$",
            "{PBKDF2-SHA512}",
            Algorithm::Sha512,
        )
    },
};

/// Cryptacular's.
pub const CRYPTACULAR: Kind<Parse> = Kind {
    name: "passlib-cta-pbkdf2-sha1",
    about: "Cryptacular: $p5k2$rounds in hex$salt$key",
    build: cryptacular,
};

/// Atlassian's.
pub const ATLASSIAN: Kind<Parse> = Kind {
    name: "passlib-atlassian-pbkdf2-sha1",
    about: "Atlassian: {PKCS5S2} and base64 of salt and key",
    build: atlassian,
};

/// Werkzeug's.
pub const WERKZEUG: Kind<Parse> = Kind {
    name: "werkzeug-pbkdf2",
    about: "Werkzeug (Flask): pbkdf2:sha256:rounds$salt$hex; `iterations` beside it where it names none",
    build: werkzeug,
};

/// PHC strings.
pub const PHC: Kind<Parse> = Kind {
    name: "phc-pbkdf2",
    about: "a PHC string: $pbkdf2-sha256$i=rounds,l=bytes$salt$key",
    build: phc,
};

/// Clerk's `pbkdf2_sha256`.
pub const CLERK_SHA256: Kind<Parse> = Kind {
    name: "clerk-pbkdf2-sha256",
    about: "Clerk: pbkdf2_sha256$rounds$salt in base64$base64",
    build: |stored| clerk(stored, "pbkdf2_sha256", Algorithm::Sha256, base64, base64),
};

/// Clerk's `pbkdf2_sha512`.
pub const CLERK_SHA512: Kind<Parse> = Kind {
    name: "clerk-pbkdf2-sha512",
    about: "Clerk: pbkdf2_sha512$rounds$salt in base64$base64, or with the hash in hex",
    build: clerk_sha512,
};

/// Clerk's `pbkdf2_sha512_hex`.
pub const CLERK_SHA512_HEX: Kind<Parse> = Kind {
    name: "clerk-pbkdf2-sha512-hex",
    about: "Clerk: pbkdf2_sha512_hex$rounds$salt in hex$hex, or pbkdf2_sha512$",
    build: |stored| {
        let prefix = match stored.hash.expose().split_once('$') {
            Some(("pbkdf2_sha512", _)) => "pbkdf2_sha512",
            _ => "pbkdf2_sha512_hex",
        };
        clerk(stored, prefix, Algorithm::Sha512, hex, hex)
    },
};

/// Clerk's `pbkdf2_sha1`.
pub const CLERK_SHA1: Kind<Parse> = Kind {
    name: "clerk-pbkdf2-sha1",
    about: "Clerk: pbkdf2_sha1$rounds$salt$hex",
    build: clerk_sha1,
};

/// As in Node tutorials.
pub const NODE: Kind<Parse> = Kind {
    name: "node-pbkdf2-salt-hash-hex",
    about: "Node: salt:key in hex; `iterations` (1000), `digest` (sha512), `salt_encoding` (text, hex) beside it",
    build: node,
};

/// A hash taken apart.
pub(super) struct Derived {
    algorithm: Algorithm,
    rounds: NonZeroU32,
    salt: Bytes,
    key: Bytes,
    /// Another reading of the salt, where a vendor does not say which one it takes.
    other: Option<Bytes>,
}

impl Derived {
    /// From its parts.
    pub(super) fn of(
        algorithm: Algorithm,
        rounds: u32,
        salt: Bytes,
        key: Bytes,
    ) -> Result<Self, Unusable> {
        let rounds = NonZeroU32::new(rounds).ok_or(Unusable::Malformed("it has no rounds"))?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Unusable::Malformed("its key is too short or too long"));
        }
        Ok(Self {
            algorithm,
            rounds,
            salt,
            key,
            other: None,
        })
    }

    fn fits(&self, password: &[u8], salt: &[u8]) -> bool {
        let key = self
            .algorithm
            .pbkdf2(password, salt, self.rounds, self.key.len());
        same(&key, &self.key)
    }
}

impl Hash for Derived {
    fn cost(&self) -> Cost {
        // Every block of the key costs all the rounds.
        let blocks = self.key.len().div_ceil(self.algorithm.bytes());
        let readings = 1 + usize::from(self.other.is_some());
        let blocks = u64::try_from(blocks * readings).unwrap_or(u64::MAX);
        Cost::Rounds(blocks.saturating_mul(self.rounds.get().into()))
    }

    fn verify(&self, password: &[u8]) -> bool {
        let other = self.other.as_ref();
        // Both readings are tried whatever the first one says: time tells nothing.
        self.fits(password, &self.salt) | other.is_some_and(|salt| self.fits(password, salt))
    }
}

fn django(stored: &Stored, prefix: &str, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    clerk(stored, prefix, algorithm, text, base64)
}

/// `prefix$rounds$salt$key`.
fn clerk(
    stored: &Stored,
    prefix: &str,
    algorithm: Algorithm,
    read_salt: fn(&str) -> Result<Bytes, Unusable>,
    read_key: fn(&str) -> Result<Bytes, Unusable>,
) -> Result<Box<dyn Hash>, Unusable> {
    let [found, rounds, salt, key] = parts(stored.hash.expose(), '$')?;
    if found != prefix {
        return Err(Unusable::Malformed("it begins with another word"));
    }
    let hash = Derived::of(algorithm, small(rounds)?, read_salt(salt)?, read_key(key)?)?;
    Ok(Box::new(hash))
}

/// The hash is hex in Clerk's own reference and base64 in its guides; the two cannot be confused, as a key of 64 bytes has 128 letters
/// in hex and 86 or 88 in base64.
fn clerk_sha512(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let read_key = |key: &str| match key.len() {
        128 => hex(key),
        _ => base64(key),
    };
    clerk(stored, "pbkdf2_sha512", Algorithm::Sha512, base64, read_key)
}

/// Clerk takes a salt that is hex as hex, says its reference, and as text, say its guides: both are tried. A fifth part is the length
/// of the key.
fn clerk_sha1(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let mut found = stored.hash.expose().split('$');
    let mut next = || found.next().ok_or(Unusable::Malformed("a part is missing"));
    if next()? != "pbkdf2_sha1" {
        return Err(Unusable::Malformed("it begins with another word"));
    }
    let (rounds, salt, key) = (small(next()?)?, next()?, hex(next()?)?);
    if let Some(length) = found.next()
        && usize::try_from(small(length)?).ok() != Some(key.len())
    {
        return Err(Unusable::Malformed("its key is of another length"));
    }
    if found.next().is_some() {
        return Err(Unusable::Malformed("there is a part too many"));
    }
    let other = hex(salt).ok();
    let hash = Derived::of(Algorithm::Sha1, rounds, text(salt)?, key)?;
    Ok(Box::new(Derived { other, ..hash }))
}

fn passlib(
    stored: &Stored,
    prefix: &str,
    ldap: &str,
    algorithm: Algorithm,
) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    let rest = text
        .strip_prefix(prefix)
        .or_else(|| text.strip_prefix(ldap));
    let rest = rest.ok_or(Unusable::Malformed("it begins with another word"))?;
    let [rounds, salt, key] = parts(rest, '$')?;
    let (salt, key) = (dotted_base64(salt)?, dotted_base64(key)?);
    Ok(Box::new(Derived::of(algorithm, small(rounds)?, salt, key)?))
}

fn cryptacular(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "p5k2", rounds, salt, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $p5k2$"));
    };
    // Nothing there means 400, as in the module it comes from.
    let rounds = match rounds {
        "" => 400,
        _ => u32::from_str_radix(rounds, 16).map_err(|_| Unusable::Malformed("not a number"))?,
    };
    let hash = Derived::of(Algorithm::Sha1, rounds, base64(salt)?, base64(key)?)?;
    Ok(Box::new(hash))
}

/// 10 000 rounds, 16 bytes of salt, 32 of key.
fn atlassian(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let encoded = stored.hash.expose().strip_prefix("{PKCS5S2}");
    let bytes = base64(encoded.ok_or(Unusable::Malformed("it does not begin with {PKCS5S2}"))?)?;
    let (salt, key) = bytes.split_at_checked(16).unwrap_or_default();
    if key.len() != 32 {
        return Err(Unusable::Malformed("it is not 48 bytes"));
    }
    let (salt, key) = (salt.to_vec().into(), key.to_vec().into());
    Ok(Box::new(Derived::of(Algorithm::Sha1, 10_000, salt, key)?))
}

fn werkzeug(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let [method, salt, key] = parts(stored.hash.expose(), '$')?;
    let mut words = method.split(':');
    let (Some("pbkdf2"), Some(digest)) = (words.next(), words.next()) else {
        return Err(Unusable::Malformed("it does not begin with pbkdf2:"));
    };
    let algorithm =
        Algorithm::named(digest).ok_or(Unusable::Malformed("nobody knows its digest"))?;
    // Older versions left the rounds out, and changed how many they meant.
    let rounds = match words.next() {
        Some(rounds) => rounds,
        None => stored.need("iterations")?,
    };
    if words.next().is_some() {
        return Err(Unusable::Malformed("there is a part too many"));
    }
    let hash = Derived::of(algorithm, small(rounds)?, text(salt)?, hex(key)?)?;
    Ok(Box::new(hash))
}

fn phc(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", name, costs, salt, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $"));
    };
    let algorithm = match name.strip_prefix("pbkdf2") {
        Some("") => Some(Algorithm::Sha1),
        Some(digest) => digest.strip_prefix('-').and_then(Algorithm::named),
        None => None,
    };
    let algorithm = algorithm.ok_or(Unusable::Malformed("nobody knows its digest"))?;
    only(costs, &["i", "l"])?;
    let key = base64(key)?;
    let length = costs
        .contains("l=")
        .then(|| setting(costs, "l"))
        .transpose()?;
    if let Some(length) = length
        && usize::try_from(small(length)?).ok() != Some(key.len())
    {
        return Err(Unusable::Malformed("its key is of another length"));
    }
    let rounds = small(setting(costs, "i")?)?;
    Ok(Box::new(Derived::of(
        algorithm,
        rounds,
        base64(salt)?,
        key,
    )?))
}

fn node(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let [salt, key] = parts(stored.hash.expose(), ':')?;
    let salt = match stored.param("salt_encoding").unwrap_or("text") {
        "text" => text(salt)?,
        "hex" => hex(salt)?,
        _ => return Err(Unusable::Malformed("nobody knows its `salt_encoding`")),
    };
    let algorithm = Algorithm::named(stored.param("digest").unwrap_or("sha512"));
    let algorithm = algorithm.ok_or(Unusable::Malformed("nobody knows its digest"))?;
    let rounds = small(stored.param("iterations").unwrap_or("1000"))?;
    Ok(Box::new(Derived::of(algorithm, rounds, salt, hex(key)?)?))
}
