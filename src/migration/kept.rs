//! An old hash as it is kept: what the old system wrote and what stood beside it, sealed together for one user.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::password::Stored;
use super::vault::{Purpose, Vault};
use crate::secret::Secret;

/// Seals a hash for a user. `nonce`: random, never used twice.
pub fn seal(vault: &Vault, user_id: &str, stored: &Stored, nonce: [u8; 24]) -> Secret {
    let params: BTreeMap<&str, &str> = stored
        .params
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    let document = serde_json::json!({ "hash": stored.hash.expose(), "params": params });
    let text = Zeroizing::new(document.to_string());
    vault.seal(Purpose::Hash, user_id, text.as_bytes(), nonce)
}

/// Opens what was sealed for this user. `None`: it does not open, or is not what [`seal`] writes.
pub fn open(vault: &Vault, user_id: &str, sealed: &Secret) -> Option<Stored> {
    let text = vault.open(Purpose::Hash, user_id, sealed).ok()?;
    let document: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let hash = document.get("hash")?.as_str()?;
    let params = match document.get("params") {
        None => BTreeMap::new(),
        Some(params) => params
            .as_object()?
            .iter()
            .map(|(name, value)| Some((name.clone(), Secret::new(value.as_str()?))))
            .collect::<Option<_>>()?,
    };
    Some(Stored {
        hash: Secret::new(hash),
        params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_a_user_opens_for_that_user_only() {
        let vault = Vault::new(&Secret::new("k".repeat(32)));
        let stored = Stored {
            hash: Secret::new("pbkdf2_sha256$1$x$y\"\n"),
            params: BTreeMap::from([("pepper".to_owned(), Secret::new("salt & pepper"))]),
        };
        let sealed = seal(&vault, "u1", &stored, [3; 24]);
        let opened = open(&vault, "u1", &sealed).unwrap();
        assert_eq!(opened.hash, stored.hash);
        assert_eq!(opened.params["pepper"], stored.params["pepper"]);
        assert!(open(&vault, "u2", &sealed).is_none());
        for other in [
            "",
            "x",
            "{}",
            r#"{"hash":1}"#,
            r#"{"hash":"x","params":[]}"#,
        ] {
            let sealed = vault.seal(Purpose::Hash, "u1", other.as_bytes(), [3; 24]);
            assert!(open(&vault, "u1", &sealed).is_none(), "{other}");
        }
    }
}
