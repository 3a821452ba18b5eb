//! ASP.NET Identity, both of its forms. Source: dotnet/aspnetcore, src/Identity/Extensions.Core/src/PasswordHasher.cs.

use super::algorithm::Algorithm;
use super::encoding::base64;
use super::pbkdf2::Derived;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// .NET Framework.
pub const V2: Kind<Parse> = Kind {
    name: "aspnet-identity-v2",
    about: "ASP.NET Identity 2: base64 of 00, salt and key",
    build: v2,
};

/// .NET.
pub const V3: Kind<Parse> = Kind {
    name: "aspnet-identity-v3",
    about: "ASP.NET Core Identity: base64 of 01, digest, rounds, salt and key",
    build: v3,
};

/// Salt and key are at least so long, as the framework demands.
const PART_BYTES_MIN: usize = 16;

fn v2(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let bytes = base64(stored.hash.expose())?;
    let Some((0, rest)) = bytes.split_first() else {
        return Err(Unusable::Malformed("it does not begin with 00"));
    };
    let (salt, key) = rest.split_at_checked(16).unwrap_or_default();
    if key.len() != 32 {
        return Err(Unusable::Malformed("it is not 49 bytes"));
    }
    derived(Algorithm::Sha1, 1000, salt, key)
}

fn v3(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let bytes = base64(stored.hash.expose())?;
    let Some((1, rest)) = bytes.split_first() else {
        return Err(Unusable::Malformed("it does not begin with 01"));
    };
    let short = Unusable::Malformed("it is too short");
    let (digest, rest) = word(rest).ok_or(short)?;
    let (rounds, rest) = word(rest).ok_or(short)?;
    let (length, rest) = word(rest).ok_or(short)?;
    let algorithm = match digest {
        0 => Algorithm::Sha1,
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return Err(Unusable::Malformed("nobody knows its digest")),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (salt, key) = rest.split_at_checked(length).ok_or(short)?;
    if salt.len() < PART_BYTES_MIN || key.len() < PART_BYTES_MIN {
        return Err(short);
    }
    derived(algorithm, rounds, salt, key)
}

/// The first four bytes as a number, and the rest.
fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*word), rest))
}

fn derived(
    algorithm: Algorithm,
    rounds: u32,
    salt: &[u8],
    key: &[u8],
) -> Result<Box<dyn Hash>, Unusable> {
    let (salt, key) = (salt.to_vec().into(), key.to_vec().into());
    Ok(Box::new(Derived::of(algorithm, rounds, salt, key)?))
}
