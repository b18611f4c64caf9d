//! The table of permissions, walked: every route there is × everybody there is, and × what belongs to somebody else.
use std::{collections::BTreeMap, process::Command, sync::Arc};

use house::{Customer, House, HouseOptions, OrderForm, Visitor};
use reqwest::{Method, cookie::Jar, header, redirect::Policy};
use store::{
    NewUser, SessionRows, Store, Whereabouts,
    sessions::{USER_KEY, WHERE_KEY},
};
use tower_sessions::{
    SessionStore as _,
    session::{Id, Record},
};
use uuid::Uuid;

use crate::{
    shop::{SOON, open, open_with, until},
    world::table,
};

pub(super) const MEMBERS: [&str; 4] = ["owner", "billing", "technical", "read-only"];
const STAFF: [&str; 4] = ["support", "operator", "finance", "admin"];

/// One line of the table, as `ez permissions` prints it.
#[derive(Debug)]
struct Line {
    method: Method,
    route: String,
    /// Who may, by the head of the column.
    lets: BTreeMap<String, bool>,
}

fn printed() -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_ez")).arg("permissions").output().expect("ez permissions");
    assert!(printed.status.success());
    String::from_utf8(printed.stdout).expect("UTF-8")
}

fn lines() -> Vec<Line> {
    let page = printed();
    let mut rows = page.lines().filter(|line| line.starts_with('|')).map(|line| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    });
    let head = rows.next().expect("the head of the table");
    let lines: Vec<Line> = rows
        .skip(1)
        .map(|cells| Line {
            method: cells[0].parse().expect("a method"),
            route: cells[1].clone(),
            lets: head.iter().zip(&cells).skip(2).map(|(who, cell)| (who.clone(), cell == "yes")).collect(),
        })
        .collect();
    assert!(lines.len() > 60, "{lines:#?}");
    for line in &lines {
        assert!([Method::GET, Method::POST].contains(&line.method), "a route without a line: {line:?}");
    }
    lines
}

#[test]
fn the_page_of_permissions_is_what_the_binary_prints() {
    let page = include_str!("../../../docs/PERMISSIONS.md");
    assert_eq!(printed(), page, "run: cargo run --bin ez permissions > docs/PERMISSIONS.md");
}

/// Somebody who is logged in and follows no redirects: a member of an account, or one of the staff.
pub(super) async fn person(house: &House, store: &Store, account: Option<Uuid>, role: &str) -> Visitor {
    let email = format!("{role}-{}@example.test", Uuid::new_v4().simple());
    let new = NewUser { name: format!("A {role}"), email, password_hash: String::new() };
    // The only user the store makes with a confirmed address is one of the staff.
    let user = store.create_staff(new).await.expect("a user").0;
    let staff = Some(role).filter(|role| STAFF[..3].contains(role));
    sqlx::query("update users set is_staff = $2, staff_role = $3 where id = $1")
        .bind(user)
        .bind(role == "admin")
        .bind(staff)
        .execute(house.db())
        .await
        .expect("a role");
    if let Some(account) = account {
        sqlx::query("insert into members (account_id, user_id, role, chosen_at) values ($1, $2, $3, now())")
            .bind(account)
            .bind(user)
            .bind(role.replace('-', "_"))
            .execute(house.db())
            .await
            .expect("a member");
    }
    let epoch: i32 = sqlx::query_scalar("select access_epoch from users where id = $1")
        .bind(user)
        .fetch_one(house.db())
        .await
        .expect("the table");
    assert_eq!(epoch, 0, "the session would be over");
    // They said just now who they are, so that what asks for it again lets them through.
    let begun = Whereabouts {
        agent: "a test".to_owned(),
        network: "127.0.0.1".to_owned(),
        idle_secs: 86_400,
        epoch,
        account: None,
        factor: None,
        proven: true,
        remembered: true,
        ends_at: None,
    };
    let data = [(USER_KEY.to_owned(), serde_json::json!(user)), (WHERE_KEY.to_owned(), serde_json::json!(begun))];
    let mut record = Record {
        id: Id::default(),
        data: data.into(),
        expiry_date: time::OffsetDateTime::now_utc() + time::Duration::days(1),
    };
    SessionRows(store.clone()).create(&mut record).await.expect("a session");
    careful(house, Some(&format!("ez={}", record.id)))
}

fn careful(house: &House, cookie: Option<&str>) -> Visitor {
    let jar = Jar::default();
    if let Some(cookie) = cookie {
        jar.add_cookie_str(&format!("{cookie}; Path=/"), house.url());
    }
    let http = reqwest::Client::builder().cookie_provider(Arc::new(jar)).redirect(Policy::none());
    Visitor { home: house.url().clone(), http: http.build().expect("a client") }
}

/// What stands for the parts of a route.
struct Parts {
    order: String,
    service: String,
    invoice: String,
    subscription: String,
    account: Uuid,
}

impl Parts {
    async fn of(house: &House, owner: &Customer) -> Self {
        let order = owner.buy(&OrderForm::small("walked-1")).await.expect("buying");
        owner.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
        let found = || {
            let look = "select o.id::text, s.id::text, s.subscription_id, i.id, o.account_id
                from orders o join services s on s.order_id = o.id
                join invoices i on i.subscription_id = s.subscription_id limit 1";
            let asked = sqlx::query_as::<_, (String, String, String, String, Uuid)>(look).fetch_optional(house.db());
            async move { asked.await.expect("the tables") }
        };
        let (order, service, subscription, invoice, account) = until("the invoice is known", SOON, found).await;
        Self { order, service, invoice, subscription, account }
    }

    /// What is nobody's: who may ask is judged before anything is looked for.
    fn of_nobody() -> Self {
        let nil = Uuid::nil().to_string();
        let (invoice, subscription) = ("in_none".to_owned(), "sub_none".to_owned());
        Self { order: nil.clone(), service: nil, invoice, subscription, account: Uuid::nil() }
    }

    fn path(&self, route: &str) -> String {
        let id = match route {
            route if route.starts_with("/dashboard/orders/") => &self.order,
            route if route.starts_with("/billing/invoices/") => &self.invoice,
            route if route.contains("/subscriptions/") => &self.subscription,
            _ => &self.service,
        };
        let words = [
            ("/plan/{slug}/", "/plan/medium/"),
            ("{slug}", "small"),
            ("{id}", id.as_str()),
            ("{workflow_id}", "order-x"),
            ("{hash}", "0"),
            ("{*path}", "x.css"),
        ];
        words.iter().fold(route.to_owned(), |path, (name, value)| path.replace(name, value))
    }
}

/// What an answer says about whether one may.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It went to the handler.
    Through,
    LogIn,
    NotAllowed,
    NotThere,
}

async fn ask(visitor: &Visitor, method: &Method, path: &str, fields: &[(&str, &str)]) -> (Told, u16) {
    let url = visitor.home.join(path).expect("a path");
    let request = visitor.http.request(method.clone(), url);
    let request = if *method == Method::POST { request.form(fields) } else { request };
    let answer = request.send().await.unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
    let status = answer.status().as_u16();
    let leads = answer.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    // A stream does not end by itself, so only what is refused is read.
    let text = if [403, 404].contains(&status) { answer.text().await.expect("a page") } else { String::new() };
    let told = match status {
        303 if leads.starts_with("/accounts/login/?next=") => Told::LogIn,
        403 if text.contains("You may not do this") => Told::NotAllowed,
        404 => Told::NotThere,
        _ => Told::Through,
    };
    (told, status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_everybody_as_the_table_says() {
    let house = open("permissions").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let parts = Parts::of(&house, &owner).await;
    let store = Store::connect(house.database_url().as_str(), 4).expect("the store");
    let mut people = vec![("anybody", careful(&house, None))];
    for role in MEMBERS {
        people.push((role, person(&house, &store, Some(parts.account), role).await));
    }
    for role in STAFF {
        people.push((role, person(&house, &store, None, role).await));
    }
    let mut wrong = Vec::new();
    for line in lines() {
        let path = parts.path(&line.route);
        let is_post = line.method == Method::POST;
        for (who, visitor) in &people {
            // Without its token no form changes anything; a form that got so far was let through.
            let (told, status) = ask(visitor, &line.method, &path, &[]).await;
            let is_staffs = line.route.starts_with("/staff/");
            let expected = match (line.lets[*who], *who) {
                (true, _) => Told::Through,
                (false, who) if is_staffs && !STAFF.contains(&who) => Told::NotThere,
                (false, "anybody") => Told::LogIn,
                (false, _) => Told::NotAllowed,
            };
            let let_through = told == Told::Through
                // Staff see no object of a customer on the customer's own pages, and some files are not there for anybody.
                || (told == Told::NotThere && (STAFF.contains(who) && !is_staffs || line.route.starts_with("/static/")))
                || (told == Told::NotThere && line.route.ends_with("/receipt/"));
            let fits = if expected == Told::Through { let_through } else { told == expected };
            // Whoever reports for a browser has no token, and needs none.
            let stopped =
                !is_post || line.route == "/csp-reports/" || told != Told::Through || [400, 403].contains(&status);
            if !fits || !stopped {
                wrong.push(format!("{} {} as {who}: {told:?} ({status}), not {expected:?}", line.method, line.route));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_account_is_there_for_no_role_and_is_changed_by_none() {
    let house = open("permissions-foreign").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let parts = Parts::of(&house, &owner).await;
    let other = Customer::signed_in(&house).await.expect("the owner of another account");
    let account: Uuid = sqlx::query_scalar("select account_id from users where email = $1")
        .bind(&other.email)
        .fetch_one(house.db())
        .await
        .expect("the table");
    let store = Store::connect(house.database_url().as_str(), 4).expect("the store");
    let mut people = Vec::new();
    for role in MEMBERS {
        people.push((role, person(&house, &store, Some(account), role).await));
    }
    for role in STAFF {
        people.push((role, person(&house, &store, None, role).await));
    }
    let kept = ["orders", "services", "members", "instructions", "credentials"];
    let rows = async || {
        let mut rows = Vec::new();
        for name in kept {
            rows.push(table(house.db(), name).await);
        }
        rows
    };
    let before = rows().await;
    let mut walked = 0;
    let own = |line: &Line| line.route.contains("{id}") && !line.route.starts_with("/staff/");
    for line in lines().into_iter().filter(own) {
        let path = parts.path(&line.route);
        for (who, visitor) in &people {
            let page = visitor.open("/accounts/logout/").await.expect("a page").ok().expect("a form");
            let csrf = page.attributes("main input[name=csrf]", "value").remove(0);
            let id = Uuid::new_v4().to_string();
            let sure = [("sure", "yes"), ("restart", "yes")];
            let fields = [[("csrf", csrf.as_str()), ("instruction", &id)], [("order", &id), sure[0]], [sure[1]; 2]];
            let fields = fields.concat();
            let (told, status) = ask(visitor, &line.method, &path, &fields).await;
            let staff_look = STAFF.contains(who) && line.route.starts_with("/dashboard/orders/");
            let fits = match told {
                Told::NotThere => !staff_look,
                Told::NotAllowed => !line.lets[*who],
                Told::Through => staff_look && status == 200,
                Told::LogIn => false,
            };
            assert!(fits, "{} {path} as {who} of another account: {told:?} ({status})", line.method);
            walked += 1;
        }
    }
    assert!(walked > 80, "only {walked} were walked");
    assert_eq!(rows().await, before, "somebody changed what is another account's");
}

/// As when more, or less, had been shown in every session there is.
async fn change_sessions(house: &House, query: &'static str) {
    sqlx::query(query).execute(house.db()).await.expect("other sessions");
}

/// Where whoever asks is led to show more; nothing for everybody who is not.
async fn led(visitor: &Visitor, method: &Method, path: &str) -> Option<String> {
    let url = visitor.home.join(path).expect("a path");
    let answer = visitor.http.request(method.clone(), url).send().await;
    let answer = answer.unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
    assert!(answer.status().as_u16() < 500, "{method} {path}: {}", answer.status());
    let to = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let shows = ["/accounts/again/?", "/accounts/factors/?staff"].iter().any(|start| to.starts_with(start));
    shows.then(|| to.to_owned())
}

/// Where a line leads whoever has a role and showed so much.
fn wanted(line: &Line, path: &str, who: &str, (factor, proven): (bool, bool)) -> Option<String> {
    if !line.lets[who] {
        return None;
    }
    if line.route.starts_with("/staff/") && !factor {
        return Some("/accounts/factors/?staff=1".to_owned());
    }
    // A page comes back to itself, and a form to the page it stood on, which these tests do not name.
    let back = if line.method == Method::GET { path } else { "/dashboard/" };
    let back: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
    (line.lets["again"] && !proven).then(|| format!("/accounts/again/?next={back}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_showed_too_little_is_led_to_showing_it_by_every_line_that_asks_and_by_no_other() {
    let options = HouseOptions::named("permissions-shown").with("EZ_STAFF_SECOND_FACTOR", "true");
    let house = open_with(options.with("EZ_STEP_UP_SECS", "600")).await;
    let store = Store::connect(house.database_url().as_str(), 4).expect("the store");
    let account: Uuid = sqlx::query_scalar("select account_id from users where email = $1")
        .bind(house.staff_email())
        .fetch_one(house.db())
        .await
        .expect("the table");
    let mut people = Vec::new();
    for role in STAFF {
        people.push((role, true, person(&house, &store, None, role).await));
    }
    change_sessions(&house, "update sessions set factor = 'app' where user_id is not null").await;
    for role in STAFF {
        people.push((role, false, person(&house, &store, None, role).await));
    }
    for role in MEMBERS {
        people.push((role, false, person(&house, &store, Some(account), role).await));
    }
    let (lines, parts) = (lines(), Parts::of_nobody());
    let asking = lines.iter().filter(|line| line.lets["again"]).count();
    assert!(asking > 20, "only {asking} lines ask again");
    let mut wrong = Vec::new();
    for (said, proven_at, proven) in [
        ("never", "update sessions set proven_at = null", false),
        ("long ago", "update sessions set proven_at = now() - interval '601 seconds'", false),
        ("just now", "update sessions set proven_at = now()", true),
    ] {
        change_sessions(&house, proven_at).await;
        // What does not ask again is walked once.
        for line in lines.iter().filter(|line| said == "never" || line.lets["again"]) {
            let path = parts.path(&line.route);
            for (who, factor, visitor) in &people {
                let (to, expected) =
                    (led(visitor, &line.method, &path).await, wanted(line, &path, who, (*factor, proven)));
                if to != expected {
                    wrong.push(format!(
                        "{} {} as {who}, factor {factor}, said {said} who they are: {to:?}, not {expected:?}",
                        line.method, line.route
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
