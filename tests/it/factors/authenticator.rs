//! A security key in software: makes one P-256 key, answers what pages ask, and can be told to misbehave.
//!
//! *Source*: Web Authentication Level 2, sections 6.1 (authenticator data), 6.5.1 (attested credential data), 5.8.1 (client data);
//! RFC 9053, section 7.1 (the key in COSE's form).
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use house::Page;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;

/// One key on one device.
pub(crate) struct Authenticator {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    owner: Vec<u8>,
    /// The site it believes to be on.
    pub(crate) origin: String,
    /// How often it signed.
    pub(crate) count: u32,
    /// Whether it checked its owner.
    pub(crate) verifies: bool,
}

/// What a page asks: of the form that asks `create` or `get`.
fn asked(page: &Page, kind: &str) -> Value {
    let options = page.attributes(&format!("form[data-passkey={kind}]"), "data-options");
    let options = options.first().unwrap_or_else(|| panic!("{} asks for no passkey: {}", page.url, page.text()));
    serde_json::from_str::<Value>(options).expect("JSON")["publicKey"].clone()
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Authenticator {
    /// Makes a key for what the page asks, and gives what the form has to bring.
    pub(crate) fn create(page: &Page) -> (Self, String) {
        let wanted = asked(page, "create");
        assert_eq!(wanted["authenticatorSelection"]["userVerification"], "required", "{wanted}");
        assert_eq!(wanted["attestation"], "none", "{wanted}");
        let chance = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &chance).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &chance).expect("a key");
        let owner = wanted["user"]["id"].as_str().and_then(|id| BASE64_URL_SAFE_NO_PAD.decode(id).ok());
        let this = Self {
            key,
            id: rand::random::<[u8; 32]>().to_vec(),
            owner: owner.expect("an owner"),
            origin: page.url.origin().ascii_serialization(),
            count: 1,
            verifies: true,
        };
        let answer = this.registered(&wanted);
        (this, answer)
    }

    fn registered(&self, wanted: &Value) -> String {
        let client = self.client_data("webauthn.create", wanted);
        let data = self.attested(wanted["rp"]["id"].as_str().expect("a site"));
        // {"fmt": "none", "attStmt": {}, "authData": …}
        let mut object = vec![0xa3, 0x63];
        object.extend(b"fmt\x64none\x67attStmt\xa0\x68authData\x58");
        object.push(u8::try_from(data.len()).expect("short"));
        object.extend(data);
        json!({
            "id": encoded(&self.id),
            "rawId": encoded(&self.id),
            "type": "public-key",
            "response": { "attestationObject": encoded(&object), "clientDataJSON": encoded(client.as_bytes()) },
        })
        .to_string()
    }

    /// Signs what the page asks.
    pub(crate) fn sign(&mut self, page: &Page) -> String {
        let wanted = asked(page, "get");
        self.count += 1;
        let client = self.client_data("webauthn.get", &wanted);
        let data = self.plain(wanted["rpId"].as_str().expect("a site"), 0);
        let mut signed = data.clone();
        signed.extend(Sha256::digest(client.as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), &signed).expect("a signature");
        json!({
            "id": encoded(&self.id),
            "rawId": encoded(&self.id),
            "type": "public-key",
            "response": {
                "authenticatorData": encoded(&data),
                "clientDataJSON": encoded(client.as_bytes()),
                "signature": encoded(signature.as_ref()),
                "userHandle": encoded(&self.owner),
            },
        })
        .to_string()
    }

    fn client_data(&self, kind: &str, wanted: &Value) -> String {
        json!({ "type": kind, "challenge": wanted["challenge"], "origin": self.origin, "crossOrigin": false })
            .to_string()
    }

    fn plain(&self, site: &str, more: u8) -> Vec<u8> {
        let mut data = Sha256::digest(site.as_bytes()).to_vec();
        data.push(PRESENT | if self.verifies { VERIFIED } else { 0 } | more);
        data.extend(self.count.to_be_bytes());
        data
    }

    fn attested(&self, site: &str) -> Vec<u8> {
        let mut data = self.plain(site, ATTESTED);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).expect("short").to_be_bytes());
        data.extend(&self.id);
        // {1: 2 (EC2), 3: -7 (ES256), -1: 1 (P-256), -2: x, -3: y}; the key is 4, x, y.
        let point = self.key.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        data
    }
}
