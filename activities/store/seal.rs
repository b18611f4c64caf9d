//! The portal's key: seals what only the portal may read, and signs what it will recognise again.
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

/// Two keys derived from the portal's one: one seals, one signs. Has no `Debug`, and is erased when dropped.
#[derive(Clone)]
pub struct KeyRing {
    sealing: Zeroizing<[u8; 32]>,
    signing: Zeroizing<[u8; 32]>,
}

impl KeyRing {
    /// Reads the portal's key: 32 random bytes in standard base64.
    pub fn from_base64(text: &str) -> Result<Self, SealFault> {
        let key = Zeroizing::new(BASE64_STANDARD.decode(text.trim()).map_err(|_| SealFault::BadKey)?);
        if key.len() != 32 {
            return Err(SealFault::BadKey);
        }
        let derive = |use_for: &[u8]| mac(&key, &[use_for]).map(Zeroizing::new);
        Ok(Self { sealing: derive(b"seal")?, signing: derive(b"sign")? })
    }

    /// Seals bytes for one purpose. The same bytes give another text each time.
    ///
    /// *Source*: XChaCha20-Poly1305, draft-irtf-cfrg-xchacha-03; its nonce is long enough to be random.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SealFault> {
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let body = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: purpose.as_bytes() })
            .map_err(|_| SealFault::TooLong)?;
        let whole: Vec<u8> = nonce.into_iter().chain(body).collect();
        Ok(format!("{VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(whole)))
    }

    /// Opens what [`KeyRing::seal`] gave for the same purpose.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Vec<u8>, SealFault> {
        let text = sealed.strip_prefix(VERSION).ok_or(SealFault::NotOurs)?;
        let whole = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| SealFault::NotOurs)?;
        let (nonce, body) = whole.split_first_chunk::<NONCE_BYTES>().ok_or(SealFault::NotOurs)?;
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: purpose.as_bytes() })
            .map_err(|_| SealFault::NotOurs)
    }

    /// Signs an id for one purpose, for links in letters: 43 characters that need no escaping.
    ///
    /// *Source*: HMAC-SHA256, RFC 2104.
    pub fn tag(&self, purpose: &str, id: Uuid) -> String {
        // A 32-byte key is always accepted, so the empty tag is never given; it would match nothing.
        self.mac_of(purpose, id).map(|tag| BASE64_URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default()
    }

    /// Says whether a tag is the one [`KeyRing::tag`] gives, in a time that does not depend on where it differs.
    pub fn tag_matches(&self, purpose: &str, id: Uuid, tag: &str) -> bool {
        let (Ok(given), Ok(ours)) = (BASE64_URL_SAFE_NO_PAD.decode(tag), self.mac_of(purpose, id)) else {
            return false;
        };
        given.ct_eq(&ours).into()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.sealing).into())
    }

    fn mac_of(&self, purpose: &str, id: Uuid) -> Result<[u8; 32], SealFault> {
        mac(self.signing.as_slice(), &[purpose.as_bytes(), &[0], id.as_bytes()])
    }
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
    fn a_key_is_32_bytes() {
        assert!(KeyRing::from_base64(&BASE64_STANDARD.encode([0; 31])).is_err());
        assert!(KeyRing::from_base64("hello").is_err());
        assert!(KeyRing::from_base64("").is_err());
    }
}
