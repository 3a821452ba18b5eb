//! argon2 in its three types and both versions, as PHC strings.

use ::argon2::{Algorithm as Type, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::cost::Cost;
use super::encoding::{Bytes, base64, only, same, setting, small};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// Type id.
pub const ID: Kind<Parse> = Kind {
    name: "argon2id",
    about: "argon2id, a PHC string",
    build: |stored| parse(stored, stored.hash.expose(), Some(Type::Argon2id)),
};

/// Type i.
pub const I: Kind<Parse> = Kind {
    name: "argon2i",
    about: "argon2i, a PHC string",
    build: |stored| parse(stored, stored.hash.expose(), Some(Type::Argon2i)),
};

/// Type d.
pub const D: Kind<Parse> = Kind {
    name: "argon2d",
    about: "argon2d, a PHC string",
    build: |stored| parse(stored, stored.hash.expose(), Some(Type::Argon2d)),
};

/// Whichever the string says.
pub const ANY: Kind<Parse> = Kind {
    name: "argon2",
    about: "argon2 of the type its PHC string names",
    build: |stored| parse(stored, stored.hash.expose(), None),
};

/// As Django writes it.
pub const DJANGO: Kind<Parse> = Kind {
    name: "django-argon2",
    about: "Django: argon2$argon2id$v=19$…",
    build: |stored| {
        let text = stored.hash.expose();
        let phc = text
            .strip_prefix("argon2")
            .ok_or(Unusable::Malformed("it does not begin with argon2$"))?;
        if !phc.starts_with('$') {
            return Err(Unusable::Malformed("it does not begin with argon2$"));
        }
        parse(stored, phc, None)
    },
};

const KEY_BYTES: std::ops::RangeInclusive<usize> = 4..=512;

fn parse(stored: &Stored, text: &str, told: Option<Type>) -> Result<Box<dyn Hash>, Unusable> {
    let text = text
        .strip_prefix('$')
        .ok_or(Unusable::Malformed("it does not begin with $"))?;
    let mut parts = text.split('$');
    let missing = Unusable::Malformed("a part is missing");
    let kind = match parts.next().ok_or(missing)? {
        "argon2id" => Type::Argon2id,
        "argon2i" => Type::Argon2i,
        "argon2d" => Type::Argon2d,
        _ => return Err(Unusable::Malformed("nobody knows its type")),
    };
    if told.is_some_and(|told| told != kind) {
        return Err(Unusable::Malformed("it is of another type"));
    }
    let mut costs = parts.next().ok_or(missing)?;
    let mut version = Version::V0x10;
    // The oldest encodings, of version 1.0, do not say it.
    if let Some(said) = costs.strip_prefix("v=") {
        version = match said {
            "16" => Version::V0x10,
            "19" => Version::V0x13,
            _ => return Err(Unusable::Malformed("nobody knows its version")),
        };
        costs = parts.next().ok_or(missing)?;
    }
    // `keyid=` and `data=` go into the hash: refused rather than overlooked.
    only(costs, &["m", "t", "p"])?;
    let salt = base64(parts.next().ok_or(missing)?)?;
    let key = base64(parts.next().ok_or(missing)?)?;
    if parts.next().is_some() {
        return Err(Unusable::Malformed("there is a part too many"));
    }
    let hash = Hashed {
        kind,
        version,
        memory_kib: small(setting(costs, "m")?)?,
        passes: small(setting(costs, "t")?)?,
        lanes: small(setting(costs, "p")?)?,
        salt,
        key,
        pepper: stored.param("secret").map(Secret::new),
    };
    hash.sound()
}

/// A hash taken apart.
pub(super) struct Hashed {
    pub(super) kind: Type,
    pub(super) version: Version,
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    pub(super) salt: Bytes,
    pub(super) key: Bytes,
    pub(super) pepper: Option<Secret>,
}

impl Hashed {
    /// Refuses what the algorithm does not know.
    pub(super) fn sound(self) -> Result<Box<dyn Hash>, Unusable> {
        if !KEY_BYTES.contains(&self.key.len()) {
            return Err(Unusable::Malformed("its key is too short or too long"));
        }
        if self.salt.len() < ::argon2::MIN_SALT_LEN {
            return Err(Unusable::Malformed("its salt is too short"));
        }
        self.params()?;
        Ok(Box::new(self))
    }

    fn params(&self) -> Result<Params, Unusable> {
        Params::new(
            self.memory_kib,
            self.passes,
            self.lanes,
            Some(self.key.len()),
        )
        .map_err(|_| Unusable::Malformed("its costs make no sense"))
    }
}

impl Hash for Hashed {
    fn cost(&self) -> Cost {
        Cost::Argon2 {
            memory_kib: self.memory_kib,
            passes: self.passes,
            lanes: self.lanes,
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Ok(params) = self.params() else {
            return false;
        };
        let argon2 = match &self.pepper {
            None => Ok(Argon2::new(self.kind, self.version, params)),
            Some(pepper) => {
                let pepper = pepper.expose().as_bytes();
                Argon2::new_with_secret(pepper, self.kind, self.version, params)
            }
        };
        let mut key = Zeroizing::new(vec![0; self.key.len()]);
        let made =
            argon2.and_then(|argon2| argon2.hash_password_into(password, &self.salt, &mut key));
        made.is_ok() && same(&key, &self.key)
    }
}
