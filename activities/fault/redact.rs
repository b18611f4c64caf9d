//! Words with whatever looks like an address or a secret taken out.

/// The most characters of a fault that are kept.
const LENGTH_MAX: usize = 400;
/// A run of this many mixed characters is taken for a key.
const KEY_LENGTH_MIN: usize = 24;
const ADDRESS: &str = "[address]";
const SECRET: &str = "[secret]";
/// What vendors begin their secrets with.
const SECRET_BEGINNINGS: [&str; 6] = ["sk_", "rk_", "pk_", "whsec_", "pvetoken", "pveapitoken"];
/// A word that announces a secret.
const ANNOUNCEMENTS: [&str; 11] = [
    "password",
    "passwd",
    "pass",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "x-api-key",
    "cipassword",
    "sshkeys",
];
/// A word whose next word is always a secret.
const SCHEMES: [&str; 4] = ["bearer", "basic", "ssh-rsa", "ssh-ed25519"];

/// Gives the text on one line, at most 400 characters, without e-mail addresses, keys and passwords. Errs towards hiding.
pub fn redacted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut word = String::new();
    let mut hide_next = Hide::No;
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if is_divider(character) {
            hide_next = finish(&mut kept, &word, hide_next, character);
            word.clear();
            kept.push(character);
        } else {
            word.push(character);
        }
    }
    finish(&mut kept, &word, hide_next, ' ');
    kept.chars().take(LENGTH_MAX).collect()
}

/// Whether the coming word is a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hide {
    No,
    /// A word announced a secret; it is one when an `=` or `:` stands between.
    Announced,
    Yes,
}

fn is_divider(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '{' | '}' | '[' | ']' | ',' | ';' | '=' | '&' | '?'
        )
}

/// Writes a finished word and says what its ending means to the next one.
fn finish(kept: &mut String, word: &str, hide: Hide, divider: char) -> Hide {
    let assigns = divider == '=' || word.ends_with(':');
    if word.is_empty() {
        return match hide {
            Hide::Announced if divider == '=' => Hide::Yes,
            other => other,
        };
    }
    if hide == Hide::Yes {
        kept.push_str(SECRET);
        return Hide::No;
    }
    let name = word.trim_end_matches([':', '.', '!']).to_ascii_lowercase();
    kept.push_str(&shown(word));
    if SCHEMES.contains(&name.as_str()) {
        Hide::Yes
    } else if ANNOUNCEMENTS.contains(&name.rsplit(['/', '.', '_']).next().unwrap_or(&name))
        || ANNOUNCEMENTS.contains(&name.as_str())
    {
        if assigns { Hide::Yes } else { Hide::Announced }
    } else {
        Hide::No
    }
}

fn shown(word: &str) -> String {
    if let Some((before, after)) = word.split_once('@')
        && !before.is_empty()
        && !after.is_empty()
    {
        return ADDRESS.to_owned();
    }
    let lower = word.to_ascii_lowercase();
    if SECRET_BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning)) {
        return SECRET.to_owned();
    }
    if let Some((name, value)) = lower.split_once(':')
        && ANNOUNCEMENTS.contains(&name)
        && !value.is_empty()
    {
        return format!("{name}:{SECRET}");
    }
    if word.split([':', '/']).any(is_a_key) {
        return SECRET.to_owned();
    }
    word.to_owned()
}

/// Long and of capitals, small letters and digits at once, and not a vendor's id (`in_…`), which begins with its kind.
fn is_a_key(part: &str) -> bool {
    let kind_first = part
        .split_once('_')
        .is_some_and(|(kind, _)| (2..=8).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase()));
    part.len() >= KEY_LENGTH_MIN
        && !kind_first
        && part.bytes().any(|b| b.is_ascii_uppercase())
        && part.bytes().any(|b| b.is_ascii_lowercase())
        && part.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn addresses_and_secrets_are_taken_out() {
        let cases = [
            ("mail to ann@example.test refused", "mail to [address] refused"),
            ("550 <ann.b+c@example.test>: no such user", "550 <[address]>: no such user"),
            ("Invalid API Key provided: sk_test_****************1234", "Invalid API Key provided: [secret]"),
            ("Authorization: Bearer abc", "Authorization: Bearer [secret]"),
            ("password=hunter2&x=1", "password=[secret]&x=1"),
            ("password: hunter2", "password: [secret]"),
            ("password = hunter2", "password = [secret]"),
            ("token:abc", "token:[secret]"),
            ("smtp://bob:pw@mail.test:25", "[address]"),
            ("key AbCdEf0123456789AbCdEf0123", "key [secret]"),
            ("ssh-ed25519 AAAA", "ssh-ed25519 [secret]"),
            (r#"{"email":"ann@example.test"}"#, r#"{"email":"[address]"}"#),
        ];
        for (told, kept) in cases {
            assert_eq!(redacted(told), kept);
        }
    }

    #[test]
    fn what_staff_need_stays() {
        for words in [
            "No such subscription: 'sub_1QabcDEF2345678901234567'",
            "No such checkout.session: cs_test_a1B2c3D4e5F6g7H8i9J0k1L2",
            "order 6b0d1a52-9b1f-4b1b-8f6e-0d5f7f2f1a11",
            "UPID:pve1:0000C530:001C9BEC:5E68E2B5:qmclone:100:ez: got timeout",
            "the token was refused",
        ] {
            assert_eq!(redacted(words), words);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_lines_are_joined() {
        assert_eq!(redacted("a\nb"), "a b");
        assert_eq!(redacted(&"ä ".repeat(1_000)).chars().count(), 400);
    }
}
