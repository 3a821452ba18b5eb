//! What Kratos takes in besides the common formats: digests with a template for salt and password, and HMACs.
//!
//! Source: ory/kratos, hash/hash_comparator.go.

use data_encoding::BASE64;

use super::algorithm::Algorithm;
use super::digest::{Digested, Piece, Recipe, zeros};
use super::encoding::{Bytes, any_base64, base64, hex, parts};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// MD5.
pub const MD5: Kind<Parse> = Kind {
    name: "kratos-md5",
    about: "Kratos: $md5$pf=template$salt$digest, or $md5$digest",
    build: |stored| template(stored, &["md5"]),
};

/// SHA.
pub const SHA: Kind<Parse> = Kind {
    name: "kratos-sha",
    about: "Kratos: $sha1$, $sha256$, $sha512$ and pf=template$salt$digest",
    build: |stored| template(stored, &["sha1", "sha256", "sha512"]),
};

/// HMAC.
pub const HMAC: Kind<Parse> = Kind {
    name: "kratos-hmac",
    about: "Kratos: $hmac-sha256$digest in hex, in base64$key",
    build: hmac,
};

/// Places for the password in a template at most.
const PASSWORDS_MAX: usize = 8;

fn template(stored: &Stored, words: &[&str]) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    let mut found = text.split('$');
    let (Some(""), Some(word)) = (found.next(), found.next()) else {
        return Err(Unusable::Malformed("it does not begin with $"));
    };
    let algorithm = Some(word).filter(|word| words.contains(word));
    let algorithm = algorithm.and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(Unusable::Malformed("it begins with another word"))?;
    let nothing = BASE64.encode(&vec![0; algorithm.bytes()]);
    let rest: Vec<&str> = found.collect();
    let (recipe, digest, husk) = match rest.as_slice() {
        [digest] if algorithm == Algorithm::Md5 => (
            Recipe::Joined(vec![Piece::Password]),
            digest,
            format!("${word}${nothing}"),
        ),
        [format, salt, digest] => {
            let encoded = format.strip_prefix("pf=");
            let template = base64(encoded.ok_or(Unusable::Malformed("it has no template"))?)?;
            (
                Recipe::Joined(pieces(&template, &any_base64(salt)?)?),
                digest,
                format!("${word}${format}${salt}${nothing}"),
            )
        }
        _ => return Err(Unusable::Malformed("a part is missing, or one too many")),
    };
    Digested::once(algorithm, recipe, base64(digest)?, husk).sound()
}

/// A template taken apart: `{SALT}{PASSWORD}` in any order, with anything between.
fn pieces(template: &[u8], salt: &[u8]) -> Result<Vec<Piece>, Unusable> {
    let (password_place, salt_place) = (b"{PASSWORD}".as_slice(), b"{SALT}".as_slice());
    let (mut pieces, mut plain, mut rest) = (Vec::new(), Bytes::default(), template);
    let mut passwords = 0;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(password_place) {
            pieces.push(Piece::Bytes(std::mem::take(&mut plain)));
            pieces.push(Piece::Password);
            passwords += 1;
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(salt_place) {
            plain.extend_from_slice(salt);
            rest = behind;
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    pieces.push(Piece::Bytes(plain));
    // Without the password, every password would fit.
    if !(1..=PASSWORDS_MAX).contains(&passwords) {
        return Err(Unusable::Malformed(
            "its template has no password, or too many",
        ));
    }
    Ok(pieces)
}

fn hmac(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let ["", word, digest, key] = parts(stored.hash.expose(), '$')? else {
        return Err(Unusable::Malformed("it does not begin with $hmac-"));
    };
    let algorithm = word.strip_prefix("hmac-").and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(Unusable::Malformed("it begins with another word"))?;
    let decoded = base64(digest)?;
    // Kratos encodes the letters of the hex, not the bytes.
    let expected = match std::str::from_utf8(&decoded) {
        Ok(text) if text.len() == 2 * algorithm.bytes() => hex(text)?,
        _ => decoded.clone(),
    };
    let nothing = BASE64.encode(zeros(algorithm).as_bytes());
    let husk = format!("${word}${nothing}${key}");
    Digested::once(algorithm, Recipe::Keyed(base64(key)?), expected, husk).sound()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use data_encoding::HEXLOWER;

    fn parsed(kind: &Kind<Parse>, text: &str) -> Result<Box<dyn Hash>, Unusable> {
        (kind.build)(&Stored::plain(Secret::new(text)))
    }

    #[test]
    fn templates_say_where_salt_and_password_go() {
        let digest = |text: &str| BASE64.encode(&Algorithm::Sha256.digest(&[text.as_bytes()]));
        for (template, made) in [
            ("{SALT}{PASSWORD}", "salt+pw"),
            ("{PASSWORD}${SALT}$", "pw$salt+$"),
            ("a{SALT}b{PASSWORD}c{PASSWORD}{SALT}", "asalt+bpwcpwsalt+"),
        ] {
            let text = format!(
                "$sha256$pf={}${}${}",
                BASE64.encode(template.as_bytes()),
                BASE64.encode(b"salt+"),
                digest(made)
            );
            let hash = parsed(&SHA, &text).ok().unwrap();
            assert!(hash.verify(b"pw"), "{template}");
            assert!(!hash.verify(b"pv"), "{template}");
        }
        let empty = format!("$sha256$pf={}$$AAAA", BASE64.encode(b"{SALT}"));
        assert!(parsed(&SHA, &empty).is_err(), "no password in it");
    }

    #[test]
    fn the_examples_of_its_documentation() {
        // ory/kratos, hash/hasher_test.go.
        let md5 = parsed(&MD5, "$md5$CY9rzUYh03PK3k6DJie09g==").ok().unwrap();
        assert!(md5.verify(b"test") && !md5.verify(b"ory"));
        let mac = Algorithm::Sha256.hmac(b"123456", b"test");
        let hex = BASE64.encode(HEXLOWER.encode(&mac).as_bytes());
        let text = format!("$hmac-sha256${hex}${}", BASE64.encode(b"123456"));
        let hmac = parsed(&HMAC, &text).ok().unwrap();
        assert!(hmac.verify(b"test") && !hmac.verify(b"tesu"));
    }
}
