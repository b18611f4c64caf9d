//! More buyers than places: every place is sold once, everybody else hears so at once, and nobody is charged in vain.
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use futures::future::join_all;
use house::{Catalogue, Customer, GOOD_CARD, House, HouseOptions, Page, PolicySecs};

use crate::{
    buyers::{self, Answer},
    shop::{open_with, until},
    world::{Vendors, count, vendors},
};

const PLACES: usize = 10;
const BUYERS: usize = 100;
/// Buyers in the race with lapses: a third of each kind.
const RACERS: usize = 30;
const WINDOW_SECS: u32 = 6;
const LIMIT: Duration = Duration::from_mins(3);

fn ten_addresses(catalogue: &mut Catalogue) {
    for pool in &mut catalogue.pools {
        if let IpAddr::V4(first) = pool.first {
            let last = u32::from(first) + u32::try_from(PLACES).expect("few") - 1;
            pool.last = IpAddr::V4(Ipv4Addr::from(last));
        }
    }
}

fn paid_charges(world: &Vendors) -> usize {
    world.money["charges"].iter().filter(|charge| charge["paid"] == true).count()
}

/// Every place is sold: one machine, one charge, one set of names and one address each, and no money went back.
async fn assert_every_place_is_sold_once(house: &House) {
    until("every order is delivered", LIMIT, || async {
        let open = "select count(*) from orders where status in ('awaiting_payment', 'provisioning')";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    let delivered = count(house.db(), "select count(*) from orders where status = 'delivered'").await;
    assert_eq!(usize::try_from(delivered).expect("few"), PLACES, "sales");
    let world = vendors(house).await;
    assert_eq!(world.machines.len(), PLACES, "machines");
    assert!(world.machines.values().all(|vm| vm.status == "running"), "{:?}", world.machines);
    assert_eq!(paid_charges(&world), PLACES, "somebody was charged in vain or twice");
    assert_eq!(world.money["refunds"].len(), 0, "money had to be given back");
    assert_eq!(world.money["subscriptions"].len(), PLACES, "subscriptions");
    assert_eq!(world.names.len(), 4 * PLACES, "A, AAAA and two PTR for each");
    let addresses: Vec<String> =
        sqlx::query_scalar("select host(ipv4) from reservations where released_at is null order by 1")
            .fetch_all(house.db())
            .await
            .expect("the reservations");
    assert_eq!(addresses.len(), PLACES, "places held");
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), PLACES, "one address was sold twice");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_buyers_of_ten_places_are_ten_sales_and_ninety_sold_out_pages() {
    let policy = PolicySecs { payment_window: 600, ..PolicySecs::default() };
    let options = HouseOptions { change_catalogue: ten_addresses, policy, ..HouseOptions::named("last-one") };
    let house = open_with(options).await;
    let buyers = buyers::customers(&house, BUYERS).await;
    let forms = join_all(buyers.iter().map(buyers::form)).await;
    assert!(forms.iter().all(|form| form.status == 200), "nothing was on sale before anybody bought");

    let hostnames: Vec<String> = (0..BUYERS).map(|index| format!("wanted-{index}")).collect();
    let sent = buyers.iter().zip(forms).zip(&hostnames).map(|((buyer, form), name)| buyers::order(buyer, form, name));
    let (mut lucky, mut told): (Vec<(&Customer, Page)>, Vec<Page>) = (vec![], vec![]);
    for (buyer, answer) in buyers.iter().zip(join_all(sent).await) {
        match answer {
            Answer::Pay(page) => lucky.push((buyer, page)),
            Answer::SoldOut(page) => told.push(page),
            Answer::Lapsed => panic!("an order lapsed long before its time"),
        }
    }
    assert_eq!((lucky.len(), told.len()), (PLACES, BUYERS - PLACES), "payment pages and sold-out pages");
    for page in &told {
        let text = page.text().to_lowercase();
        assert!(text.contains("sold out") && text.contains("nothing was charged"), "{text}");
    }
    assert_eq!(vendors(&house).await.money["sessions"].len(), PLACES, "somebody else could pay");

    for paid in join_all(lucky.iter().map(|(buyer, page)| buyer.pay(page, GOOD_CARD))).await {
        paid.expect("paying");
    }
    assert_every_place_is_sold_once(&house).await;
    let sold_out = count(house.db(), "select count(*) from orders where status = 'sold_out'").await;
    assert_eq!(usize::try_from(sold_out).expect("few"), BUYERS - PLACES, "orders that were told so");
    house.stop().await.expect("the house closes");
}

/// How somebody behaves at the payment page.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    WalksOff,
    PaysAtOnce,
    PaysInTheLastInstant,
}

/// Orders until it is bought, or until everything is sold; whoever walks off orders once.
async fn shops(house: &House, buyer: &Customer, index: usize) {
    let manner = [Manner::WalksOff, Manner::PaysInTheLastInstant, Manner::PaysAtOnce][index % 3];
    let began = Instant::now();
    for attempt in 0.. {
        assert!(began.elapsed() < LIMIT, "buyer {index} still shops after {LIMIT:?}");
        let form = buyers::form(buyer).await;
        let ordered = Instant::now();
        let page = match buyers::order(buyer, form, &format!("race-{index}-{attempt}")).await {
            Answer::Pay(page) => page,
            Answer::SoldOut(_) if everything_is_sold_or_a_place_is_free(house).await => return,
            Answer::SoldOut(_) | Answer::Lapsed => continue,
        };
        if manner == Manner::WalksOff {
            return;
        }
        if manner == Manner::PaysInTheLastInstant && attempt == 0 {
            let instant = Duration::from_secs(WINDOW_SECS.into());
            until("the last instant", LIMIT, || async { (ordered.elapsed() >= instant).then_some(()) }).await;
        }
        if buyer.pay(&page, GOOD_CARD).await.is_ok_and(|back| back.url.origin() == house.url().origin()) {
            return;
        }
    }
}

/// Waits for whichever comes first; true when everything is sold.
async fn everything_is_sold_or_a_place_is_free(house: &House) -> bool {
    until("a place is free or everything is sold", LIMIT, || async {
        let held = count(house.db(), "select count(*) from reservations where released_at is null").await;
        let sold = count(house.db(), "select count(*) from orders where status in ('provisioning', 'delivered')").await;
        let places = i64::try_from(PLACES).expect("few");
        if sold == places { Some(true) } else { (held < places).then_some(false) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_those_who_do_not_pay_go_to_the_next_and_a_late_payment_is_taken_or_refused_but_never_lost() {
    let policy = PolicySecs { payment_window: WINDOW_SECS, checkout_poll: 1, ..PolicySecs::default() };
    let options = HouseOptions { change_catalogue: ten_addresses, policy, ..HouseOptions::named("last-race") };
    let house = open_with(options).await;
    let buyers = buyers::customers(&house, RACERS).await;
    join_all(buyers.iter().enumerate().map(|(index, buyer)| shops(&house, buyer, index))).await;
    assert_every_place_is_sold_once(&house).await;
    let of_nobody =
        "select count(*) from orders where status = 'lapsed' and id in (select order_id from subscriptions)";
    assert_eq!(count(house.db(), of_nobody).await, 0, "a lapsed order was paid");
    let open = vendors(&house).await.money["sessions"].iter().filter(|session| session["status"] == "open").count();
    assert_eq!(open, 0, "a page can still be paid");
    house.stop().await.expect("the house closes");
}
