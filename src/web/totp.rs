//! Codes of an app: what a seed is shown as, and which step of time a code belongs to.
//!
//! *Source*: RFC 6238; six digits, 30 seconds and SHA-1 are what every app understands.
use std::fmt::Write as _;

use qrcode::{Color, QrCode};
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, TOTP};
use zeroize::Zeroizing;

/// How long a code is shown.
const STEP_SECS: u64 = 30;
const DIGITS: usize = 6;
/// Source: RFC 4226, section 4, R6: 160 bits.
const SEED_BYTES: usize = 20;
/// The empty border a reader needs, in modules. Source: ISO/IEC 18004.
const QUIET: usize = 4;
const ISSUER: &str = "EZ Solutions";

/// What an app and we share. Has no `Debug`: it is a secret.
pub(crate) struct Seed(Zeroizing<Vec<u8>>);

impl Seed {
    /// Makes a new one.
    pub(crate) fn new() -> Self {
        let bytes: [u8; SEED_BYTES] = rand::random();
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Takes what [`Seed::bytes`] gave.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The seed itself, to be sealed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What somebody types into an app, in groups of four.
    pub(crate) fn shown(&self) -> String {
        let whole = self.totp().map(|totp| totp.get_secret_base32()).unwrap_or_default();
        let groups: Vec<&str> = whole.as_bytes().chunks(4).filter_map(|group| str::from_utf8(group).ok()).collect();
        groups.join(" ")
    }

    /// What an app reads from a QR code.
    ///
    /// *Source*: the "Key Uri Format" of Google Authenticator.
    pub(crate) fn address(&self, email: &str) -> String {
        let secret = self.totp().map(|totp| totp.get_secret_base32()).unwrap_or_default();
        let label = encoded(&format!("{ISSUER}:{email}"));
        let issuer = encoded(ISSUER);
        format!(
            "otpauth://totp/{label}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECS}"
        )
    }

    /// The step of time a code belongs to: the present one, the one before or the one after. Takes the same time whichever.
    pub(crate) fn step_of(&self, code: &str, now_secs: u64) -> Option<i64> {
        let totp = self.totp()?;
        let code = plain(code)?;
        let present = now_secs / STEP_SECS;
        let mut found = None;
        for step in [present.saturating_sub(1), present, present + 1] {
            let fits: bool = totp.generate(step * STEP_SECS).as_bytes().ct_eq(code.as_bytes()).into();
            if fits {
                found = i64::try_from(step).ok();
            }
        }
        found
    }

    fn totp(&self) -> Option<TOTP> {
        TOTP::new(Algorithm::SHA1, DIGITS, 1, STEP_SECS, self.0.to_vec()).ok()
    }
}

/// The digits of a code, as people type them; nothing when it is no such code.
pub(crate) fn plain(code: &str) -> Option<String> {
    let digits: String = code.chars().filter(|character| !character.is_whitespace() && *character != '-').collect();
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// A text as a QR code: an inline picture that loads nothing.
pub(crate) fn picture(text: &str) -> Option<String> {
    let code = QrCode::new(text.as_bytes()).ok()?;
    let width = code.width();
    let side = width + 2 * QUIET;
    let mut path = String::new();
    for (at, colour) in code.to_colors().into_iter().enumerate() {
        if colour == Color::Dark {
            // Writing to a String cannot fail.
            let _ = write!(path, "M{} {}h1v1h-1z", at % width + QUIET, at / width + QUIET);
        }
    }
    Some(format!(
        "<svg class=\"qr\" viewBox=\"0 0 {side} {side}\" width=\"240\" height=\"240\" role=\"img\" \
         aria-label=\"QR code for your app\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

fn encoded(text: &str) -> String {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    text.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 6238, appendix B, SHA-1; of eight digits the last six.
    #[test]
    fn the_codes_are_those_of_the_standard() {
        let seed = Seed::of(b"12345678901234567890".to_vec());
        for (now, code) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924")] {
            assert_eq!(seed.step_of(code, now), i64::try_from(now / STEP_SECS).ok(), "{now}");
            assert_eq!(seed.step_of(code, now + STEP_SECS), i64::try_from(now / STEP_SECS).ok(), "a slow clock");
            assert_eq!(seed.step_of(code, now - STEP_SECS), i64::try_from(now / STEP_SECS).ok(), "a fast clock");
            assert_eq!(seed.step_of(code, now + 2 * STEP_SECS), None, "too old");
        }
        assert_eq!(seed.step_of(" 287-082 ", 59), Some(1));
        for bad in ["", "28708", "2870822", "28708x", "２８７０８２"] {
            assert_eq!(seed.step_of(bad, 59), None, "{bad:?}");
        }
    }

    #[test]
    fn a_seed_is_shown_as_text_and_as_a_picture_that_loads_nothing() {
        let seed = Seed::new();
        assert_eq!(seed.bytes().len(), SEED_BYTES);
        assert_ne!(seed.bytes(), Seed::new().bytes());
        let secret = seed.shown().replace(' ', "");
        assert_eq!(secret.len(), 32);
        let address = seed.address("ann+1@example.test");
        assert!(address.starts_with("otpauth://totp/EZ%20Solutions%3Aann%2B1%40example.test?"), "{address}");
        assert!(address.contains(&format!("secret={secret}&")), "{address}");
        let picture = picture(&address).unwrap();
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>"));
        for bad in ["style=", "href", "http", "script"] {
            assert!(!picture.contains(bad), "{bad}");
        }
    }
}
