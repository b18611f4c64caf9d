//! The privacy and the terms page: Markdown that whoever runs the portal edits, rendered once at the start.
//!
//! Raw HTML is refused, and so is everything that would be loaded from elsewhere or run: a page of ours carries no code and
//! loads nothing but from here, whoever wrote its text.
use std::{fs, io, path::Path};

use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};

/// The largest text, in bytes.
const LIMIT_BYTES: usize = 256 * 1024;
const PRIVACY: &str = include_str!("../templates/legal/privacy.md");
const TERMS: &str = include_str!("../templates/legal/terms.md");

/// Why a page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LegalFault {
    /// The file is there and cannot be read.
    #[error("{file} cannot be read")]
    Unreadable {
        /// Its name.
        file: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// It says something a page of ours does not carry.
    #[error("{file}, line {line}: {why}")]
    Refused {
        /// Its name.
        file: &'static str,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its first heading.
    pub(crate) title: String,
    /// Everything, that heading included, as HTML that is safe to show.
    pub(crate) html: String,
    /// Whether it is the text that comes along, which names nobody.
    pub(crate) is_default: bool,
}

/// The legal pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Legal {
    /// What is done with data.
    pub(crate) privacy: Document,
    /// Under which terms is sold.
    pub(crate) terms: Document,
}

impl Legal {
    /// Reads the pages of a folder. One that is not there, or no folder, gives the text that comes along.
    ///
    /// *Errors*: a file cannot be read, or says what a page of ours does not carry.
    pub(crate) fn load(folder: Option<&Path>) -> Result<Self, LegalFault> {
        Ok(Self { privacy: page(folder, "privacy.md", PRIVACY)?, terms: page(folder, "terms.md", TERMS)? })
    }
}

fn page(folder: Option<&Path>, file: &'static str, default: &str) -> Result<Document, LegalFault> {
    let own = folder.map(|folder| fs::read_to_string(folder.join(file)));
    match own {
        Some(Ok(text)) => render(file, &text, false),
        Some(Err(fault)) if fault.kind() == io::ErrorKind::NotFound => render(file, default, true),
        Some(Err(source)) => Err(LegalFault::Unreadable { file, source }),
        None => render(file, default, true),
    }
}

fn render(file: &'static str, text: &str, is_default: bool) -> Result<Document, LegalFault> {
    let refused = |at: usize, why| {
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        Err(LegalFault::Refused { file, line, why })
    };
    if text.len() > LIMIT_BYTES {
        return refused(0, "longer than 256 KiB");
    }
    let (mut events, mut title, mut in_title) = (vec![], String::new(), false);
    for (event, place) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match &event {
            Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) => {
                return refused(place.start, "HTML is not taken; write Markdown");
            }
            Event::Start(Tag::Image { .. }) => return refused(place.start, "images are not taken"),
            Event::Start(Tag::Link { link_type, dest_url, .. })
                if *link_type != LinkType::Email && !may_lead(dest_url) =>
            {
                return refused(place.start, "a link leads to https://…, mailto:…, or a path of this portal");
            }
            Event::Start(Tag::Heading { level: HeadingLevel::H1, .. }) if title.is_empty() => in_title = true,
            Event::End(TagEnd::Heading(HeadingLevel::H1)) => in_title = false,
            Event::Text(words) | Event::Code(words) if in_title => title.push_str(words),
            _ => {}
        }
        events.push(match event {
            // An alignment would be written as a style inside the page, which our pages do not carry.
            Event::Start(Tag::Table(columns)) => Event::Start(Tag::Table(vec![Alignment::None; columns.len()])),
            event => event,
        });
    }
    if title.is_empty() {
        return refused(0, "it has no heading of the first rank (# …)");
    }
    let mut written = String::with_capacity(text.len() * 2);
    html::push_html(&mut written, events.into_iter());
    Ok(Document { title, html: written, is_default })
}

/// Whether a link may lead there: nowhere that runs, and no other site without its name.
fn may_lead(target: &CowStr<'_>) -> bool {
    let path = target.starts_with('/') && !target.starts_with("//") && !target.contains('\\');
    path || target.starts_with('#') || target.starts_with("https://") || target.starts_with("mailto:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        render("terms.md", text, false).expect_err("refused").to_string()
    }

    #[test]
    fn the_texts_that_come_along_are_pages() {
        let legal = Legal::load(None).expect("pages");
        assert!(legal.privacy.is_default && legal.terms.is_default);
        assert!(legal.privacy.html.contains("<h1>") && !legal.privacy.title.is_empty());
    }

    #[test]
    fn markdown_becomes_html_and_its_first_heading_the_title() {
        let page = render("terms.md", "# Our *terms*\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n[us](/about/) & co", false);
        let page = page.expect("a page");
        assert!(!page.html.contains("style"), "{}", page.html);
        assert_eq!(page.title, "Our terms");
        assert!(
            page.html.contains("<table>") && page.html.contains(r#"<a href="/about/">us</a> &amp; co"#),
            "{}",
            page.html
        );
    }

    #[test]
    fn what_a_page_must_not_carry_is_refused_with_its_line() {
        for bad in [
            "<script>alert(1)</script>",
            "a <b>word</b>",
            "<!-- hidden -->",
            "[x](javascript:alert(1))",
            "[x](data:text/html,x)",
            "[x](//elsewhere.example/)",
            "[x](http://plain.example/)",
            "<https://fine.example> ![x](https://elsewhere.example/x.png)",
            "[x][y]\n\n[y]: vbscript:x",
        ] {
            let words = fault(&format!("# Terms\n\n{bad}\n"));
            assert!(words.starts_with("terms.md, line 3: "), "{bad}: {words}");
        }
        assert!(fault("no heading").contains("heading"));
        assert!(fault(&"x".repeat(LIMIT_BYTES + 1)).contains("longer"));
    }

    #[test]
    fn text_that_looks_like_html_inside_code_is_shown_as_text() {
        let page = render("terms.md", "# T\n\n`<script>`\n", false).expect("a page");
        assert!(page.html.contains("&lt;script&gt;") && !page.html.contains("<script"), "{}", page.html);
    }
}
