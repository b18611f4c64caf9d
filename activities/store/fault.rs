//! What may go wrong with the database, sorted by what the caller can do about it.
use sqlx::error::DatabaseError;
use std::borrow::Cow;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or asked us to try again (lost connection, deadlock, shutdown, full).
    /// The same call may be made again.
    #[error("the database is away while {doing}")]
    Unavailable {
        /// What we were doing.
        doing: &'static str,
        /// The driver's words.
        #[source]
        source: sqlx::Error,
    },
    /// A rule of the tables forbids it; the same call will be refused again.
    #[error("refused by the rule {constraint}")]
    Conflict {
        /// The rule's name: a constraint of the tables, or one of this crate's own.
        constraint: String,
    },
    /// The database refused for a reason that does not pass by itself, or that we do not know: a missing right or table, an
    /// error of its own. The same call will be refused again until somebody has looked.
    #[error("the database refused while {doing} ({code})")]
    Refused {
        /// What we were doing.
        doing: &'static str,
        /// The `SQLSTATE`, or `driver`.
        code: String,
        /// The driver's words.
        #[source]
        source: sqlx::Error,
    },
    /// A row says something this program cannot read, or a row that must be there is not.
    #[error("the database holds something unreadable: {what}")]
    Corrupt {
        /// What was being read.
        what: &'static str,
    },
}

/// Classes of `SQLSTATE` that pass by themselves: a plan that a migration has overtaken, connections, transactions and their
/// conflicts, statements a pooler forgot, resources, locks, operators, disks. Source: PostgreSQL, appendix "Error Codes".
const PASSING: [&str; 9] = ["08", "0A", "25", "26", "40", "53", "55", "57", "58"];

impl StoreError {
    /// The same fault, for one more who waited for the same answer.
    #[must_use]
    pub fn shared(&self) -> Self {
        match self {
            Self::Unavailable { doing, source } => {
                Self::Unavailable { doing, source: sqlx::Error::Protocol(source.to_string()) }
            }
            Self::Refused { doing, code, source } => {
                Self::Refused { doing, code: code.clone(), source: sqlx::Error::Protocol(source.to_string()) }
            }
            Self::Conflict { constraint } => Self::conflict(constraint),
            Self::Corrupt { what } => Self::Corrupt { what },
        }
    }

    /// Whether the database is there and refused what was asked, rather than being away, stopping or full: then another
    /// question may well be answered.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Unavailable { source, .. } = self else { return true };
        let code = source.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
        // Connections, resources and operators: Source: PostgreSQL, "Error Codes", classes 08, 53, 57 and 58.
        code.is_some_and(|code| !["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)))
    }

    pub(crate) fn conflict(rule: &str) -> Self {
        Self::Conflict { constraint: rule.to_owned() }
    }

    fn of_database(error: Box<dyn DatabaseError>, doing: &'static str) -> Self {
        if let Some(constraint) = error.constraint() {
            return Self::conflict(constraint);
        }
        let code = error.code().unwrap_or_default().into_owned();
        let source = sqlx::Error::Database(error);
        match code.get(..2).unwrap_or_default() {
            "23" => Self::conflict("not_null"),
            "22" => Self::Corrupt { what: doing },
            class if PASSING.contains(&class) => Self::Unavailable { doing, source },
            _ => Self::Refused { doing, code, source },
        }
    }
}

/// Says what we were doing when the database gave an error.
pub(crate) trait Doing<T> {
    /// Sorts the driver's error into a [`StoreError`].
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| match source {
            sqlx::Error::Database(error) => StoreError::of_database(error, doing),
            sqlx::Error::RowNotFound
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::TypeNotFound { .. } => StoreError::Corrupt { what: doing },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => StoreError::Unavailable { doing, source },
            _ => StoreError::Refused { doing, code: "driver".to_owned(), source },
        })
    }
}

/// Reads one of our words (`status`, `term` …) from a column.
pub(crate) fn word<T: core::str::FromStr>(text: &str, what: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what })
}

/// Reads a count that the tables keep non-negative.
pub(crate) fn count<T: TryFrom<i32>>(number: i32, what: &'static str) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| StoreError::Corrupt { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::order::OrderStatus;

    #[test]
    fn an_unknown_word_is_corrupt_and_no_panic() {
        assert!(matches!(word::<OrderStatus>("flying", "an order's status"), Err(StoreError::Corrupt { .. })));
        assert_eq!(word::<OrderStatus>("lapsed", "an order's status").ok(), Some(OrderStatus::Lapsed));
        assert!(count::<u32>(-1, "a size").is_err());
    }

    #[test]
    fn an_error_of_a_kind_we_do_not_know_is_not_waited_out() {
        let error = Err::<(), _>(sqlx::Error::InvalidArgument("new".to_owned())).doing("reading a plan");
        assert!(matches!(error, Err(StoreError::Refused { doing: "reading a plan", .. })), "{error:?}");
    }

    #[test]
    fn a_pool_that_gives_no_connection_may_be_asked_again() {
        let error = Err::<(), _>(sqlx::Error::PoolTimedOut).doing("reading a plan");
        assert!(matches!(error, Err(StoreError::Unavailable { doing: "reading a plan", .. })));
    }
}
