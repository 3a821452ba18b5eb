//! bcrypt over a digest of the password, so that more than 72 bytes count. Which digest is told by the scheme.

use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::bcrypt::Bcrypt;
use super::cost::Cost;
use super::encoding::{Bytes, number, only, parts, setting};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// passlib 1.7.3 and later.
pub const PASSLIB_V2: Kind<Parse> = Kind {
    name: "passlib-bcrypt-sha256-v2",
    about: "passlib: $bcrypt-sha256$v=2,t=2b,r=12$salt$digest",
    build: passlib_v2,
};

/// passlib before that.
pub const PASSLIB_V1: Kind<Parse> = Kind {
    name: "passlib-bcrypt-sha256-v1",
    about: "passlib before 1.7.3: $bcrypt-sha256$2b,12$salt$digest",
    build: passlib_v1,
};

/// Django's.
pub const DJANGO_SHA256: Kind<Parse> = Kind {
    name: "django-bcrypt-sha256",
    about: "Django: bcrypt_sha256$$2b$12$…",
    build: |stored| prefixed(stored, "bcrypt_sha256$", |pw| hex(Algorithm::Sha256, pw)),
};

/// Django's, without a digest.
pub const DJANGO: Kind<Parse> = Kind {
    name: "django-bcrypt",
    about: "Django: bcrypt$$2b$12$…",
    build: |stored| prefixed(stored, "bcrypt$", |password| Bytes::new(password.to_vec())),
};

/// Over SHA-256 in hex.
pub const SHA256_HEX: Kind<Parse> = Kind {
    name: "bcrypt-over-sha256hex",
    about: "bcrypt over SHA-256 in lower-case hex",
    build: |stored| prefixed(stored, "", |password| hex(Algorithm::Sha256, password)),
};

/// Over SHA-256 in base64.
pub const SHA256_B64: Kind<Parse> = Kind {
    name: "bcrypt-over-sha256b64",
    about: "bcrypt over SHA-256 in base64",
    build: |stored| prefixed(stored, "", |password| base64(Algorithm::Sha256, password)),
};

/// Over SHA-384 in base64.
pub const SHA384_B64: Kind<Parse> = Kind {
    name: "bcrypt-over-sha384b64",
    about: "bcrypt over SHA-384 in base64",
    build: |stored| prefixed(stored, "", |password| base64(Algorithm::Sha384, password)),
};

/// Over SHA-512 in base64, of which 72 letters count.
pub const SHA512_B64: Kind<Parse> = Kind {
    name: "bcrypt-over-sha512b64",
    about: "bcrypt over SHA-512 in base64, of which 72 letters count",
    build: |stored| prefixed(stored, "", |password| base64(Algorithm::Sha512, password)),
};

/// Over SHA-512 in hex, of which 72 letters count.
pub const SHA512_HEX: Kind<Parse> = Kind {
    name: "bcrypt-over-sha512hex",
    about: "bcrypt over SHA-512 in lower-case hex, of which 72 letters count",
    build: |stored| prefixed(stored, "", |password| hex(Algorithm::Sha512, password)),
};

/// Over SHA-1 in hex.
pub const SHA1_HEX: Kind<Parse> = Kind {
    name: "bcrypt-over-sha1hex",
    about: "bcrypt over SHA-1 in lower-case hex: a table of SHA-1 that was upgraded",
    build: |stored| prefixed(stored, "", |password| hex(Algorithm::Sha1, password)),
};

/// Over MD5 in hex.
pub const MD5_HEX: Kind<Parse> = Kind {
    name: "bcrypt-over-md5hex",
    about: "bcrypt over MD5 in lower-case hex: a table of MD5 that was upgraded",
    build: |stored| prefixed(stored, "", |password| hex(Algorithm::Md5, password)),
};

/// WordPress.
pub const WORDPRESS: Kind<Parse> = Kind {
    name: "wordpress-6.8",
    about: "WordPress 6.8 and later: $wp$2y$10$…",
    build: |stored| {
        let text = stored.hash.expose();
        let rest = text
            .strip_prefix("$wp")
            .ok_or(Unusable::Malformed("it does not begin with $wp"))?;
        over(Bcrypt::read(rest)?, wordpress)
    },
};

type Before = fn(&[u8]) -> Bytes;

struct Over {
    bcrypt: Bcrypt,
    before: Before,
}

impl Hash for Over {
    fn cost(&self) -> Cost {
        self.bcrypt.cost()
    }

    fn verify(&self, password: &[u8]) -> bool {
        self.bcrypt.verify(&(self.before)(password))
    }
}

fn over(bcrypt: Bcrypt, before: Before) -> Result<Box<dyn Hash>, Unusable> {
    Ok(Box::new(Over { bcrypt, before }))
}

fn prefixed(stored: &Stored, prefix: &str, before: Before) -> Result<Box<dyn Hash>, Unusable> {
    let rest = stored.hash.expose().strip_prefix(prefix);
    let rest = rest.ok_or(Unusable::Malformed("it begins with another word"))?;
    over(Bcrypt::read(rest)?, before)
}

fn hex(algorithm: Algorithm, password: &[u8]) -> Bytes {
    Zeroizing::new(HEXLOWER.encode(&algorithm.digest(&[password])).into_bytes())
}

fn base64(algorithm: Algorithm, password: &[u8]) -> Bytes {
    Zeroizing::new(BASE64.encode(&algorithm.digest(&[password])).into_bytes())
}

/// Source: WordPress 6.8, wp-includes/pluggable.php, `wp_hash_password`: PHP's `trim`, then HMAC-SHA384 keyed with `wp-sha384`.
fn wordpress(password: &[u8]) -> Bytes {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0 | 0x0b);
    let begin = password.iter().position(|byte| !blank(byte));
    let end = password.iter().rposition(|byte| !blank(byte));
    let trimmed = match (begin, end) {
        (Some(begin), Some(end)) => password.get(begin..=end).unwrap_or_default(),
        _ => &[],
    };
    let mac = Algorithm::Sha384.hmac(b"wp-sha384", trimmed);
    Zeroizing::new(BASE64.encode(&mac).into_bytes())
}

/// The part behind the settings: 22 letters of salt, 31 of digest.
fn passlib(version: &str, cost: &str, salt: &str, digest: &str) -> Result<Bcrypt, Unusable> {
    if !matches!(version, "2a" | "2b" | "2y") {
        return Err(Unusable::Malformed("nobody knows its version"));
    }
    // Here the cost is written without a leading zero.
    let cost = format!("{:02}", number(cost)?);
    Bcrypt::of(&cost, salt, digest, false)
}

struct Keyed {
    bcrypt: Bcrypt,
    /// The salt as its letters: the key of the HMAC.
    salt: String,
}

impl Hash for Keyed {
    fn cost(&self) -> Cost {
        self.bcrypt.cost()
    }

    fn verify(&self, password: &[u8]) -> bool {
        let mac = Algorithm::Sha256.hmac(self.salt.as_bytes(), password);
        let text = Zeroizing::new(BASE64.encode(&mac));
        self.bcrypt.verify(text.as_bytes())
    }
}

fn passlib_v2(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "bcrypt-sha256", settings, salt, digest] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed(
            "it does not begin with $bcrypt-sha256$",
        ));
    };
    only(settings, &["v", "t", "r"])?;
    if setting(settings, "v")? != "2" {
        return Err(Unusable::Malformed("nobody knows its version"));
    }
    let (version, cost) = (setting(settings, "t")?, setting(settings, "r")?);
    Ok(Box::new(Keyed {
        bcrypt: passlib(version, cost, salt, digest)?,
        salt: salt.to_owned(),
    }))
}

fn passlib_v1(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "bcrypt-sha256", settings, salt, digest] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed(
            "it does not begin with $bcrypt-sha256$",
        ));
    };
    let [version, cost] = parts(settings, ',')?;
    over(passlib(version, cost, salt, digest)?, |password| {
        base64(Algorithm::Sha256, password)
    })
}
