// Forms that ask the browser for a passkey: shown where the browser has any, filled with its answer, and then sent like any form.
"use strict";
(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) {
    return;
  }
  const bytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) =>
    btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""))
      .replace(/\+/g, "-")
      .replace(/\//g, "_")
      .replace(/=+$/, "");
  const named = (list) => (list || []).map((key) => ({ ...key, id: bytes(key.id) }));

  const create = async (wanted) => {
    const publicKey = {
      ...wanted,
      challenge: bytes(wanted.challenge),
      user: { ...wanted.user, id: bytes(wanted.user.id) },
      excludeCredentials: named(wanted.excludeCredentials),
    };
    const made = await navigator.credentials.create({ publicKey });
    return {
      id: made.id,
      rawId: text(made.rawId),
      type: made.type,
      response: {
        attestationObject: text(made.response.attestationObject),
        clientDataJSON: text(made.response.clientDataJSON),
      },
    };
  };

  const get = async (wanted) => {
    const publicKey = {
      ...wanted,
      challenge: bytes(wanted.challenge),
      allowCredentials: named(wanted.allowCredentials),
    };
    const signed = await navigator.credentials.get({ publicKey });
    return {
      id: signed.id,
      rawId: text(signed.rawId),
      type: signed.type,
      response: {
        authenticatorData: text(signed.response.authenticatorData),
        clientDataJSON: text(signed.response.clientDataJSON),
        signature: text(signed.response.signature),
        userHandle: signed.response.userHandle ? text(signed.response.userHandle) : null,
      },
    };
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const fault = form.querySelector("[data-passkey-fault]");
      const button = form.querySelector("button[type=submit]");
      fault.textContent = "";
      button.disabled = true;
      try {
        const wanted = JSON.parse(form.dataset.options).publicKey;
        const answer = await (form.dataset.passkey === "create" ? create : get)(wanted);
        form.elements.credential.value = JSON.stringify(answer);
        form.submit();
      } catch (error) {
        fault.textContent =
          error.name === "InvalidStateError"
            ? "This device or security key has a passkey for this account already."
            : "It did not work, took too long or was stopped. Try again.";
        button.disabled = false;
      }
    });
  }
})();
