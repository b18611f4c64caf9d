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
    fn a_currency_is_three_letters() {
        assert!("euro".parse::<Currency>().is_err());
        assert!("e1r".parse::<Currency>().is_err());
    }
}
