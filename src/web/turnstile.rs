//! Whether whoever signs up is a person, as Cloudflare Turnstile says. Only when it is switched on does a page load anything
//! from elsewhere, and only that page.
use std::time::Duration;

use reqwest::redirect;
use serde::Deserialize;
use url::Url;

use super::caller::Caller;
use crate::config::{Secret, TurnstileConfig};

/// The field that its script adds to the form.
pub(crate) const FIELD: &str = "cf-turnstile-response";
/// The longest answer there is, in bytes. Source: developers.cloudflare.com/turnstile, "Validate the token".
const ANSWER_LIMIT_BYTES: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A person, who has not used this answer before.
    Person,
    /// Nobody can say so.
    Nobody,
    /// It could not be asked.
    Away,
}

/// What is asked of Turnstile. Has no `Debug`: it holds a secret.
#[derive(Clone)]
pub(crate) struct Turnstile {
    http: reqwest::Client,
    check: Url,
    secret: Secret,
    /// The public key, for the page.
    pub(crate) site_key: String,
    /// The address of its script.
    pub(crate) script: String,
    /// Where script and frame come from.
    pub(crate) origin: String,
}

/// Source: developers.cloudflare.com/turnstile, "Accepted parameters" and "API response format".
#[derive(Deserialize)]
struct Said {
    success: bool,
}

impl Turnstile {
    /// Makes it from the settings; nothing is asked yet.
    pub(crate) fn new(config: &TurnstileConfig) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).build()?;
        Ok(Self {
            http,
            check: config.url.join("/turnstile/v0/siteverify")?,
            secret: config.secret.clone(),
            site_key: config.site_key.clone(),
            script: config.url.join("/turnstile/v0/api.js")?.to_string(),
            origin: config.url.origin().ascii_serialization(),
        })
    }

    /// Asks about the answer that came with a form. Each answer is good once.
    pub(crate) async fn judge(&self, answer: &str, caller: &Caller) -> Verdict {
        if answer.is_empty() || answer.len() > ANSWER_LIMIT_BYTES {
            return Verdict::Nobody;
        }
        match self.ask(answer, caller).await {
            Ok(Said { success: true }) => Verdict::Person,
            Ok(Said { success: false }) => Verdict::Nobody,
            Err(fault) => {
                tracing::warn!(fault = super::page::whole(&fault.without_url()), "nobody says who is a person");
                Verdict::Away
            }
        }
    }

    async fn ask(&self, answer: &str, caller: &Caller) -> Result<Said, reqwest::Error> {
        let network = caller.network();
        let mut form = vec![("secret", self.secret.reveal()), ("response", answer)];
        if caller.address.is_some() {
            form.push(("remoteip", &network));
        }
        self.http.post(self.check.clone()).form(&form).send().await?.error_for_status()?.json().await
    }
}
