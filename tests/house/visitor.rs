//! A browser without JavaScript: follows links, fills forms as a person would, keeps cookies.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use scraper::{ElementRef, Html, Selector};
use url::Url;

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// One page that was answered.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, after every redirect.
    pub url: Url,
    /// The HTTP status.
    pub status: u16,
    /// Its body.
    pub html: String,
}

/// Someone at a browser; `http` is free for requests that no page offers.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Where relative addresses start.
    pub home: Url,
    /// The client with the cookies.
    pub http: reqwest::Client,
}

/// What a form would send.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FilledForm {
    action: Url,
    is_post: bool,
    fields: Vec<(String, String)>,
}

impl Visitor {
    /// A new browser, with no cookies, at `home`.
    pub fn new(home: &Url) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().cookie_store(true).timeout(ANSWER_LIMIT).build()?;
        Ok(Self { home: home.clone(), http })
    }

    /// A browser at `home` that already holds this cookie (`name=value`).
    pub fn with_cookie(home: &Url, cookie: &str) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let jar = reqwest::cookie::Jar::default();
        jar.add_cookie_str(&format!("{cookie}; Path=/"), home);
        let http = reqwest::Client::builder().cookie_provider(Arc::new(jar)).timeout(ANSWER_LIMIT).build()?;
        Ok(Self { home: home.clone(), http })
    }

    /// Opens an address, relative to home or whole. Any status is an answer.
    pub async fn open(&self, address: &str) -> Result<Page> {
        let url = self.home.join(address)?;
        page(self.http.get(url.clone()).send().await.with_context(|| format!("open {url}"))?).await
    }

    /// Fills the form of `page` whose action contains `action` (every form when empty) and that has all of `values`' fields,
    /// keeps what the page filled in itself, and sends it. The form's first button counts as pressed.
    ///
    /// *Errors*: there is no such form, or a value is not among a field's choices.
    pub async fn submit(&self, page: &Page, action: &str, values: &[(&str, &str)]) -> Result<Page> {
        let form = fill(page, action, values)?;
        let request = if form.is_post {
            self.http.post(form.action.clone()).form(&form.fields)
        } else {
            self.http.get(form.action.clone()).query(&form.fields)
        };
        // A form is sent from its page's origin, and a server may refuse one that is not.
        let request =
            request.header("Origin", page.url.origin().ascii_serialization()).header("Referer", page.url.as_str());
        self::page(request.send().await.with_context(|| format!("send the form to {}", form.action))?).await
    }
}

async fn page(answer: reqwest::Response) -> Result<Page> {
    let (url, status) = (answer.url().clone(), answer.status().as_u16());
    Ok(Page { url, status, html: answer.text().await? })
}

impl Page {
    /// This page, if its status is 200.
    pub fn ok(self) -> Result<Self> {
        self.with_status(200)
    }

    /// This page, if it has that status.
    pub fn with_status(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!("{} answered {} where {status} was expected: {}", self.url, self.status, self.text());
        }
        Ok(self)
    }

    /// What a person reads on it, in one line.
    pub fn text(&self) -> String {
        let document = Html::parse_document(&self.html);
        let body = selector("main").and_then(|main| document.select(&main).next().map(|found| words(&found)));
        body.unwrap_or_else(|| words(&document.root_element()))
    }

    /// What is written in each element that `css` selects, with single spaces.
    pub fn texts(&self, css: &str) -> Vec<String> {
        let document = Html::parse_document(&self.html);
        selector(css).map(|css| document.select(&css).map(|found| words(&found)).collect()).unwrap_or_default()
    }

    /// An attribute of each element that `css` selects and that has it.
    pub fn attributes(&self, css: &str, name: &str) -> Vec<String> {
        let document = Html::parse_document(&self.html);
        let Some(css) = selector(css) else { return Vec::new() };
        document.select(&css).filter_map(|found| found.attr(name).map(str::to_owned)).collect()
    }

    /// The first link whose address contains `part`.
    pub fn link(&self, part: &str) -> Result<Url> {
        let links = self.attributes("a[href]", "href");
        let found = links
            .iter()
            .find(|link| link.contains(part))
            .with_context(|| format!("no link with {part} on {}", self.url))?;
        Ok(self.url.join(found)?)
    }

    /// Whether it has a form whose action contains `action`.
    pub fn has_form(&self, action: &str) -> bool {
        fill(self, action, &[]).is_ok()
    }
}

fn selector(css: &str) -> Option<Selector> {
    Selector::parse(css).ok()
}

fn words(element: &ElementRef<'_>) -> String {
    element.text().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn fill(page: &Page, action: &str, values: &[(&str, &str)]) -> Result<FilledForm> {
    let document = Html::parse_document(&page.html);
    let forms = selector("form").context("a selector")?;
    let mut refused = None;
    for form in document.select(&forms) {
        let its_action = form.attr("action").filter(|address| !address.is_empty());
        let url = page.url.join(its_action.unwrap_or(page.url.as_str()))?;
        let fields = own_fields(&form)?;
        if !url.as_str().contains(action)
            || values.iter().any(|(name, _)| fields.iter().all(|field| field.name != *name))
        {
            continue;
        }
        let is_post = form.attr("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
        // Several forms may have the field; the one whose choices hold the value is meant.
        match filled(fields, values) {
            Ok(fields) => return Ok(FilledForm { action: url, is_post, fields }),
            Err(error) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    let wanted: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    bail!("no form to “{action}” with the fields {wanted:?} on {} ({}): {}", page.url, page.status, page.text())
}

#[derive(Debug)]
struct Field {
    name: String,
    /// What is sent when nobody touches it.
    value: Option<String>,
    /// What it can be, where it is not free text.
    choices: Vec<String>,
}

fn own_fields(form: &ElementRef<'_>) -> Result<Vec<Field>> {
    let controls = selector("input[name], textarea[name], select[name], button[name]").context("a selector")?;
    let mut fields: Vec<Field> = Vec::new();
    let mut pressed = false;
    for control in form.select(&controls) {
        if control.attr("disabled").is_some() {
            continue;
        }
        let name = control.attr("name").unwrap_or_default().to_owned();
        let value = control.attr("value").unwrap_or_default().to_owned();
        let kind = control.attr("type").unwrap_or_default();
        match (control.value().name(), kind) {
            ("select", _) => fields.push(select_field(name, &control)?),
            ("textarea", _) => fields.push(Field { name, value: Some(control.text().collect()), choices: Vec::new() }),
            ("input", "radio" | "checkbox") => {
                let value = if value.is_empty() { "on".to_owned() } else { value };
                let chosen = control.attr("checked").is_some().then(|| value.clone());
                match fields.iter_mut().find(|field| field.name == name) {
                    Some(field) => {
                        field.choices.push(value);
                        field.value = field.value.take().or(chosen);
                    }
                    None => fields.push(Field { name, value: chosen, choices: vec![value] }),
                }
            }
            ("button", _) | ("input", "submit") => {
                let sent = (!pressed).then(|| value.clone());
                pressed = true;
                match fields.iter_mut().find(|field| field.name == name) {
                    Some(field) => field.choices.push(value),
                    None => fields.push(Field { name, value: sent, choices: vec![value] }),
                }
            }
            _ => fields.push(Field { name, value: Some(value), choices: Vec::new() }),
        }
    }
    Ok(fields)
}

fn select_field(name: String, control: &ElementRef<'_>) -> Result<Field> {
    let options = selector("option").context("a selector")?;
    let mut field = Field { name, value: None, choices: Vec::new() };
    for option in control.select(&options) {
        let value = option.attr("value").map_or_else(|| words(&option), str::to_owned);
        if option.attr("selected").is_some() {
            field.value = Some(value.clone());
        }
        field.choices.push(value);
    }
    field.value = field.value.or_else(|| field.choices.first().cloned());
    Ok(field)
}

fn filled(fields: Vec<Field>, values: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
    let mut sent = Vec::new();
    for field in fields {
        let given = values.iter().find(|(name, _)| *name == field.name).map(|(_, value)| (*value).to_owned());
        if let Some(given) = &given
            && !field.choices.is_empty()
            && !field.choices.contains(given)
        {
            bail!("“{given}” is not offered for {}: {:?}", field.name, field.choices);
        }
        if let Some(value) = given.or(field.value) {
            sent.push((field.name, value));
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::{Page, fill};

    const FORM: &str = r#"<main><form method="post" action="/buy/"><input type="hidden" name="csrf" value="t">
        <input name="host" value="old"><select name="image"><option value="a">A</option><option value="b" selected>B</option></select>
        <input type="radio" name="term" value="monthly" checked><input type="radio" name="term" value="annual">
        <textarea name="key"></textarea><button name="go" value="1">Go</button></form></main>"#;

    fn page() -> Page {
        Page { url: "http://127.0.0.1:1/plans/".parse().expect("a URL"), status: 200, html: FORM.to_owned() }
    }

    #[test]
    fn a_form_keeps_what_the_page_filled_in() {
        let form = fill(&page(), "/buy/", &[("host", "web1"), ("term", "annual")]).expect("the form");
        let expected = [("csrf", "t"), ("host", "web1"), ("image", "b"), ("term", "annual"), ("key", ""), ("go", "1")];
        assert_eq!(form.fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(form.action.as_str(), "http://127.0.0.1:1/buy/");
        assert!(form.is_post);
    }

    #[test]
    fn a_choice_that_is_not_offered_is_refused() {
        assert!(fill(&page(), "", &[("image", "c")]).is_err());
        assert!(fill(&page(), "", &[("colour", "red")]).is_err());
        assert!(fill(&page(), "/sell/", &[]).is_err());
    }
}
