//! What Lucia wrote before it was Oslo: version 2 is Better Auth's own with a prefix, version 1 has half its block size.

use super::encoding::parts;
use super::{Hash, Parse, Unusable, native};
use crate::kind::Kind;

/// Lucia 2.
pub const V2: Kind<Parse> = Kind {
    name: "lucia-v2-s2",
    about: "Lucia 2: s2:salt:key",
    build: |stored| {
        let ["s2", salt, key] = parts(stored.hash.expose(), ':')? else {
            return Err(Unusable::Malformed("it does not begin with s2:"));
        };
        native_like(salt, key, 16)
    },
};

/// Lucia 1.
pub const V1: Kind<Parse> = Kind {
    name: "lucia-v1-r8",
    about: "Lucia 1: salt:key, with r=8",
    build: |stored| {
        let [salt, key] = parts(stored.hash.expose(), ':')?;
        native_like(salt, key, 8)
    },
};

fn native_like(salt: &str, key: &str, r: u32) -> Result<Box<dyn Hash>, Unusable> {
    native::read(&format!("{salt}:{key}"), r)
}
