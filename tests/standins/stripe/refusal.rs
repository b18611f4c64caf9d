//! Error answers in Stripe's shape.

use serde_json::{Value, json};

/// An error answer.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    decline_code: Option<&'static str>,
    message: String,
    param: Option<String>,
    /// Whether the endpoint had begun to run, so that the answer is kept under the idempotency key.
    pub(super) kept: bool,
}

/// What an endpoint gives: an object, or an error.
pub(super) type Answer = Result<Value, Refusal>;

impl Refusal {
    fn of(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, decline_code: None, message: message.into(), param: None, kept: true }
    }

    /// 400 with the parameter at fault; `path` may be dotted.
    pub(super) fn invalid(message: impl Into<String>, path: &str) -> Self {
        let mut refusal = Self::of(400, "invalid_request_error", message);
        refusal.param = Some(bracketed(path));
        refusal
    }

    /// 400 because of the state of the object.
    pub(super) fn state(message: impl Into<String>) -> Self {
        Self::of(400, "invalid_request_error", message)
    }

    /// 400 for a parameter this endpoint does not know.
    pub(super) fn unknown_parameter(path: &str) -> Self {
        let named = bracketed(path);
        let mut refusal =
            Self::invalid(format!("Received unknown parameter: {named}"), path).with_code("parameter_unknown");
        refusal.kept = false;
        refusal
    }

    /// 400 for a parameter that must be there.
    pub(super) fn missing_parameter(path: &str) -> Self {
        let named = bracketed(path);
        let mut refusal =
            Self::invalid(format!("Missing required param: {named}."), path).with_code("parameter_missing");
        refusal.kept = false;
        refusal
    }

    /// 404 (400 when named in a body) for an id that is not there.
    pub(super) fn no_such(kind: &str, id: &str, param: &str) -> Self {
        let noun = match kind {
            "payment_intent" => "payment_intent",
            "checkout.session" => "checkout.session",
            "billing_portal.configuration" => "configuration",
            other => other.rsplit('.').next().unwrap_or(other),
        };
        let mut refusal = Self::invalid(format!("No such {noun}: '{id}'"), param).with_code("resource_missing");
        refusal.status = if param == "id" { 404 } else { 400 };
        refusal
    }

    /// 404 for something that is not there, though its id is.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::of(404, "invalid_request_error", message)
    }

    /// 404 for a path that is no endpoint.
    pub(super) fn no_such_path(method: &str, path: &str) -> Self {
        let mut refusal =
            Self::of(404, "invalid_request_error", format!("Unrecognized request URL ({method}: {path})."));
        refusal.kept = false;
        refusal
    }

    /// 401 for a missing or wrong key.
    pub(super) fn unauthorized() -> Self {
        let mut refusal = Self::of(401, "invalid_request_error", "Invalid API Key provided.");
        refusal.kept = false;
        refusal
    }

    /// 402: the card was declined, with Stripe's `decline_code`.
    pub(super) fn card_declined(decline_code: &'static str) -> Self {
        let message = match decline_code {
            "insufficient_funds" => "Your card has insufficient funds.",
            _ => "Your card was declined.",
        };
        let mut refusal = Self::of(402, "card_error", message).with_code("card_declined");
        refusal.decline_code = Some(decline_code);
        refusal
    }

    /// 402: a person has to authenticate the payment.
    pub(super) fn needs_action() -> Self {
        Self::of(402, "card_error", "This payment requires additional user action before it can be completed successfully. Payment can be completed using the PaymentIntent associated with this invoice.")
            .with_code("invoice_payment_intent_requires_action")
    }

    /// 402: a person failed to authenticate the payment.
    pub(super) fn authentication_failed() -> Self {
        Self::of(402, "card_error", "We are unable to authenticate your payment method. Please choose a different payment method and try again.")
            .with_code("payment_intent_authentication_failure")
    }

    /// 400: the idempotency key was used with other parameters.
    pub(super) fn key_reused(key: &str) -> Self {
        Self::of(
            400,
            "idempotency_error",
            format!(
                "Keys for idempotent requests can only be used with the same parameters they were \
                 first used with. Try using a key other than '{key}' if you meant to execute a \
                 different request."
            ),
        )
    }

    /// 409: another request with this idempotency key is still running.
    pub(super) fn key_in_use(key: &str) -> Self {
        Self::of(
            409,
            "idempotency_error",
            format!(
                "There is currently another in-progress request using this Idempotent Key \
                 (that probably means you submitted twice, and the other request is still going \
                 through): {key}. Please try again later."
            ),
        )
        .with_code("idempotency_key_in_use")
    }

    /// A failure on Stripe's own side.
    pub(super) fn broken(status: u16, message: impl Into<String>) -> Self {
        Self::of(status, "api_error", message)
    }

    /// The same with an error code.
    pub(super) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The message a customer would read.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let Some(code) = self.code {
            error["code"] = json!(code);
            error["doc_url"] = json!(format!("https://stripe.com/docs/error-codes/{code}"));
        }
        if let Some(decline_code) = self.decline_code {
            error["decline_code"] = json!(decline_code);
        }
        if let Some(param) = &self.param {
            error["param"] = json!(param);
        }
        json!({"error": error})
    }
}

fn bracketed(path: &str) -> String {
    let mut parts = path.split('.');
    let head = parts.next().unwrap_or_default().to_owned();
    parts.fold(head, |named, part| format!("{named}[{part}]"))
}
