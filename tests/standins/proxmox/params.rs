//! What one parameter may hold, and the words a refusal uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The form a parameter's text must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `0` or `1`.
    Flag,
    /// A whole number within bounds, both included.
    Whole(i64, i64),
    /// A number within bounds, both included.
    Decimal(f64, f64),
    /// Any text of at most this many characters.
    Text(usize),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Labels of letters, digits and inner hyphens, joined by dots.
    DnsName,
    /// A node or storage name.
    Name,
    /// A letter, then at least one letter, digit, `-` or `_`; at most 64.
    SetName,
    /// Names of options, separated by commas, semicolons or blanks.
    OptionList,
    /// Percent-encoded lines, each an SSH public key.
    SshKeys,
    /// `ip=…,gw=…,ip6=…,gw6=…`.
    IpConfig,
    /// `model[=mac],bridge=…`.
    Network,
    /// Addresses separated by commas, semicolons or blanks.
    AddressList,
    /// An address or a network.
    Cidr,
    /// Addresses, ranges, networks or a set's name.
    FirewallAddress,
    /// Ports, ranges or service names, separated by commas.
    FirewallPorts,
    /// Tags separated by commas, semicolons or blanks.
    Tags,
    /// A size in MiB, bare or as `current=`.
    MemoryMib,
    /// `[+]number[K|M|G|T]`.
    DiskSize,
}

/// One parameter of a call; a `name` ending in `[n]` stands for every number.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) required: bool,
}

/// A parameter a call cannot do without.
pub(super) const fn must(name: &'static str, form: Form) -> Param {
    Param { name, form, required: true }
}

/// A parameter a call can do without.
pub(super) const fn may(name: &'static str, form: Form) -> Param {
    Param { name, form, required: false }
}

impl Param {
    /// Whether `name` is this parameter, or one of its numbered ones.
    pub(super) fn is_called(&self, name: &str) -> bool {
        match self.name.strip_suffix("[n]") {
            None => self.name == name,
            Some(stem) => name.strip_prefix(stem).is_some_and(|number| {
                !number.is_empty() && number.len() <= 2 && number.bytes().all(|byte| byte.is_ascii_digit())
            }),
        }
    }
}

impl Form {
    /// Whether answers carry the value as a number rather than as text.
    pub(super) fn is_numeric(self) -> bool {
        matches!(self, Self::Flag | Self::Whole(..) | Self::Decimal(..))
    }

    /// Why `value` does not have this form.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        let fits = match self {
            Self::Flag => return one_of_type(matches!(value, "0" | "1"), "boolean", value),
            Self::Whole(least, most) => return whole(value, least, most),
            Self::Decimal(least, most) => return decimal(value, least, most),
            Self::Text(limit) if value.chars().count() > limit => {
                return Err(format!("value may only be {limit} characters long"));
            }
            Self::Text(_) => true,
            Self::OneOf(words) if words.contains(&value) => true,
            Self::OneOf(words) => {
                return Err(format!("value '{value}' does not have a value in the enumeration '{}'", words.join(", ")));
            }
            Self::DnsName if is_dns_name(value) => true,
            Self::DnsName => {
                return Err("invalid format - value does not look like a valid DNS name\n".to_owned());
            }
            Self::Name => is_word(value, 1, 64, "-_."),
            Self::SetName => {
                value.starts_with(|first: char| first.is_ascii_alphabetic()) && is_word(value, 2, 64, "-_")
            }
            Self::OptionList => listed(value).all(|name| is_word(name, 1, 64, "-_")),
            Self::SshKeys => return ssh_keys(value),
            Self::IpConfig => return ip_config(value),
            Self::Network => return network(value),
            Self::AddressList => listed(value).all(|address| address.parse::<IpAddr>().is_ok()),
            Self::Cidr => is_cidr(value) || value.parse::<IpAddr>().is_ok(),
            Self::FirewallAddress => listed(value).all(is_firewall_address),
            Self::FirewallPorts => listed(value).all(is_port_range),
            Self::Tags if tags(value).iter().all(|tag| is_tag(tag)) => true,
            Self::Tags => return Err("invalid format - invalid characters in tag\n".to_owned()),
            Self::MemoryMib => {
                return whole(value.strip_prefix("current=").unwrap_or(value), 16, i64::MAX);
            }
            Self::DiskSize => disk_size_bytes(value).is_some(),
        };
        if fits { Ok(()) } else { Err("value does not match the expected format".to_owned()) }
    }
}

/// A list's items, however separated.
pub(super) fn listed(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ';', ' ', '\t', '\n']).filter(|item| !item.is_empty())
}

/// Tags in the order and case the cluster keeps them.
pub(super) fn tags(value: &str) -> std::collections::BTreeSet<String> {
    listed(value).map(str::to_ascii_lowercase).collect()
}

/// A size in bytes, and whether it is an increase rather than a total.
pub(super) fn disk_size_bytes(value: &str) -> Option<(u64, bool)> {
    let (digits, relative) = value.strip_prefix('+').map_or((value, false), |rest| (rest, true));
    let (digits, shift) = match digits.chars().last()? {
        'K' => (&digits[..digits.len() - 1], 10),
        'M' => (&digits[..digits.len() - 1], 20),
        'G' => (&digits[..digits.len() - 1], 30),
        'T' => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole: u64 = whole.parse().ok()?;
    let fraction_digits = u32::try_from(fraction.len()).ok().filter(|count| *count <= 6)?;
    let fraction: u64 = fraction.parse().ok()?;
    let bytes = whole.checked_mul(1 << shift)? + fraction.checked_mul(1 << shift)? / 10_u64.pow(fraction_digits);
    Some((bytes, relative))
}

fn one_of_type(fits: bool, kind: &str, value: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("type check ('{kind}') failed - got '{value}'")) }
}

fn whole(value: &str, least: i64, most: i64) -> Result<(), String> {
    match value.parse::<i64>() {
        Err(_) => one_of_type(false, "integer", value),
        Ok(number) if number < least => Err(format!("value must have a minimum value of {least}")),
        Ok(number) if number > most => Err(format!("value must have a maximum value of {most}")),
        Ok(_) => Ok(()),
    }
}

fn decimal(value: &str, least: f64, most: f64) -> Result<(), String> {
    match value.parse::<f64>().ok().filter(|number| number.is_finite()) {
        None => one_of_type(false, "number", value),
        Some(number) if number < least => Err(format!("value must have a minimum value of {least}")),
        Some(number) if number > most => Err(format!("value must have a maximum value of {most}")),
        Some(_) => Ok(()),
    }
}

fn is_word(value: &str, least: usize, most: usize, also: &str) -> bool {
    (least..=most).contains(&value.len())
        && value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && value.chars().all(|each| each.is_ascii_alphanumeric() || also.contains(each))
}

fn is_dns_name(value: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    value.split('.').all(label)
}

fn is_tag(tag: &str) -> bool {
    tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && tag.chars().all(|each| each.is_ascii_alphanumeric() || "_-+.".contains(each))
}

fn ssh_keys(value: &str) -> Result<(), String> {
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-%_.!~*'()".contains(&byte)) {
        return Err("invalid format - invalid urlencoded string\n".to_owned());
    }
    let plain = percent_decoded(value).ok_or("invalid format - invalid urlencoded string\n")?;
    let is_key = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|kind| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start)))
            && words.next().is_some_and(|key| key.starts_with("AAAA"))
    };
    let all_keys = plain.lines().map(str::trim).filter(|line| !line.is_empty()).all(is_key);
    if all_keys { Ok(()) } else { Err("SSH public key validation error".to_owned()) }
}

/// The text behind percent-encoding; `+` stays what it is. `None` if it is cut short or not UTF-8.
pub(super) fn percent_decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn is_cidr(value: &str) -> bool {
    value.split_once('/').is_some_and(|(address, bits)| match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits.parse::<u8>().is_ok_and(|bits| bits <= 32),
        Ok(IpAddr::V6(_)) => bits.parse::<u8>().is_ok_and(|bits| bits <= 128),
        Err(_) => false,
    })
}

fn ip_config(value: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    for part in value.split(',') {
        let (key, text) =
            part.split_once('=').ok_or("invalid format - missing key in comma-separated list property\n")?;
        let fits = match key {
            "ip" => text == "dhcp" || is_cidr(text) && text.contains('.'),
            "gw" => text.parse::<Ipv4Addr>().is_ok(),
            "ip6" => matches!(text, "dhcp" | "auto") || is_cidr(text) && text.contains(':'),
            "gw6" => text.parse::<Ipv6Addr>().is_ok(),
            _ => return Err(format!("invalid format - format error\n{key}: property is not defined in schema\n")),
        };
        if !fits || seen.contains(&key) {
            return Err(format!("invalid format - format error\n{key}: invalid format - value does not look right\n"));
        }
        seen.push(key);
    }
    for (gateway, address) in [("gw", "ip"), ("gw6", "ip6")] {
        if seen.contains(&gateway) && !seen.contains(&address) {
            return Err(format!(
                "invalid format - format error\n{gateway}: missing property - '{address}' is required\n"
            ));
        }
    }
    Ok(())
}

fn network(value: &str) -> Result<(), String> {
    const KEYS: [&str; 8] = ["bridge", "firewall", "link_down", "macaddr", "mtu", "queues", "rate", "tag"];
    const MODELS: [&str; 5] = ["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"];
    let mut models = 0;
    for part in value.split(',') {
        let (key, text) = part.split_once('=').unwrap_or((part, ""));
        let model = if key == "model" { text } else { key };
        if MODELS.contains(&model) {
            models += 1;
        } else if !KEYS.contains(&key) || text.is_empty() {
            return Err(format!("invalid format - format error\n{key}: property is not defined in schema\n"));
        }
    }
    if models == 1 { Ok(()) } else { Err("invalid format - format error\nmodel: property is missing\n".to_owned()) }
}

fn is_firewall_address(item: &str) -> bool {
    let item = item.strip_prefix('+').unwrap_or(item);
    let range =
        item.split_once('-').is_some_and(|(low, high)| low.parse::<IpAddr>().is_ok() && high.parse::<IpAddr>().is_ok());
    range || is_cidr(item) || item.parse::<IpAddr>().is_ok() || is_word(item, 2, 64, "-_/")
}

fn is_service(item: &str) -> bool {
    item.starts_with(|first: char| first.is_ascii_alphabetic()) && is_word(item, 2, 64, "-")
}

fn is_port_range(item: &str) -> bool {
    let port = |text: &str| text.parse::<u16>().is_ok();
    item.split_once(':').map_or_else(|| port(item) || is_service(item), |(low, high)| port(low) && port(high))
}

#[cfg(test)]
mod tests;
