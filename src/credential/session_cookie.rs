//! The signed `session_token` cookie.

use super::signature::Signed;
use super::{Credential, Method, Presented, Proof, cookies};

/// Longest cookie value looked at, in bytes, before decoding. The framework issues about 80; this leaves room for custom token
/// generators, fully escaped. Longer is malformed and costs nothing more.
const VALUE_BYTES_MAX: usize = 2048;

/// Reads the signed cookie `name`, first occurrence only.
pub fn read<'r>(headers: &'r http::HeaderMap, name: &str) -> Presented<'r> {
    let Some(raw) = cookies::find_raw(headers, name) else {
        return Presented::Absent;
    };
    if raw.len() > VALUE_BYTES_MAX {
        return Presented::Malformed;
    }
    let plain = Signed::parse_plain(raw);
    if plain.is_none() && cookies::decode(raw).is_empty() {
        return Presented::Absent;
    }
    match plain.or_else(|| Signed::parse(cookies::decode(raw))) {
        Some(signed) => Presented::Found(Credential {
            method: Method::SESSION,
            proof: Proof::Signed(signed),
        }),
        None => Presented::Malformed,
    }
}
