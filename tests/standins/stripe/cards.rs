//! Test cards: what a number does at checkout and afterwards.

use super::refusal::Refusal;

/// A card that is declined at once.
pub(super) const DECLINED: &str = "4000000000000002";
/// A card that attaches, pays at checkout and is declined afterwards.
pub(super) const FAILS_LATER: &str = "4000000000000341";
/// A card without enough money; it is declined at checkout too.
pub(super) const INSUFFICIENT: &str = "4000000000009995";
/// A card whose every payment a person has to authenticate.
pub(super) const AUTHENTICATE: &str = "4000002760003184";
/// An account whose debits are `processing` for days (as an IBAN: `AT611904300234573201`).
pub(super) const DELAYED: &str = "611904300234573201";

/// How a customer's card behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Card {
    /// Every charge succeeds.
    Good,
    /// Attaches and pays at checkout; every later charge is declined.
    FailsLater,
    /// Every charge is declined for want of money.
    Insufficient,
    /// A person has to authenticate every payment.
    Authenticate,
    /// Every payment is `processing` until the control API settles it.
    Delayed,
}

impl Card {
    /// The card of a number typed at checkout; blanks and letters do not count.
    ///
    /// *Errors*: 402 when it is declined there, or is no card number.
    pub(super) fn typed(number: &str) -> Result<Self, Refusal> {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        match digits.as_str() {
            DECLINED => Err(Refusal::card_declined("generic_decline")),
            INSUFFICIENT => Err(Refusal::card_declined("insufficient_funds")),
            FAILS_LATER => Ok(Self::FailsLater),
            AUTHENTICATE => Ok(Self::Authenticate),
            DELAYED => Ok(Self::Delayed),
            other if (12..=19).contains(&other.len()) => Ok(Self::Good),
            _ => Err(Refusal::card_declined("generic_decline")),
        }
    }

    /// The card of a word of the control API.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "good" => Self::Good,
            "fails" => Self::FailsLater,
            "insufficient" => Self::Insufficient,
            "authenticate" => Self::Authenticate,
            "delayed" => Self::Delayed,
            _ => return None,
        })
    }

    /// The last digits of the number.
    pub(super) const fn last4(self) -> &'static str {
        match self {
            Self::Good => "4242",
            Self::FailsLater => "0341",
            Self::Insufficient => "9995",
            Self::Authenticate => "3184",
            Self::Delayed => "3201",
        }
    }

    /// Stripe's `decline_code` when this card is declined.
    pub(super) const fn decline_code(self) -> &'static str {
        match self {
            Self::Insufficient => "insufficient_funds",
            _ => "generic_decline",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Card;

    #[test]
    fn numbers_are_read_with_blanks_and_letters() {
        assert_eq!(Card::typed("4000 0027 6000 3184").ok(), Some(Card::Authenticate));
        assert_eq!(Card::typed("AT61 1904 3002 3457 3201").ok(), Some(Card::Delayed));
        let refused = Card::typed("4000000000009995").expect_err("no money");
        assert_eq!(refused.body()["error"]["decline_code"], "insufficient_funds");
        assert!(Card::typed("42").is_err());
    }
}
