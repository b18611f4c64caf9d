//! Everything that was written down while a whole life passed: what every process of `ez` said, what it told Prometheus,
//! histories, every row of the database. None of the secrets that were planted on the way stands there.
use std::{collections::BTreeMap, fs};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use futures::StreamExt as _;
use house::{Customer, GOOD_CARD, House, HouseOptions, OrderForm, Visitor};
use prost::Message as _;
use reqwest::header;
use serde_json::json;
use temporalio_common::{UntypedWorkflow, protos::temporal::api::history::v1::History};
use totp_rs::Secret;

use crate::{
    accounts::{
        invitations::{invite, link},
        limits::device_of,
        log_in, send, stolen_cookie,
    },
    attention::staff,
    factors::{add_app, half_in, send_code},
    privacy::{copy_page, erase_page},
    shop::{SOON, open_with, until},
    traces::hex,
};

const KEY_BODY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIPLANTEDPLANTEDPLANTEDPLANTEDPLANTEDPLAN";
const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
/// What a vendor says that should never have said it.
const TOLD: &str = "sk_live_plantedplantedplanted77";
/// What somebody types who takes one field for another.
const MISTYPED: &str = "this-is-my-password-in-the-wrong-field-41";
const SEED: &str = "JBSWY3DPEHPK3PXPPLANTEDSEED";
/// How many guesses lock a log-in.
const GUESSES: usize = 5;
/// What an operator gives to a command that does not fit.
const MISFITS: [(&str, &str, &str); 4] = [
    ("a wrong key of Stripe", "STRIPE_SECRET_KEY", "sk_test_plantedplantedwrong31"),
    ("a wrong token of Proxmox", "PROXMOX_TOKEN_SECRET", "planted-wrong-proxmox-token-32"),
    ("a wrong key of PowerDNS", "EZ_DNS_API_KEY", "planted-wrong-powerdns-key-33"),
    ("a wrong password of a mail server", "EZ_SMTP_URL", "smtp://ez:planted-wrong-mail-password-34@127.0.0.1:9"),
];
/// The commands that operators run while everything lives.
const COMMANDS: [&[&str]; 6] = [
    &["doctor"],
    &["doctor", "--production"],
    &["audit", "verify"],
    &["keys", "rotate"],
    &["mirror", "rebuild"],
    &["reconcile"],
];

/// What must stand nowhere, by what it is.
pub(super) type Planted = BTreeMap<&'static str, String>;

/// Lives through what a customer and a member of staff do, and gives every secret that was used for it.
async fn live(house: &House) -> Planted {
    let mut planted = of_the_house(house);
    let mut customer = Customer::stranger(house).expect("a stranger");
    planted.insert("a password", customer.password.clone());
    customer.sign_up().await.expect("signing up");
    planted.insert("the tag of a link to confirm", tag(customer.verification_link().await.expect("a link").as_str()));
    customer.verify().await.expect("confirmed");
    let browser = house.visitor().expect("a browser");
    log_in(&browser, MISTYPED, MISTYPED).await;
    log_in(&browser, &customer.email, "a-wrong-password-that-was-typed-93").await;
    planted.insert("a wrong password", "a-wrong-password-that-was-typed-93".to_owned());
    planted.insert("a password in another field", MISTYPED.to_owned());
    let cookie = stolen_cookie(house, &customer.email, &customer.password).await;
    planted.insert("a session", cookie.trim_start_matches("ez=").to_owned());
    customer.log_in().await.expect("logged in");

    send_odd_things(house, &customer.visitor).await;
    planted.insert("a card", GOOD_CARD.to_owned());
    planted.insert("a seed of one-time codes", SEED.to_owned());
    buy(house, &customer, &mut planted).await;
    show_factors(house, &customer, &mut planted).await;
    make_a_token(house, &customer, &mut planted).await;
    follow_links(house, &customer, &mut planted).await;
    lock_and_open(house, &mut planted).await;

    let other = "velvet anchor 88 lantern planted";
    let values = [("old", customer.password.as_str()), ("password", other)];
    send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values).await.ok().expect("changed");
    planted.insert("a second password", other.to_owned());
    send(&browser, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await;
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/reset/").expect("a link");
    planted.insert("the tag of a link to a new password", tag(link.as_str()));
    let page = browser.open(link.as_str()).await.expect("the page");
    let third = "quiet copper 17 harbour planted";
    browser
        .submit(&page, "/accounts/reset/new/", &[("password", third)])
        .await
        .expect("an answer")
        .ok()
        .expect("a third");
    planted.insert("a third password", third.to_owned());
    third.clone_into(&mut customer.password);
    staff(house).await.visitor.open("/staff/").await.expect("the staff page").ok().expect("the staff page");
    operate(house, &mut planted).await;
    planted
}

fn of_the_house(house: &House) -> Planted {
    let setting = |name: &str| house.setting(name).expect("a setting").to_owned();
    let database = house.database_url().password().unwrap_or_default().to_owned();
    let mut planted = Planted::from([
        ("the key of sealed columns", setting("EZ_SECRET_KEY")),
        ("Stripe's key", setting("STRIPE_SECRET_KEY")),
        ("the webhook's secret", setting("STRIPE_WEBHOOK_SECRET")),
        ("Proxmox's token", setting("PROXMOX_TOKEN_SECRET")),
        ("the key of PowerDNS", setting("EZ_DNS_API_KEY")),
        ("the mail server's password", house.smtp_url().password().unwrap_or_default().to_owned()),
        ("a password of staff", house.staff_password().to_owned()),
        ("what a vendor told", TOLD.to_owned()),
        ("an SSH key", SSH_KEY.rsplit(' ').next().unwrap_or_default().to_owned()),
        ("a refused SSH key", KEY_BODY.to_owned()),
    ]);
    if database.len() >= 12 {
        planted.insert("the database's password", database);
    }
    planted
}

/// The tag of a link: what makes it worth something.
fn tag(link: &str) -> String {
    let url: url::Url = link.parse().expect("a link");
    url.query_pairs().find(|(name, _)| name == "tag").map(|(_, tag)| tag.into_owned()).expect("a tag")
}

/// Secrets where no form of ours asks for them: fields nobody reads, addresses, headers, a webhook that is not signed.
async fn send_odd_things(house: &House, visitor: &Visitor) {
    let url = |path: &str| house.url().join(path).expect("a path");
    let card = format!("/pricing/?card={GOOD_CARD}&seed={SEED}&password={MISTYPED}");
    visitor.open(&card).await.expect("a page").ok().expect("the plans");
    visitor.open(&format!("/nowhere/?token={MISTYPED}")).await.expect("a page");
    let fields = [("card", GOOD_CARD), ("code", SEED), ("password", MISTYPED)];
    let forged = visitor.http.post(url("/billing/portal/")).form(&fields).send().await.expect("an answer");
    assert_eq!(forged.status(), 403);
    let hook = visitor.http.post(url("/webhooks/stripe/")).header("stripe-signature", format!("t=1,v1={MISTYPED}"));
    let refused = hook.body(json!({"card": GOOD_CARD, "secret": SEED}).to_string()).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    let asked = visitor.http.get(url("/")).header(header::AUTHORIZATION, format!("Bearer {MISTYPED}"));
    asked.header("x-api-key", SEED).send().await.expect("an answer");
}

/// Orders twice: with a key, while a vendor tells a secret; and without one, with a password that is shown once.
async fn buy(house: &House, customer: &Customer, planted: &mut Planted) {
    let key = format!("ssh-ed25519 {KEY_BODY}!");
    let refused = OrderForm { ssh_key: &key, ..OrderForm::small("planted-0") };
    assert_eq!(customer.send_order(&refused).await.expect("an answer").status, 422);
    let told = json!({"data": null, "message": format!("an internal error: ada@example.test, token={TOLD} PVEAPIToken={TOLD}")});
    let fault = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize", "times": 2, "body": told});
    let proxmox = house.proxmox().expect("a stand-in");
    proxmox.add_fault(fault).await.expect("a fault");
    let order = customer.buy(&OrderForm { ssh_key: SSH_KEY, ..OrderForm::small("planted-1") }).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let asked = proxmox.requests(Some("/resize")).await.expect("requests");
    assert!(asked.len() > 2, "what the vendor tells was not met");
    let order = customer.buy(&OrderForm::small("planted-2")).await.expect("buying");
    let page = customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let server = page.link("/dashboard/vps/").expect("a link");
    let page = customer.visitor.open(server.as_str()).await.expect("the server").ok().expect("the server");
    let shown = customer.visitor.submit(&page, "/password/", &[]).await.expect("an answer").ok().expect("shown");
    let password = shown.texts("#password").concat();
    assert!(password.len() >= 12, "no password: {}", shown.text());
    planted.insert("a server's password", password);
}

/// Adds an app, and logs in with a recovery code after one that was wrong.
async fn show_factors(house: &House, customer: &Customer, planted: &mut Planted) {
    let (app, codes) = add_app(customer).await;
    let seed = Secret::Encoded(app.seed.clone()).to_bytes().expect("a seed");
    let [used, unused] = [&codes[0], &codes[1]];
    let wrong = "zzzz-9zzz-zzz9-zzzz";
    let (half, form) = half_in(house, customer).await;
    let refused = send_code(&half, &form, wrong).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    send_code(&half, &refused, used).await.ok().expect("let in by a recovery code");
    planted.insert("the seed in an app", app.seed);
    planted.insert("that seed in hexadecimal digits", hex(&seed));
    planted.insert("that seed in base64", BASE64_STANDARD.encode(&seed));
    planted.insert("a recovery code that was used", used.clone());
    planted.insert("the same without its lines", used.replace('-', ""));
    planted.insert("a recovery code that was not used", unused.clone());
    planted.insert("that one without its lines", unused.replace('-', ""));
    planted.insert("a recovery code that is none", wrong.to_owned());
}

/// Makes a token and asks with it, and with one that is none.
async fn make_a_token(house: &House, customer: &Customer, planted: &mut Planted) {
    let path = "/accounts/tokens/";
    let values =
        [("name", "planted"), ("password", customer.password.as_str()), ("days", "30"), ("account:read", "yes")];
    let made = send(&customer.visitor, path, path, &values).await.ok().expect("a token");
    let token = made.texts("#token").concat();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.trim_start_matches("ez_")).expect("a token's bytes");
    assert_eq!(bytes.len(), 32, "{}", made.text());
    let wrong = format!("ez_{}A", "planted".repeat(6));
    let url = house.url().join("/api/v1/account/").expect("a path");
    for (token, expected) in [(&token, 200), (&wrong, 401)] {
        let answer = reqwest::Client::new().get(url.clone()).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(answer.status(), expected);
    }
    planted.insert("a token", token);
    planted.insert("a token's bytes", hex(&bytes));
    planted.insert("a token that is none", wrong);
}

/// Follows a link of every other kind of letter: each is worth what its tag is worth.
async fn follow_links(house: &House, customer: &Customer, planted: &mut Planted) {
    let guest = Customer::stranger(house).expect("a stranger");
    invite(customer, &guest.email, "technical").await.ok().expect("invited");
    let invitation = link(house, &guest.email, 1).await;
    let page = guest.visitor.open(invitation.as_str()).await.expect("a page").ok().expect("the invitation");
    let values = [("name", "Grace"), ("password", guest.password.as_str())];
    guest.visitor.submit(&page, "/accounts/invitation/join/", &values).await.expect("an answer").ok().expect("joined");
    planted.insert("a password of somebody invited", guest.password.clone());
    planted.insert("the tag of an invitation", tag(invitation.as_str()));

    let (path, moved) = ("/accounts/address/", "moved-planted@example.test");
    send(&customer.visitor, path, path, &[("email", moved)]).await.ok().expect("asked for another address");
    let letter = house.mail().wait_for(moved, "confirm your new address", 1, SOON).await.expect("the letter");
    let confirm = letter.link("/accounts/address/confirm/").expect("a link");
    customer.visitor.open(confirm.as_str()).await.expect("a page").ok().expect("the button");
    planted.insert("the tag of a link to another address", tag(confirm.as_str()));

    let colleague = staff(house).await.visitor;
    let values = [("email", customer.email.as_str()), ("reason", "they called")];
    send(&colleague, "/staff/factors/", "/staff/factors/", &values).await.ok().expect("asked to take factors away");
    let letter = house.mail().wait_for(&customer.email, "Did you lose", 1, SOON).await.expect("the letter");
    let keep = letter.link("/accounts/factors/keep/").expect("a link");
    let page = customer.visitor.open(keep.as_str()).await.expect("a page").ok().expect("the button");
    customer.visitor.submit(&page, "/accounts/factors/keep/", &[]).await.expect("an answer").ok().expect("kept");
    planted.insert("the tag of a link that keeps factors", tag(keep.as_str()));

    // The copy holds the SSH key as its owner wrote it, and stays where it waits to be fetched.
    let copy = copy_page(house, customer, 1).await.ok().expect("the copy");
    planted.insert("the tag of a link to a copy", tag(copy.url.as_str()));

    let leaver = Customer::signed_in(house).await.expect("somebody who goes");
    let page = erase_page(house, &leaver).await.ok().expect("the button");
    planted.insert("the tag of a link that erases", tag(page.url.as_str()));
    let gone = leaver.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    gone.ok().expect("the account is closed");
    let letter = house.mail().wait_for(&leaver.email, "will be erased", 1, SOON).await.expect("the letter");
    let undo = letter.link("/accounts/erase/undo/").expect("a link");
    leaver.visitor.open(undo.as_str()).await.expect("a page").ok().expect("the form");
    planted.insert("the tag of a link that takes an erasure back", tag(undo.as_str()));
    planted.insert("a password of somebody who goes", leaver.password);
}

/// Is known by a browser, is locked out by guesses, and opens the log-in by its letter.
async fn lock_and_open(house: &House, planted: &mut Planted) {
    let guess = "a-guess-that-somebody-made-58";
    let guessed = Customer::signed_in(house).await.expect("somebody who is guessed at");
    let device = device_of(house, &guessed).await;
    let browser = house.visitor().expect("a browser");
    for _ in 0..GUESSES {
        log_in(&browser, &guessed.email, guess).await;
    }
    let letter = house.mail().wait_for(&guessed.email, "locked", 1, SOON).await.expect("the letter");
    let unlock = letter.link("/accounts/unlock/").expect("a link");
    let page = browser.open(unlock.as_str()).await.expect("a page").ok().expect("the button");
    browser.submit(&page, "/accounts/unlock/", &[]).await.expect("an answer").ok().expect("opened");
    planted.insert("what a browser is known by", device.trim_start_matches("ez-device=").to_owned());
    planted.insert("a password that was guessed", guess.to_owned());
    planted.insert("the tag of a link that opens a log-in", tag(unlock.as_str()));
}

/// Does what operators do, also with settings that do not fit. Some of it ends with a fault, which is said as well.
async fn operate(house: &House, planted: &mut Planted) {
    for words in COMMANDS {
        drop(house.run_ez(words, "").await);
    }
    let wrong = MISFITS.map(|(_, name, value)| (name, value));
    let report = house.run_ez_with(&wrong, &["doctor"]).await.expect_err("nothing fits");
    for topic in ["stripe", "proxmox", "dns", "mail"] {
        let said = format!("{report:?}");
        assert!(said.lines().any(|line| line.starts_with("FAULT") && line.contains(topic)), "{topic}: {said}");
    }
    let password = "a-password-an-operator-gave-62";
    let words = ["user", "password", "--email", house.staff_email()];
    house.run_ez(&words, password).await.expect("replaced");
    planted.insert("a password an operator gave", password.to_owned());
    for (what, _, value) in MISFITS {
        let secret = value.parse::<url::Url>().ok().and_then(|url| url.password().map(str::to_owned));
        planted.insert(what, secret.unwrap_or_else(|| value.to_owned()));
    }
}

/// What every process of `ez` wrote: the web, the workers and each command.
pub(super) fn logs(house: &House) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for file in fs::read_dir(house.logs()).expect("the logs") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("ez-") {
            all.insert(name, String::from_utf8_lossy(&fs::read(&path).expect("a log")).into_owned());
        }
    }
    assert!(all.contains_key("ez-serve.log") && all.contains_key("ez-work.log"), "{:?}", all.keys());
    all
}

/// Every history of the house's workflows, and what Temporal shows of them in its lists.
async fn histories(house: &House) -> BTreeMap<String, String> {
    let client = house.temporal().await.expect("Temporal");
    let query = format!("TaskQueue = '{}'", house.task_queue());
    let kinds = ["order-", "subscription-", "export-", "erasure-"];
    let ids = until("every workflow is listed", SOON, || async {
        let found = client.list_workflows(query.clone(), Default::default()).collect::<Vec<_>>().await;
        let ids: Vec<String> = found.into_iter().filter_map(|run| Some(run.ok()?.id().to_owned())).collect();
        let enough = ids.len() > 8 && kinds.iter().all(|kind| ids.iter().any(|id| id.starts_with(kind)));
        enough.then_some(ids)
    })
    .await;
    let mut all = BTreeMap::new();
    for id in ids {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(&id);
        let events = handle.fetch_history(Default::default()).into_events().await.expect("a history");
        all.insert(id, String::from_utf8_lossy(&History { events }.encode_to_vec()).into_owned());
    }
    all
}

/// Every row of every table, as text.
async fn dump(house: &House) -> BTreeMap<String, String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    .fetch_all(house.db())
    .await
    .expect("the tables");
    let mut all = BTreeMap::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(to_jsonb(t)::text, E'\\n'), '') from {table} t");
        let text: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_one(house.db()).await.expect("the rows of a table");
        all.insert(table, text);
    }
    let filled = all.values().filter(|text| !text.is_empty()).count();
    assert!(filled > 12, "only {filled} tables hold anything");
    all
}

/// A secret as it may stand somewhere: itself, or its bytes as hexadecimal digits.
pub(super) fn assert_nowhere(planted: &Planted, written: &BTreeMap<String, String>) {
    for (place, text) in written {
        for (what, secret) in planted {
            assert!(secret.len() >= 12, "{what} is too short to be looked for");
            for form in [secret.clone(), hex(secret.as_bytes())] {
                assert!(!text.contains(&form), "{what} stands in {place}: {}", around(text, &form));
            }
        }
    }
}

fn around(text: &str, form: &str) -> String {
    let at = text.find(form).unwrap_or_default();
    let before: String = text[..at].chars().rev().take(120).collect();
    before.chars().rev().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_whole_life_stands_in_a_log_a_history_or_the_database() {
    let options = HouseOptions::named("planted-secrets").with("EZ_LIMIT_LOCK", &GUESSES.to_string());
    let house = open_with(options).await;
    let planted = Box::pin(live(&house)).await;
    assert!(planted.len() > 46, "{:?}", planted.keys());
    // What looks for them finds what is there.
    let seen = BTreeMap::from([("here".to_owned(), format!("x{}x", planted["a password"]))]);
    assert!(
        std::panic::catch_unwind(|| assert_nowhere(&planted, &seen)).is_err(),
        "a secret that is there is not found"
    );
    let told = histories(&house).await;
    assert!(told.values().any(|text| text.contains("policy")), "the histories cannot be read");
    assert_nowhere(&planted, &told);
    assert_nowhere(&planted, &dump(&house).await);
    let metrics = house.metrics().await.expect("metrics");
    assert_nowhere(&planted, &BTreeMap::from([("the metrics".to_owned(), metrics)]));
    house.stop_web().await.expect("the web ends");
    house.stop_worker().await.expect("the worker ends");
    let logs = logs(&house);
    assert!(logs["ez-serve.log"].contains("logged in") && !logs["ez-work.log"].is_empty(), "the logs cannot be read");
    for command in ["doctor", "audit", "keys", "mirror", "reconcile"] {
        let said = logs.get(&format!("ez-{command}.log"));
        assert!(said.is_some_and(|said| !said.is_empty()), "ez {command} said nothing");
    }
    assert_nowhere(&planted, &logs);
}
