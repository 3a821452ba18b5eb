//! Firebase's own scrypt, in its spellings: the project's signer key, encrypted under a key made of the password.
//!
//! Source: firebase/scrypt: K = scrypt(password, salt‖separator, 2^mem_cost, rounds, 1), of 32 bytes; the hash is AES-256-CTR of the signer key
//! under K from a counter of zero.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};

use super::cost::Cost;
use super::encoding::{Bytes, any_base64, base64, number, only, parts, same, setting, small};
use super::scrypt::Hashed;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// As exported.
pub const KIND: Kind<Parse> = Kind {
    name: "firebase-scrypt",
    about: "Firebase: base64; `salt`, `signerKey`, `saltSeparator`, `rounds`, `memCost` beside it",
    build: exported,
};

/// As Clerk writes it.
pub const CLERK: Kind<Parse> = Kind {
    name: "clerk-scrypt-firebase",
    about: "Clerk: hash$salt$signer key$separator$rounds$mem_cost",
    build: |stored| {
        let [hash, salt, signer, separator, rounds, memory] = parts(stored.hash.expose(), '$')?;
        taken(
            &Project {
                signer,
                separator,
                rounds,
                memory,
            },
            salt,
            hash,
        )
    },
};

/// As Supabase writes it.
pub const SUPABASE: Kind<Parse> = Kind {
    name: "supabase-fbscrypt",
    about: "Supabase: $fbscrypt$v=1,n=,r=,p=1,ss=,sk=$salt$hash",
    build: supabase,
};

/// As SuperTokens writes it.
pub const SUPERTOKENS: Kind<Parse> = Kind {
    name: "supertokens-f-scrypt",
    about: "SuperTokens: $f_scrypt$hash$salt$m=$r=$s=; `signerKey` beside it",
    build: supertokens,
};

/// As Kratos writes it.
pub const KRATOS: Kind<Parse> = Kind {
    name: "kratos-firescrypt",
    about: "Kratos: $firescrypt$ln=,r=,p=1$salt$hash$separator$signer key",
    build: kratos,
};

/// What stands in the console under "password hash parameters".
struct Project<'p> {
    signer: &'p str,
    separator: &'p str,
    rounds: &'p str,
    memory: &'p str,
}

struct Signed {
    scrypt: Hashed,
    signer: Bytes,
    expected: Bytes,
}

fn taken(project: &Project<'_>, salt: &str, hash: &str) -> Result<Box<dyn Hash>, Unusable> {
    let memory = number(project.memory)?;
    if !(1..64).contains(&memory) {
        return Err(Unusable::Malformed("its costs make no sense"));
    }
    let mut salt = base64(salt)?;
    salt.extend_from_slice(&any_base64(project.separator)?);
    let (signer, expected) = (base64(project.signer)?, base64(hash)?);
    if expected.len() != signer.len() {
        return Err(Unusable::Malformed("it is not as long as the signer key"));
    }
    // Only its length matters: that of the key that is made.
    let key = Bytes::new(vec![0; 32]);
    Ok(Box::new(Signed {
        scrypt: Hashed::of(1 << memory, small(project.rounds)?, 1, salt, key)?,
        signer,
        expected,
    }))
}

impl Hash for Signed {
    fn cost(&self) -> Cost {
        self.scrypt.cost()
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Some(key) = self.scrypt.derive(password) else {
            return false;
        };
        let Ok(mut cipher) = Ctr128BE::<Aes256>::new_from_slices(&key, &[0; 16]) else {
            return false;
        };
        let mut made = self.signer.clone();
        cipher.apply_keystream(&mut made);
        same(&made, &self.expected)
    }
}

/// The parameters under the names of the vectors, or of the console.
fn exported(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let either = |name: &'static str, console: &str| {
        stored.param(console).map_or_else(|| stored.need(name), Ok)
    };
    let project = Project {
        signer: either("signerKey", "base64_signer_key")?,
        separator: either("saltSeparator", "base64_salt_separator")?,
        rounds: stored.need("rounds")?,
        memory: either("memCost", "mem_cost")?,
    };
    taken(&project, stored.need("salt")?, stored.hash.expose())
}

fn supabase(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "fbscrypt", settings, salt, hash] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $fbscrypt$"));
    };
    only(settings, &["v", "n", "r", "p", "ss", "sk"])?;
    if setting(settings, "v")? != "1" || setting(settings, "p")? != "1" {
        return Err(Unusable::Malformed("nobody knows its version"));
    }
    let separator = if settings.contains(",ss=") {
        setting(settings, "ss")?
    } else {
        ""
    };
    let project = Project {
        signer: setting(settings, "sk")?,
        separator,
        rounds: setting(settings, "r")?,
        memory: setting(settings, "n")?,
    };
    taken(&project, salt, hash)
}

fn supertokens(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "f_scrypt", hash, salt, memory, rounds, separator] = parts(stored.hash.expose(), '$')?
    else {
        return Err(Unusable::Malformed("it does not begin with $f_scrypt$"));
    };
    let project = Project {
        signer: stored.need("signerKey")?,
        separator: setting(separator, "s")?,
        rounds: setting(rounds, "r")?,
        memory: setting(memory, "m")?,
    };
    taken(&project, salt, hash)
}

fn kratos(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", "firescrypt", settings, salt, hash, separator, signer] =
        parts(stored.hash.expose(), '$')?
    else {
        return Err(Unusable::Malformed("it does not begin with $firescrypt$"));
    };
    only(settings, &["ln", "r", "p"])?;
    if setting(settings, "p")? != "1" {
        return Err(Unusable::Malformed("its costs make no sense"));
    }
    let project = Project {
        signer,
        separator,
        rounds: setting(settings, "r")?,
        memory: setting(settings, "ln")?,
    };
    taken(&project, salt, hash)
}
