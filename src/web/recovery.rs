//! Recovery codes: 80 random bits each, shown once, kept as a hash.
use sha2::{Digest, Sha256};
use store::RECOVERY_CODES;

/// Crockford's letters: none looks like another.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CODE_BYTES: usize = 10;
const CODE_LETTERS: usize = 16;
const GROUP: usize = 4;

/// Ten codes as they were just made. Has no `Debug`: they are secrets.
pub(crate) struct NewCodes {
    /// As their owner writes them down.
    pub(crate) shown: Vec<String>,
    /// As they are kept.
    pub(crate) hashes: Vec<[u8; 32]>,
}

impl NewCodes {
    /// Makes ten.
    pub(crate) fn new() -> Self {
        let shown: Vec<String> = (0..RECOVERY_CODES).map(|_| shown(&rand::random())).collect();
        let hashes = shown.iter().filter_map(|code| hash(code)).collect();
        Self { shown, hashes }
    }
}

fn shown(bytes: &[u8; CODE_BYTES]) -> String {
    // Two groups of five bytes are 40 bits each, and those are eight letters.
    let mut code = String::with_capacity(CODE_LETTERS + CODE_LETTERS / GROUP);
    for half in bytes.chunks(5) {
        let bits = half.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        for place in (0..8).rev() {
            let at = usize::try_from((bits >> (5 * place)) & 31).unwrap_or_default();
            if place == 3 || (place == 7 && !code.is_empty()) {
                code.push('-');
            }
            code.push(char::from(LETTERS.get(at).copied().unwrap_or_default()));
        }
    }
    code
}

/// The hash of a code as people type it: any case, with or without its lines, and with the letters that are mistaken for digits.
/// Nothing when it can be no code.
pub(crate) fn hash(typed: &str) -> Option<[u8; 32]> {
    let code: String = typed
        .chars()
        .filter(|character| !character.is_whitespace() && *character != '-')
        .map(|character| match character.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect();
    let fits = code.len() == CODE_LETTERS && code.bytes().all(|byte| LETTERS.contains(&byte));
    fits.then(|| {
        let mut hasher = Sha256::new();
        hasher.update(b"ez recovery code\0");
        hasher.update(code.as_bytes());
        hasher.finalize().into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_codes_are_ten_and_each_is_known_again_however_it_is_typed() {
        let codes = NewCodes::new();
        assert_eq!((codes.shown.len(), codes.hashes.len()), (RECOVERY_CODES, RECOVERY_CODES));
        for (shown, kept) in codes.shown.iter().zip(&codes.hashes) {
            assert_eq!(shown.len(), 19, "{shown}");
            assert!(shown.split('-').all(|group| group.len() == GROUP), "{shown}");
            let typed = format!(" {} ", shown.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "L"));
            assert_eq!(hash(&typed).as_ref(), Some(kept), "{typed}");
        }
        let mut hashes = codes.hashes.clone();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), RECOVERY_CODES);
        assert_eq!(shown(&[0xff; CODE_BYTES]), "zzzz-zzzz-zzzz-zzzz");
        assert_eq!(shown(&[0; CODE_BYTES]), "0000-0000-0000-0000");
    }

    #[test]
    fn what_can_be_no_code_has_no_hash() {
        for bad in ["", "123456", "0000-0000-0000-000u", "0000-0000-0000-0000-0", "zzzz-zzzz-zzzz-zzz"] {
            assert_eq!(hash(bad), None, "{bad:?}");
        }
    }
}
