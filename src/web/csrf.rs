//! The token that proves a form came from one of our pages.
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

const BYTES: usize = 32;

/// One session's token.
#[derive(Clone)]
pub(crate) struct Token([u8; BYTES]);

impl Token {
    /// Makes a new one.
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }

    /// Reads the form kept in the session.
    pub(crate) fn from_kept(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The form kept in the session.
    pub(crate) fn kept(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The form written into a page: another one every time, so that the length of a compressed page gives nothing away.
    pub(crate) fn shown(&self) -> String {
        let mask: [u8; BYTES] = rand::random();
        let mut whole = mask.to_vec();
        whole.extend(self.0.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        URL_SAFE_NO_PAD.encode(whole)
    }

    /// Says whether a form brought this token, in constant time.
    pub(crate) fn matches(&self, shown: &str) -> bool {
        let Ok(whole) = URL_SAFE_NO_PAD.decode(shown) else { return false };
        if whole.len() != 2 * BYTES {
            return false;
        }
        let (mask, masked) = whole.split_at(BYTES);
        let bare: Vec<u8> = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        bare.ct_eq(&self.0).into()
    }
}

/// What a browser says about where a form was sent from.
#[derive(Default)]
pub(crate) struct Whence<'a> {
    /// The header `Sec-Fetch-Site`.
    pub(crate) fetch_site: Option<&'a str>,
    /// The header `Origin`.
    pub(crate) origin: Option<&'a str>,
}

impl Whence<'_> {
    /// Says whether it may have come from one of our own pages: whatever of both is said has to fit. Every browser says one of
    /// them with a form; programs that say neither still need the token.
    pub(crate) fn is_ours(&self, site_url: &str) -> bool {
        let site = site_url.trim_end_matches('/');
        self.fetch_site.is_none_or(|whence| matches!(whence, "same-origin" | "none"))
            && self.origin.is_none_or(|origin| origin.eq_ignore_ascii_case(site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_in_every_form_it_is_shown() {
        let token = Token::new();
        let (first, second) = (token.shown(), token.shown());
        assert_ne!(first, second);
        assert!(token.matches(&first) && token.matches(&second));
        let kept = Token::from_kept(&token.kept()).unwrap();
        assert!(kept.matches(&first));
    }

    #[test]
    fn anything_else_is_refused() {
        let token = Token::new();
        let zero = URL_SAFE_NO_PAD.encode([0_u8; 64]);
        for forged in ["", "x", zero.as_str(), &token.kept(), &Token::new().shown()] {
            assert!(!token.matches(forged), "{forged}");
        }
        assert!(Token::from_kept("short").is_none());
    }

    #[test]
    fn forms_from_elsewhere_are_refused() {
        let site = "https://portal.example";
        let whence = |fetch_site, origin| Whence { fetch_site, origin }.is_ours(site);
        assert!(whence(Some("same-origin"), None));
        assert!(whence(None, Some("https://portal.example")));
        assert!(whence(None, None));
        assert!(!whence(Some("cross-site"), Some("https://portal.example")));
        assert!(!whence(Some("same-origin"), Some("https://evil.example")));
        assert!(!whence(Some("same-site"), None));
        assert!(!whence(Some(""), None) && !whence(None, Some("")));
        assert!(!whence(None, Some("https://evil.example")));
        assert!(!whence(None, Some("null")));
    }
}
