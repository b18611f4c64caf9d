//! SSH public keys as customers paste them.
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The longest line taken, in bytes: an RSA key of 16,384 bits fits.
const LONGEST_BYTES: usize = 4096;

/// The kinds OpenSSH accepts without extra settings; certificates and DSA are not among them.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
/// The shortest RSA modulus taken, in bytes (2,048 bits).
const RSA_SHORTEST_BYTES: usize = 256;

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SshKeyFault {
    /// Too long for any key.
    #[error("This is longer than an SSH public key can be.")]
    TooLong,
    /// A private key.
    #[error("This is a private key. Keep it to yourself, and paste the line from the .pub file.")]
    Private,
    /// More than one line.
    #[error("Paste one key, on one line.")]
    ManyLines,
    /// A kind we do not take.
    #[error("Paste a public key that begins with ssh-ed25519, ecdsa-sha2-… or ssh-rsa.")]
    Kind,
    /// The body does not belong to the kind, or is cut off.
    #[error("This key is not complete. Copy the whole line again.")]
    Body,
    /// A key too short to be safe.
    #[error("An RSA key needs at least 2048 bits.")]
    Weak,
}

/// Gives a public key as `kind body`, without the comment (which often names a person), or nothing for an empty field.
///
/// *Source*: RFC 4253, section 6.6; OpenSSH `sshd(8)`, section on the file format of authorised keys.
pub(crate) fn public_key(text: &str) -> Result<Option<String>, SshKeyFault> {
    let line = text.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.contains("PRIVATE KEY") {
        return Err(SshKeyFault::Private);
    }
    if line.len() > LONGEST_BYTES {
        return Err(SshKeyFault::TooLong);
    }
    if line.contains(['\n', '\r']) {
        return Err(SshKeyFault::ManyLines);
    }
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().filter(|kind| KINDS.contains(kind)).ok_or(SshKeyFault::Kind)?;
    let body = words.next().ok_or(SshKeyFault::Body)?;
    let bytes = STANDARD.decode(body).map_err(|_| SshKeyFault::Body)?;
    check_body(kind, &bytes)?;
    Ok(Some(format!("{kind} {body}")))
}

fn check_body(kind: &str, bytes: &[u8]) -> Result<(), SshKeyFault> {
    let parts = parts(bytes).ok_or(SshKeyFault::Body)?;
    let (first, rest) = parts.split_first().ok_or(SshKeyFault::Body)?;
    if *first != kind.as_bytes() {
        return Err(SshKeyFault::Body);
    }
    let lengths: Vec<usize> = rest.iter().map(|part| part.len()).collect();
    if let ("ssh-rsa", [1..=8, modulus]) = (kind, lengths.as_slice()) {
        return if *modulus < RSA_SHORTEST_BYTES { Err(SshKeyFault::Weak) } else { Ok(()) };
    }
    let fits = matches!(
        (kind, lengths.as_slice()),
        ("ssh-ed25519", [32])
            | ("sk-ssh-ed25519@openssh.com", [32, _])
            | ("ecdsa-sha2-nistp256", [8, 65])
            | ("sk-ecdsa-sha2-nistp256@openssh.com", [8, 65, _])
            | ("ecdsa-sha2-nistp384", [8, 97])
            | ("ecdsa-sha2-nistp521", [8, 133])
    );
    if fits { Ok(()) } else { Err(SshKeyFault::Body) }
}

/// Splits a body into its length-prefixed parts; none when a length does not fit. Source: RFC 4251, section 5.
fn parts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, inner: &str, rest: &[&[u8]]) -> String {
        let mut body = Vec::new();
        for part in std::iter::once(inner.as_bytes()).chain(rest.iter().copied()) {
            body.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            body.extend(part);
        }
        format!("{kind} {}", STANDARD.encode(body))
    }

    #[test]
    fn every_usual_kind_is_taken_without_its_comment() {
        let good = [
            key("ssh-ed25519", "ssh-ed25519", &[&[7; 32]]),
            key("ssh-rsa", "ssh-rsa", &[&[1, 0, 1], &[9; 257]]),
            key("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", &[b"nistp256", &[4; 65]]),
            key("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", &[b"nistp521", &[4; 133]]),
            key("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", &[&[7; 32], b"ssh:"]),
        ];
        for line in good {
            assert_eq!(public_key(&format!("  {line} ann@laptop \n")), Ok(Some(line.clone())), "{line}");
        }
        assert_eq!(public_key("  \n"), Ok(None));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let ed = key("ssh-ed25519", "ssh-ed25519", &[&[7; 32]]);
        assert_eq!(public_key(&format!("{ed}\n{ed}")), Err(SshKeyFault::ManyLines));
        assert_eq!(public_key("-----BEGIN OPENSSH PRIVATE KEY-----\nabc"), Err(SshKeyFault::Private));
        assert_eq!(public_key(&"a".repeat(5000)), Err(SshKeyFault::TooLong));
        assert_eq!(public_key("ssh-dss AAAA"), Err(SshKeyFault::Kind));
        assert_eq!(public_key("command=\"x\" ssh-ed25519 AAAA"), Err(SshKeyFault::Kind));
        assert_eq!(public_key("ssh-ed25519"), Err(SshKeyFault::Body));
        assert_eq!(public_key("ssh-ed25519 %%%"), Err(SshKeyFault::Body));
        assert_eq!(public_key(&key("ssh-ed25519", "ssh-rsa", &[&[7; 32]])), Err(SshKeyFault::Body));
        assert_eq!(public_key(&key("ssh-ed25519", "ssh-ed25519", &[&[7; 31]])), Err(SshKeyFault::Body));
        assert_eq!(public_key(&key("ssh-rsa", "ssh-rsa", &[&[1, 0, 1], &[9; 128]])), Err(SshKeyFault::Weak));
    }
}
