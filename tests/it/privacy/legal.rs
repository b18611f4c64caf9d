//! The legal pages, as whoever runs the portal writes them.
use std::fs;

use super::house_of;
use crate::shop::{open, open_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legal_pages_are_the_installations_own_and_every_page_leads_to_them() {
    let folder = std::env::temp_dir().join(format!("ez-legal-{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("privacy.md"), "# How Ann's Servers keep data\n\nWrite to **privacy@ann.example**.\n")
        .expect("a file");
    let named = folder.to_str().expect("a path").to_owned();
    let house = open_with(house_of("legal", 259_200).with("EZ_LEGAL_FOLDER", &named)).await;
    let visitor = house.visitor().expect("a browser");
    let page = visitor.open("/privacy/").await.expect("a page").ok().expect("the page");
    assert!(page.text().contains("How Ann's Servers keep data"), "{}", page.text());
    assert!(page.html.contains("<strong>privacy@ann.example</strong>"), "{}", page.html);
    let schedule = page.texts("#schedule td");
    for words in ["3 days", "10 years after the end of their year", "400 days after the last time"] {
        assert!(schedule.iter().any(|cell| cell == words), "no {words}: {schedule:?}");
    }
    let terms = visitor.open("/terms/").await.expect("a page").ok().expect("the page");
    assert!(terms.text().contains("comes along with the portal"), "{}", terms.text());
    let front = visitor.open("/").await.expect("a page").ok().expect("the front page");
    for path in ["/privacy/", "/terms/", "/cookies/"] {
        assert!(front.attributes("footer a", "href").iter().any(|link| link == path), "no way to {path}");
    }

    fs::write(folder.join("terms.md"), "# Terms\n\n<script>alert(1)</script>\n").expect("a file");
    let told = house.run_ez_with(&[("EZ_LEGAL_FOLDER", &named)], &["doctor"]).await;
    let told = format!("{:?}", told.expect_err("a fault"));
    assert!(told.contains("terms.md, line 3") && told.contains("HTML is not taken"), "{told}");
    fs::remove_dir_all(&folder).expect("gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_says_what_is_kept_how_long_as_the_page_does() {
    let house = open("legal-document").await;
    let page = house.visitor().expect("a browser").open("/privacy/").await.expect("a page").ok().expect("the page");
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RETENTION.md")).expect("the document");
    let cells = page.texts("#schedule td");
    assert!(cells.len() > 30 && cells.len().is_multiple_of(3), "{cells:?}");
    for line in cells.chunks(3) {
        let row = format!("| {} |", line.join(" | "));
        assert!(document.contains(&row), "docs/RETENTION.md lacks\n{row}");
    }
}
