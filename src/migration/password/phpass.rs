//! phpass, and Drupal 7, which is phpass over SHA-512: a digest of salt and password, and then of itself and the password, again and again.

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::cost::Cost;
use super::encoding::{CRYPT_LETTERS, affordable, crypt_text, same};
use super::{Hash, Parse, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// phpass's portable hashes.
pub const KIND: Kind<Parse> = Kind {
    name: "phpass",
    about: "phpass: $P$ (WordPress before 6.8) or $H$ (phpBB)",
    build: |stored| parse(stored.hash.expose(), Before::Nothing),
};

/// phpass over MD5: a table of MD5 that was upgraded.
pub const OVER_MD5: Kind<Parse> = Kind {
    name: "md5-phpass",
    about: "phpass over MD5 in hex, as Clerk's md5_phpass",
    build: |stored| parse(stored.hash.expose(), Before::Md5),
};

/// Drupal 7.
pub const DRUPAL: Kind<Parse> = Kind {
    name: "drupal-7",
    about: "Drupal 7 to 10.0: $S$, and U$S$ for a table of MD5 that was upgraded",
    build: |stored| {
        let text = stored.hash.expose();
        match text.strip_prefix('U') {
            Some(text) => drupal(text, Before::Md5),
            None => drupal(text, Before::Nothing),
        }
    },
};

const SALT_LETTERS: usize = 8;
/// phpass accepts these, as two to that power.
const LOG_ROUNDS: std::ops::RangeInclusive<usize> = 7..=30;
/// `$P$`, cost, salt, and what follows: 34 letters for phpass, 55 for Drupal, which cuts its own short.
const PHPASS_LETTERS: usize = 22;
const DRUPAL_LETTERS: usize = 43;

/// What the password was made into first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Md5,
}

struct Phpass {
    algorithm: Algorithm,
    rounds: u64,
    salt: String,
    digest: Secret,
    before: Before,
}

fn parse(text: &str, before: Before) -> Result<Box<dyn Hash>, Unusable> {
    let rest = text
        .strip_prefix("$P$")
        .or_else(|| text.strip_prefix("$H$"));
    let rest = rest.ok_or(Unusable::Malformed("it does not begin with $P$ or $H$"))?;
    read(rest, Algorithm::Md5, PHPASS_LETTERS, before)
}

fn drupal(text: &str, before: Before) -> Result<Box<dyn Hash>, Unusable> {
    match text.strip_prefix("$S$") {
        Some(rest) => read(rest, Algorithm::Sha512, DRUPAL_LETTERS, before),
        // What Drupal took over from a site that had phpass.
        None => parse(text, before),
    }
}

fn read(
    rest: &str,
    algorithm: Algorithm,
    letters: usize,
    before: Before,
) -> Result<Box<dyn Hash>, Unusable> {
    let length = Unusable::Malformed("a part is of another length");
    let (cost, rest) = rest.split_at_checked(1).ok_or(length)?;
    let (salt, digest) = rest.split_at_checked(SALT_LETTERS).ok_or(length)?;
    let known = |byte: u8| CRYPT_LETTERS.contains(&byte);
    if digest.len() != letters || !digest.bytes().all(known) {
        return Err(length);
    }
    let cost = cost.as_bytes().first();
    let log = CRYPT_LETTERS.iter().position(|letter| Some(letter) == cost);
    let log = log.filter(|log| LOG_ROUNDS.contains(log));
    Ok(Box::new(Phpass {
        algorithm,
        rounds: 1 << log.ok_or(Unusable::Malformed("its cost makes no sense"))?,
        salt: salt.to_owned(),
        digest: Secret::new(digest),
        before,
    }))
}

impl Hash for Phpass {
    fn cost(&self) -> Cost {
        Cost::Rounds(self.rounds)
    }

    fn verify(&self, password: &[u8]) -> bool {
        let before = (self.before == Before::Md5).then(|| {
            let digest = Algorithm::Md5.digest(&[password]);
            Zeroizing::new(HEXLOWER.encode(&digest))
        });
        let password = before.as_ref().map_or(password, |hex| hex.as_bytes());
        if !affordable(self.rounds, password) {
            return false;
        }
        let mut made = self.algorithm.digest(&[self.salt.as_bytes(), password]);
        for _ in 0..self.rounds {
            made = self.algorithm.digest(&[&made, password]);
        }
        let text = Zeroizing::new(crypt_text(&made));
        let stored = self.digest.expose();
        let text = text.get(..stored.len()).unwrap_or_default();
        same(text.as_bytes(), stored.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stored;
    use super::*;

    fn fits(kind: &Kind<Parse>, text: &str, password: &str) -> bool {
        let stored = Stored::plain(Secret::new(text));
        let hash = (kind.build)(&stored).ok().unwrap();
        hash.verify(password.as_bytes())
    }

    #[test]
    fn drupal_cuts_its_hashes_short() {
        // hashcat's published example of mode 7900.
        let text = "$S$C33783772bRXEx1aCsvY.dqgaaSu76XmVlKrW9Qu8IQlvxHlmzLf";
        assert!(fits(&DRUPAL, text, "hashcat"));
        assert!(!fits(&DRUPAL, text, "hashcap"));
    }

    #[test]
    fn an_upgraded_table_has_the_md5_inside() {
        let text = "$P$Bl3pEkZbR3p9x7QduCdE6qM64b30vi0";
        let password = "correct horse battery staple";
        assert!(fits(&KIND, text, password) && !fits(&OVER_MD5, text, password));
        // The same function over what a table of MD5 held.
        let md5 = HEXLOWER.encode(&Algorithm::Md5.digest(&[password.as_bytes()]));
        let inner = Algorithm::Md5.digest(&[b"saltsalt", md5.as_bytes()]);
        let mut made = inner;
        for _ in 0..1 << 7 {
            made = Algorithm::Md5.digest(&[&made, md5.as_bytes()]);
        }
        let text = format!("$P$5saltsalt{}", crypt_text(&made));
        assert!(fits(&OVER_MD5, &text, password) && fits(&KIND, &text, &md5));
        assert!(fits(&DRUPAL, &format!("U{text}"), password));
    }
}
