//! Letters at maildev, a mail server that we did not write: it wants a log-in, takes every letter, and its own reader finds in
//! each what was meant.
use contract::letter::{LetterInput, LetterKind, LetterSubject};
use domain::ids::{SubscriptionId, UserId};
use house::{Customer, House, HouseOptions, OrderForm, Post};
use serde_json::Value;
use temporalio_client::{Client, WorkflowStartOptions};
use uuid::Uuid;
use workflows::letter::Letter;

use crate::{
    shop::{SOON, open_with, until},
    world::{count, list},
};

/// A name that no header holds as it is written.
const NAME: &str = "Jörg Öztürk-Müßig";
/// A day as some occasions name it at their end.
const A_DAY: &str = "1900000000";

const VERIFICATION: &str = "
    insert into email_verifications (id, user_id, expires_at)
    select $1, id, now() + interval '1 day' from users where id = $2 and $3 <> ''";
const CHANGE: &str = "
    insert into access_changes (id, user_id, kind, new_email, old_email, expires_at)
    select $1, id, $3, email, email, now() + interval '1 day' from users where id = $2";
const DEVICE: &str = "
    insert into devices (id, user_id, token_hash, agent, network)
    values ($1, $2, sha256(convert_to($3, 'UTF8')), $3, '198.51.100.7')";
const FACTORS: &str = "insert into factor_changes (id, user_id, what) values ($1, $2, $3)";
const RESET: &str = "
    insert into factor_resets (id, user_id, asked_by, reason, due_at) values ($1, $2, $2, $3, now() + interval '1 day')
    on conflict (user_id) where ended_at is null do update set id = excluded.id";
const INVITATION: &str = "
    insert into invitations (id, account_id, email, role, invited_by, expires_at)
    select $1, account_id, email, $3, id, now() + interval '1 day' from users where id = $2";
const EXPORT: &str = "
    insert into data_exports (id, user_id, account_id, state, sealed_archive, expires_at, told_at)
    select $1, id, account_id, $3, 'sealed', now() + interval '1 day', now() from users where id = $2";
const ERASURE: &str = "
    insert into erasures (id, user_id, account_id, state, email, expires_at, due_at, told)
    select $1, id, account_id, $3, email, now() + interval '1 day', now() + interval '1 day', 1 from users where id = $2
    on conflict (user_id) where state in ('asked', 'waiting', 'erasing', 'erased')
        do update set id = excluded.id, state = excluded.state";
const WISH: &str = "
    insert into instructions (id, subscription_id, order_id, kind, about, amount_minor, currency, actor, reason, state)
    select $1, o.subscription_id, o.id, 'change_plan', p.stripe_price_id, 1500, 'eur', $2::text, 'wished for', $3
    from orders o join prices p on p.id = o.price_id";
const HELD: &str = "
    insert into removals (occasion, subscription_id, order_id, kind, cause, why)
    select 'suspend/' || $1::text, o.subscription_id, o.id, 'suspend', $3, 'too many at once'
    from orders o join users u on u.account_id = o.account_id where u.id = $2";
const WAITING: &str = "
    insert into attention (id, workflow_id, occurrence, step, reason)
    select $1, 'letter-' || $1::text, 1, 'notify', $3 from users where id = $2";

async fn open(name: &str) -> House {
    open_with(HouseOptions { post: Post::Maildev, ..HouseOptions::named(name) }).await
}

/// Signs up and confirms the address by the link in the letter.
async fn signed_in(house: &House) -> Customer {
    let mut customer = Customer::stranger(house).expect("a stranger");
    customer.name = String::from(NAME);
    customer.sign_up().await.expect("signing up");
    customer.verify().await.expect("confirming");
    customer.log_in().await.expect("logging in");
    customer
}

async fn delivered(customer: &Customer, hostname: &str) -> house::Letter {
    let order = customer.buy(&OrderForm::small(hostname)).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    customer.mailbox().wait_for(&customer.email, "is ready", 1, SOON).await.expect("the letter about it")
}

/// Every message that maildev holds, as its own reader understood it.
async fn held(house: &House) -> Vec<Value> {
    list(&house.mail().control.get("/email").await.expect("maildev's messages"))
}

/// Every letter that was written is there once, and there is nothing else.
async fn assert_each_came_once(house: &House) {
    until("each letter is sent and is there once, and nothing else is", SOON, || async {
        let open = count(house.db(), "select count(*) from letters where state <> 'sent'").await;
        let ids = "select trim(both '<>' from message_id) from letters where message_id is not null";
        let mut sent: Vec<String> = sqlx::query_scalar(ids).fetch_all(house.db()).await.expect("the letters");
        let mut came: Vec<String> = held(house).await.iter().map(|message| words(message, "messageId")).collect();
        sent.sort();
        came.sort();
        (open == 0 && sent == came).then_some(())
    })
    .await;
}

fn words(message: &Value, part: &str) -> String {
    message[part].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_told_through_a_mail_server_of_somebody_else() {
    let house = open("post").await;
    let customer = signed_in(&house).await;
    let letter = delivered(&customer, "posted").await;
    assert!(letter.text.contains(&format!("Hello {NAME},")), "{}", letter.text);
    let link = letter.link("/dashboard/vps/").expect("a link");
    let page = customer.visitor.open(link.as_str()).await.expect("an answer").ok().expect("the server's page");
    assert!(page.text().contains("posted"), "{}", page.text());
    assert_each_came_once(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_of_somebody_else_lets_nobody_in_with_another_password_and_the_doctor_says_so() {
    let house = open("post-password").await;
    let examined = async |url: &str| {
        let told = house.run_ez_with(&[("EZ_SMTP_URL", url)], &["doctor"]).await;
        told.unwrap_or_else(|fault| format!("{fault:?}"))
    };
    let mut url = house.smtp_url().clone();
    let told = examined(url.as_str()).await;
    assert!(told.lines().any(|line| line.starts_with("ok") && line.contains("mail server greets us")), "{told}");
    url.set_password(Some("another")).expect("another password");
    let told = examined(url.as_str()).await;
    assert!(told.lines().any(|line| line.starts_with("FAULT") && line.contains("mail")), "{told}");
    let again = examined(house.smtp_url().as_str()).await;
    assert!(again.lines().any(|line| line.starts_with("ok") && line.contains("mail server greets us")), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_while_a_mail_server_of_somebody_else_is_dead_comes_once() {
    let house = open("post-killed").await;
    let customer = signed_in(&house).await;
    assert_each_came_once(&house).await;
    let form = customer.visitor.open("/accounts/reset/").await.expect("an answer").ok().expect("the form");
    house.kill_mail().await.expect("kill -9");
    let values = [("email", customer.email.as_str())];
    customer.visitor.submit(&form, "/accounts/reset/", &values).await.expect("an answer").ok().expect("asked");
    until("the letter was tried in vain", SOON, || async {
        let tried = "select count(*) from letters
            where kind = 'password_reset' and state = 'started' and last_error is not null";
        (count(house.db(), tried).await == 1).then_some(())
    })
    .await;
    house.start_mail().await.expect("the mail server is back");
    let letter = customer.mailbox().wait_for(&customer.email, "choose a new password", 1, SOON).await;
    let link = letter.expect("the letter").link("/accounts/reset/").expect("a link");
    customer.visitor.open(link.as_str()).await.expect("an answer").ok().expect("a link that works");
    assert_each_came_once(&house).await;
}

/// What a letter of this kind names, and the word that its row wants. `$1` is its id, `$2` a user, `$3` the word.
fn row_of(kind: LetterKind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        LetterKind::VerifyAddress => (VERIFICATION, "verify_address"),
        LetterKind::PasswordReset => (CHANGE, "reset_password"),
        LetterKind::LogInLocked | LetterKind::CodesLocked => (CHANGE, "unlock"),
        LetterKind::AddressConfirm | LetterKind::AddressChanging | LetterKind::AddressChanged => {
            (CHANGE, "change_address")
        }
        LetterKind::AccountClosed => (CHANGE, "close"),
        LetterKind::NewDevice => (DEVICE, "Firefox on Linux"),
        LetterKind::MemberInvitation => (INVITATION, "billing"),
        LetterKind::FactorsChanged => (FACTORS, "app_added"),
        LetterKind::FactorsReset | LetterKind::ColleagueFactorsReset => (RESET, "everything was lost"),
        LetterKind::DataExport => (EXPORT, "ready"),
        LetterKind::ErasureConfirm => (ERASURE, "asked"),
        LetterKind::ErasureWaiting => (ERASURE, "waiting"),
        LetterKind::ErasureDone => (ERASURE, "erased"),
        LetterKind::PlanConfirmation => (WISH, "accepted"),
        LetterKind::PlanUnchanged => (WISH, "refused"),
        LetterKind::StaffAttention => (WAITING, ""),
        LetterKind::RemovalsHeld => (HELD, "breaker"),
        _ => return None,
    })
}

/// Whether it is about a server, and greets whoever has it by name.
fn is_about_a_server(kind: LetterKind) -> bool {
    (LetterKind::ServiceDelivered..=LetterKind::OrderAbandoned).contains(&kind)
}

/// Lines that SMTP itself uses, a line that is too long for it, and letters that are not ASCII.
fn awkward() -> String {
    format!("the mail server says\n.\n..two dots\nübel: {}\nFrom here on it is silent", "x".repeat(1_200))
}

/// Writes down what a letter of this kind names, as pages and workflows do.
async fn about(house: &House, kind: LetterKind, user: Uuid, subscription: &str) -> LetterInput {
    let id = Uuid::new_v4();
    if let Some((statement, word)) = row_of(kind) {
        let word = if kind == LetterKind::StaffAttention { awkward() } else { word.to_owned() };
        let written = sqlx::query(statement).bind(id).bind(user).bind(word).execute(house.db()).await;
        let written = written.unwrap_or_else(|fault| panic!("{kind}: {fault}"));
        assert_eq!(written.rows_affected(), 1, "{kind}");
    }
    let occasion = match kind {
        LetterKind::StaffAttention => format!("{kind}/letter-{id}/1"),
        LetterKind::TrialEnding
        | LetterKind::SubscriptionEnding
        | LetterKind::ServiceRemoved
        | LetterKind::DestructionWarning => format!("{kind}/{id}/{A_DAY}"),
        _ => format!("{kind}/{id}"),
    };
    let subject = if is_about_a_server(kind) {
        LetterSubject::Subscription(SubscriptionId(subscription.to_owned()))
    } else {
        LetterSubject::User(UserId(user))
    };
    LetterInput { kind, subject, service: None, occasion, patience_secs: None }
}

/// Has the worker send a letter, and gives what maildev understood.
async fn sent(house: &House, client: &Client, letter: LetterInput) -> Value {
    let occasion = letter.occasion.clone();
    let options = WorkflowStartOptions::new(house.task_queue().to_owned(), letter.workflow_id()).build();
    client.start_workflow(Letter::run, letter, options).await.expect("a letter begins");
    let id = until(&format!("{occasion} is sent"), SOON, || async {
        let row: Option<(String, Option<String>, Option<String>)> =
            sqlx::query_as("select state, message_id, last_error from letters where occasion = $1")
                .bind(&occasion)
                .fetch_optional(house.db())
                .await
                .expect("the letter");
        let (state, id, why) = row?;
        assert_ne!(state, "refused", "{occasion}: {why:?}");
        id.filter(|_| state == "sent")
    })
    .await;
    let id = id.trim_matches(['<', '>']);
    // maildev says that it has a message before it has read it.
    until(&format!("{occasion} is read"), SOON, || async {
        held(house).await.into_iter().find(|message| message["messageId"] == id)
    })
    .await
}

/// It goes to this address and to nobody else, and both its parts say in words what they say.
fn assert_reads_well(kind: LetterKind, message: &Value, address: &str, site: &str) {
    for receivers in [&message["to"], &message["envelope"]["to"]] {
        let receivers = list(receivers);
        assert_eq!(receivers.len(), 1, "{kind}: {receivers:?}");
        assert_eq!(receivers[0]["address"], address, "{kind}");
    }
    assert_eq!(message["headers"]["auto-submitted"], "auto-generated", "{kind}");
    let (subject, text, html) = (words(message, "subject"), words(message, "text"), words(message, "html"));
    assert!(!subject.is_empty() && !subject.contains('\n'), "{kind}: {subject:?}");
    for part in [&subject, &text, &html] {
        for garbage in ["=?utf-8", "Content-Transfer-Encoding", "multipart/", "Ã", "\u{fffd}"] {
            assert!(!part.contains(garbage), "{kind}: {garbage:?} in {part}");
        }
    }
    assert!(text.contains("EZ Solutions") && !text.contains("</"), "{kind}: {text}");
    assert!(html.trim_start().starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{kind}: {html}");
    let links: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with("http")).collect();
    assert!(links.iter().any(|link| link.starts_with(site)), "{kind}: {text}");
    for link in links {
        let address = format!("href=\"{}\"", link.replace('&', "&#38;"));
        assert!(html.contains(&address), "{kind}: no {address} in {html}");
    }
    if is_about_a_server(kind) {
        assert_eq!(message["to"][0]["name"], NAME, "{kind}");
        assert!(text.contains(NAME) && html.contains(NAME), "{kind}: {text}");
    }
    if kind == LetterKind::StaffAttention {
        assert!(text.contains(&awkward()), "{text}");
        assert!(html.contains("\n..two dots\n"), "{html}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_letter_is_read_by_somebody_else_as_it_was_meant() {
    let house = open("post-kinds").await;
    let customer = signed_in(&house).await;
    delivered(&customer, "described").await;
    let user: Uuid = sqlx::query_scalar("select id from users where email = $1")
        .bind(&customer.email)
        .fetch_one(house.db())
        .await
        .expect("the user");
    let subscription: String =
        sqlx::query_scalar("select subscription_id from orders").fetch_one(house.db()).await.expect("one");
    let client = house.temporal().await.expect("Temporal");
    for kind in LetterKind::ALL {
        let letter = about(&house, *kind, user, &subscription).await;
        let message = sent(&house, &client, letter).await;
        let to_staff = matches!(kind, LetterKind::StaffAttention | LetterKind::RemovalsHeld);
        let address = if to_staff { house.staff_email() } else { customer.email.as_str() };
        assert_reads_well(*kind, &message, address, house.url().as_str());
    }
    assert_each_came_once(&house).await;
}
