//! The trail: nothing in it can be changed, whatever was changed all the same is found, and everything is in it.
mod chain;
mod seen;

use house::House;
use store::Store;

/// A store over the house's database, as a worker has one.
fn store(house: &House) -> Store {
    Store::connect(house.database_url().as_str(), 4).expect("a store")
}

/// What `ez audit verify` says when all is right.
async fn right(house: &House) -> String {
    let told = house.run_ez(&["audit", "verify"], "").await.unwrap_or_else(|fault| panic!("the chain: {fault:?}"));
    assert!(told.contains("right:"), "{told}");
    told
}

/// What `ez audit verify` says when it is not.
async fn broken(house: &House, words: &[&str]) -> String {
    let fault = house.run_ez(&[&["audit", "verify"][..], words].concat(), "").await.expect_err("nothing was found");
    let told = format!("{fault:?}");
    assert!(told.contains("BROKEN"), "{told}");
    told
}

/// Everything that was written so far is linked.
async fn all_is_linked(house: &House) {
    crate::shop::until("everything is linked", crate::shop::SOON, || async {
        (crate::world::count(house.db(), "select count(*) from audit_unlinked").await == 0).then_some(())
    })
    .await;
}
