//! Money is an integer count of the currency's minor unit, never a fraction.
use alloc::string::String;
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A three-letter lower-case ISO 4217 code as Stripe writes it (`eur`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(String);

/// The text is not three ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three letters, such as eur")]
pub struct NotACurrency;

impl FromStr for Currency {
    type Err = NotACurrency;

    fn from_str(text: &str) -> Result<Self, NotACurrency> {
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(NotACurrency)
        }
    }
}

impl Currency {
    /// The lower-case code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many decimal digits the minor unit has: 0, 2 or 3. Source: Stripe, "Supported currencies", zero- and
    /// three-decimal currencies.
    pub fn minor_digits(&self) -> u32 {
        match self.0.as_str() {
            "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd" | "vuv" | "xaf"
            | "xof" | "xpf" => 0,
            "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
            _ => 2,
        }
    }
}

/// An amount in minor units of one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; negative is a credit.
    pub amount_minor: i64,
    /// Whose minor units.
    pub currency: Currency,
}

/// The text is not an amount of that currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an amount such as 5.00")]
pub struct NotAnAmount;

impl Money {
    /// Reads an amount as a person writes it: `5`, `5.00` or `5,00`, with no more digits than the currency has, and no sign.
    pub fn read(text: &str, currency: &Currency) -> Result<Self, NotAnAmount> {
        let (whole, part) = text.trim().split_once(['.', ',']).unwrap_or((text.trim(), ""));
        let digits = currency.minor_digits() as usize;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(part) || part.len() > digits {
            return Err(NotAnAmount);
        }
        let whole: i64 = whole.parse().map_err(|_| NotAnAmount)?;
        let mut amount_minor = whole;
        for place in 0..digits {
            let digit = part.as_bytes().get(place).map_or(0, |byte| i64::from(byte - b'0'));
            amount_minor =
                amount_minor.checked_mul(10).and_then(|so_far| so_far.checked_add(digit)).ok_or(NotAnAmount)?;
        }
        Ok(Self { amount_minor, currency: currency.clone() })
    }

    /// The amount as a person writes it into a form: `5.00`.
    pub fn plain(&self) -> String {
        let whole = alloc::format!("{self}");
        whole.split_once(' ').map_or_else(String::new, |(_, amount)| amount.into())
    }
}

impl fmt::Display for Money {
    /// `EUR 5.00`, `JPY 500`, `EUR -0.05`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.currency.0.to_ascii_uppercase();
        let digits = self.currency.minor_digits();
        let scale = 10_u64.pow(digits);
        let (sign, amount) = (if self.amount_minor < 0 { "-" } else { "" }, self.amount_minor.unsigned_abs());
        if digits == 0 {
            return write!(f, "{code} {sign}{amount}");
        }
        write!(f, "{code} {sign}{}.{:0width$}", amount / scale, amount % scale, width = digits as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn money(amount_minor: i64, currency: &str) -> String {
        Money { amount_minor, currency: currency.parse().expect("a currency") }.to_string()
    }

    #[test]
    fn amounts_show_the_digits_their_currency_has() {
        assert_eq!(money(500, "eur"), "EUR 5.00");
        assert_eq!(money(-5, "EUR"), "EUR -0.05");
        assert_eq!(money(500, "jpy"), "JPY 500");
        assert_eq!(money(1, "kwd"), "KWD 0.001");
        assert_eq!(money(i64::MIN, "eur"), "EUR -92233720368547758.08");
    }

    #[test]
    fn an_amount_is_read_as_a_person_writes_it_and_nothing_else_is() {
        let read = |text, currency: &str| Money::read(text, &currency.parse().expect("a currency"));
        for (text, minor) in [("5", 500), ("5.00", 500), (" 5,5 ", 550), ("0.01", 1), ("1234.56", 123_456)] {
            assert_eq!(read(text, "eur").map(|money| money.amount_minor), Ok(minor), "{text}");
        }
        assert_eq!(read("500", "jpy").map(|money| money.amount_minor), Ok(500));
        assert_eq!(read("1.234", "kwd").map(|money| money.plain()), Ok("1.234".to_string()));
        for text in ["", "-5", "+5", "5.001", "five", "1,000.00", ".5", "9223372036854775807"] {
            assert!(read(text, "eur").is_err(), "{text}");
        }
        assert!(read("5.0", "jpy").is_err());
    }

    #[test]
    fn a_currency_is_three_letters() {
        assert!("euro".parse::<Currency>().is_err());
        assert!("e1r".parse::<Currency>().is_err());
    }
}
