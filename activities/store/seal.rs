//! The portal's keys: seal what only the portal may read, and sign what it will recognise again.
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The first character of everything sealed in the present way.
const VERSION: &str = "1.";
const NONCE_BYTES: usize = 24;

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// The key is not 32 bytes in base64.
    #[error("the portal's key must be 32 bytes in base64")]
    BadKey,
    /// The text was not sealed with this key for this purpose, or was changed.
    #[error("this was not sealed with the portal's key for this purpose")]
    NotOurs,
    /// The text is too long to be sealed.
    #[error("this is too long to be sealed")]
    TooLong,
}

/// The two keys derived from one key of the portal: one seals, one signs. Erased when dropped.
#[derive(Clone)]
struct Keys {
    sealing: Zeroizing<[u8; 32]>,
    signing: Zeroizing<[u8; 32]>,
}

/// The portal's keys. The newest seals and signs; the others only open and recognise what was made with them, so that a key can be
/// replaced while everything runs. Has no `Debug`, and is erased when dropped.
#[derive(Clone)]
pub struct KeyRing {
    newest: Keys,
    others: Vec<Keys>,
}

impl Keys {
    fn from_base64(text: &str) -> Result<Self, SealFault> {
        let key = Zeroizing::new(BASE64_STANDARD.decode(text.trim()).map_err(|_| SealFault::BadKey)?);
        if key.len() != 32 {
            return Err(SealFault::BadKey);
        }
        let derive = |use_for: &[u8]| mac(&key, &[use_for]).map(Zeroizing::new);
        Ok(Self { sealing: derive(b"seal")?, signing: derive(b"sign")? })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.sealing).into())
    }

    fn open(&self, purpose: &str, nonce: &[u8; NONCE_BYTES], body: &[u8]) -> Result<Vec<u8>, SealFault> {
        let payload = Payload { msg: body, aad: purpose.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealFault::NotOurs)
    }

    fn mac_of(&self, purpose: &str, id: Uuid) -> Result<[u8; 32], SealFault> {
        mac(self.signing.as_slice(), &[purpose.as_bytes(), &[0], id.as_bytes()])
    }
}

impl KeyRing {
    /// Reads the portal's only key: 32 random bytes in standard base64.
    pub fn from_base64(text: &str) -> Result<Self, SealFault> {
        Self::of(text, [])
    }

    /// Reads the newest key and the others.
    pub fn of<'a>(newest: &str, others: impl IntoIterator<Item = &'a str>) -> Result<Self, SealFault> {
        let others = others.into_iter().map(Keys::from_base64).collect::<Result<_, _>>()?;
        Ok(Self { newest: Keys::from_base64(newest)?, others })
    }

    /// Seals bytes for one purpose. The same bytes give another text each time.
    ///
    /// *Source*: XChaCha20-Poly1305, draft-irtf-cfrg-xchacha-03; its nonce is long enough to be random.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SealFault> {
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let body = self
            .newest
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: purpose.as_bytes() })
            .map_err(|_| SealFault::TooLong)?;
        let whole: Vec<u8> = nonce.into_iter().chain(body).collect();
        Ok(format!("{VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(whole)))
    }

    /// Opens what [`KeyRing::seal`] gave for the same purpose, with whichever key it was.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Vec<u8>, SealFault> {
        let whole = unpacked(sealed)?;
        let (nonce, body) = whole.split_first_chunk::<NONCE_BYTES>().ok_or(SealFault::NotOurs)?;
        self.all().find_map(|keys| keys.open(purpose, nonce, body).ok()).ok_or(SealFault::NotOurs)
    }

    /// Seals anew what another key than the newest had sealed; nothing when it was the newest.
    pub fn reseal(&self, purpose: &str, sealed: &str) -> Result<Option<String>, SealFault> {
        let whole = unpacked(sealed)?;
        let (nonce, body) = whole.split_first_chunk::<NONCE_BYTES>().ok_or(SealFault::NotOurs)?;
        if self.newest.open(purpose, nonce, body).is_ok() {
            return Ok(None);
        }
        let plain = Zeroizing::new(self.open(purpose, sealed)?);
        self.seal(purpose, &plain).map(Some)
    }

    /// Signs an id for one purpose, for links in letters: 43 characters that need no escaping.
    ///
    /// *Source*: HMAC-SHA256, RFC 2104.
    pub fn tag(&self, purpose: &str, id: Uuid) -> String {
        // A 32-byte key is always accepted, so the empty tag is never given; it would match nothing.
        self.newest.mac_of(purpose, id).map(|tag| BASE64_URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default()
    }

    /// Says whether a tag is one that [`KeyRing::tag`] gave with one of our keys, in a time that does not depend on where it
    /// differs.
    pub fn tag_matches(&self, purpose: &str, id: Uuid, tag: &str) -> bool {
        let Ok(given) = BASE64_URL_SAFE_NO_PAD.decode(tag) else { return false };
        // Every key is tried, whichever fits.
        self.all().fold(false, |fits, keys| fits | keys.mac_of(purpose, id).is_ok_and(|ours| given.ct_eq(&ours).into()))
    }

    /// A keyed digest of a text for one purpose: the same for the same text, and telling nothing of it to whoever has no key.
    /// Another newest key gives other digests.
    ///
    /// *Source*: HMAC-SHA256, RFC 2104.
    pub fn digest(&self, purpose: &str, text: &str) -> Result<[u8; 32], SealFault> {
        // No purpose of a link is the word it begins with, so this is never what signs an id.
        mac(self.newest.signing.as_slice(), &[b"digest\0", purpose.as_bytes(), &[0], text.as_bytes()])
    }

    fn all(&self) -> impl Iterator<Item = &Keys> {
        core::iter::once(&self.newest).chain(&self.others)
    }
}

/// Nonce and body of what was sealed.
fn unpacked(sealed: &str) -> Result<Vec<u8>, SealFault> {
    let text = sealed.strip_prefix(VERSION).ok_or(SealFault::NotOurs)?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| SealFault::NotOurs)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], SealFault> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).map_err(|_| SealFault::BadKey)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(byte: u8) -> KeyRing {
        KeyRing::from_base64(&BASE64_STANDARD.encode([byte; 32])).expect("a key")
    }

    #[test]
    fn what_is_sealed_opens_again_for_the_same_purpose_only() {
        let sealed = ring(1).seal("ssh_key", b"ssh-ed25519 AAAA").expect("sealed");
        assert_eq!(ring(1).open("ssh_key", &sealed).as_deref(), Ok(b"ssh-ed25519 AAAA".as_slice()));
        assert_eq!(ring(1).open("password", &sealed), Err(SealFault::NotOurs));
        assert_eq!(ring(2).open("ssh_key", &sealed), Err(SealFault::NotOurs));
    }

    #[test]
    fn the_same_text_is_never_sealed_alike() {
        let ring = ring(1);
        assert_ne!(ring.seal("p", b"same").expect("sealed"), ring.seal("p", b"same").expect("sealed"));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("a byte")).collect()
    }

    // Source: draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn the_example_of_the_specification_is_sealed_as_it_says() {
        let sealing = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
        let sealing: [u8; 32] = sealing.try_into().expect("32 bytes");
        let nonce: [u8; NONCE_BYTES] =
            bytes("404142434445464748494a4b4c4d4e4f5051525354555657").try_into().expect("24 bytes");
        let aad = bytes("50515253c0c1c2c3c4c5c6c7");
        let plain = "Ladies and Gentlemen of the class of '99: \
             If I could offer you only one tip for the future, sunscreen would be it.";
        let expected = bytes(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4a\
             a6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b9\
             82c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e\
             c0875924c1c7987947deafd8780acf49",
        );
        let keys = Keys { sealing: Zeroizing::new(sealing), signing: Zeroizing::new([0; 32]) };
        let payload = Payload { msg: plain.as_bytes(), aad: &aad };
        let sealed = keys.cipher().encrypt(&XNonce::from(nonce), payload).expect("sealed");
        assert_eq!(sealed, expected);
        let payload = Payload { msg: &sealed, aad: &aad };
        assert_eq!(keys.cipher().decrypt(&XNonce::from(nonce), payload).expect("opened"), plain.as_bytes());
    }

    #[test]
    fn a_changed_or_foreign_text_does_not_open() {
        let ring = ring(1);
        let sealed = ring.seal("p", b"text").expect("sealed");
        for at in VERSION.len()..sealed.len() - 1 {
            let mut changed: Vec<char> = sealed.chars().collect();
            changed[at] = if changed[at] == 'A' { 'B' } else { 'A' };
            let changed: String = changed.into_iter().collect();
            assert_eq!(ring.open("p", &changed), Err(SealFault::NotOurs), "character {at}");
        }
        for foreign in ["", "1.", "1.AAAA", "2.AAAA", "not base64 at all"] {
            assert_eq!(ring.open("p", foreign), Err(SealFault::NotOurs));
        }
    }

    #[test]
    fn a_tag_is_for_one_purpose_and_one_id() {
        let (ring, id) = (ring(1), Uuid::from_u128(7));
        let tag = ring.tag("verify_address", id);
        assert_eq!(tag.len(), 43);
        assert!(ring.tag_matches("verify_address", id, &tag));
        assert!(!ring.tag_matches("show_password", id, &tag));
        assert!(!ring.tag_matches("verify_address", Uuid::from_u128(8), &tag));
        assert!(!ring.tag_matches("verify_address", id, ""));
        assert!(!self::ring(2).tag_matches("verify_address", id, &tag));
    }

    #[test]
    fn a_digest_is_for_one_purpose_one_text_and_one_key() {
        let digest = ring(1).digest("login", "ann@example.test").expect("a digest");
        assert_eq!(digest, ring(1).digest("login", "ann@example.test").expect("a digest"));
        for other in [
            ring(1).digest("reset", "ann@example.test"),
            ring(1).digest("login", "bob@example.test"),
            ring(2).digest("login", "ann@example.test"),
        ] {
            assert_ne!(other.expect("a digest"), digest);
        }
    }

    fn key(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; 32])
    }

    #[test]
    fn a_former_key_opens_and_recognises_but_never_seals_or_signs() {
        let (before, id) = (ring(1), Uuid::from_u128(7));
        let after = KeyRing::of(&key(2), [key(1).as_str()]).expect("two keys");
        let sealed = before.seal("p", b"text").expect("sealed");
        assert_eq!(after.open("p", &sealed).as_deref(), Ok(b"text".as_slice()));
        assert!(after.tag_matches("verify", id, &before.tag("verify", id)));
        assert_eq!(after.tag("verify", id), ring(2).tag("verify", id));
        let again = after.reseal("p", &sealed).expect("ours").expect("sealed anew");
        assert_eq!(ring(2).open("p", &again).as_deref(), Ok(b"text".as_slice()));
        assert_eq!(before.open("p", &again), Err(SealFault::NotOurs));
        assert_eq!(after.reseal("p", &again), Ok(None), "what the newest sealed stays");
        assert_eq!(after.reseal("q", &sealed), Err(SealFault::NotOurs), "another purpose");
        assert!(KeyRing::of(&key(2), ["short"]).is_err());
    }

    #[test]
    fn a_key_is_32_bytes() {
        assert!(KeyRing::from_base64(&BASE64_STANDARD.encode([0; 31])).is_err());
        assert!(KeyRing::from_base64("hello").is_err());
        assert!(KeyRing::from_base64("").is_err());
    }
}
