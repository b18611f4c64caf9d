//! The wire: one HTTP client for the whole API, in place of the one that comes with the bindings.
//!
//! Theirs trusts any certificate, takes `{"data":null}` for an error and drops the words about each parameter.
use std::collections::BTreeMap;
use std::time::Duration;

use proxmox_api::client::{Client, Method};
use reqwest::{
    Certificate, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::error::{Call, ProxmoxError};
use crate::{
    call::{Kind, timed, trace_headers},
    fault::Vendor,
};

/// A call is answered within this time or its outcome is unknown.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// A connection stands within this time or Proxmox is not reachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The list of every machine of a large cluster is some hundred bytes for each of them.
const ANSWER_LIMIT_BYTES: usize = 16 << 20;
/// A message is kept up to this many characters.
const MESSAGE_LIMIT: usize = 300;
/// What Proxmox says about these parameters may repeat their value.
const SECRET_FIELDS: [&str; 2] = ["cipassword", "sshkeys"];

/// Why the settings do not make a client.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFault {
    /// The token has characters a header cannot carry.
    #[error("the Proxmox token has characters that do not belong in one")]
    Token,
    /// The certificate file is not PEM, or TLS cannot be set up.
    #[error("the Proxmox certificates cannot be used")]
    Tls(#[source] reqwest::Error),
}

/// Every success has this form; without `data`, which may be null, it was not Proxmox that answered, or not to the end.
#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "Value::deserialize")]
    data: Value,
}

/// Speaks the API's dialect: token header, form bodies, `{"data": …}` answers.
#[derive(Clone)]
pub(super) struct PveClient {
    http: reqwest::Client,
    base: Url,
}

impl PveClient {
    pub(super) fn new(
        url: &Url,
        token: HeaderValue,
        verify_certificates: bool,
        extra_certificates_pem: Option<&[u8]>,
    ) -> Result<Self, SettingsFault> {
        let mut http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, token)]))
            .timeout(CALL_LIMIT)
            .connect_timeout(CONNECT_LIMIT)
            .redirect(redirect::Policy::none())
            .tls_danger_accept_invalid_certs(!verify_certificates);
        if let Some(pem) = extra_certificates_pem {
            http = http.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(SettingsFault::Tls)?);
        }
        Ok(Self { http: http.build().map_err(SettingsFault::Tls)?, base: url.clone() })
    }

    async fn data(&self, call: &Call, query: String, body: Option<String>) -> Result<Value, ProxmoxError> {
        let mut address = self.base.clone();
        // The path holds percent-encoded ids, which must reach Proxmox as they are.
        address.set_path(&format!("{}/api2/json{}", self.base.path().trim_end_matches('/'), call.path));
        address.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        let method = reqwest::Method::from_bytes(call.method.as_bytes()).unwrap_or_default();
        let mut request = self.http.request(method, address).headers(trace_headers());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        let answer = request.send().await.map_err(|source| lost(call, source))?;
        let status = answer.status().as_u16();
        let text = read(call, answer).await?;
        if (200..300).contains(&status) {
            let answer: Answer = serde_json::from_slice(&text).map_err(|source| unreadable(call, source))?;
            return Ok(answer.data);
        }
        Err(refused(call, status, &text))
    }
}

impl Client for PveClient {
    type Error = ProxmoxError;

    fn request_with_body_and_query<B, Q, R>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        query: Option<&Q>,
    ) -> impl Future<Output = Result<R, ProxmoxError>>
    where
        B: Serialize,
        Q: Serialize,
        R: DeserializeOwned,
    {
        let method = match method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let call = Call { method, path: path.to_owned() };
        let forms = query.map_or(Ok(String::new()), form).and_then(|query| Ok((query, body.map(form).transpose()?)));
        async move {
            let (query, body) = forms.map_err(|source| unreadable(&call, source))?;
            let kind = if call.method == "GET" { Kind::Read } else { Kind::Write };
            let data = timed(Vendor::Proxmox, kind, self.data(&call, query, body)).await?;
            serde_json::from_value(data).map_err(|source| unreadable(&call, source))
        }
    }
}

/// The header every call carries. *Source*: Proxmox VE, "API Tokens".
pub(super) fn token(id: &str, secret: &str) -> Result<HeaderValue, SettingsFault> {
    let mut token = HeaderValue::from_str(&format!("PVEAPIToken={id}={secret}")).map_err(|_| SettingsFault::Token)?;
    token.set_sensitive(true);
    Ok(token)
}

/// `a=1&b=2` as Proxmox reads it: flags are 0 or 1, lists repeat their key, nothing else nests.
pub(super) fn form<T: Serialize + ?Sized>(fields: &T) -> Result<String, serde_json::Error> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    let fields = match serde_json::to_value(fields)? {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    // Sorted, so that the same request is the same text whatever the JSON library keeps of an order.
    let fields: BTreeMap<String, Value> = fields.into_iter().collect();
    for (name, value) in fields {
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            match value {
                Value::Null => {}
                Value::Bool(flag) => drop(form.append_pair(&name, if flag { "1" } else { "0" })),
                Value::String(text) => drop(form.append_pair(&name, &text)),
                other => drop(form.append_pair(&name, &other.to_string())),
            }
        }
    }
    Ok(form.finish())
}

/// Percent-encodes everything but letters, digits and `-_.~`. Source: RFC 3986, section 2.3.
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn lost(call: &Call, source: reqwest::Error) -> ProxmoxError {
    let (call, source) = (call.clone(), source.without_url());
    if source.is_connect() {
        ProxmoxError::Unreached { call, source }
    } else {
        ProxmoxError::Unanswered { call, source }
    }
}

fn unreadable(call: &Call, source: serde_json::Error) -> ProxmoxError {
    ProxmoxError::Unreadable { call: call.clone(), source }
}

async fn read(call: &Call, mut answer: Response) -> Result<Vec<u8>, ProxmoxError> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|source| lost(call, source))? {
        if text.len() + chunk.len() > ANSWER_LIMIT_BYTES {
            return Err(ProxmoxError::TooLong { call: call.clone() });
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

fn refused(call: &Call, status: u16, text: &[u8]) -> ProxmoxError {
    let parsed: Value = serde_json::from_slice(text).unwrap_or_default();
    let message = parsed["message"].as_str().map_or_else(|| String::from_utf8_lossy(text), Into::into);
    let message = message.trim().chars().take(MESSAGE_LIMIT).collect();
    let errors = parsed["errors"].as_object();
    let errors: BTreeMap<&String, &Value> = errors.into_iter().flatten().collect();
    let fields = errors.into_iter().map(|(name, why)| {
        let why = if SECRET_FIELDS.contains(&name.as_str()) { "refused" } else { why.as_str().unwrap_or("refused") };
        (name.clone(), why.trim().chars().take(MESSAGE_LIMIT).collect())
    });
    ProxmoxError::Refused { call: call.clone(), status, message, fields: fields.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_are_digits_and_lists_repeat_their_key() {
        let fields = json!({"full": true, "newid": 101, "name": "a b", "none": null, "cidr": ["1", "2"]});
        assert_eq!(form(&fields).expect("a form"), "cidr=1&cidr=2&full=1&name=a+b&newid=101");
        assert_eq!(form(&()).expect("an empty form"), "");
    }

    #[test]
    fn only_an_answer_with_data_is_one() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).map(|answer| answer.data).ok();
        assert_eq!(read(r#"{"data":null}"#), Some(Value::Null));
        assert_eq!(read(r#"{"data":[1]}"#), Some(json!([1])));
        for garbage in ["", "{}", "[]", "42", "null", r#""data""#, r#"{"data":"#, "<h1>It works!</h1>"] {
            assert_eq!(read(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn what_would_end_a_value_is_encoded() {
        let net = json!({"net0": "virtio=AA:BB,bridge=vmbr0;x&y+z%"});
        assert_eq!(form(&net).expect("a form"), "net0=virtio%3DAA%3ABB%2Cbridge%3Dvmbr0%3Bx%26y%2Bz%25");
    }

    #[test]
    fn ssh_keys_are_percent_encoded_and_then_form_encoded() {
        let key = percent_encoded("ssh-ed25519 AAAA+b/c= me@home\n");
        assert_eq!(key, "ssh-ed25519%20AAAA%2Bb%2Fc%3D%20me%40home%0A");
        let sent = form(&json!({"sshkeys": key})).expect("a form");
        assert_eq!(sent, "sshkeys=ssh-ed25519%2520AAAA%252Bb%252Fc%253D%2520me%2540home%250A");
    }

    #[test]
    fn a_refusal_keeps_the_words_on_each_parameter_but_no_secret() {
        let call = Call { method: "POST", path: "/x".to_owned() };
        let body = json!({"data": null, "message": "Parameter verification failed.\n",
            "errors": {"cores": "too many", "cipassword": "hunter2 is too short"}});
        let told = refused(&call, 400, body.to_string().as_bytes()).to_string();
        assert_eq!(told, "POST /x: 400 Parameter verification failed.; cipassword: refused; cores: too many");
    }
}
