//! Passkeys: what a browser is asked to sign, and what it answers. webauthn-rs checks every answer; what was asked is kept here, on
//! our side, and taken away by the first answer. Every signature needs the device's own check of its owner (a finger, a face, a
//! number), so a passkey counts for both factors.
use domain::ids::UserId;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use store::{CeremonyKind, NewPasskey, StoredPasskey, User};
use url::Url;
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, CredentialID, DiscoverableAuthentication, Passkey, PasskeyAuthentication,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::{Portal, page::Refusal, posted::Posted};

const NAME: &str = "EZ Solutions";

/// Who checks passkeys. A site whose address is a number has none: browsers bind passkeys to names.
pub(crate) struct Passkeys(Option<Webauthn>);

/// What a page asks the browser for.
pub(crate) struct Asked {
    /// What it is answered under.
    pub(crate) ceremony: Uuid,
    /// The options, as JSON.
    pub(crate) options: String,
}

/// Whose signature it is that was asked of anybody.
pub(crate) enum SignedBy {
    /// This user's, as they were before it was checked.
    User(Box<User>),
    /// Nobody's; whose passkey it names, if it names one that we know.
    Nobody(Option<UserId>),
}

impl Passkeys {
    /// The one for a site.
    pub(crate) fn at(site_url: &str) -> Self {
        let made = Url::parse(site_url).ok().and_then(|site| {
            let name = site.domain()?;
            WebauthnBuilder::new(name, &site).ok()?.rp_name(NAME).build().ok()
        });
        Self(made)
    }

    /// Whether there are passkeys at all.
    pub(crate) fn are_there(&self) -> bool {
        self.0.is_some()
    }
}

impl Portal {
    /// Asks for a new passkey; nothing where there are none.
    pub(crate) async fn ask_to_add(&self, user: &User) -> Result<Option<Asked>, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(None) };
        let known: Vec<CredentialID> =
            self.keys_of(user.id).await?.iter().map(|(_, key)| key.cred_id().clone()).collect();
        let (options, state) = webauthn
            .start_passkey_registration(user.id.0, &user.email, &user.name, Some(known))
            .map_err(|fault| broken(&fault, "asking for a passkey"))?;
        let mut options = json(&options)?;
        // So that it also works without an address and a password, where the device has room for it.
        if let Some(wanted) = options.pointer_mut("/publicKey/authenticatorSelection").and_then(Value::as_object_mut) {
            wanted.insert("residentKey".to_owned(), Value::from("preferred"));
        }
        self.asked(CeremonyKind::Add, Some(user.id), &options, &json(&state)?).await.map(Some)
    }

    /// Asks for a signature with a passkey of somebody we know by name; nothing where they have none.
    pub(crate) async fn ask_to_sign(&self, kind: CeremonyKind, user: UserId) -> Result<Option<Asked>, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(None) };
        let keys: Vec<Passkey> = self.keys_of(user).await?.into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let (options, state) =
            webauthn.start_passkey_authentication(&keys).map_err(|fault| broken(&fault, "asking for a signature"))?;
        self.asked(kind, Some(user), &json(&options)?, &json(&state)?).await.map(Some)
    }

    /// Asks whoever is at the door for a signature; nothing where there are no passkeys.
    pub(crate) async fn ask_anybody(&self) -> Result<Option<Asked>, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(None) };
        let (options, state) =
            webauthn.start_discoverable_authentication().map_err(|fault| broken(&fault, "asking for a signature"))?;
        let mut options = json(&options)?;
        // A button asks, not a field that fills itself in.
        if let Some(whole) = options.as_object_mut() {
            whole.remove("mediation");
        }
        self.asked(CeremonyKind::LogIn, None, &options, &json(&state)?).await.map(Some)
    }

    /// The passkey that a form brings, under the name its owner gave it; nothing when it does not answer what was asked.
    pub(crate) async fn added(&self, user: &User, posted: &Posted) -> Result<Option<NewPasskey>, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(None) };
        let answered = self
            .answered::<PasskeyRegistration, RegisterPublicKeyCredential>(CeremonyKind::Add, Some(user.id), posted)
            .await?;
        let Some((state, answer)) = answered else { return Ok(None) };
        let Some(key) = sound(webauthn.finish_passkey_registration(&answer, &state)) else { return Ok(None) };
        let credential_id = key.cred_id().clone();
        Ok(Some(NewPasskey { credential_id, credential: json(&key)?, name: posted.text("name").to_owned() }))
    }

    /// Whether a form brings a signature that was asked of this user for this.
    pub(crate) async fn signed(&self, kind: CeremonyKind, user: UserId, posted: &Posted) -> Result<bool, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(false) };
        let answered = self.answered::<PasskeyAuthentication, PublicKeyCredential>(kind, Some(user), posted).await?;
        let Some((state, answer)) = answered else { return Ok(false) };
        let Some(result) = sound(webauthn.finish_passkey_authentication(&answer, &state)) else { return Ok(false) };
        self.used(user, &result).await
    }

    /// Whose signature a form brings, when it was asked of anybody.
    pub(crate) async fn signed_by(&self, posted: &Posted) -> Result<SignedBy, Refusal> {
        let Some(webauthn) = &self.passkeys.0 else { return Ok(SignedBy::Nobody(None)) };
        let answered =
            self.answered::<DiscoverableAuthentication, PublicKeyCredential>(CeremonyKind::LogIn, None, posted).await?;
        let Some((state, answer)) = answered else { return Ok(SignedBy::Nobody(None)) };
        let Some((id, credential)) = sound(webauthn.identify_discoverable_authentication(&answer)) else {
            return Ok(SignedBy::Nobody(None));
        };
        // Before their passkeys: when one is taken away after this, the epoch read here has gone by.
        let Some(user) = self.store.user(UserId(id)).await? else { return Ok(SignedBy::Nobody(None)) };
        let keys = self.keys_of(user.id).await?;
        let Some((_, key)) = keys.iter().find(|(_, key)| key.cred_id().as_slice() == credential) else {
            return Ok(SignedBy::Nobody(None));
        };
        let result = sound(webauthn.finish_discoverable_authentication_v2(&answer, state, key));
        let Some(result) = result else { return Ok(SignedBy::Nobody(Some(user.id))) };
        let noted = self.used(user.id, &result).await?;
        Ok(if noted { SignedBy::User(Box::new(user)) } else { SignedBy::Nobody(Some(user.id)) })
    }

    /// Notes the use of a passkey. Says no when it is not this user's any more, or was used elsewhere at this moment.
    async fn used(&self, user: UserId, result: &AuthenticationResult) -> Result<bool, Refusal> {
        let found = self.keys_of(user).await?.into_iter().find(|(_, key)| key.cred_id() == result.cred_id());
        let Some((before, mut key)) = found else { return Ok(false) };
        if !result.user_verified() {
            return Ok(false);
        }
        let _changed = key.update_credential(result);
        Ok(self.store.passkey_used(&before, &json(&key)?).await?)
    }

    async fn keys_of(&self, user: UserId) -> Result<Vec<(StoredPasskey, Passkey)>, Refusal> {
        let stored = self.store.passkeys(user).await?;
        let read = |stored: StoredPasskey| {
            let key = serde_json::from_value::<Passkey>(stored.credential.clone());
            key.map(|key| (stored, key)).map_err(|_| Refusal::Broken("reading a passkey"))
        };
        stored.into_iter().map(read).collect()
    }

    async fn asked(
        &self,
        kind: CeremonyKind,
        user: Option<UserId>,
        options: &Value,
        state: &Value,
    ) -> Result<Asked, Refusal> {
        let ceremony = self.store.begin_ceremony(kind, user, state).await?;
        Ok(Asked { ceremony, options: options.to_string() })
    }

    /// What was asked, taken away, and what a form answers; nothing when either is not there.
    async fn answered<S: DeserializeOwned + Send, A: DeserializeOwned + Send>(
        &self,
        kind: CeremonyKind,
        user: Option<UserId>,
        posted: &Posted,
    ) -> Result<Option<(S, A)>, Refusal> {
        let Ok(id) = posted.text("ceremony").parse::<Uuid>() else { return Ok(None) };
        let Ok(answer) = serde_json::from_str::<A>(posted.exact("credential")) else { return Ok(None) };
        let Some(state) = self.store.take_ceremony(id, kind, user).await? else { return Ok(None) };
        let state = serde_json::from_value(state).map_err(|_| Refusal::Broken("reading what a browser was asked"))?;
        Ok(Some((state, answer)))
    }
}

fn json(value: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|_| Refusal::Broken("writing about a passkey"))
}

fn broken(fault: &WebauthnError, what: &'static str) -> Refusal {
    tracing::error!(%fault, what, "passkeys do not work here");
    Refusal::Broken(what)
}

fn sound<T>(checked: Result<T, WebauthnError>) -> Option<T> {
    checked.inspect_err(|fault| tracing::info!(%fault, "an answer of a passkey does not fit")).ok()
}

#[cfg(test)]
mod tests {
    use super::Passkeys;

    #[test]
    fn a_site_with_a_name_has_passkeys_and_one_with_a_number_has_none() {
        for (site, there) in [
            ("https://portal.example.com", true),
            ("http://localhost:8000", true),
            ("http://127.0.0.1:8000", false),
            ("https://[::1]", false),
            ("not an address", false),
        ] {
            assert_eq!(Passkeys::at(site).are_there(), there, "{site}");
        }
    }
}
