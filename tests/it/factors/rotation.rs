//! The portal's key is replaced while everything runs: nothing that was sealed is lost, and in the end the former key opens nothing.
use base64::{Engine as _, prelude::BASE64_STANDARD};
use house::{Customer, House, HouseOptions, OrderForm};
use store::{KeyRing, SEED_PURPOSE};

use super::{add_app, codes_pass, half_in, send_code};
use crate::{
    accounts::is_in,
    privacy::{copy_page, press},
    shop::{SOON, open_with},
};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@example.test";

fn key(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; 32])
}

/// Every sealed value there is, with what it is sealed for.
async fn sealed(house: &House) -> Vec<(&'static str, String)> {
    let mut all = vec![];
    for (purpose, query) in [
        ("ssh-key", "select sealed_ssh_key from orders where sealed_ssh_key is not null"),
        ("vps-password", "select sealed_password from credentials where sealed_password is not null"),
        (SEED_PURPOSE, "select sealed_seed from totp"),
        ("data-export", "select sealed_archive from data_exports where sealed_archive is not null"),
    ] {
        let values: Vec<String> = sqlx::query_scalar(query).fetch_all(house.db()).await.expect("the values");
        assert!(!values.is_empty(), "nothing is sealed for {purpose}");
        all.extend(values.into_iter().map(|value| (purpose, value)));
    }
    all
}

async fn open_with_key(house: &House, ring: &KeyRing) -> usize {
    sealed(house).await.iter().filter(|(purpose, value)| ring.open(purpose, value).is_ok()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_seals_everything_anew_while_the_house_runs() {
    let (former, newest) = (key(1), key(2));
    // The first of three steps is done: everything that runs opens with the key that is to come.
    let options = HouseOptions::named("rotation").with("EZ_SECRET_KEY", &former).with("EZ_SECRET_KEYS_OTHER", &newest);
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, _) = add_app(&customer).await;
    let with_key = OrderForm { ssh_key: KEY, ..OrderForm::small("rotation-1") };
    for form in [with_key, OrderForm::small("rotation-2")] {
        let order = customer.buy(&form).await.expect("buying");
        customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    }
    let copy = copy_page(&house, &customer, 1).await;
    let (old_ring, new_ring) =
        (KeyRing::from_base64(&former).expect("a key"), KeyRing::from_base64(&newest).expect("a key"));
    let all = sealed(&house).await.len();
    assert_eq!((open_with_key(&house, &old_ring).await, open_with_key(&house, &new_ring).await), (all, 0));

    let settings = [("EZ_SECRET_KEY", newest.as_str()), ("EZ_SECRET_KEYS_OTHER", former.as_str())];
    let busy = async {
        for number in 0..3 {
            codes_pass(&house).await;
            let (browser, form) = half_in(&house, &customer).await;
            send_code(&browser, &form, &app.code())
                .await
                .ok()
                .unwrap_or_else(|fault| panic!("log-in {number}: {fault}"));
            assert!(is_in(&browser).await, "log-in {number}");
        }
    };
    let (printed, ()) = tokio::join!(house.run_ez_with(&settings, &["keys", "rotate"]), busy);
    let printed = printed.expect("a rotation");
    for column in
        ["orders.sealed_ssh_key", "credentials.sealed_password", "totp.sealed_seed", "data_exports.sealed_archive"]
    {
        assert!(printed.lines().any(|line| line.starts_with(column) && line.ends_with("1 sealed anew")), "{printed}");
    }
    assert_eq!((open_with_key(&house, &old_ring).await, open_with_key(&house, &new_ring).await), (0, all));
    let again = house.run_ez_with(&settings, &["keys", "rotate"]).await.expect("once more");
    assert_eq!(again.lines().filter(|line| line.ends_with(" 0 sealed anew")).count(), 4, "{again}");

    let sealed_columns: Vec<String> = sqlx::query_scalar(
        "select table_name::text || '.' || column_name::text from information_schema.columns
         where table_schema = 'public' and column_name like 'sealed\\_%'",
    )
    .fetch_all(house.db())
    .await
    .expect("the columns");
    for column in sealed_columns {
        assert!(again.lines().any(|line| line.starts_with(&column)), "{column} keeps its former key: {again}");
    }

    codes_pass(&house).await;
    let (browser, form) = half_in(&house, &customer).await;
    send_code(&browser, &form, &app.code()).await.ok().expect("what runs opens what was sealed anew");
    let report =
        house.run_ez_with(&[("EZ_SECRET_KEY", newest.as_str()), ("EZ_SECRET_KEYS_OTHER", "")], &["doctor"]).await;
    let report = report.expect("the former key is needed no more");
    assert!(report.lines().any(|line| line.starts_with("ok") && line.contains("keys")), "{report}");
    let lost =
        house.run_ez_with(&[("EZ_SECRET_KEY", former.as_str()), ("EZ_SECRET_KEYS_OTHER", "")], &["doctor"]).await;
    let lost = format!("{:?}", lost.expect_err("the former key opens nothing"));
    assert!(lost.contains("open with none of our keys"), "{lost}");
    let refused =
        house.run_ez_with(&[("EZ_SECRET_KEY", &key(3)), ("EZ_SECRET_KEYS_OTHER", "")], &["keys", "rotate"]).await;
    assert!(format!("{:?}", refused.expect_err("nothing opens")).contains("none of our keys"));
    assert_eq!(open_with_key(&house, &new_ring).await, all, "a rotation that cannot be lost something");
    let (status, kind, _) = press(&customer, &copy).await;
    assert_eq!((status, kind.as_str()), (200, "application/zip"), "a copy that waited is lost");
}
