//! Files encrypted to recipients, in the format of age.
//!
//! Source: <https://age-encryption.org/v1> (C2SP, age.md): X25519 recipients, ChaCha20-Poly1305 in chunks of 64 KiB. Written here, from
//! primitives that are in use already, because the library of it brings some forty crates (translations of its messages among them)
//! for the two hundred lines that encrypt; the program of its authors opens what is written, which a test holds.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const INTRO: &str = "age-encryption.org/v1\n";
const LABEL: &[u8] = b"age-encryption.org/v1/X25519";

/// Bytes of the text in one chunk.
const CHUNK: usize = 64 * 1024;

/// Recipients of one file. More than a team is a mistake.
pub const RECIPIENTS_MAX: usize = 16;

/// Whom a file is for: `age1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

/// Why a text names no recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRecipient {
    /// It is a secret key, and must not be where others see it.
    #[error("this is a secret key: whoever sees it can read the file")]
    SecretKey,
    /// It is none.
    #[error("this is no recipient of age, which begins with `age1` and has 62 letters")]
    Malformed,
}

/// What nobody can guess, for one file.
pub struct Randomness {
    /// The key of the file.
    pub file_key: Zeroizing<[u8; 16]>,
    /// Of the text.
    pub nonce: [u8; 16],
    /// A secret for each recipient.
    pub ephemeral: Vec<Zeroizing<[u8; 32]>>,
}

/// It could not be encrypted: no recipient, or one that nobody can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be encrypted to these recipients")]
pub struct Failed;

impl Recipient {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &str) -> Result<Self, NoRecipient> {
        let text = text.trim();
        if text
            .get(..15)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("age-secret-key-"))
        {
            return Err(NoRecipient::SecretKey);
        }
        let bytes = bech32("age", text).ok_or(NoRecipient::Malformed)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice());
        key.map(Self).map_err(|_| NoRecipient::Malformed)
    }
}

/// Encrypts one text, piece by piece, in constant memory.
pub struct Encryptor {
    cipher: ChaCha20Poly1305,
    counter: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl Encryptor {
    /// Begins a file: `out` gets its head.
    ///
    /// # Errors
    /// When there is no recipient, or more than there is randomness for.
    pub fn begin(
        to: &[Recipient],
        randomness: &Randomness,
        out: &mut Vec<u8>,
    ) -> Result<Self, Failed> {
        if to.is_empty() || to.len() > RECIPIENTS_MAX || to.len() > randomness.ephemeral.len() {
            return Err(Failed);
        }
        let mut head = INTRO.to_owned();
        for (recipient, ephemeral) in to.iter().zip(&randomness.ephemeral) {
            head.push_str(&stanza(recipient, ephemeral, &randomness.file_key)?);
        }
        head.push_str("---");
        let key = derive(randomness.file_key.as_slice(), &[], b"header")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).map_err(|_| Failed)?;
        mac.update(head.as_bytes());
        head.push(' ');
        head.push_str(&STANDARD_NO_PAD.encode(mac.finalize().into_bytes()));
        head.push('\n');
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&randomness.nonce);
        let key = derive(
            randomness.file_key.as_slice(),
            &randomness.nonce,
            b"payload",
        )?;
        Ok(Self {
            cipher: ChaCha20Poly1305::new(Key::from_slice(key.as_slice())),
            counter: 0,
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK)),
        })
    }

    /// Encrypts some more.
    ///
    /// # Errors
    /// Never for what fits a disk.
    pub fn push(&mut self, mut text: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        while !text.is_empty() {
            // The last chunk is marked, so a full one waits until it is known that more follows.
            if self.chunk.len() == CHUNK {
                self.seal(false, out)?;
            }
            let (now, later) = text.split_at(text.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            text = later;
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Failed> {
        let mut nonce = [0; 12];
        let (count, flag) = nonce.split_at_mut(11);
        if let Some(low) = count.last_chunk_mut::<8>() {
            *low = self.counter.to_be_bytes();
        }
        flag.fill(u8::from(last));
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), self.chunk.as_slice());
        out.extend(sealed.map_err(|_| Failed)?);
        self.counter = self.counter.checked_add(1).ok_or(Failed)?;
        // Overwritten by what follows, and wiped at the end.
        self.chunk.clear();
        Ok(())
    }
}

/// The file's key, wrapped for one recipient.
fn stanza(to: &Recipient, ephemeral: &[u8; 32], file_key: &[u8; 16]) -> Result<String, Failed> {
    let mine = PrivateKey::from_private_key(&X25519, ephemeral).map_err(|_| Failed)?;
    let share = mine.compute_public_key().map_err(|_| Failed)?;
    let theirs = UnparsedPublicKey::new(&X25519, to.0);
    let salt = [share.as_ref(), &to.0].concat();
    // Refuses points that would make the secret known to everybody.
    let wrapping = agree(&mine, theirs, Failed, |secret| derive(secret, &salt, LABEL))?;
    let cipher = ChaCha20Poly1305::new(Key::from_slice(wrapping.as_slice()));
    // The key is used once, so the nonce may be nothing.
    let wrapped = cipher.encrypt(Nonce::from_slice(&[0; 12]), file_key.as_slice());
    let wrapped = wrapped.map_err(|_| Failed)?;
    Ok(format!(
        "-> X25519 {}\n{}\n",
        STANDARD_NO_PAD.encode(share.as_ref()),
        STANDARD_NO_PAD.encode(wrapped),
    ))
}

fn derive(secret: &[u8], salt: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failed> {
    let mut key = Zeroizing::new([0; 32]);
    let derived = Hkdf::<Sha256>::new(Some(salt), secret).expand(label, key.as_mut_slice());
    derived.map(|()| key).map_err(|_| Failed)
}

/// The bytes behind a text of Bech32 (BIP 173) with this beginning.
fn bech32(begin: &str, text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const LETTERS_MAX: usize = 90;
    let lower = text.to_ascii_lowercase();
    // One case or the other, and never both.
    if text.len() > LETTERS_MAX || (text != lower && text != text.to_ascii_uppercase()) {
        return None;
    }
    let data = lower.strip_prefix(begin)?.strip_prefix('1')?;
    let values: Option<Vec<u8>> = data
        .bytes()
        .map(|byte| {
            let at = ALPHABET.iter().position(|letter| *letter == byte)?;
            u8::try_from(at).ok()
        })
        .collect();
    let values = values?;
    let high = begin.bytes().map(|byte| byte >> 5);
    let low = begin.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(values.iter().copied());
    if checksum(all) != 1 {
        return None;
    }
    let (values, _) = values.split_at_checked(values.len().checked_sub(6)?)?;
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for value in values {
        held = (held << 5 | u32::from(*value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    // What is left over is padding, and nothing.
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(bytes)
}

fn checksum(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    let mut sum = 1_u32;
    for value in values {
        let top = sum >> 25;
        sum = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        for (at, generator) in GENERATOR.iter().enumerate() {
            if top >> at & 1 == 1 {
                sum ^= generator;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the specification's own test kit.
    const WHOM: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    fn randomness(recipients: usize) -> Randomness {
        Randomness {
            file_key: Zeroizing::new([7; 16]),
            nonce: [9; 16],
            ephemeral: (0..recipients)
                .map(|at| Zeroizing::new([u8::try_from(at).unwrap() + 1; 32]))
                .collect(),
        }
    }

    #[test]
    fn recipients_are_read_and_everything_else_is_not() {
        let read = Recipient::read(WHOM).unwrap();
        assert_eq!(Recipient::read(&WHOM.to_uppercase()), Ok(read.clone()));
        assert_eq!(Recipient::read(&format!(" {WHOM}\n")), Ok(read));
        let secret = "AGE-SECRET-KEY-1XMWWC06LY3EE5RYTXM9MFLAZ2U56JJJ36S0MYPDRWSVLUL66MV4QX3S7F6";
        assert_eq!(Recipient::read(secret), Err(NoRecipient::SecretKey));
        let mut mixed = WHOM.to_owned();
        mixed.replace_range(5..6, "K");
        for text in [
            "",
            "age1",
            "age",
            &WHOM[..61],
            &WHOM.replace('z', "q"),
            &mixed,
            "ssh-ed25519 AAAA",
        ] {
            assert_eq!(Recipient::read(text), Err(NoRecipient::Malformed), "{text}");
        }
    }

    #[test]
    fn a_file_has_the_head_of_its_format_and_as_many_chunks_as_it_needs() {
        let to = [Recipient::read(WHOM).unwrap()];
        for (length, chunks) in [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (3 * CHUNK, 3)] {
            let mut out = Vec::new();
            let mut encryptor = Encryptor::begin(&to, &randomness(1), &mut out).unwrap();
            let text = String::from_utf8_lossy(&out);
            assert!(text.starts_with("age-encryption.org/v1\n-> X25519 "));
            let head = out.len();
            // In pieces of any size.
            for piece in vec![b'x'; length].chunks(1000) {
                encryptor.push(piece, &mut out).unwrap();
            }
            encryptor.finish(&mut out).unwrap();
            assert_eq!(out.len() - head, length + 16 * chunks, "{length}");
        }
    }

    #[test]
    fn nobody_is_no_recipient() {
        let mut out = Vec::new();
        assert!(Encryptor::begin(&[], &randomness(1), &mut out).is_err());
        let to = vec![Recipient::read(WHOM).unwrap(); 2];
        assert!(Encryptor::begin(&to, &randomness(1), &mut out).is_err());
        assert!(Encryptor::begin(&to, &randomness(2), &mut out).is_ok());
        // A key that makes the same secret with everybody.
        assert!(Encryptor::begin(&[Recipient([0; 32])], &randomness(1), &mut out).is_err());
    }
}
