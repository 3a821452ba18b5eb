//! scrypt in its spellings. They look alike: `ln=` is log2 N in PHC strings and N itself in Kratos, and `hex:hex` is Node's default
//! (r=8) here while the same shape is Better Auth's own (r=16) elsewhere.

use zeroize::Zeroizing;

use super::cost::Cost;
use super::encoding::{
    Bytes, CRYPT_LETTERS, KEY_BYTES_MAX, base64, crypt_bytes, hex, number, only, parts, same,
    setting, small, text,
};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// PHC strings, as passlib writes them.
pub const PASSLIB: Kind<Parse> = Kind {
    name: "passlib-scrypt",
    about: "passlib: $scrypt$ln=log2 N,r=,p=$salt$key",
    build: |stored| phc(stored, |ln| (1..64).contains(&ln).then(|| 1 << ln)),
};

/// PHC strings.
pub const PHC: Kind<Parse> = Kind {
    name: "phc-scrypt",
    about: "a PHC string: $scrypt$ln=log2 N,r=,p=$salt$key",
    build: PASSLIB.build,
};

/// As Kratos writes them.
pub const KRATOS: Kind<Parse> = Kind {
    name: "kratos-scrypt",
    about: "Kratos: $scrypt$ln=N,r=,p=$salt$key, where ln is N itself",
    // No N is as small as the largest logarithm.
    build: |stored| {
        phc(stored, |ln| {
            if ln > 63 {
                Some(ln)
            } else {
                (1..64).contains(&ln).then(|| 1 << ln)
            }
        })
    },
};

/// As Werkzeug writes them.
pub const WERKZEUG: Kind<Parse> = Kind {
    name: "werkzeug-scrypt",
    about: "Werkzeug (Flask): scrypt:N:r:p$salt$hex",
    build: werkzeug,
};

/// As Django writes them.
pub const DJANGO: Kind<Parse> = Kind {
    name: "django-scrypt",
    about: "Django: scrypt$N$salt$r$p$base64",
    build: django,
};

/// As in Node tutorials.
pub const NODE: Kind<Parse> = Kind {
    name: "node-scrypt-salt-key-hex",
    about: "Node: salt:key in hex, r=8; `N`, `r`, `p`, `salt_encoding` (text, hex) beside it",
    build: |stored| {
        let [salt, key] = parts(stored.hash.expose(), ':')?;
        node(stored, salt, key)
    },
};

/// As in Nest tutorials.
pub const NEST: Kind<Parse> = Kind {
    name: "nest-scrypt-key.salt",
    about: "Node: key.salt in hex, r=8; `N`, `r`, `p`, `salt_encoding` (text, hex) beside it",
    build: |stored| {
        let [key, salt] = parts(stored.hash.expose(), '.')?;
        node(stored, salt, key)
    },
};

/// As crypt writes them.
pub const CRYPT: Kind<Parse> = Kind {
    name: "crypt-7-scrypt",
    about: "crypt: $7$",
    build: crypt,
};

/// What `$7$` writes.
const KEY_BYTES: usize = 32;

/// A hash taken apart.
pub(super) struct Hashed {
    log_n: u8,
    r: u32,
    p: u32,
    salt: Bytes,
    key: Bytes,
}

impl Hashed {
    /// From its parts. `n` is N itself.
    pub(super) fn of(n: u64, r: u32, p: u32, salt: Bytes, key: Bytes) -> Result<Self, Unusable> {
        let sound = n.is_power_of_two() && n > 1 && r > 0 && p > 0;
        if !sound || key.len() > KEY_BYTES_MAX {
            return Err(Unusable::Malformed("its costs make no sense"));
        }
        let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
        Ok(Self {
            log_n,
            r,
            p,
            salt,
            key,
        })
    }

    /// The key of a password, as long as the stored one.
    pub(super) fn derive(&self, password: &[u8]) -> Option<Bytes> {
        // Costs that make no sense were refused; those that multiply to more than the crate expects break every ceiling.
        self.r.checked_mul(self.p)?;
        let params = ::scrypt::Params::new(self.log_n, self.r, self.p).ok()?;
        let mut key = Zeroizing::new(vec![0; self.key.len()]);
        ::scrypt::scrypt(password, &self.salt, &params, &mut key).ok()?;
        Some(key)
    }
}

impl Hash for Hashed {
    fn cost(&self) -> Cost {
        Cost::Scrypt {
            n: 1_u64.checked_shl(self.log_n.into()).unwrap_or(u64::MAX),
            r: self.r,
            p: self.p,
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        self.derive(password)
            .is_some_and(|key| same(&key, &self.key))
    }
}

fn phc(stored: &Stored, n: fn(u64) -> Option<u64>) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "scrypt", costs, salt, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $scrypt$"));
    };
    only(costs, &["ln", "r", "p"])?;
    let n =
        n(number(setting(costs, "ln")?)?).ok_or(Unusable::Malformed("its costs make no sense"))?;
    let (r, p) = (small(setting(costs, "r")?)?, small(setting(costs, "p")?)?);
    Ok(Box::new(Hashed::of(n, r, p, base64(salt)?, base64(key)?)?))
}

fn werkzeug(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let [method, salt, key] = parts(stored.hash.expose(), '$')?;
    let ["scrypt", n, r, p] = parts(method, ':')? else {
        return Err(Unusable::Malformed("it does not begin with scrypt:"));
    };
    let hash = Hashed::of(number(n)?, small(r)?, small(p)?, text(salt)?, hex(key)?)?;
    Ok(Box::new(hash))
}

fn django(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["scrypt", n, salt, r, p, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with scrypt$"));
    };
    let hash = Hashed::of(number(n)?, small(r)?, small(p)?, text(salt)?, base64(key)?)?;
    Ok(Box::new(hash))
}

fn node(stored: &Stored, salt: &str, key: &str) -> Result<Box<dyn Hash>, Unusable> {
    let salt = match stored.param("salt_encoding").unwrap_or("text") {
        "text" => text(salt)?,
        "hex" => hex(salt)?,
        _ => return Err(Unusable::Malformed("nobody knows its `salt_encoding`")),
    };
    let cost = |name, usual: u32| stored.param(name).map_or(Ok(usual), small);
    let (n, r, p) = (cost("N", 16384)?, cost("r", 8)?, cost("p", 1)?);
    Ok(Box::new(Hashed::of(n.into(), r, p, salt, hex(key)?)?))
}

/// `$7$`, one letter of log2 N, five each of r and p, the salt as text, `$`, the key. Source: libxcrypt 4.4, crypt-scrypt.c.
fn crypt(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "7", settings, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $7$"));
    };
    let short = Unusable::Malformed("a part is too short");
    let (costs, salt) = settings.split_at_checked(11).ok_or(short)?;
    let value = |letters: &str| {
        letters.bytes().rev().try_fold(0_u64, |value, letter| {
            let digit = CRYPT_LETTERS.iter().position(|known| *known == letter)?;
            Some((value << 6) | u64::try_from(digit).ok()?)
        })
    };
    let number = |from, to| {
        let letters = costs.get(from..to)?;
        value(letters)
    };
    let unknown = Unusable::Malformed("its costs make no sense");
    let log_n = number(0, 1)
        .filter(|log_n| (1..64).contains(log_n))
        .ok_or(unknown)?;
    let r = number(1, 6)
        .and_then(|r| u32::try_from(r).ok())
        .ok_or(unknown)?;
    let p = number(6, 11)
        .and_then(|p| u32::try_from(p).ok())
        .ok_or(unknown)?;
    let key = crypt_bytes(key)
        .filter(|key| key.len() == KEY_BYTES)
        .ok_or(short)?;
    let hash = Hashed::of(1 << log_n, r, p, text(salt)?, key)?;
    Ok(Box::new(hash))
}
