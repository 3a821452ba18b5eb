//! Passwords and second factors made ready to be written: what of it takes time is done here, before a transaction is begun.

use zeroize::Zeroizing;

use super::record::{Factor, Note, Oddity, Password};
use super::target::{FactorWrite, PasswordWrite, Sealable};
use crate::credential::cipher::{self, CipherError};
use crate::credential::secrets;
use crate::migration::password::cost::Ceilings;
use crate::migration::password::{self, Stored, keeping, native};
use crate::migration::second_factor::{self, BackupCodes, StandIn, Totp};
use crate::migration::state::State;
use crate::secret::Secret;

/// A password as it is written.
#[derive(Debug)]
pub struct Prepared {
    /// How.
    pub write: PasswordWrite,
    /// Where its owner stands then.
    pub state: State,
    /// What is odd about it.
    pub note: Option<Note>,
}

/// Lucia's second version writes this before what is a native hash otherwise.
const LUCIA_PREFIX: &str = "s2:";

/// Whether making it ready takes as long as a sign-in.
pub fn is_slow(password: &Password) -> bool {
    match password {
        Password::Hash { scheme, stored, .. } => keeping::is_slow(scheme, stored),
        Password::None | Password::NotExported | Password::Unusable => false,
    }
}

/// Makes a password ready. `salt`: random.
pub fn password(password: &Password, salt: [u8; 16]) -> Prepared {
    let state = super::decide::standing(password);
    let plain = |state| Prepared {
        write: PasswordWrite::None,
        state,
        note: None,
    };
    let Password::Hash {
        scheme,
        stored,
        exported_at,
    } = password
    else {
        return plain(state);
    };
    if let Some(hash) = as_native(scheme, stored) {
        return Prepared {
            write: PasswordWrite::Native(hash),
            // The password is Better Auth's own.
            state: State::Done,
            note: None,
        };
    }
    match keeping::ready(scheme, stored, salt) {
        Ok(ready) => Prepared {
            write: PasswordWrite::Old {
                scheme: ready.scheme,
                text: Sealable(ready.text),
                exported_at: *exported_at,
            },
            state: State::Pending,
            note: None,
        },
        Err(why) => Prepared {
            note: Some(Note {
                what: Oddity::InvalidHash,
                detail: format!("the hash cannot be used: {why}"),
            }),
            ..plain(State::Reset)
        },
    }
}

/// A hash of the framework's own, where it is one.
fn as_native(scheme: &str, stored: &Stored) -> Option<Secret> {
    let name = password::find(scheme)?.name;
    let text = stored.hash.expose().trim();
    let text = match name {
        name if name == native::KIND.name || name == native::OSLO.name => text,
        "lucia-v2-s2" => text.strip_prefix(LUCIA_PREFIX)?,
        _ => return None,
    };
    let hash = Stored::plain(Secret::new(text));
    let fits = password::read(&hash, native::KIND.name, &Ceilings::DEFAULT);
    fits.is_ok().then_some(hash.hash)
}

/// How the app keeps second factors.
#[derive(Clone, Copy)]
pub struct App<'a> {
    /// Its secrets.
    pub secrets: &'a secrets::Settings,
    /// How it stores backup codes.
    pub backup_codes: BackupCodes,
    /// How its plugin makes codes.
    pub totp: Totp,
    /// Fills a buffer with bytes nobody can guess.
    pub random: &'a (dyn Fn(&mut [u8]) + Sync),
}

/// Makes a second factor ready.
///
/// # Errors
/// When the app's secrets encrypt nothing.
pub fn factor(factor: &Factor, app: App<'_>) -> Result<FactorWrite, CipherError> {
    let nonce = || {
        let mut nonce = [0u8; 24];
        (app.random)(&mut nonce);
        nonce
    };
    let totp = Totp::of(&factor.algorithm, factor.digits, factor.period);
    let key = factor.key.as_ref().filter(|_| totp.is_some());
    let text = key.zip(totp).and_then(|(key, totp)| {
        let usual = app.totp == Totp::default();
        second_factor::storable_natively(&key.0, totp).filter(|_| usual)
    });
    let stand_in = StandIn::new(app.secrets, app.backup_codes, app.random)?;
    let backup_codes = match factor.backup_codes.is_empty() {
        true => stand_in.backup_codes,
        false => {
            let codes: Vec<&str> = factor.backup_codes.iter().map(Secret::expose).collect();
            let list = Zeroizing::new(serde_json::Value::from(codes).to_string());
            Secret::new(match app.backup_codes {
                BackupCodes::Plain => list.to_string(),
                BackupCodes::Encrypted => cipher::seal(app.secrets, &list, nonce())?,
            })
        }
    };
    let secret = match text {
        Some(text) => Secret::new(cipher::seal(app.secrets, text, nonce())?),
        None => stand_in.secret,
    };
    Ok(FactorWrite {
        key: key
            .filter(|_| text.is_none())
            .map(|key| Sealable(key.0.clone())),
        kept_here: text.is_none(),
        digits: factor.digits,
        period: factor.period,
        algorithm: factor.algorithm.clone(),
        secret,
        backup_codes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::import::record::FactorKey;

    fn hash(scheme: &str, text: &str) -> Password {
        Password::Hash {
            scheme: scheme.to_owned(),
            stored: Stored::plain(Secret::new(text)),
            exported_at: None,
        }
    }

    #[test]
    fn native_hashes_go_as_they_are_and_old_ones_beside() {
        let native = native::hash(b"correct horse", [7; 16]);
        for (scheme, text) in [
            ("better-auth-scrypt", native.expose().to_owned()),
            ("oslo-scrypt", native.expose().to_owned()),
            ("lucia-v2-s2", format!("s2:{}", native.expose())),
        ] {
            let made = password(&hash(scheme, &text), [1; 16]);
            assert_eq!(made.state, State::Done, "{scheme}");
            match made.write {
                PasswordWrite::Native(hash) => assert_eq!(hash, native, "{scheme}"),
                other => panic!("{scheme}: {other:?}"),
            }
        }
        let old = "$2b$04$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y";
        let made = password(&hash("bcrypt", old), [1; 16]);
        assert_eq!(made.state, State::Pending);
        assert!(!is_slow(&hash("bcrypt", old)));
        let broken = password(&hash("bcrypt", "$2b$04$short"), [1; 16]);
        assert_eq!(broken.state, State::Reset);
        assert!(broken.note.is_some() && matches!(broken.write, PasswordWrite::None));
        assert_eq!(password(&Password::None, [1; 16]).state, State::Done);
        let md5 = hash("md5-hex", "9cc2ae8a1ba7a93da39b46fc1019c481");
        assert!(is_slow(&md5));
        match password(&md5, [1; 16]).write {
            PasswordWrite::Old { scheme, .. } => assert_eq!(scheme, "native(md5-hex)"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_that_is_a_text_is_the_apps_own_and_another_one_is_kept_here() {
        let secrets = secrets::Settings::single(Secret::new("s".repeat(40)));
        let random = |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).unwrap();
        let app = App {
            secrets: &secrets,
            backup_codes: BackupCodes::Encrypted,
            totp: Totp::default(),
            random: &random,
        };
        let made = |key: Option<&[u8]>| {
            let known = Factor {
                key: key.map(|key| FactorKey(Zeroizing::new(key.to_vec()))),
                digits: 6,
                period: 30,
                algorithm: "SHA1".to_owned(),
                backup_codes: vec![Secret::new("abcde-fghij")],
            };
            factor(&known, app).unwrap()
        };
        let text = made(Some(b"fiMkhEmNZ"));
        assert!(!text.kept_here && text.key.is_none());
        let opened = cipher::open(&secrets, text.secret.expose()).unwrap();
        assert_eq!(opened.expose(), "fiMkhEmNZ");
        let codes = cipher::open(&secrets, text.backup_codes.expose()).unwrap();
        assert_eq!(codes.expose(), r#"["abcde-fghij"]"#);
        let bytes = made(Some(&[0xff, 0xfe]));
        assert!(bytes.kept_here && bytes.key.is_some());
        let none = made(None);
        assert!(none.kept_here && none.key.is_none());
    }
}
