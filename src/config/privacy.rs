//! The settings of what is kept how long, and where the legal pages stand.
use super::Reader;

/// How many years of books may be kept at most; longer is a mistake.
const BOOKS_YEARS_MAX: u8 = 30;

/// What is kept how long, and who says so to customers.
#[derive(Debug, Clone)]
pub(crate) struct PrivacyConfig {
    /// How long a copy of somebody's data can be fetched.
    pub(crate) export_secs: u32,
    /// For how long an erasure can be taken back.
    pub(crate) erasure_secs: u32,
    /// How many years after the end of a year its books are kept.
    pub(crate) books_years: u8,
    /// The folder with this installation's own legal pages.
    pub(crate) legal_folder: Option<String>,
}

impl Reader<'_> {
    pub(super) fn privacy(&mut self) -> Option<PrivacyConfig> {
        let (export, erasure) = (self.parsed("EZ_POLICY_EXPORT_SECS"), self.parsed("EZ_POLICY_ERASURE_SECS"));
        if [export, erasure].contains(&Some(0)) {
            self.faults.push("EZ_POLICY_EXPORT_SECS, EZ_POLICY_ERASURE_SECS: at least a second".to_owned());
        }
        let legal_folder = self.optional("EZ_LEGAL_FOLDER");
        let books = self.parsed::<u8>("EZ_POLICY_BOOKS_YEARS");
        if books.is_some_and(|years| years > BOOKS_YEARS_MAX) {
            self.faults.push(format!("EZ_POLICY_BOOKS_YEARS: more than {BOOKS_YEARS_MAX}"));
        }
        Some(PrivacyConfig { export_secs: export?, erasure_secs: erasure?, books_years: books?, legal_folder })
    }
}

impl PrivacyConfig {
    /// What would be unsafe with customers and money.
    pub(super) fn unsafe_settings(&self) -> [(bool, &'static str); 2] {
        [
            (
                self.export_secs > 2_592_000,
                "EZ_POLICY_EXPORT_SECS: a copy of everything would lie about for over 30 days",
            ),
            (
                !(86_400..=2_592_000).contains(&self.erasure_secs),
                "EZ_POLICY_ERASURE_SECS: less than a day cannot be taken back, and more than 30 days are not without delay",
            ),
        ]
    }
}
