//! The fields of a form as the page shows them again: what was typed, and what is wrong with it.
use askama::Template;

/// One field.
#[derive(Default, Clone)]
pub(crate) struct Field {
    /// The name in the form, and the id in the page.
    pub(crate) name: &'static str,
    /// The label above it.
    pub(crate) label: &'static str,
    /// What was typed; a password is never shown again.
    pub(crate) value: String,
    /// What is wrong with it, in words for the customer.
    pub(crate) fault: Option<String>,
}

impl Field {
    /// Makes an unfaulted field.
    pub(crate) fn new(name: &'static str, label: &'static str, value: impl Into<String>) -> Self {
        Self { name, label, value: value.into(), fault: None }
    }

    /// Notes what is wrong. The first fault stays.
    pub(crate) fn refuse(&mut self, fault: impl Into<String>) {
        self.fault.get_or_insert(fault.into());
    }

    /// What is wrong, or nothing: for templates.
    pub(crate) fn wrong(&self) -> &str {
        self.fault.as_deref().unwrap_or_default()
    }
}

/// One field as the page shows it.
#[derive(Template)]
#[template(path = "part/field.html")]
pub(crate) struct Input<'a> {
    field: &'a Field,
    kind: &'a str,
    autocomplete: &'a str,
    help: &'a str,
}

impl Field {
    /// The field as one line of input. `kind` and `autocomplete` are HTML's words; `help` may be empty.
    pub(crate) fn input<'a>(&'a self, kind: &'a str, autocomplete: &'a str, help: &'a str) -> Input<'a> {
        Input { field: self, kind, autocomplete, help }
    }
}

/// The list above a form of everything that is wrong in it, with a link to each field.
#[derive(Template)]
#[template(path = "part/faults.html")]
pub(crate) struct Summary<'a> {
    faulted: Vec<&'a Field>,
}

impl<'a> Summary<'a> {
    /// Takes the form's fields in the page's order.
    pub(crate) fn of(fields: impl IntoIterator<Item = &'a Field>) -> Self {
        Self { faulted: fields.into_iter().filter(|field| field.fault.is_some()).collect() }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.faulted.is_empty()
    }
}

/// Gives the lower-case form of an e-mail address that could exist. Whether it does is found out by writing to it.
pub(crate) fn email(text: &str) -> Result<String, &'static str> {
    const HELP: &str = "Write an e-mail address such as name@example.com.";
    let address = text.trim().to_lowercase();
    let Some((local, host)) = address.rsplit_once('@') else { return Err(HELP) };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte);
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    let fits = address.len() <= 254
        && !local.is_empty()
        && local.len() <= 64
        && local.bytes().all(plain)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && host.contains('.')
        && host.split('.').all(label);
    if fits { Ok(address) } else { Err(HELP) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_in_lower_case() {
        assert_eq!(email(" Ann@Example.COM ").as_deref(), Ok("ann@example.com"));
        assert_eq!(email("a+b@mail.example.test").as_deref(), Ok("a+b@mail.example.test"));
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for bad in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@host",
            "a b@example.com",
            "ann@-a.com",
            "ann@a..com",
            "a@b@c.com",
            ".a@b.com",
            "a\n@b.com",
            "ä@b.com",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }
}
