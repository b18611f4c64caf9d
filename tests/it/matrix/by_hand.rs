//! What staff do by hand before they skip a step, as the runbook says, at the vendors themselves.
use std::net::{Ipv4Addr, Ipv6Addr};

use activities::name::powerdns::{PowerDnsApi, Published};
use domain::ids::ServiceId;
use house::House;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::order::LIMIT;
use crate::{shop::until, world::list};

/// An order that waits, and where its machine is.
struct Place<'a> {
    house: &'a House,
    order: Uuid,
    vmid: u32,
    published: Published,
}

/// Does what a step that waits would have done. A clone has its number to tell, so it is made elsewhere.
pub(super) async fn by_hand(house: &House, workflow_id: &str, step: &str) {
    if matches!(step, "payment" | "clone" | "answer") {
        return;
    }
    let place = Place::of(house, workflow_id).await;
    let address = format!("ip={}/16", place.published.ipv4);
    match step {
        "configure" => place.change(Method::PUT, "/config", &[("ipconfig0", address.as_str()), ("onboot", "1")]).await,
        "resize" => place.change(Method::PUT, "/resize", &[("disk", "scsi0"), ("size", "20G")]).await,
        // The addresses it may send from are there already.
        "protect" => {
            place.change(Method::PUT, "/firewall/options", &[("enable", "1"), ("ipfilter", "1")]).await;
        }
        "start" => place.starts().await,
        "name" => place.names().publish(&place.published).await.expect("named by hand"),
        "suspend" => {
            place.change(Method::POST, "/status/stop", &[]).await;
            place.becomes("stopped").await;
            place.change(Method::PUT, "/config", &[("onboot", "0")]).await;
        }
        "resume" => {
            place.starts().await;
            place.change(Method::PUT, "/config", &[("onboot", "1")]).await;
        }
        // It was stopped for it already.
        "fit" => {
            place.change(Method::PUT, "/config", &[("cores", "2"), ("memory", "4096")]).await;
            place.change(Method::PUT, "/resize", &[("disk", "scsi0"), ("size", "40G")]).await;
            place.starts().await;
        }
        "destroy" => {
            let machine = format!("/_control/vms/{}", place.vmid);
            house.proxmox().expect("a stand-in").delete(&machine).await.expect("destroyed by hand");
        }
        "unname" => place.names().withdraw(&place.published).await.expect("unnamed by hand"),
        "refund" => place.refund().await,
        other => panic!("nobody knows how {other} is done by hand"),
    }
}

impl<'a> Place<'a> {
    /// The place of an order, or of the order of a subscription.
    async fn of(house: &'a House, workflow_id: &str) -> Self {
        let (order, service, hostname, vmid, ipv4, ipv6): (Uuid, Uuid, String, i32, String, String) = sqlx::query_as(
            "select o.id, s.id, s.hostname, r.vmid, host(r.ipv4), host(r.ipv6)
             from orders o join services s on s.id = o.service_id join reservations r on r.order_id = o.id
             where 'order-' || o.id::text = $1
                or exists (select from subscriptions b where b.order_id = o.id and 'subscription-' || b.id = $1)",
        )
        .bind(workflow_id)
        .fetch_one(house.db())
        .await
        .expect("its place");
        let published = Published {
            name: format!("{}.{}", activities::name::label(&hostname, ServiceId(service)), house.zone()),
            ipv4: ipv4.parse::<Ipv4Addr>().expect("an address"),
            ipv6: ipv6.parse::<Ipv6Addr>().expect("an address"),
        };
        Self { house, order, vmid: u32::try_from(vmid).expect("a number"), published }
    }

    fn setting(&self, name: &str) -> &str {
        self.house.setting(name).unwrap_or_else(|| panic!("{name} is not set"))
    }

    /// Changes the machine at Proxmox.
    async fn change(&self, method: Method, act: &str, form: &[(&str, &str)]) {
        let machines = self.house.machines().vms().await.expect("the machines");
        let node = &machines.get(&self.vmid).expect("its machine").node;
        let path = format!("/api2/json/nodes/{node}/qemu/{}{act}", self.vmid);
        let authority = std::fs::read(self.setting("PROXMOX_CA_FILE")).expect("the authority's certificate");
        let authority = reqwest::Certificate::from_pem(&authority).expect("a certificate");
        let http = reqwest::Client::builder().tls_certs_only([authority]).build().expect("a client");
        let (id, secret) = (self.setting("PROXMOX_TOKEN_ID"), self.setting("PROXMOX_TOKEN_SECRET"));
        let request = http
            .request(method, self.house.proxmox_url().join(&path).expect("an address"))
            .header("Authorization", format!("PVEAPIToken={id}={secret}"))
            .form(form);
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {:?}", answer.text().await);
    }

    async fn starts(&self) {
        self.change(Method::POST, "/status/start", &[]).await;
        self.becomes("running").await;
    }

    async fn becomes(&self, status: &str) {
        until(&format!("machine {} is {status}", self.vmid), LIMIT, || async {
            let machines = self.house.machines().vms().await.expect("the machines");
            machines.get(&self.vmid).is_some_and(|vm| vm.status == status).then_some(())
        })
        .await;
    }

    fn names(&self) -> PowerDnsApi {
        let url = self.setting("EZ_DNS_URL").parse().expect("an address");
        PowerDnsApi::new(&url, self.setting("EZ_DNS_API_KEY"), self.setting("EZ_DNS_ZONE")).expect("PowerDNS")
    }

    /// Ends the subscription and gives back what was paid, as in Stripe's dashboard.
    async fn refund(&self) {
        let stripe = self.house.stripe();
        let state = stripe.state().await.expect("Stripe");
        let order = self.order.to_string();
        let own = |row: &&Value| row["metadata"]["order"] == order.as_str();
        let subscription = list(&state["subscriptions"]).iter().find(own).cloned().expect("its subscription");
        let id = subscription["id"].as_str().expect("an id");
        stripe.post(&format!("/_control/subscriptions/{id}/cancel"), json!({})).await.expect("ended by hand");
        let paid = |row: &&Value| row["customer"] == subscription["customer"];
        let intent = list(&state["payment_intents"]).iter().find(paid).cloned().expect("its payment");
        let form = [("payment_intent", intent["id"].as_str().expect("an id"))];
        let url = stripe.base().join("/v1/refunds").expect("an address");
        let http = &self.house.visitor().expect("a browser").http;
        let answer = http.post(url).bearer_auth(self.setting("STRIPE_SECRET_KEY")).form(&form).send().await;
        let answer = answer.expect("an answer");
        assert!(answer.status().is_success(), "/v1/refunds: {:?}", answer.text().await);
    }
}
