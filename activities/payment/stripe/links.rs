//! Where an invoice and its receipt can be read now. Stripe's addresses end after some weeks; asked again, it gives new ones.
use stripe_billing::invoice::RetrieveInvoice;
use stripe_core::charge::RetrieveCharge;

use super::{StripeApi, read};
use crate::fault::Fault;

/// Which page of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoicePage<'a> {
    /// Where it can be read and paid.
    Hosted,
    /// The PDF.
    Pdf,
    /// The receipt of this payment (`ch_…`, `py_…`).
    Receipt(&'a str),
}

impl StripeApi {
    /// The address of a page of an invoice (`in_…`); `None` while there is none. Reads only.
    ///
    /// *Source*: Stripe API, "The Invoice object", `hosted_invoice_url` and `invoice_pdf`.
    pub async fn invoice_page(&self, invoice: &str, page: InvoicePage<'_>) -> Result<Option<String>, Fault> {
        let doing = "looking for the page of an invoice";
        if let InvoicePage::Receipt(payment) = page {
            return Ok(read(doing, RetrieveCharge::new(payment).send(&self.client)).await?.receipt_url);
        }
        let found = read(doing, RetrieveInvoice::new(invoice).send(&self.client)).await?;
        Ok(if page == InvoicePage::Pdf { found.invoice_pdf } else { found.hosted_invoice_url })
    }
}
